//! `sekisho run`.

mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use futures_util::StreamExt as _;
use sekisho_github::hub_api::{Conclusion, Dispatch, Run, Status};
use sekisho_types::RepositoryName;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::exit::{Exit, hinted};
use crate::journey::{Journey, Line};
use crate::plane::{self, Found, Plane, Port};
use crate::printer::{Printer, Style};
use crate::settings::DataDir;
use crate::signals::Signals;
use crate::snapshot::{self, Snapshot};

/// How often it is looked whether others still use a plane that wants to stop.
const DRAIN_PAUSE: Duration = Duration::from_millis(200);

/// What a workflow may look like; shown to who has none.
const EXAMPLE: &str = "put these five lines into `.github/workflows/image.yml`:

    on: push
    jobs:
      image:
        permissions: { contents: read, id-token: write }
        uses: sekisho/pipeline/.github/workflows/image.yml@v1
";

/// Run the workflows of a folder or git repository, as a push to GitHub would
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  sekisho run examples/hello\n  \
                        sekisho run --repository acme/app ~/src/app\n\n\
                        Uses the plane that `sekisho up` started on the same data folder, which has its \
                        own port, runners and mirror; or starts one for as long as the run takes.")]
pub(crate) struct RunArgs {
    /// The folder; a clean git repository is run at its commit, anything else as it is now
    #[arg(default_value = ".")]
    path: PathBuf,
    /// What the hub calls the repository [default: local/<name of the folder>]
    #[arg(long, value_name = "OWNER/NAME")]
    repository: Option<RepositoryName>,
    /// Port of the plane, if one is started; another when it is taken
    #[arg(long, default_value_t = plane::DEFAULT_PORT, env = "SEKISHO_PORT")]
    port: u16,
    /// Most runners at once, if a plane is started [default: the number of processors]
    #[arg(long, value_name = "N")]
    runners: Option<std::num::NonZeroUsize>,
    #[command(flatten)]
    debian: super::base::MirrorArgs,
}

/// Pushes the folder, follows what it started, says how it ended.
pub(crate) async fn run(args: &RunArgs, data: &DataDir, printer: Printer) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let folder = existing_folder(&args.path)?;
    let repository = match &args.repository {
        Some(name) => two_parts(name)?,
        None => format!("{}/{}", plane::LOCAL_OWNER, name_of(&folder)),
    };
    let taken = folder.clone();
    let snapshot = tokio::task::spawn_blocking(move || snapshot::take(&taken));
    let options = plane::Options {
        port: Port::Rather(args.port),
        capacity: plane::capacity(args.runners),
        hub: plane::HubOptions::default(),
        build_settings: args.debian.settings()?,
    };
    let found = plane::find_or_start(data, options).await?;
    let (address, own) = match found {
        Found::Own(plane) => (plane.address.clone(), Some(plane)),
        Found::Up(address) => (address, None),
    };
    let client = Client::new(address.clone())?;
    let went = async {
        let snapshot = snapshot.await.context("taking a snapshot")??;
        let push = push(&client, &address, &repository, snapshot, printer).await?;
        follow(&client, push, printer).await
    };
    let went = went.await;
    let transient = own.is_some();
    let stopped = stop(own, &client, went.as_ref().ok().and_then(Option::as_ref), printer).await;
    let journey = went?;
    stopped?;
    let Some(journey) = journey else { return Ok(Exit::Nothing) };
    let context = report::Context { address: &address, data, total: started.elapsed(), transient };
    report::show(printer, &journey, &context)
}

/// What a push came to.
struct Went {
    runs: Vec<Run>,
    /// Other workflows of the push could not be run.
    broken: bool,
    decisions: Vec<sekisho_gate::Decision>,
    interrupted: bool,
    /// Asked twice: what still runs is ended with the plane.
    at_once: bool,
    pushed: Duration,
}

/// What is under way.
struct Started {
    runs: Vec<u64>,
    /// Other workflows of the push could not be run.
    broken: bool,
    pushed: Duration,
}

fn existing_folder(path: &Path) -> anyhow::Result<PathBuf> {
    let folder = fs_err::canonicalize(path).map_err(|error| {
        let message = format!("`{}` cannot be run: {}", path.display(), error.kind());
        hinted(message, "name a folder that exists")
    })?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let message = format!("`{}` is no folder", path.display());
    Err(hinted(message, "name the folder with the `.github/workflows` in it"))
}

fn two_parts(name: &RepositoryName) -> anyhow::Result<String> {
    if name.as_str().split('/').count() == 2 {
        return Ok(name.to_string());
    }
    Err(hinted(format!("`{name}` is no repository of GitHub's"), "write it as OWNER/NAME"))
}

/// The folder's name as a repository name: what is not allowed there becomes a `-`.
fn name_of(folder: &Path) -> String {
    let name = folder.file_name().map(|name| name.to_string_lossy().to_lowercase());
    let name = name.unwrap_or_default();
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let parts: Vec<&str> = name.split(|c| !word(c)).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "folder".to_owned() } else { parts.join("-") }
}

async fn push(
    client: &Client,
    address: &plane::Address,
    repository: &str,
    snapshot: Snapshot,
    printer: Printer,
) -> anyhow::Result<Option<Started>> {
    let began = Instant::now();
    let (sha, git_ref) = (snapshot.sha.clone(), snapshot.git_ref.clone());
    tell(
        printer,
        &Line {
            style: Style::Bold,
            station: "push",
            text: format!("{} {} → {repository} {git_ref}", snapshot.described, &sha[..12]),
        },
    );
    // A ref that no workflow listens to: the run is started by the dispatch, which answers which.
    let url = address.url.join(repository).context("naming the repository's address")?;
    let private = format!("refs/sekisho/{}", uuid::Uuid::new_v4());
    tokio::task::spawn_blocking(move || snapshot.push(url.as_str(), &private))
        .await
        .context("pushing")??;
    let pushed = client.dispatch(repository, &Dispatch { git_ref, sha }).await?;
    for error in &pushed.errors {
        printer.always(&format!("{} {error}", printer.paint(Style::Bad, "error:")));
    }
    // Workflows are apart from each other: one that is broken does not stop the others.
    if !pushed.errors.is_empty() && pushed.runs.is_empty() {
        let message = "there are workflows that cannot be run";
        return Err(hinted(message, "mend what is named above, and run again"));
    }
    if pushed.runs.is_empty() {
        printer.always("nothing to run: no workflow listens to this push");
        printer.always(&format!("  {} {EXAMPLE}", printer.paint(Style::Bold, "hint:")));
        return Ok(None);
    }
    let broken = !pushed.errors.is_empty();
    Ok(Some(Started { runs: pushed.runs, broken, pushed: began.elapsed() }))
}

async fn follow(
    client: &Client,
    started: Option<Started>,
    printer: Printer,
) -> anyhow::Result<Option<Went>> {
    let Some(Started { runs: ids, broken, pushed }) = started else { return Ok(None) };
    let mut followers = JoinSet::new();
    // One for all: only so is it known whose line was the last.
    let journey = Arc::new(Mutex::new(Journey::default()));
    for id in ids.iter().copied() {
        followers.spawn(tell_run(client.clone(), id, journey.clone(), printer));
    }
    let mut signals = Signals::listen()?;
    let (mut interrupted, mut at_once) = (false, false);
    loop {
        tokio::select! {
            ended = followers.join_next() => match ended {
                None => break,
                Some(ended) => ended.context("following a run")??,
            },
            () = signals.next() => {
                if interrupted {
                    at_once = true;
                    break;
                }
                interrupted = true;
                printer.always("cancelling; once more to end at once");
                for id in &ids {
                    client.cancel(*id).await?;
                }
            }
        }
    }
    let (mut runs, mut decisions) = (Vec::new(), Vec::new());
    for id in ids {
        runs.push(client.run(id).await?);
        decisions.extend(client.decisions(id).await?);
    }
    Ok(Some(Went { runs, broken, decisions, interrupted, at_once, pushed }))
}

async fn tell_run(
    client: Client,
    id: u64,
    journey: Arc<Mutex<Journey>>,
    printer: Printer,
) -> anyhow::Result<()> {
    let mut events = std::pin::pin!(client.events(id).await?);
    while let Some(event) = events.next().await {
        let event = event?;
        let mut journey = journey.lock().await;
        for line in journey.tell(&event) {
            tell(printer, &line);
        }
    }
    Ok(())
}

/// A line of the journey: the station in a column of its own.
fn tell(printer: Printer, line: &Line) {
    if line.station.is_empty() {
        let text = printer.paint(line.style, &line.text);
        printer.note(&format!("         {} {text}", printer.paint(Style::Dim, "│")));
    } else {
        let station = printer.paint(line.style, &format!("{:<8}", line.station));
        printer.note(&format!("{station} {}", line.text));
    }
}

/// Stops a plane of our own, when nobody else's run is on it any more.
async fn stop(
    own: Option<Plane>,
    client: &Client,
    went: Option<&Went>,
    printer: Printer,
) -> anyhow::Result<()> {
    let Some(plane) = own else { return Ok(()) };
    plane.retire()?;
    let at_once = went.is_some_and(|went| went.at_once);
    // Only who is to be ended at once leaves runs of its own behind.
    let is_ours = |id| at_once && went.is_some_and(|went| went.runs.iter().any(|run| run.id == id));
    let mut signals = Signals::listen()?;
    let mut told = false;
    let drained = async {
        loop {
            let runs = client.recent_runs().await?;
            let others = runs
                .iter()
                .filter(|run| run.status != Status::Completed && !is_ours(run.id))
                .count();
            if others == 0 {
                return anyhow::Ok(());
            }
            if !told {
                printer.note(&format!(
                    "waiting for {others} other run(s) on this plane; Ctrl-C ends them"
                ));
                told = true;
            }
            tokio::time::sleep(DRAIN_PAUSE).await;
        }
    };
    tokio::select! {
        drained = drained => drained?,
        () = signals.next() => {}
    }
    plane.stop(at_once).await
}

/// The exit code of a push.
fn exit_of(went: &Went) -> Exit {
    let succeeded =
        |run: &Run| matches!(run.conclusion, Some(Conclusion::Success | Conclusion::Skipped));
    if went.runs.iter().all(succeeded) && !went.broken {
        Exit::Done
    } else if went.interrupted {
        Exit::Interrupted
    } else if went.decisions.iter().any(report::is_denied) {
        Exit::Denied
    } else {
        Exit::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_a_name_that_a_registry_takes() {
        for (folder, want) in [
            ("/src/hello", "hello"),
            ("/src/My App (2)", "my-app-2"),
            ("/src/--x__y--", "x-y"),
            ("/src/関所", "folder"),
            ("/", "folder"),
        ] {
            assert_eq!(name_of(Path::new(folder)), want);
            assert!(format!("local/{want}").parse::<RepositoryName>().is_ok());
        }
    }

    #[test]
    fn a_repository_has_an_owner_and_a_name() {
        assert_eq!(two_parts(&"a/b".parse().unwrap()).unwrap(), "a/b");
        assert!(two_parts(&"a".parse().unwrap()).is_err());
        assert!(two_parts(&"a/b/c".parse().unwrap()).is_err());
    }

    #[test]
    fn what_is_no_folder_is_said() {
        let error = existing_folder(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.to_string(), "`/nowhere/at/all` cannot be run: entity not found");
        let error = existing_folder(Path::new("/etc/passwd")).unwrap_err();
        assert_eq!(error.to_string(), "`/etc/passwd` is no folder");
    }
}
