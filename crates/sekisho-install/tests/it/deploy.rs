//! The files of `deploy/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use sekisho_api::{CapacityPreference, RunnerClassSpec};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

#[test]
fn the_committed_files_are_those_of_the_code() {
    for file in sekisho_install::files().unwrap() {
        let committed = std::fs::read_to_string(folder().join(&file.path)).unwrap_or_default();
        assert!(committed == file.text, "deploy/{} is old: run `cargo xtask deploy`", file.path);
    }
}

#[test]
fn the_classes_prefer_spot_and_fall_back() {
    let classes = sekisho_install::classes();
    let names: Vec<&str> =
        classes.iter().map(|it| it["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "cpu", "memory"]);
    for class in classes {
        let spec: RunnerClassSpec = serde_json::from_value(class["spec"].clone()).unwrap();
        assert_eq!(spec.capacity.prefer, CapacityPreference::Spot);
        assert!(!spec.capacity.only);
        assert_eq!(spec.requests["memory"], spec.limits["memory"]);
    }
}

/// Where kubectl is: it brings kustomize along.
#[test]
fn kustomize_builds_base_and_overlay() {
    if Command::new("kubectl").arg("--help").output().is_err() {
        #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
        {
            eprintln!("skipped: there is no kubectl");
        }
        return;
    }
    for (name, wanted) in [
        ("crds", "kind: CustomResourceDefinition"),
        ("classes", "kind: RunnerClass"),
        ("base", "kind: Deployment"),
        ("eks", "eks.amazonaws.com/capacityType"),
        ("gate", "kind: PodDisruptionBudget"),
    ] {
        let output =
            Command::new("kubectl").arg("kustomize").arg(folder().join(name)).output().unwrap();
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}: {errors}");
        assert!(text.contains(wanted), "{name}");
    }
}
