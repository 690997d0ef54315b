//! What a build came to: what was cached, what was slow, what the image weighs.

use std::collections::BTreeMap;

use sekisho_builder::{BuildResult, StepResult};

use super::progress::{Look, cut, size, time_ms};
use crate::printer::{Printer, Style};

/// How many of the slowest steps are told.
const SLOWEST: usize = 3;

/// Steps that took less are not worth a word.
const SLOW_MS: u64 = 100;

/// Tells it, to people only.
pub(super) fn tell(result: &BuildResult, printer: Printer, look: Look) {
    if matches!(look, Look::Json | Look::Quiet) || printer.is_json() {
        return;
    }
    for (style, line) in lines(result) {
        printer.note(&printer.paint(style, &line));
    }
}

fn lines(result: &BuildResult) -> Vec<(Style, String)> {
    let cached = result.steps.iter().filter(|step| step.cached).count();
    let spent: u64 = result.steps.iter().map(|step| step.duration_ms).sum();
    let mut lines = vec![(
        Style::Bold,
        format!(
            "{cached} of {} steps were cached; the steps took {} together",
            result.steps.len(),
            time_ms(spent)
        ),
    )];
    let mut slow: Vec<&StepResult> =
        result.steps.iter().filter(|step| !step.cached && step.duration_ms >= SLOW_MS).collect();
    slow.sort_by_key(|step| std::cmp::Reverse(step.duration_ms));
    for step in slow.into_iter().take(SLOWEST) {
        let (time, text) = (time_ms(step.duration_ms), cut(&step.text));
        lines
            .push((Style::Plain, format!("  {time:>8}  #{} [{}] {text}", step.number, step.stage)));
    }
    let made: BTreeMap<_, _> = result
        .steps
        .iter()
        .filter_map(|step| Some((&step.layer.as_ref()?.digest, cut(&step.text))))
        .collect();
    for image in &result.platforms {
        let total: u64 = image.layers.iter().map(|layer| layer.size_bytes).sum();
        let (count, total) = (image.layers.len(), size(total));
        let layers = if count == 1 { "layer" } else { "layers" };
        lines.push((Style::Bold, format!("{}: {count} {layers}, {total}", image.platform)));
        for layer in &image.layers {
            let what = made.get(&layer.digest).map_or("of the base", String::as_str);
            let (size, short) = (size(layer.size_bytes), layer.digest.short());
            lines.push((Style::Dim, format!("  {size:>10}  {short}  {what}")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use sekisho_builder::{LayerInfo, PlatformResult};
    use sekisho_types::Digest;

    use super::*;

    #[test]
    fn tells_what_counts() {
        let layer = |name: &str, size_bytes| {
            let digest = Digest::sha256(name.as_bytes());
            LayerInfo { diff_id: digest.clone(), digest, size_bytes }
        };
        let step = |number, text: &str, cached, duration_ms, layer| StepResult {
            number,
            stage: "app".to_owned(),
            text: text.to_owned(),
            line: 1,
            cached,
            duration_ms,
            used: None,
            sandbox_us: None,
            layer,
        };
        let (base, copy) = (layer("base", 1 << 20), layer("copy", 512));
        let digest = Digest::sha256(b"image");
        let result = BuildResult {
            manifest_digest: digest.clone(),
            config_digest: digest.clone(),
            layers: vec![],
            platforms: vec![PlatformResult {
                platform: "linux/amd64".to_owned(),
                manifest_digest: digest.clone(),
                config_digest: digest,
                layers: vec![base.clone(), copy.clone()],
            }],
            steps: vec![
                step(1, "FROM x", true, 3, None),
                step(2, "COPY . .", false, 50, Some(copy.clone())),
                step(3, "RUN make", false, 1500, None),
            ],
            pushed: vec![],
            bases: vec![],
        };
        let lines: Vec<String> = lines(&result).into_iter().map(|(_, line)| line).collect();
        assert_eq!(
            lines,
            [
                "1 of 3 steps were cached; the steps took 1.6 s together".to_owned(),
                "     1.5 s  #3 [app] RUN make".to_owned(),
                "linux/amd64: 2 layers, 1.0 MiB".to_owned(),
                format!("     1.0 MiB  {}  of the base", base.digest.short()),
                format!("       512 B  {}  COPY . .", copy.digest.short()),
            ]
        );
    }
}
