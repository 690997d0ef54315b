//! How many requests questions take.

use std::sync::Mutex as StdMutex;

use axum::Router;
use axum::extract::{Query, State as Shared};
use axum::routing::get;
use sekisho_github::http::ClientOptions;
use sekisho_github::rest::{Address, Clock, Credential};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::*;

/// A GitHub that lists these runners, a request at a time as it is let.
struct Listed {
    names: Vec<String>,
    lets: Semaphore,
    /// What was asked for by name; empty: the list.
    asked: StdMutex<Vec<String>>,
}

async fn list(
    Shared(listed): Shared<Arc<Listed>>,
    Query(query): Query<HashMap<String, String>>,
) -> axum::Json<Value> {
    let name = query.get("name").cloned().unwrap_or_default();
    listed.asked.lock().unwrap().push(name.clone());
    listed.lets.acquire().await.unwrap().forget();
    let shown = listed.names.iter().filter(|it| name.is_empty() || **it == name);
    let runners: Vec<Value> = shown
        .enumerate()
        .map(|(id, name)| {
            json!({ "id": id + 1, "name": name, "os": "linux", "status": "online",
                "busy": name.ends_with('1'), "labels": [] })
        })
        .collect();
    axum::Json(json!({ "total_count": runners.len(), "runners": runners }))
}

async fn asks(names: &[String]) -> (Arc<Asks>, Arc<Listed>) {
    let (names, lets, asked) = (names.to_vec(), Semaphore::new(0), StdMutex::default());
    let listed = Arc::new(Listed { names, lets, asked });
    let path = "/api/v3/orgs/acme/actions/runners";
    let router = Router::new().route(path, get(list)).with_state(Arc::clone(&listed));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/acme", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let address = Address::parse(&url, false).unwrap();
    let (http, credential) = (ClientOptions::default(), Credential::Token("t".into()));
    let rest = GithubClient::new(address, credential, &http, Clock::default()).unwrap();
    (Arc::new(Asks::new(Arc::new(rest))), listed)
}

#[tokio::test]
async fn questions_that_come_while_others_are_asked_take_one_request() {
    let names: Vec<String> = (0..50).map(|number| format!("r-{number}")).collect();
    let (asks, listed) = asks(&names).await;
    let ask = |name: String| {
        let asks = Arc::clone(&asks);
        tokio::spawn(async move { asks.ask(&name).await })
    };
    let first = ask(names[0].clone());
    while listed.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let mut rest: Vec<_> = names.iter().cloned().map(ask).collect();
    rest.push(ask("r-nobody".to_owned()));
    // All of them wait before the first is answered.
    while asks.state.lock().unwrap().waiting.len() < rest.len() {
        tokio::task::yield_now().await;
    }
    listed.lets.add_permits(2);
    let present = |id, busy| Ok(Registration::Present { id, online: true, busy });
    assert_eq!(first.await.unwrap(), present(1, false));
    for (number, answer) in rest.into_iter().enumerate() {
        let want = match number {
            50 => Ok(Registration::Absent { sweeps: 1 }),
            _ => present(i64::try_from(number).unwrap() + 1, number % 10 == 1),
        };
        assert_eq!(answer.await.unwrap(), want, "{number}");
    }
    assert_eq!(*listed.asked.lock().unwrap(), ["r-0", ""], "the first by its name, then the list");
}
