use serde_json::json;

use super::*;

/// A pod whose container `runner` ended so, as containerd's kubelet tells it.
fn ended(reason: &str, code: i32) -> Pod {
    let pod: lean::Pod = serde_json::from_value(json!({
        "metadata": { "name": "a", "uid": "u" },
        "status": { "phase": "Running", "containerStatuses": [{ "name": "runner", "state": {
            "terminated": { "reason": reason, "exitCode": code, "finishedAt": "2026-01-01T00:00:00Z" }
        } }] }
    }))
    .unwrap();
    super::pod(&pod, "owner", &mut BTreeMap::new(), At::default())
}

#[test]
fn a_step_that_was_killed_for_its_memory_is_no_lost_runner() {
    let killed = ended("OOMKilled", 137);
    assert!(killed.out_of_memory);
    // A process of a step was killed, the runner told how its job went, and ended well.
    let went_on = ended("OOMKilled", 0);
    assert!(!went_on.out_of_memory);
    assert!(matches!(went_on.runner, Container::Ended { code: Some(0), .. }));
    assert!(!ended("Error", 137).out_of_memory);
}
