use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    ConfigError, Descriptor, Empty, Healthcheck, History, ImageConfig, ImageIndex, ImageManifest,
    ManifestError, Platform, media_type, parse_manifest,
};

fn platform() -> Platform {
    let mut platform = Platform::new("linux", "arm");
    platform.os_version = Some("1".into());
    platform.os_features = vec!["f".into()];
    platform.variant = Some("v7".into());
    platform
}

fn descriptor(of: &str) -> Descriptor {
    let mut descriptor = Descriptor::of(of, b"x");
    descriptor.urls = vec!["https://example.com/".into()];
    descriptor.annotations = BTreeMap::from([("Size".into(), "free".into())]);
    descriptor.data = Some("eA==".into());
    descriptor.artifact_type = Some("a/b".into());
    descriptor.platform = Some(platform());
    descriptor
}

/// Every field of every type, so that none is forgotten in a shape.
fn full() -> [(Value, &'static Shape); 3] {
    let mut image = ImageManifest::new(
        descriptor(media_type::OCI_CONFIG),
        vec![descriptor(media_type::OCI_LAYER), descriptor(media_type::OCI_LAYER)],
    );
    image.artifact_type = Some("a/b".into());
    image.subject = Some(descriptor(media_type::OCI_MANIFEST));
    image.annotations = BTreeMap::from([("Layers".into(), "free".into())]);
    let mut index = ImageIndex::new(vec![descriptor(media_type::OCI_MANIFEST)]);
    index.artifact_type = Some("a/b".into());
    index.subject = Some(descriptor(media_type::OCI_MANIFEST));
    index.annotations = image.annotations.clone();
    let mut config = ImageConfig::new(&platform());
    config.created = Some("2026-01-01T00:00:00Z".into());
    config.author = Some("a".into());
    config.history = vec![History {
        created: Some("2026-01-01T00:00:00Z".into()),
        created_by: Some("x".into()),
        author: Some("a".into()),
        comment: Some("c".into()),
        empty_layer: true,
    }];
    let run = &mut config.config;
    run.user = "1".into();
    run.exposed_ports = BTreeMap::from([("80/tcp".into(), Empty {})]);
    run.env = vec!["A=b".into()];
    run.entrypoint = Some(vec![]);
    run.cmd = Some(vec![]);
    run.args_escaped = true;
    run.volumes = BTreeMap::from([("/USER".into(), Empty {})]);
    run.working_dir = "/".into();
    run.labels = BTreeMap::from([("user".into(), "free".into())]);
    run.stop_signal = Some("9".into());
    run.healthcheck = Some(Healthcheck {
        test: vec!["NONE".into()],
        interval: 1,
        timeout: 1,
        start_period: 1,
        start_interval: 1,
        retries: 1,
    });
    run.on_build = vec!["RUN x".into()];
    run.shell = Some(vec![]);
    [
        (serde_json::to_value(image).unwrap(), DOCUMENT),
        (serde_json::to_value(index).unwrap(), DOCUMENT),
        (serde_json::to_value(config).unwrap(), CONFIG),
    ]
}

/// Reads a document as the type that it is of; the field that is read in two ways.
fn read(value: &Value) -> Option<TwoWays> {
    let bytes = serde_json::to_vec(value).unwrap();
    if value.get("rootfs").is_some() {
        return match ImageConfig::parse(&bytes) {
            Err(ConfigError::TwoWays(found)) => Some(found),
            other => other.map(|_| None).unwrap(),
        };
    }
    let is_index = value.get("manifests").is_some();
    let kind = if is_index { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
    match parse_manifest(&bytes, kind) {
        Err(ManifestError::TwoWays(found)) => Some(found),
        other => other.map(|_| None).unwrap(),
    }
}

/// An object that has fields, by its path.
struct Place {
    path: String,
    names: Vec<String>,
    known: Vec<&'static str>,
}

fn places(value: &Value, shape: &'static Shape, path: &str, into: &mut Vec<Place>) {
    match (shape, value) {
        (Shape::Fields(fields), Value::Object(object)) => {
            into.push(Place {
                path: path.to_owned(),
                names: object.keys().cloned().collect(),
                known: fields.iter().map(|(name, _)| *name).collect(),
            });
            for (name, below) in *fields {
                if let Some(value) = object.get(*name) {
                    places(value, below, &format!("{path}/{name}"), into);
                }
            }
        }
        (Shape::List(of), Value::Array(list)) => {
            for (index, value) in list.iter().enumerate() {
                places(value, of, &format!("{path}/{index}"), into);
            }
        }
        _ => {}
    }
}

#[test]
fn the_shapes_have_every_field_that_is_read() {
    for (value, shape) in full() {
        assert_eq!(read(&value), None, "{value}");
        let mut found = Vec::new();
        places(&value, shape, "", &mut found);
        assert!(found.len() > 4, "{}", found.len());
        for Place { path, names, known } in found {
            for name in names {
                assert!(known.contains(&name.as_str()), "{path}/{name}");
            }
        }
    }
}

#[test]
fn goes_by_gos_folding() {
    for (name, known, want) in [
        ("Layers", "layers", true),
        ("LAYER\u{17f}", "layers", true),
        ("\u{212a}ind", "kind", true),
        ("layer", "layers", false),
        ("l\u{e4}yers", "layers", false),
        ("diff-ids", "diff_ids", false),
        ("MEDIATYPE", "mediaType", true),
        // Turkish letters fold to no ASCII.
        ("d\u{131}gest", "digest", false),
        ("D\u{130}gest", "digest", false),
    ] {
        assert_eq!(folds_to(name, known), want, "{name}");
    }
}

#[test]
fn keys_of_maps_and_of_what_nobody_knows_are_free() {
    let mut value = full()[0].0.clone();
    value["x"] = json!({"Layers": [{"Digest": 1}], "layers": 2});
    value["layers"][0]["X"] = json!({"Size": 1});
    assert_eq!(read(&value), None);
}

/// The name with some letters in another case, or as the letter beyond ASCII that folds to it.
fn respelt(name: &str, choices: u64) -> String {
    let respell = |(at, letter): (usize, char)| match (choices >> (2 * at % 64) & 3, letter) {
        (0, letter) => letter,
        (1, 's' | 'S') => '\u{17f}',
        (1, 'k' | 'K') => '\u{212a}',
        (_, letter) if letter.is_ascii_lowercase() => letter.to_ascii_uppercase(),
        (_, letter) => letter.to_ascii_lowercase(),
    };
    name.chars().enumerate().map(respell).collect()
}

proptest! {
    // Each case tries every name at every place.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn no_known_name_has_a_second_spelling(choices: u64, instead: bool) {
        for (value, shape) in full() {
            let mut found = Vec::new();
            places(&value, shape, "", &mut found);
            let all = found.iter().flat_map(|at| at.known.iter().map(|known| (&at.path, *known)));
            for (path, known) in all {
                let name = respelt(known, choices);
                let mut changed = value.clone();
                let object = changed.pointer_mut(path).unwrap().as_object_mut().unwrap();
                // What stands there in its place, or beside it.
                let old = if instead { object.get(known).cloned() } else { None };
                object.insert(name.clone(), old.unwrap_or(Value::Null));
                let want = (name != known).then_some(TwoWays { name, known });
                if want.is_some() {
                    prop_assert_eq!(read(&changed), want, "{}", path);
                }
            }
        }
    }
}
