//! `--provenance`, `--sbom` and `--attest`, as docker's own client has them.

use anyhow::bail;
use sekisho_builder::Provenance;

/// Whether a value says that there is to be none.
fn is_off(value: &str) -> bool {
    matches!(value, "false" | "0") || value.split(',').any(|part| part == "disabled=true")
}

/// Reads `true`, `mode=max`.
fn provenance(option: &str, value: &str) -> anyhow::Result<Option<Provenance>> {
    if is_off(value) {
        return Ok(None);
    }
    let mut how = Provenance::Min;
    for part in value.split(',') {
        match part {
            "true" | "1" | "mode=min" | "type=provenance" | "disabled=false" => {}
            "mode=max" => how = Provenance::Max,
            other => {
                bail!("`--{option}={value}`: `{other}` is not known: say `mode=min` or `mode=max`")
            }
        }
    }
    Ok(Some(how))
}

/// What is asked for; the last word of several counts, and nothing is left out in silence.
///
/// # Errors
/// One of the options asks for what is not made here.
pub(super) fn wanted(
    of_provenance: Option<&str>,
    sbom: Option<&str>,
    attests: &[String],
) -> anyhow::Result<Option<Provenance>> {
    let mut found = None;
    for value in attests {
        if value.split(',').any(|part| part == "type=provenance") {
            found = provenance("attest", value)?;
        } else {
            refuse("attest", value)?;
        }
    }
    sbom.map_or(Ok(()), |value| refuse("sbom", value))?;
    match of_provenance {
        Some(value) => provenance("provenance", value),
        None => Ok(found),
    }
}

fn refuse(option: &str, value: &str) -> anyhow::Result<()> {
    if !is_off(value) {
        bail!(
            "`--{option}={value}`: only provenance is put beside an image here; leave the option away or say \
             `false`: the gate lists what it finds in an image"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provenance_is_asked_for_as_docker_has_it_and_the_rest_is_refused_unless_it_is_off() {
        let (min, max) = (Some(Provenance::Min), Some(Provenance::Max));
        let attest = |text: &str| [text.to_owned()];
        for (value, want) in [
            ("true", min),
            ("mode=min", min),
            ("mode=max", max),
            ("false", None),
            ("mode=max,disabled=true", None),
        ] {
            assert_eq!(wanted(Some(value), Some("0"), &[]).unwrap(), want, "{value}");
        }
        assert_eq!(wanted(None, None, &attest("type=provenance,mode=max")).unwrap(), max);
        assert_eq!(wanted(Some("0"), None, &attest("type=provenance")).unwrap(), None);
        assert_eq!(wanted(None, None, &attest("type=sbom,disabled=true")).unwrap(), None);
        let error = wanted(Some("mode=most"), None, &[]).unwrap_err().to_string();
        assert!(error.starts_with("`--provenance=mode=most`: `mode=most` is not known"), "{error}");
        for (sbom, attests) in [(Some("true"), vec![]), (None, attest("type=sbom").to_vec())] {
            let error = wanted(None, sbom, &attests).unwrap_err().to_string();
            assert!(error.contains("only provenance is put beside an image"), "{error}");
        }
    }
}
