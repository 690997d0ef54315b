//! What a mirrored repository is called when rules are asked.

use serde_json::json;

use super::{Fake, TAG, mirror};
use crate::support::{Options, World, header};

/// A rule for pulls knows what is mirrored by its name here, however a client asks for it.
#[tokio::test]
async fn a_rule_for_pulls_is_about_the_mirrored_name_however_it_is_asked_for() {
    let rule = |name: &str| {
        format!(
            "@id(\"permit\") permit (principal, action, resource);\n\
             @id(\"closed\") @mode(\"enforce\") @message(\"closed\") @fix(\"f\") @docs(\"d\")\n\
             forbid (principal, action == Action::\"pull\", resource)\n\
             when {{ resource.name like \"{name}\" }};"
        )
    };
    let fake = Fake::start().await;
    let by_ns = "/v2/library/debian/manifests/12?ns=docker.io";
    // Of that name, and of the one that a path without `ns` would have.
    for (name, want) in [("docker.io/*", 403), ("library/*", 200)] {
        let options = Options { policies: Some(rule(name)), ..Options::default() };
        let world = World::open(Options { mirror: Some(mirror(fake.host())), ..options }).await;
        let token = world.session(json!({})).await;
        for path in [TAG, by_ns] {
            let response = world.send("GET", path, &token).await;
            assert_eq!(response.status(), want, "{name}: {path}");
            let named = if want == 200 && path == by_ns { "docker.io" } else { "" };
            assert_eq!(header(&response, "oci-namespace"), named);
        }
    }
}
