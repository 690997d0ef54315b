//! `--out`, in the words of BuildKit's `--output`.

use std::path::PathBuf;

use sekisho_builder::Output;

/// Where an image is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spec {
    /// To the registry that its names say.
    Push,
    /// It stays in the cache.
    Keep,
    /// Somewhere on this machine.
    To(Output),
}

impl Spec {
    /// The output on this machine, if it is one.
    pub(super) fn output(&self) -> Option<Output> {
        match self {
            Self::To(output) => Some(output.clone()),
            Self::Push | Self::Keep => None,
        }
    }
}

/// Reads `type=T[,dest=PATH][,push=true][,tar=false]`, or a path: a folder, or `-` for a tar on stdout.
pub(super) fn parse(text: &str) -> Result<Spec, String> {
    if !text.contains('=') {
        return Ok(Spec::To(match text {
            "-" => Output::Tar("-".into()),
            folder => Output::Local(folder.into()),
        }));
    }
    let (mut kind, mut dest, mut push, mut tar) = (None, None, false, true);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or("write it as type=TYPE,dest=PATH")?;
        let switch = || match value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("`{key}` is `true` or `false`")),
        };
        match key.trim() {
            "type" => kind = Some(value),
            "dest" => dest = Some(PathBuf::from(value)),
            "push" => push = switch()?,
            "tar" => tar = switch()?,
            other => {
                let known = "`type`, `dest`, `push`, `tar`";
                return Err(format!("unknown field `{other}`: known are {known}"));
            }
        }
    }
    let place = |what: &str| dest.clone().ok_or_else(|| format!("`{what}` needs `dest=PATH`"));
    Ok(match kind {
        Some("image") if push => Spec::Push,
        Some("image" | "cacheonly") => Spec::Keep,
        Some("registry") => Spec::Push,
        Some("oci") if !tar => Spec::To(Output::OciDirectory(place("type=oci")?)),
        Some("oci") => Spec::To(Output::OciTar(place("type=oci")?)),
        Some("docker") => Spec::To(Output::DockerTar(place("type=docker")?)),
        Some("local") => Spec::To(Output::Local(place("type=local")?)),
        Some("tar") => Spec::To(Output::Tar(place("type=tar")?)),
        Some(other) => {
            let known = "`image`, `oci`, `docker`, `local`, `tar`";
            return Err(format!("unknown type `{other}`: known are {known}"));
        }
        None => return Err("`type` is missing".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_in_all_forms() {
        for (text, want) in [
            ("out", Ok(Spec::To(Output::Local("out".into())))),
            ("-", Ok(Spec::To(Output::Tar("-".into())))),
            ("type=image,push=true", Ok(Spec::Push)),
            ("type=registry", Ok(Spec::Push)),
            ("type=image", Ok(Spec::Keep)),
            ("type=oci,dest=a.tar", Ok(Spec::To(Output::OciTar("a.tar".into())))),
            ("type=oci,dest=a,tar=false", Ok(Spec::To(Output::OciDirectory("a".into())))),
            ("type=docker,dest=d.tar", Ok(Spec::To(Output::DockerTar("d.tar".into())))),
            ("type=tar,dest=-", Ok(Spec::To(Output::Tar("-".into())))),
            ("type=local", Err("`type=local` needs `dest=PATH`".to_owned())),
            ("dest=x", Err("`type` is missing".to_owned())),
            ("type=oci,dest=x,tar=maybe", Err("`tar` is `true` or `false`".to_owned())),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
        assert!(parse("type=nope,dest=x").unwrap_err().starts_with("unknown type `nope`"));
        assert!(parse("type=oci,what=x").unwrap_err().starts_with("unknown field `what`"));
    }
}
