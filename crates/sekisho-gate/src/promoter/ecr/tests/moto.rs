//! moto plays STS, IAM and ECR, and checks signatures and policies with the code of AWS's own SDK.

use super::served::{agent, password};
use super::*;

/// A call of the query protocol by somebody whom moto does not ask for a name.
async fn call(host: &str, service: &str, version: &str, fields: &[(&str, &str)]) -> String {
    let scope = format!("Credential=x/20260101/us-east-1/{service}/aws4_request");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request =
        client.post(format!("http://{host}/")).form(&[fields, &[("Version", version)]].concat());
    let header = format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0");
    let response = request.header("authorization", header).send().await.unwrap();
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    text
}

/// From how many requests on it looks at signatures and policies.
async fn look_after(host: &str, requests: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request =
        client.post(format!("http://{host}/moto-api/reset-auth")).body(requests.to_owned());
    assert_eq!(request.send().await.unwrap().status(), 200);
}

fn element<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<{name}>")).unwrap();
    rest.split_once(&format!("</{name}>")).unwrap().0
}

/// The status of a refusal.
async fn refused(ecr: &Ecr) -> u16 {
    match password(ecr, 0).await {
        Err(EcrError::Asking { problem: Problem::Refused { status, .. }, .. }) => status,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_role_gets_a_password_of_moto() {
    let Some(moto) = peers::Moto::start().unwrap() else { return };
    provider();
    let host = moto.host();
    let policy = |action: &str, rest: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"{action}",{rest}}}]}}"#
        )
    };
    let trust = policy("sts:AssumeRole", r#""Principal":{"AWS":"*"}"#);
    let role =
        [("Action", "CreateRole"), ("RoleName", "promoter"), ("AssumeRolePolicyDocument", &trust)];
    let made = call(host, "iam", "2010-05-08", &role).await;
    let assume =
        [("Action", "AssumeRole"), ("RoleArn", element(&made, "Arn")), ("RoleSessionName", "s")];
    let given = call(host, "sts", "2011-06-15", &assume).await;
    let [key, secret, session] =
        ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|name| element(&given, name));
    let (_agent, _file, environment) = agent(key, secret, session).await;
    let url = Url::parse(&format!("http://{host}/")).unwrap();
    let ecr = Ecr::new("us-east-1", Some(url.clone()), environment, false).unwrap();

    // Its refusals of this kind are XML in every protocol, which AWS's own are not: their status tells.
    look_after(host, "0").await;
    assert_eq!(refused(&ecr).await, 403, "the role may not");
    look_after(host, "1").await;
    let may = policy("ecr:GetAuthorizationToken", r#""Resource":"*""#);
    let put = [
        ("Action", "PutRolePolicy"),
        ("RoleName", "promoter"),
        ("PolicyName", "p"),
        ("PolicyDocument", &may),
    ];
    call(host, "iam", "2010-05-08", &put).await;
    let secret_of_moto = password(&ecr, 0).await.unwrap();
    assert!(secret_of_moto.ends_with("-auth-token"), "{secret_of_moto}");

    // The same with another secret: it is the signature that was looked at.
    let (_agent, _file, environment) = agent(key, "wrong", session).await;
    let ecr = Ecr::new("us-east-1", Some(url), environment, false).unwrap();
    assert_eq!(refused(&ecr).await, 403, "a wrong signature");
}
