//! Documents of images, and the names that they go by.

use std::path::{Component, Path};

use sekisho_oci::{ImageConfig, MAX_DESCRIPTORS, Manifest, Platform, media_type, parse_manifest};
use sekisho_types::{Digest, ImageReference, RepositoryName, Tag};

use super::{must, parts, text, texts};
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "image-names",
        reads: "digests, names of repositories, tags, references and platforms",
        holds: "what is read is written the same; names and tags stay inside of a folder; a registry is a host",
        seeds: || {
            texts(&[
                "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "127.0.0.1:5000/acme/app:v1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "[::1]:5000/a/b",
                "debian",
                "registry.example/acme/app__x/y.z-w",
                "v1.2_3-rc",
                "linux/arm64/v8",
            ])
        },
        words: &[
            "sha256:",
            "sha512:",
            "..",
            "//",
            "@",
            ":",
            "__",
            "---",
            ".",
            "_",
            "/",
            "[::1]:5",
            "localhost",
            "A",
            "\0",
            "é",
            "x86_64",
        ],
        cost: 1,
        run: names,
    },
    Target {
        name: "manifests",
        reads: "a content type, and a manifest or index",
        holds: "descriptors keep their number, and one digest its size; type and content agree; what is written is read again as the same",
        seeds: || texts(MANIFESTS),
        words: &[
            media_type::OCI_MANIFEST,
            media_type::OCI_INDEX,
            media_type::DOCKER_MANIFEST,
            "; charset=utf-8",
            "\0",
            "\"schemaVersion\":2",
            "\"schemaVersion\":1",
            "\"layers\":[",
            "\"manifests\":[",
            "\"config\":{",
            "\"urls\":[\"http://a\"]",
            "\"size\":-1",
            "\"data\":\"e30=\"",
            "\"platform\":{\"architecture\":\"amd64\",\"os\":\"linux\"}",
            "null",
            "{}",
            "[[[[",
            "\"subject\":",
            ",",
        ],
        cost: 1,
        run: manifests,
    },
    Target {
        name: "image-configs",
        reads: "the config of an image",
        holds: "it is of layers; what is written is read again as the same",
        seeds: || texts(&[CONFIG]),
        words: &[
            "null",
            "{}",
            "[]",
            "\"diff_ids\":",
            "\"config\":",
            "\"Cmd\":[",
            "\"Volumes\":{",
            "\"empty_layer\":true",
            "1e400",
            "-1",
            "\"\\ud800\"",
            "[[[[",
        ],
        cost: 1,
        run: configs,
    },
];

const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","config":{"User":"app","Env":["A=b"],"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","true"],"Interval":1000000000},"Labels":{"a":"b"},"ArgsEscaped":true},"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"history":[{"created":"2030-01-01T00:00:00Z","created_by":"x","empty_layer":true}]}"#;

const MANIFESTS: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json\0{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":2},\"layers\":[],\"subject\":{\"mediaType\":\"a/b\",\"digest\":\"sha256:a3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":0},\"artifactType\":\"a/b\",\"annotations\":{\"a\":\"b\"}}",
    "application/vnd.oci.image.index.v1+json\0{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":2,\"platform\":{\"architecture\":\"arm\",\"os\":\"linux\",\"variant\":\"v7\"}}]}",
];

fn names(input: &[u8]) {
    let text = text(input);
    let inside =
        |text: &str| Path::new(text).components().all(|part| matches!(part, Component::Normal(_)));
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        assert!(digest.hex().bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    }
    if let Ok(name) = text.parse::<RepositoryName>() {
        assert_eq!(name.as_str(), text);
        assert!(inside(&text) && text.is_ascii() && text == text.to_ascii_lowercase(), "{text}");
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.as_str(), text);
        assert!(inside(&text) && !text.contains('/') && !text.starts_with(['.', '-']), "{text}");
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse(), Ok(platform.clone()));
        assert!(platform.rank_for(&platform) == Some(0) && inside(&text), "{text}");
    }
    if let Ok(reference) = text.parse::<ImageReference>() {
        let shown = reference.to_string();
        assert_eq!(must(shown.parse::<ImageReference>(), "what was written is read"), reference);
        assert!(reference.tag.is_some() || reference.digest.is_some());
        is_host(&reference.registry);
    }
}

/// A host, and a port where there is one. A number that is no address is refused when it is asked.
fn is_host(registry: &str) {
    if let Ok(url) = url::Url::parse(&format!("https://{registry}/v2/")) {
        assert!(url.path() == "/v2/" && url.username().is_empty() && url.password().is_none());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]_".contains(c);
    assert!(registry.chars().all(plain) && !registry.starts_with(['.', '-']), "{registry}");
}

fn manifests(input: &[u8]) {
    let [content_type, bytes] = parts::<2>(input);
    let content_type = text(content_type);
    let Ok(manifest) = parse_manifest(bytes, &content_type) else { return };
    let references = manifest.references();
    assert!(references.len() <= MAX_DESCRIPTORS);
    for one in &references {
        let same =
            |other: &&sekisho_oci::Reference<'_>| other.descriptor.digest == one.descriptor.digest;
        let sizes = references.iter().filter(same).map(|other| other.descriptor.size);
        assert!(sizes.into_iter().all(|size| size == one.descriptor.size), "{one:?}");
    }
    // What nobody looks at need not be text.
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let (written, has, has_not) = match &manifest {
        Manifest::Image(image) => (image.to_bytes(), "config", "manifests"),
        Manifest::Index(index) => (index.to_bytes(), "manifests", "config"),
    };
    let is = |name: &str| value.get(name).is_some_and(|value| !value.is_null());
    assert!(value.is_null() || is(has) || has == "manifests", "no {has} in {content_type}");
    assert!(!is(has_not), "{has_not} in {content_type}");
    let again = must(parse_manifest(&written, &content_type), "what was written is read");
    assert_eq!(again, manifest);
}

fn configs(input: &[u8]) {
    let Ok(config) = ImageConfig::parse(input) else { return };
    assert_eq!(config.rootfs.kind, "layers");
    let again = must(ImageConfig::parse(&config.to_bytes()), "what was written is read");
    assert_eq!(again, config);
}
