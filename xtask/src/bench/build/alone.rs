//! What only Sekisho is measured at.

use std::time::{Duration, Instant};

use super::peers::Engine;
use super::workloads::{Size, Workload};
use super::{Place, disk};
use crate::bench::memory::Sampler;
use crate::bench::stats::Series;

/// What is promised of it.
const SANDBOX_US: u64 = 10_000;
const USER_RATIO: f64 = 1.3;
const PEAK_BYTES: u64 = 200_000_000;

pub(super) struct Extras {
    /// RUNs of `/bin/true`: their sandboxes alone, and all of them.
    sandbox: Series,
    nothing: Series,
    root: Series,
    /// Empty where we cannot become somebody else.
    user: Series,
    peak_bytes: Series,
    /// w3 cold with zstd.
    zstd: Series,
}

impl Extras {
    pub(super) fn measure(place: &Place, size: Size, rounds: usize) -> anyhow::Result<Self> {
        let (program, folder) = (place.program.as_path(), place.folder());
        let w1 = place.workload(size, "w1")?;
        let mut root = Engine::sekisho(program, folder, Some("root-cache"))?;
        let cold = |engine: &mut Engine, what: &Workload, name: &str| -> anyhow::Result<Duration> {
            engine.forget()?;
            disk::settle()?;
            let began = Instant::now();
            engine.build(&what.context, &format!("{}/{name}:1", place.registry.host()))?;
            Ok(began.elapsed())
        };
        let mut user = Engine::sekisho_as_user(program, folder)?;
        let mut large = Large::new(place, size)?;
        let series = Series::default;
        let (mut as_root, mut as_user, mut peak_bytes) = (series(), series(), series());
        let mut zstd_engine =
            Engine::sekisho(program, folder, Some("zstd-cache"))?.with(&["--compression", "zstd"]);
        let mut zstd = series();
        for round in 0..rounds {
            as_root.push(cold(&mut root, &w1, &format!("as-root-{round}"))?);
            if let Some(user) = &mut user {
                as_user.push(cold(user, &w1, &format!("as-user-{round}"))?);
            }
            peak_bytes.push_bytes(large.peak(round)?);
            zstd.push(cold(&mut zstd_engine, &large.w3, &format!("zstd-{round}"))?);
        }
        let (sandbox, nothing) = root.nothing(&place.base, folder)?;
        Ok(Self { sandbox, nothing, root: as_root, user: as_user, peak_bytes, zstd })
    }

    /// Adds what was measured, and what of it is below its promise.
    pub(super) fn tell(&self, text: &mut String, lost: &mut Vec<String>) {
        let ratio = self.user.median() as f64 / self.root.median().max(1) as f64;
        let user = match self.user.len() {
            0 => "not measured: this is no root".to_owned(),
            _ => {
                let (user, root) = (self.user.milliseconds(), self.root.milliseconds());
                format!("{user}, {ratio:.2} × of root's {root}")
            }
        };
        let (sandbox, peak) = (self.sandbox.median(), self.peak_bytes.median());
        for (is_lost, what) in [
            (sandbox > SANDBOX_US, format!("a sandbox: {} ms, not 10", sandbox.div_ceil(1000))),
            (
                ratio > USER_RATIO,
                format!("an ordinary user: {ratio:.2}× of root, not {USER_RATIO}×"),
            ),
            (peak > PEAK_BYTES, format!("w3's memory: {} MB, not 200", peak / 1_000_000)),
        ] {
            if is_lost {
                lost.push(what);
            }
        }
        text.push_str(&format!(
            "\n| sekisho alone | measured | promised |\n|---|---|---|\n\
         | the sandbox of a RUN of `/bin/true`, from its making to its end | {} | ≤ 10 ms |\n\
         | all of that RUN: with its key, the look at its changes, the record | {} | |\n\
         | w1 cold as an ordinary user | {user} | ≤ {USER_RATIO} × |\n\
         | peak memory of w3's one layer (sum of PSS) | {} | ≤ 200 MB of 500 MB |\n\
         | w3 cold with `--compression zstd` | {} | |\n",
            self.sandbox.milliseconds(),
            self.nothing.milliseconds(),
            self.peak_bytes.mebibytes(),
            self.zstd.milliseconds(),
        ));
    }
}

/// Cold builds of w3.
pub(super) struct Large<'a> {
    place: &'a Place,
    engine: Engine,
    w3: Workload,
}

impl<'a> Large<'a> {
    pub(super) fn new(place: &'a Place, size: Size) -> anyhow::Result<Self> {
        let w3 = place.workload(size, "w3")?;
        let engine = Engine::sekisho(&place.program, place.folder(), Some("large-cache"))?;
        Ok(Self { place, engine, w3 })
    }

    /// Most memory that one takes: the builder and what it starts, and nothing that was there before.
    pub(super) fn peak(&mut self, round: usize) -> anyhow::Result<u64> {
        self.engine.forget()?;
        let sampler = Sampler::of_what_starts();
        let host = self.place.registry.host();
        self.engine.build(&self.w3.context, &format!("{host}/large-{round}:1"))?;
        sampler.peak()
    }
}
