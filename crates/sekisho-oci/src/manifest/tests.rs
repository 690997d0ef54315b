use super::*;

fn descriptor(text: &str) -> Descriptor {
    Descriptor::of(media_type::OCI_LAYER_GZIP, text.as_bytes())
}

fn image() -> ImageManifest {
    ImageManifest::new(Descriptor::of(media_type::OCI_CONFIG, b"{}"), vec![descriptor("a")])
}

#[test]
fn bytes_are_the_same_for_the_same_value() {
    let mut one = image();
    one.annotations.insert("b".into(), "2".into());
    one.annotations.insert("a".into(), "1".into());
    let mut two = image();
    two.annotations.insert("a".into(), "1".into());
    two.annotations.insert("b".into(), "2".into());
    assert_eq!(one.to_bytes(), two.to_bytes());
    let text = String::from_utf8(one.to_bytes()).unwrap();
    assert!(text.starts_with(r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType""#), "{text}");
    assert!(text.ends_with(r#""annotations":{"a":"1","b":"2"}}"#), "{text}");
    let parsed = parse_manifest(&one.to_bytes(), media_type::OCI_MANIFEST).unwrap();
    assert_eq!(parsed, Manifest::Image(one));
}

#[track_caller]
fn refused(text: &str, content_type: &str, want: &str) {
    let error = parse_manifest(text.as_bytes(), content_type).unwrap_err();
    assert_eq!(error.to_string(), want);
}

#[test]
fn refuses_what_could_be_read_in_two_ways() {
    let bytes = String::from_utf8(image().to_bytes()).unwrap();
    refused(
        &bytes,
        media_type::DOCKER_MANIFEST,
        "manifest says mediaType `application/vnd.oci.image.manifest.v1+json` but was sent as \
         `application/vnd.docker.distribution.manifest.v2+json`",
    );
    refused(&bytes, "application/json", "`application/json` is no supported manifest type");
    refused(
        &bytes.replacen("\"schemaVersion\":2", "\"schemaVersion\":2,\"manifests\":[]", 1),
        media_type::OCI_MANIFEST,
        "manifest has `manifests`, which does not belong into \
         `application/vnd.oci.image.manifest.v1+json`",
    );
    refused(
        r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#,
        media_type::OCI_INDEX,
        "manifest has `layers`, which does not belong into \
         `application/vnd.oci.image.index.v1+json`",
    );
    refused(
        r#"{"schemaVersion":1}"#,
        media_type::OCI_MANIFEST,
        "manifest has schemaVersion 1, not 2",
    );
    refused("[]", media_type::OCI_MANIFEST, "manifest does not parse");
    refused(
        &bytes.replacen("\"schemaVersion\":2", "\"schemaVersion\":2,\"schemaVersion\":2", 1),
        media_type::OCI_MANIFEST,
        "manifest does not parse",
    );
    refused(
        &bytes.replace("\"size\":1", "\"size\":-1"),
        media_type::OCI_MANIFEST,
        "manifest does not parse",
    );
    // Go's clients take the second of them.
    for (name, known) in [
        ("Config", "config"),
        ("Layers", "layers"),
        ("layer\u{17f}", "layers"),
        ("Manifests", "manifests"),
        ("SCHEMAVERSION", "schemaVersion"),
    ] {
        refused(
            &bytes.replacen(
                "\"schemaVersion\":2",
                &format!("\"schemaVersion\":2,\"{name}\":[]"),
                1,
            ),
            media_type::OCI_MANIFEST,
            &format!(
                "manifest is read in two ways: `{name}` is passed over by some readers and taken \
                 for `{known}` by others: write `{known}`, once"
            ),
        );
    }
}

#[test]
fn refuses_what_is_too_large_or_inconsistent() {
    let huge = vec![b' '; MAX_MANIFEST_BYTES + 1];
    let error = parse_manifest(&huge, media_type::OCI_MANIFEST).unwrap_err();
    assert!(matches!(error, ManifestError::TooLarge { bytes } if bytes == huge.len()), "{error}");

    let mut twice = image();
    twice.layers.push(descriptor("a"));
    parse_manifest(&twice.to_bytes(), media_type::OCI_MANIFEST).unwrap();
    twice.layers[1].size = 2;
    let error = parse_manifest(&twice.to_bytes(), media_type::OCI_MANIFEST).unwrap_err();
    assert!(matches!(error, ManifestError::Size { size: 2, .. }), "{error}");

    let many = ImageIndex::new(vec![descriptor("x"); MAX_DESCRIPTORS + 1]);
    let error = parse_manifest(&many.to_bytes(), media_type::OCI_INDEX).unwrap_err();
    assert!(matches!(error, ManifestError::TooManyDescriptors { .. }), "{error}");
}

#[test]
fn tolerates_unknown_fields_nulls_and_parameters() {
    let config = Descriptor::of(media_type::OCI_CONFIG, b"{}");
    let config = serde_json::to_string(&config).unwrap();
    let text = format!(
        r#"{{"schemaVersion":2,"config":{config},"layers":null,"annotations":null,"x":{{"y":1}}}}"#
    );
    let manifest = parse_manifest(
        text.as_bytes(),
        "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
    )
    .unwrap();
    assert_eq!(manifest.references().len(), 1);
    assert_eq!(manifest.artifact_type(), Some(media_type::OCI_CONFIG));
}

#[test]
fn lists_references_with_their_roles() {
    let mut manifest = image();
    manifest.layers.push(Descriptor::of(media_type::DOCKER_LAYER_FOREIGN_GZIP, b"windows"));
    manifest.subject = Some(Descriptor::of(media_type::OCI_MANIFEST, b"subject"));
    let manifest = Manifest::Image(manifest);
    let roles: Vec<_> = manifest.references().iter().map(|r| (r.role, r.distributable)).collect();
    assert_eq!(
        roles,
        [(Role::Config, true), (Role::Layer, true), (Role::Layer, false), (Role::Subject, true)]
    );
}

#[test]
fn chooses_the_entry_of_the_platform() {
    let entry = |text: &str, platform: Option<&str>| {
        let mut entry = Descriptor::of(media_type::OCI_MANIFEST, text.as_bytes());
        entry.platform = platform.map(|text| text.parse().unwrap());
        entry
    };
    let index = ImageIndex::new(vec![
        entry("attestation", Some("unknown/unknown")),
        entry("none", None),
        entry("arm6", Some("linux/arm/v6")),
        entry("arm7", Some("linux/arm/v7")),
        entry("amd64", Some("linux/amd64")),
    ]);
    for (host, want) in [
        ("linux/amd64", Some("amd64")),
        ("linux/arm/v7", Some("arm7")),
        ("linux/arm/v6", Some("arm6")),
        ("linux/riscv64", Some("none")),
    ] {
        let chosen = index.choose(&host.parse().unwrap()).map(|entry| entry.digest.clone());
        assert_eq!(chosen, want.map(|text| Digest::sha256(text.as_bytes())), "{host}");
    }
    let empty = ImageIndex::new(vec![]);
    assert_eq!(empty.choose(&Platform::host()), None);
}

proptest::proptest! {
    #[test]
    fn any_document_is_a_manifest_or_refused(
        text in "(\\{|\\}|\\[|\\]|:|,|\"schemaVersion\"|\"layers\"|\"manifests\"|\"config\"|\"size\"|\"digest\"|\"sha256:\"|2|null|-1|\\PC){0,40}"
    ) {
        for media_type in [media_type::OCI_MANIFEST, media_type::OCI_INDEX] {
            let _ = parse_manifest(text.as_bytes(), media_type);
        }
    }

    #[test]
    fn a_changed_manifest_is_another_one_or_refused(at in 0_usize..400, byte in 0x20_u8..0x7f) {
        let mut bytes = image().to_bytes();
        let at = at % bytes.len();
        let same = bytes[at] == byte;
        bytes[at] = byte;
        if let Ok(parsed) = parse_manifest(&bytes, media_type::OCI_MANIFEST) {
            // Whatever is read says the same again.
            let Manifest::Image(parsed) = parsed else { panic!("an image stays an image") };
            let again = parse_manifest(&parsed.to_bytes(), media_type::OCI_MANIFEST).unwrap();
            proptest::prop_assert_eq!(&again, &Manifest::Image(parsed.clone()));
            proptest::prop_assert!(!same || parsed == image());
        }
    }
}
