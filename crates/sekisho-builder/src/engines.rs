//! Other engines: an existing BuildKit or buildah carries the build out, and the image that comes of it takes
//! the same way as ours, to outputs, registry, scan and gate.
//!
//! ```text
//!  observe   what the Dockerfile needs that we cannot do; which engines are here
//!  decide    wish × needs × what is here ──▶ who builds            (pure: [`decide`])
//!  act       the engine's own client, to an archive; the archive into the store
//! ```

mod archive;
mod client;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use sekisho_dockerfile::{Dockerfile, Instruction, Security, Span};

use crate::error::BuildError;
use crate::frontend;

pub(crate) use client::build;

/// Who is to carry a build out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Native, unless the Dockerfile needs what only BuildKit does, and there is one.
    Auto,
    /// The engine of this program.
    #[default]
    Native,
    /// The BuildKit of `BUILDKIT_HOST`, or that of Docker.
    Buildkit,
    /// buildah.
    Buildah,
}

/// What a build may do besides, in the words of docker buildx. Another engine's daemon has to grant it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitlement {
    /// `RUN --security=insecure`: the rights of root on the machine.
    SecurityInsecure,
    /// `RUN --network=host`.
    NetworkHost,
}

impl Entitlement {
    const ALL: [Self; 2] = [Self::SecurityInsecure, Self::NetworkHost];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::SecurityInsecure => "security.insecure",
            Self::NetworkHost => "network.host",
        }
    }
}

impl FromStr for Entitlement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|one| one.name() == text);
        known.ok_or_else(|| format!("write {}", Self::ALL.map(Self::name).join(" or ")))
    }
}

/// A program that builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// `buildctl`, for the daemon of `BUILDKIT_HOST`.
    Buildctl,
    /// `docker build`, for the BuildKit in its daemon.
    Docker,
    /// `buildah build`.
    Buildah,
}

/// What the native engine has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A frontend that is an image.
    Frontend(String),
    /// `RUN --security=insecure`.
    Insecure,
    /// `RUN --device`.
    Device,
}

/// What a Dockerfile needs of that. One for a foreign frontend is not read any further.
pub(crate) fn needs(
    text: &str,
    file: Option<&Dockerfile>,
    build_args: &BTreeMap<String, String>,
) -> Vec<(Need, Span)> {
    if let Some((image, span)) = frontend::foreign(text, build_args) {
        return vec![(Need::Frontend(image), span)];
    }
    let mut needs = Vec::new();
    for instruction in file.iter().flat_map(|file| &file.stages).flat_map(|one| &one.instructions) {
        if let Instruction::Run(run) = &instruction.node {
            if run.security == Some(Security::Insecure) {
                needs.push((Need::Insecure, instruction.span));
            }
            if !run.devices.is_empty() {
                needs.push((Need::Device, instruction.span));
            }
        }
    }
    needs
}

/// Where a Dockerfile wants what nobody allowed. Of one that we cannot read the engine itself says so.
pub(crate) fn not_allowed(
    needs: &[(Need, Span)],
    allowed: &BTreeSet<Entitlement>,
) -> Option<(Entitlement, Span)> {
    let wanted = needs.iter().find(|(need, _)| *need == Need::Insecure)?;
    let entitlement = Entitlement::SecurityInsecure;
    (!allowed.contains(&entitlement)).then_some((entitlement, wanted.1))
}

/// Who builds; `None` is the native engine, also where it will have to refuse.
///
/// # Errors
/// What was asked for is not here.
pub(crate) fn decide(
    wish: Engine,
    needs: &[Need],
    here: &[Client],
) -> Result<Option<Client>, &'static str> {
    let first = |wanted: &[Client]| here.iter().copied().find(|one| wanted.contains(one));
    let buildkit = first(&[Client::Buildctl, Client::Docker]);
    match wish {
        Engine::Native => Ok(None),
        Engine::Auto if needs.is_empty() => Ok(None),
        Engine::Auto => Ok(buildkit),
        Engine::Buildkit => buildkit.map(Some).ok_or(
            "there is no BuildKit here: set `BUILDKIT_HOST` and install `buildctl`, or start Docker",
        ),
        Engine::Buildah => first(&[Client::Buildah])
            .map(Some)
            .ok_or("there is no buildah here: install the package `buildah`"),
    }
}

/// Who builds a Dockerfile; `host` as in [`BuildOptions::engine_host`](crate::BuildOptions).
pub(crate) fn choose(
    wish: Engine,
    host: Option<&str>,
    needs: &[(Need, Span)],
) -> Result<Option<Client>, BuildError> {
    // Nobody is asked for what is not wanted.
    let wanted = match wish {
        Engine::Native => false,
        Engine::Auto => !needs.is_empty(),
        Engine::Buildkit | Engine::Buildah => true,
    };
    let here = if wanted { client::here(host) } else { Vec::new() };
    let needs: Vec<Need> = needs.iter().map(|(need, _)| need.clone()).collect();
    decide(wish, &needs, &here).map_err(|problem| BuildError::NoEngine { problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_what_only_buildkit_does() {
        let of = |text: &str| -> Vec<(Need, u32)> {
            let file = sekisho_dockerfile::parse("D", text).ok();
            let needs = needs(text, file.as_ref(), &BTreeMap::new());
            needs.into_iter().map(|(need, span)| (need, span.line)).collect()
        };
        assert_eq!(of("# syntax=docker/dockerfile:1\nFROM a\nRUN --network=none b"), []);
        assert_eq!(
            of("# syntax=x/y\nFROM a\nRUN --security=insecure b"),
            [(Need::Frontend("x/y".to_owned()), 1)]
        );
        assert_eq!(of("// syntax=x/y\npackage main"), [(Need::Frontend("x/y".to_owned()), 1)]);
        assert_eq!(
            of("FROM a\nRUN --security=insecure b\nRUN --device=nvidia.com/gpu=all c"),
            [(Need::Insecure, 2), (Need::Device, 3)]
        );
    }

    #[test]
    fn auto_takes_buildkit_for_each_reason_and_for_no_other() {
        for (text, foreign) in [
            ("# syntax=x/y\nFROM a", true),
            ("FROM a\nRUN --security=insecure b", true),
            ("FROM a\nRUN --device=nvidia.com/gpu=all b", true),
            (
                "# syntax=docker/dockerfile:1-labs\nFROM a\nRUN --security=sandbox --network=host b",
                false,
            ),
        ] {
            let file = sekisho_dockerfile::parse("D", text).ok();
            let needs = needs(text, file.as_ref(), &BTreeMap::new());
            let needs: Vec<Need> = needs.into_iter().map(|(need, _)| need).collect();
            let here = [Client::Buildah, Client::Docker];
            let chosen = decide(Engine::Auto, &needs, &here);
            assert_eq!(chosen, Ok(foreign.then_some(Client::Docker)), "{text}");
            // Without one it is ours to refuse.
            assert_eq!(decide(Engine::Auto, &needs, &here[..1]), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_is_insecure_needs_leave() {
        let text = "FROM a\nRUN b\nRUN --security=insecure c";
        let file = sekisho_dockerfile::parse("D", text).ok();
        let needs = needs(text, file.as_ref(), &BTreeMap::new());
        let place = |allowed: &[Entitlement]| {
            let found = not_allowed(&needs, &allowed.iter().copied().collect());
            found.map(|(what, span)| (what.name(), span.line))
        };
        assert_eq!(place(&[]), Some(("security.insecure", 3)));
        assert_eq!(place(&[Entitlement::NetworkHost]), Some(("security.insecure", 3)));
        assert_eq!(place(&[Entitlement::SecurityInsecure]), None);
        assert_eq!("network.host".parse(), Ok(Entitlement::NetworkHost));
        let error = "device".parse::<Entitlement>().unwrap_err();
        assert_eq!(error, "write security.insecure or network.host");
    }

    #[test]
    fn who_builds_depends_on_wish_need_and_what_is_here() {
        use Client::{Buildah, Buildctl, Docker};
        let (none, all) = (&[][..], &[Buildah, Docker, Buildctl][..]);
        let need = &[Need::Insecure][..];
        for (wish, needs, here, want) in [
            (Engine::Native, need, all, Ok(None)),
            (Engine::Auto, none_needed(), all, Ok(None)),
            (Engine::Auto, need, all, Ok(Some(Docker))),
            (Engine::Auto, need, &[Buildah], Ok(None)),
            (Engine::Auto, need, none, Ok(None)),
            (Engine::Buildkit, none_needed(), &[Buildctl, Docker], Ok(Some(Buildctl))),
            (Engine::Buildkit, none_needed(), &[Buildah], Err("there is no BuildKit here")),
            (Engine::Buildah, need, all, Ok(Some(Buildah))),
            (Engine::Buildah, need, &[Docker], Err("there is no buildah here")),
        ] {
            let decided = decide(wish, needs, here);
            match want {
                Ok(want) => assert_eq!(decided, Ok(want), "{wish:?} {needs:?} {here:?}"),
                Err(start) => assert!(decided.unwrap_err().starts_with(start), "{wish:?} {here:?}"),
            }
        }
    }

    fn none_needed() -> &'static [Need] {
        &[]
    }
}
