//! How GitHub is reached: through which proxy, and with whose certificates.

use secrecy::{ExposeSecret as _, SecretString};
use sekisho_api::GitHubConnectionSpec;
use sekisho_github::http::ClientOptions;
use url::Url;

/// A proxy that cannot be used as it is written.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// Not an address.
    #[error("`spec.proxy.url` is no address of a proxy")]
    Proxy,
    /// Not `user:password`.
    #[error("the secret of `spec.proxy.credentialsSecretRef` does not have `user:password`")]
    Credentials,
}

/// What a connection says of it. `credentials`: what the key of `spec.proxy.credentialsSecretRef` holds.
///
/// # Errors
/// [`ReachError`]; the certificates are read where a client is made.
pub fn client_options(
    spec: &GitHubConnectionSpec,
    credentials: Option<&SecretString>,
) -> Result<ClientOptions, ReachError> {
    let mut options = ClientOptions { certificates: spec.ca_bundle.clone(), ..Default::default() };
    let Some(proxy) = &spec.proxy else { return Ok(options) };
    let mut url: Url = proxy.url.parse().map_err(|_| ReachError::Proxy)?;
    if let Some(credentials) = credentials {
        let text = credentials.expose_secret().trim();
        let (user, password) = text.split_once(':').ok_or(ReachError::Credentials)?;
        // All that an address cannot have is escaped there, but for the sign that escapes.
        let escaped = |text: &str| text.replace('%', "%25");
        url.set_username(&escaped(user)).map_err(|()| ReachError::Proxy)?;
        url.set_password(Some(&escaped(password))).map_err(|()| ReachError::Proxy)?;
    }
    options.proxy = Some(url.to_string().into());
    options.no_proxy = Some(proxy.no_proxy.join(","));
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(more: serde_json::Value) -> GitHubConnectionSpec {
        let mut spec = serde_json::json!({ "url": "https://ghe.test/acme", "auth": {} });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn a_proxy_has_its_credentials_and_whom_it_is_not_for() {
        let spec = spec(serde_json::json!({
            "caBundle": "pem", "proxy": { "url": "http://proxy.test:3128", "noProxy": ["a", "b"] }
        }));
        let options =
            client_options(&spec, Some(&"us%er:p%41@ss:w/rd\n".to_owned().into())).unwrap();
        let proxy = options.proxy.unwrap();
        assert_eq!(proxy.expose_secret(), "http://us%25er:p%2541%40ss%3Aw%2Frd@proxy.test:3128/");
        assert_eq!(options.no_proxy.as_deref(), Some("a,b"));
        assert_eq!(options.certificates.as_deref(), Some("pem"));
        let none = client_options(&spec, None).unwrap().proxy.unwrap();
        assert_eq!(none.expose_secret(), "http://proxy.test:3128/");
        let error = client_options(&spec, Some(&"user".to_owned().into())).unwrap_err();
        assert!(matches!(error, ReachError::Credentials));
    }

    #[test]
    fn without_a_proxy_the_environment_counts() {
        let options = client_options(&spec(serde_json::json!({})), None).unwrap();
        assert!(options.proxy.is_none() && options.no_proxy.is_none());
    }
}
