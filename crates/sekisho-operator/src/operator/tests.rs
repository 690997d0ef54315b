//! An operator whose worker does not turn.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_whose_worker_does_not_turn_is_not_alive() {
    let api = testkit::ApiServer::new();
    let mut settings = Settings::new("one");
    settings.admin = Some(([127, 0, 0, 1], 0).into());
    settings.late = Duration::from_secs(5);
    let late = settings.late;
    let operator = Operator::start(api.client("one"), settings).await.unwrap();
    let url = format!("http://{}/livez", operator.admin().unwrap());
    let http = sekisho_github::http::ClientOptions::default();
    let http = http.client(&[&url.parse().unwrap()]).unwrap();
    let live = || async {
        let answer = http.get(&url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    // With nothing to do it turns nonetheless.
    tokio::time::sleep(late * 2).await;
    assert_eq!(live().await, (200, "ok".to_owned()));
    operator.worker.abort();
    tokio::time::sleep(late + late / TURNS).await;
    assert_eq!(live().await, (503, "the worker did not turn for 5 s".to_owned()));
}
