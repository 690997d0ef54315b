//! The Dockerfile, read; and who is to build it.

use sekisho_dockerfile::{Dockerfile, MAX_DOCKERFILE_BYTES};

use crate::context::text;
use crate::error::BuildError;
use crate::options::BuildOptions;
use crate::{engines, frontend};

/// The Dockerfile, and who builds it. What another engine's frontend reads need not parse.
pub(crate) fn choose(
    options: &BuildOptions,
) -> Result<(Dockerfile, Option<engines::Client>), BuildError> {
    if options.engine == engines::Engine::Native {
        return Ok((read(options)?, None));
    }
    let (name, text) = source(options)?;
    let parsed = sekisho_dockerfile::parse(&name, &text);
    let needs = engines::needs(&text, parsed.as_ref().ok(), &options.build_args);
    match engines::choose(options.engine, options.engine_host.as_deref(), &needs)? {
        None => Ok((read(options)?, None)),
        Some(client) => {
            if let (Ok(file), Some((what, span))) =
                (&parsed, engines::not_allowed(&needs, &options.allow))
            {
                let name = what.name();
                let error = file.diagnostic(span, format!("this RUN needs leave for `{name}`"));
                return Err(error.with_hint(format!("give it with `--allow {name}`")).into());
            }
            let unread = |_| Dockerfile { file: name, source: text, ..Dockerfile::default() };
            Ok((parsed.unwrap_or_else(unread), Some(client)))
        }
    }
}

/// Reads a Dockerfile for ourselves.
pub(crate) fn read(options: &BuildOptions) -> Result<Dockerfile, BuildError> {
    let (name, text) = source(options)?;
    frontend::check(&name, &text, &options.build_args)?;
    sekisho_dockerfile::parse(&name, &text).map_err(BuildError::Dockerfile)
}

/// A Dockerfile as text, and what messages call it.
fn source(options: &BuildOptions) -> Result<(String, String), BuildError> {
    let text = match &options.dockerfile_text {
        Some(text) => text.clone(),
        None => read_text(options)?,
    };
    Ok((options.dockerfile.display().to_string(), text))
}

fn read_text(options: &BuildOptions) -> Result<String, BuildError> {
    let (context, path) = (&options.context_dir, &options.dockerfile);
    let found = text::read(context, path, MAX_DOCKERFILE_BYTES as u64)?;
    found.ok_or_else(|| BuildError::NoDockerfile { path: context.join(path) })
}
