//! How a run ended: the image or the refusal, where the log is, how long it took.

use std::time::Duration;

use jiff::Timestamp;
use sekisho_gate::Decision;
use sekisho_github::hub_api::Run;
use sekisho_policy::{Decision as Outcome, Mode};
use serde::Serialize;

use super::{Went, exit_of, tell};
use crate::exit::Exit;
use crate::journey::{Line, phases};
use crate::plane::Address;
use crate::printer::{Printer, Style};
use crate::settings::DataDir;

/// What a report needs besides the run itself.
pub(super) struct Context<'a> {
    pub(super) address: &'a Address,
    pub(super) data: &'a DataDir,
    pub(super) total: Duration,
    /// The plane was started for this run and is gone by now.
    pub(super) transient: bool,
}

/// An image that the gate let pass.
#[derive(Debug, Serialize)]
struct Image {
    reference: String,
    digest: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    runs: &'a [Run],
    decisions: &'a [Decision],
    images: Vec<Image>,
    pushed_ms: u128,
    total_ms: u128,
}

pub(super) fn is_denied(decision: &Decision) -> bool {
    !decision.verdict.decision.passes()
}

/// Says how it ended, and returns the exit code for it.
pub(super) fn show(printer: Printer, went: &Went, context: &Context<'_>) -> anyhow::Result<Exit> {
    for decision in &went.decisions {
        verdict(printer, decision);
    }
    let passed = went.decisions.iter().filter(|decision| !is_denied(decision));
    let images: Vec<Image> = passed.map(|decision| image(decision, context.address)).collect();
    for image in &images {
        show_image(printer, image, context);
    }
    for run in &went.runs {
        let archive = context.data.archive();
        let text = format!("sekisho logs {}   (in {})", run.id, archive.display());
        tell(printer, &line(Style::Bold, "log", text));
    }
    let times = times(went, context.total);
    tell(printer, &line(Style::Dim, "time", times));
    if printer.is_json() {
        printer.answer_json(&Answer {
            schema_version: 1,
            runs: &went.runs,
            decisions: &went.decisions,
            images,
            pushed_ms: went.pushed.as_millis(),
            total_ms: context.total.as_millis(),
        })?;
    } else {
        let by_digest = |image: &Image| {
            let repository = image.reference.rsplit_once(':').map_or("", |(name, _)| name);
            format!("{repository}@{}", image.digest)
        };
        images.iter().try_for_each(|image| printer.answer(&by_digest(image)))?;
    }
    Ok(exit_of(went))
}

fn line(style: Style, station: &'static str, text: impl Into<String>) -> Line {
    Line { style, station, text: text.into() }
}

/// The gate's word on one image, with what it rests on.
fn verdict(printer: Printer, decision: &Decision) {
    let (style, word) = match decision.verdict.decision {
        Outcome::Allow => (Style::Good, "allowed"),
        Outcome::Warn => (Style::Warn, "allowed, with warnings"),
        Outcome::Quarantine => (Style::Bad, "HELD BACK"),
        Outcome::Deny => (Style::Bad, "REFUSED"),
    };
    let name = match &decision.tag {
        Some(tag) => format!("{}:{tag}", decision.repository),
        None => format!("{}@{}", decision.repository, decision.digest),
    };
    let basis = format!(
        "{} packages against {} advisories{}",
        decision.packages,
        decision.advisories,
        age(decision.newest_advisory, decision.at)
    );
    tell(printer, &line(style, "gate", format!("{word}: {name}; {basis}")));
    for reason in &decision.verdict.reasons {
        let style = match reason.mode {
            Mode::Enforce | Mode::Quarantine => Style::Bad,
            Mode::Warn => Style::Warn,
            // For the record, which `policy explain` shows.
            Mode::Audit => continue,
        };
        let docs =
            if reason.docs.is_empty() { String::new() } else { format!(" ({})", reason.docs) };
        tell(printer, &line(style, "", format!("{}{docs}", reason.sentence())));
    }
}

fn age(newest: Option<Timestamp>, at: Timestamp) -> String {
    match newest {
        None => ", of no date".to_owned(),
        Some(newest) => {
            let days = at.duration_since(newest).as_hours() / 24;
            format!(", the newest {days} days old")
        }
    }
}

fn image(decision: &Decision, address: &Address) -> Image {
    let name = format!("{}/{}", address.authority(), decision.repository);
    let reference = match &decision.tag {
        Some(tag) => format!("{name}:{tag}"),
        None => format!("{name}@{}", decision.digest),
    };
    Image { reference, digest: decision.digest.to_string() }
}

fn show_image(printer: Printer, image: &Image, context: &Context<'_>) {
    tell(printer, &line(Style::Good, "image", image.reference.clone()));
    tell(printer, &line(Style::Plain, "", image.digest.clone()));
    let base = image.reference.rsplit('/').next().unwrap_or_default();
    let base = base.split([':', '@']).next().unwrap_or_default();
    let pull =
        format!("skopeo copy --src-tls-verify=false docker://{} oci:{base}", image.reference);
    let note = if context.transient {
        let port = context.address.url.port().unwrap_or_default();
        format!("{pull}   (while `sekisho up --port {port}` runs)")
    } else {
        pull
    };
    tell(printer, &line(Style::Bold, "pull", note));
}

/// `push 40 ms · wait for a runner 80 ms · … · total 900 ms`.
fn times(went: &Went, total: Duration) -> String {
    let mut parts = vec![format!("push {} ms", went.pushed.as_millis())];
    for run in &went.runs {
        parts.extend(phases(run).into_iter().map(|(name, ms)| format!("{name} {ms} ms")));
    }
    parts.push(format!("total {} ms", total.as_millis()));
    parts.join(" · ")
}
