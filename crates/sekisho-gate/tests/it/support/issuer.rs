//! An issuer of OIDC tokens.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};

/// Two keys: the issuer's, and one that is nobody's. A key takes a second to make.
pub(crate) fn key(number: usize) -> &'static RsaPrivateKey {
    static KEYS: [OnceLock<RsaPrivateKey>; 2] = [OnceLock::new(), OnceLock::new()];
    KEYS[number].get_or_init(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap())
}

/// Its router; it says how often its keys were fetched, and can be away.
pub(super) fn issuer_router(url: &str, fetched: Arc<AtomicUsize>, away: Arc<AtomicBool>) -> Router {
    let discovery = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
    let part = |bytes: Vec<u8>| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let public = key(0);
    let keys = json!({"keys": [{
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k1",
        "n": part(public.n().to_bytes_be()), "e": part(public.e().to_bytes_be()),
    }]});
    Router::new()
        .route("/.well-known/openid-configuration", get(|| async move { Json(discovery) }))
        .route(
            "/keys",
            get(|| async move {
                fetched.fetch_add(1, Ordering::SeqCst);
                Json(keys)
            }),
        )
        .layer(axum::middleware::from_fn(move |request, next: axum::middleware::Next| {
            let away = Arc::clone(&away);
            async move {
                if away.load(Ordering::SeqCst) {
                    return axum::response::IntoResponse::into_response(
                        reqwest::StatusCode::SERVICE_UNAVAILABLE,
                    );
                }
                next.run(request).await
            }
        }))
}

pub(crate) fn sign(header: &Value, claims: &Value, with: usize) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signer = SigningKey::<rsa::sha2::Sha256>::new(key(with).clone());
    let signature = signer.sign(signed.as_bytes()).to_vec();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}
