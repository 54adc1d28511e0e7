//! The worker that the coordinator starts as its own child, for one machine.
//!
//! The child holds the reading end of a pipe: when the coordinator ends, however it ends, the pipe closes and the
//! worker leaves. Its log goes to a file. A worker that dies is started again, but not for ever.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::process::{Child, ChildStdin, Command};

/// A worker that dies so often is broken, not unlucky.
const MOST_RESTARTS: u32 = 20;

/// How to start the worker.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) queue: String,
    pub(crate) store: String,
    pub(crate) pipeline: String,
    pub(crate) device: String,
    /// As many as the worker thinks right for its device where absent.
    pub(crate) slots: Option<u32>,
    pub(crate) log: PathBuf,
}

#[derive(Debug)]
pub(crate) struct LocalWorker {
    launch: Launch,
    child: Child,
    /// The writing end of the worker's pipe; nothing is ever written. Kept apart from `child`, whose `wait` closes it.
    pipe: Option<ChildStdin>,
    restarts: u32,
}

impl LocalWorker {
    pub(crate) fn start(launch: Launch) -> anyhow::Result<Self> {
        let (child, pipe) = spawn(&launch)?;
        Ok(Self { launch, child, pipe, restarts: 0 })
    }

    pub(crate) fn log(&self) -> &Path {
        &self.launch.log
    }

    /// Waits until the worker has died, and starts it again. Cancel safe.
    pub(crate) async fn keep_alive(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait().await.context("the local worker cannot be waited for")?;
        self.restarts += 1;
        if self.restarts > MOST_RESTARTS {
            bail!(
                "the local worker ended {MOST_RESTARTS} times ({status}); its log is `{}`",
                self.log().display()
            );
        }
        tracing::warn!(%status, restarts = self.restarts, "the local worker ended and is started again");
        (self.child, self.pipe) = spawn(&self.launch)?;
        Ok(())
    }

    /// Closes the worker's pipe and waits until it has left.
    pub(crate) async fn stop(mut self) {
        drop(self.pipe.take());
        if let Err(error) = self.child.wait().await {
            tracing::warn!(%error, "the local worker cannot be waited for");
        }
    }
}

fn spawn(launch: &Launch) -> anyhow::Result<(Child, Option<ChildStdin>)> {
    let program = program()?;
    if let Some(folder) = launch.log.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
    }
    let log = std::fs::File::options().create(true).append(true).open(&launch.log);
    let log = log.with_context(|| format!("`{}` cannot be written", launch.log.display()))?;
    let mut child = Command::new(&program)
        .args(["--pipeline", &launch.pipeline, "--device", &launch.device])
        .args(["--slots", &launch.slots.map_or_else(|| "auto".to_owned(), |slots| slots.to_string())])
        .arg("--exit-with-parent")
        // Addresses may hold user names; other users of the machine read argument lists, not environments.
        .env("METAD2A_QUEUE", &launch.queue)
        .env("METAD2A_STORE", &launch.store)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("`{}` cannot be started", program.display()))?;
    let pipe = child.stdin.take();
    Ok((child, pipe))
}

/// `metad2a-worker`, which lies beside this program.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program has no path")?;
    let program = own.with_file_name("metad2a-worker");
    if !program.exists() {
        bail!("`{}` is missing; install it beside `metad2a`, or run with `--workers 0`", program.display());
    }
    Ok(program)
}
