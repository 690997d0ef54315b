//! `--provenance`, `--sbom` and `--attest`, which other builders put into an image.

use anyhow::bail;

/// Whether a value says that there is to be none.
fn is_off(value: &str) -> bool {
    matches!(value, "false" | "0") || value.split(',').any(|part| part == "disabled=true")
}

/// Nothing that was asked for is left out in silence.
///
/// # Errors
/// One of the options, given with its name, asks for an attestation.
pub(super) fn check<'a>(wanted: impl Iterator<Item = (&'a str, &'a str)>) -> anyhow::Result<()> {
    for (option, value) in wanted {
        if !is_off(value) {
            bail!(
                "`--{option}={value}`: no attestation is put into an image here; leave the option away or \
                 say `false`: the gate attests what it lets pass"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attestations_are_refused_unless_they_are_off() {
        let ok = [("provenance", "false"), ("sbom", "0"), ("attest", "type=sbom,disabled=true")];
        assert!(check(ok.into_iter()).is_ok());
        for (option, value) in
            [("provenance", "mode=max"), ("sbom", "true"), ("attest", "type=sbom")]
        {
            let error = check([(option, value)].into_iter()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`--{option}={value}`: no attestation")), "{error}");
        }
    }
}
