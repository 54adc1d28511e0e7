//! `metad2a run --detach`: the same run in the background.
//!
//! ```text
//!   metad2a run --detach ─► the same program and arguments, own session, output to the log
//!          ▲                                   │
//!          └──── "I lead", by a socket ◄───────┘   or its end, whose last words are repeated here
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use metad2a_pipeline::specification::Specification;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;
use tokio::process::{Child, Command};

use super::output::answer;
use super::run::interrupted;
use crate::cli::Run;
use crate::{Exit, project};

/// Of the log of a run that did not come to lead.
const LAST_LINES: usize = 10;

/// What a run in the background says when it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Leads {
    pipeline: String,
    run_id: String,
}

/// What the person is told.
#[derive(Debug, Serialize)]
struct Started {
    pipeline: String,
    run_id: String,
    process: u32,
    log: PathBuf,
}

/// Starts the run in the background and returns when it leads, or has ended before.
pub(super) async fn start(arguments: &Run) -> anyhow::Result<Exit> {
    let project = project::load(&arguments.pipeline.file, &arguments.pipeline.addresses)?;
    let log = match &arguments.log_file {
        Some(log) => log.clone(),
        None => usual_log(&project.specification, metad2a_database::now()),
    };
    let folder = tempfile::Builder::new()
        .prefix("metad2a-run-")
        .tempdir()
        .context("no temporary folder can be made")?;
    let socket = folder.path().join("leads");
    let listener = UnixListener::bind(&socket).context("no socket can be made in the temporary folder")?;
    let mut child = spawn(&log, &socket)?;
    let process = child.id().context("the run ended at once")?;
    let leads = tokio::select! {
        leads = hear(&listener) => leads?,
        status = child.wait() => {
            let status = status.context("the run cannot be waited for")?;
            return ended_early(&log, status.code());
        }
        () = interrupted() => {
            child.kill().await.context("the run cannot be stopped")?;
            eprintln!("metad2a: stopped before the run led; nothing goes on");
            return Ok(Exit::Failed);
        }
    };
    let started = Started { pipeline: leads.pipeline, run_id: leads.run_id, process, log };
    answer(arguments.format, &started, |started| table(started, &arguments.pipeline.file))?;
    Ok(Exit::Done)
}

/// Called by the run in the background: leaves the session of whoever started it, so that their terminal may close.
pub(super) fn leave_session() -> anyhow::Result<()> {
    rustix::process::setsid().context("the run cannot leave its session")?;
    Ok(())
}

/// Called by the run in the background once it leads. Whoever waited may have gone, which is no reason to stop.
pub(super) fn tell(socket: &Path, pipeline: &str, run_id: &str) {
    let leads = Leads { pipeline: pipeline.to_owned(), run_id: run_id.to_owned() };
    let told = std::os::unix::net::UnixStream::connect(socket)
        .and_then(|mut stream| stream.write_all(&serde_json::to_vec(&leads).unwrap_or_default()));
    if let Err(error) = told {
        tracing::warn!(%error, "nobody waits to hear that this run leads");
    }
}

async fn hear(listener: &UnixListener) -> anyhow::Result<Leads> {
    let (mut stream, _) = listener.accept().await.context("the run cannot be heard")?;
    let mut words = Vec::new();
    stream.read_to_end(&mut words).await.context("the run cannot be heard")?;
    serde_json::from_slice(&words).context("the run in the background is of another version")
}

fn spawn(log: &Path, socket: &Path) -> anyhow::Result<Child> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
    }
    let file = std::fs::File::options().create(true).append(true).open(log);
    let file = file.with_context(|| format!("`{}` cannot be written", log.display()))?;
    let copy = file.try_clone().context("the log cannot be opened twice")?;
    let program = std::env::current_exe().context("this program has no path")?;
    Command::new(&program)
        // The socket's option has precedence over `--detach`.
        .args(std::env::args_os().skip(1))
        .arg("--leads-socket")
        .arg(socket)
        .stdin(Stdio::null())
        .stdout(Stdio::from(file))
        .stderr(Stdio::from(copy))
        .spawn()
        .with_context(|| format!("`{}` cannot be started", program.display()))
}

/// The last words of the log, and the run's own exit code.
fn ended_early(log: &Path, code: Option<i32>) -> anyhow::Result<Exit> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
        eprintln!("{line}");
    }
    match code.and_then(|code| u8::try_from(code).ok()) {
        Some(code) => Ok(Exit::of_code(code)),
        None => bail!("the run was killed before it led; its log is `{}`", log.display()),
    }
}

/// Beside an embedded queue, or wherever temporary files go.
fn usual_log(specification: &Specification, now: DateTime<Utc>) -> PathBuf {
    let name = format!("run-{}-{}.log", specification.name, now.format("%Y%m%dT%H%M%S%.3fZ"));
    match specification.queue.strip_prefix("sqlite:").map(Path::new).and_then(Path::parent) {
        Some(folder) => folder.join("logs").join(name),
        None => std::env::temp_dir().join(name),
    }
}

fn table(started: &Started, file: &Path) -> String {
    let Started { pipeline, run_id, process, log } = started;
    let (log, file) = (log.display(), file.display());
    format!(
        "Run {run_id} of `{pipeline}` goes on as process {process}; its log is {log}\n\
         `metad2a watch {file}` shows it, `kill {process}` stops it in order.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_which_run_leads() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("leads");
        let listener = UnixListener::bind(&socket).unwrap();
        tell(&socket, "small", "0a1b");
        let leads = Leads { pipeline: "small".to_owned(), run_id: "0a1b".to_owned() };
        assert_eq!(hear(&listener).await.unwrap(), leads);
    }

    #[test]
    fn a_run_that_does_not_come_to_lead_hands_on_its_exit_code() {
        let log = Path::new("no such log");
        assert_eq!(ended_early(log, Some(2)).unwrap(), Exit::Usage);
        assert_eq!(ended_early(log, Some(1)).unwrap(), Exit::Failed);
        assert!(ended_early(log, None).unwrap_err().to_string().contains("no such log"));
    }

    #[test]
    fn the_person_is_told_process_log_and_what_to_do_next() {
        let started = Started {
            pipeline: "small".to_owned(),
            run_id: "0a1b".to_owned(),
            process: 7,
            log: PathBuf::from("/srv/logs/run.log"),
        };
        insta::assert_snapshot!(table(&started, Path::new("small.yaml")), @"
        Run 0a1b of `small` goes on as process 7; its log is /srv/logs/run.log
        `metad2a watch small.yaml` shows it, `kill 7` stops it in order.
        ");
    }
}
