//! A bucket that takes connections and says nothing, or stops in the middle of an answer.

use std::time::Duration;

use futures_util::StreamExt as _;
use peers::{Relay, Speech};
use reqwest::Response;
use sekisho_types::Digest;
use serde_json::json;

use crate::replicas::Moto;
use crate::support::{World, check_error, header};

const FINE: &str = "LAYER\npkg express 4.21.2 fine";

/// Of the bucket in these tests: longer than a machine stands still, for then it speaks.
const SILENCE: Duration = Duration::from_secs(20);

/// Until then everything must have ended: far less than if each request waited for the one before.
const HANG: Duration = Duration::from_secs(300);

/// Requests of each kind at once.
const AT_ONCE: usize = 20;

async fn says_that_it_is_away(response: Response) {
    assert_eq!(header(&response, "retry-after"), "5");
    let message = check_error(response, 503, "UNAVAILABLE").await;
    assert_eq!(message, "the gate's storage does not answer; try again");
}

async fn until_cut_off(response: Response) -> Vec<u8> {
    let (mut body, mut came) = (response.bytes_stream(), Vec::new());
    while let Some(Ok(piece)) = body.next().await {
        came.extend(piece);
    }
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_falls_silent_ends_requests_and_uploads_go_on() {
    let Some(moto) = Moto::start() else { return };
    let relay = Relay::before(moto.host()).unwrap();
    let world = &World::in_bucket(moto.bucket_at(&relay.host(), SILENCE).await).await;
    let token = &world.session(json!({})).await;
    assert_eq!(world.push("acme/app:v1", token, &[FINE]).await.status(), 201);
    let large = format!("{FINE}\n{}", "x".repeat(1_000_000)).into_bytes();
    let blob = format!("/v2/acme/app/blobs/{}", world.push_blob("acme/app", token, &large).await);
    let half = |location: String, from: usize, to: usize| {
        let request = world.request("PATCH", &location, token).body(large[from..to].to_vec());
        let request = request.header("content-range", format!("{from}-{}", to - 1));
        async move { request.send().await.unwrap() }
    };
    let mut begun = Vec::new();
    for _ in 0..AT_ONCE {
        let response = world.send("POST", "/v2/acme/app/blobs/uploads/", token).await;
        let location = header(&response, "location");
        assert_eq!(half(location.clone(), 0, 100_000).await.status(), 202);
        begun.push(location);
    }
    let next = world.push_blobs("acme/app", token, &[FINE], "other").await;
    let next = &next;

    relay.say(Speech::Nothing);
    let asked = begun.iter().map(|location| async {
        let ask = |method, path| world.send(method, path, token);
        let (a, b, c, d, e) = tokio::join!(
            ask("GET", "/v2/acme/app/manifests/v1"),
            ask("GET", &blob),
            ask("POST", "/v2/acme/app/blobs/uploads/"),
            half(location.clone(), 100_000, 200_000),
            world.put_manifest("acme/app/manifests/v2", token, next),
        );
        for response in [a, b, c, d, e] {
            says_that_it_is_away(response).await;
        }
    });
    let asked = futures_util::future::join_all(asked);
    let jwt = world.jwt(&json!({}));
    let both = async { tokio::join!(asked, world.exchange(&jwt)) };
    let (_, (status, body)) =
        tokio::time::timeout(HANG, both).await.expect("a silent bucket keeps nobody");
    assert_eq!((status, &body["errors"][0]["code"]), (503, &json!("UNAVAILABLE")));

    // The head of an answer and some of its body; the rest never comes, and the client is told.
    relay.say(Speech::Beginnings);
    let response = world.send("GET", &blob, token).await;
    assert_eq!(
        (response.status().as_u16(), response.content_length()),
        (200, Some(large.len() as u64))
    );
    let came = tokio::time::timeout(HANG, until_cut_off(response)).await;
    let came = came.expect("a body that stops is cut off");
    assert!(came.len() < large.len() && large.starts_with(&came), "{} bytes", came.len());

    // As if nothing had been: each goes on where it was told that it is.
    relay.say(Speech::All);
    let digest = Digest::sha256(&large);
    for location in &begun {
        let status = world.send("GET", location, token).await;
        assert_eq!((status.status().as_u16(), header(&status, "range").as_str()), (204, "0-99999"));
        assert_eq!(half(location.clone(), 100_000, large.len()).await.status(), 202);
        let done = world.send("PUT", &format!("{location}?digest={digest}"), token).await;
        assert_eq!(done.status(), 201, "{:?}", done.text().await);
    }
    assert_eq!(world.send("GET", &blob, token).await.bytes().await.unwrap(), large);
    let put = world.put_manifest("acme/app/manifests/v2", token, next).await;
    assert_eq!(put.status(), 201, "{:?}", put.text().await);
    let verified = world.verified().await;
    assert_eq!((verified.records, verified.faults), (2, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_gets_a_large_blob_whole() {
    let Some(moto) = Moto::start() else { return };
    let world = World::in_bucket(moto.bucket_at(moto.host(), SILENCE).await).await;
    let token = &world.session(json!({})).await;
    let large = format!("{FINE}\n{}", "x".repeat(24 << 20)).into_bytes();
    let digest = world.push_blob("acme/app", token, &large).await;
    let response = world.send("GET", &format!("/v2/acme/app/blobs/{digest}"), token).await;
    let (mut body, mut came, mut rested) = (response.bytes_stream(), Vec::new(), 0);
    while let Some(piece) = body.next().await {
        came.extend(piece.expect("the bucket speaks all the time"));
        // All in all longer than the bucket may be silent.
        if came.len() >> 20 > rested {
            rested = came.len() >> 20;
            tokio::time::sleep(SILENCE / 20).await;
        }
    }
    assert_eq!(Digest::sha256(&came), digest);
}
