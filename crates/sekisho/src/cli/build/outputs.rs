//! `--out`, in the words of BuildKit's `--output`.

use std::path::PathBuf;

use clap::ValueEnum;
use sekisho_builder::{Compression, CompressionKind, Output};

/// With what layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// What every runtime reads
    Gzip,
    /// Smaller and faster, for containerd from 1.5 and Docker from 23 on
    Zstd,
}

/// What was said of the compression, all of it optional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) kind: Option<Kind>,
    pub(super) level: Option<i32>,
    pub(super) force: bool,
}

impl Wish {
    /// This, and what another says besides.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            kind: self.kind.or(other.kind),
            level: self.level.or(other.level),
            force: self.force || other.force,
        }
    }

    pub(super) fn compression(self) -> Compression {
        let kind = match self.kind {
            None | Some(Kind::Gzip) => CompressionKind::Gzip,
            Some(Kind::Zstd) => CompressionKind::Zstd,
        };
        Compression { kind, level: self.level, force: self.force }
    }
}

/// One `--out`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) spec: Spec,
    pub(super) wish: Wish,
}

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

/// Reads `type=T[,dest=PATH][,push=true][,tar=false][,compression=KIND][,compression-level=N]
/// [,force-compression=true]`, or a path: a folder, or `-` for a tar on stdout.
pub(super) fn parse(text: &str) -> Result<Wanted, String> {
    let mut wish = Wish::default();
    let spec = match text {
        "-" => Spec::To(Output::Tar("-".into())),
        folder if !folder.contains('=') => Spec::To(Output::Local(folder.into())),
        fields => spec(fields, &mut wish)?,
    };
    Ok(Wanted { spec, wish })
}

fn spec(text: &str, wish: &mut Wish) -> Result<Spec, String> {
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
            "compression" => {
                let known = Kind::from_str(value, false);
                wish.kind = Some(known.map_err(|_| "`compression` is `gzip` or `zstd`")?);
            }
            "compression-level" => {
                let level = value.parse();
                wish.level = Some(level.map_err(|_| "`compression-level` is a number")?);
            }
            "force-compression" => wish.force = switch()?,
            other => {
                let known = "`type`, `dest`, `push`, `tar`, `compression`, `compression-level`, \
                             `force-compression`";
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
            assert_eq!(parse(text).map(|wanted| wanted.spec), want, "{text}");
        }
        let zstd = parse("type=image,compression=zstd,compression-level=7,push=true").unwrap();
        assert_eq!(zstd.wish, Wish { kind: Some(Kind::Zstd), level: Some(7), force: false });
        let said = Wish { level: Some(9), ..Wish::default() }.or(zstd.wish).compression();
        assert_eq!((said.kind, said.level), (CompressionKind::Zstd, Some(9)), "the first wins");
        assert_eq!(
            parse("type=image,compression=br").unwrap_err(),
            "`compression` is `gzip` or `zstd`"
        );
        assert!(parse("type=nope,dest=x").unwrap_err().starts_with("unknown type `nope`"));
        assert!(parse("type=oci,what=x").unwrap_err().starts_with("unknown field `what`"));
    }
}
