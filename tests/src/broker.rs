//! A RabbitMQ of a test's own, which it may kill.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::repository;

/// Run by `scripts/services/broker.sh`, and gone with this value or this process, whichever ends first.
#[derive(Debug)]
pub struct PrivateBroker {
    /// A shell that stops the broker when its standard input ends.
    guard: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl PrivateBroker {
    /// Returns when the broker answers.
    ///
    /// # Panics
    /// If it cannot be started; the script has said why.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut guard = Command::new("bash")
            .args(["-c", r#""$0" start "$1"; cat >/dev/null; "$0" stop "$1""#])
            .arg(script())
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        let mut lines = BufReader::new(guard.stdout.take().expect("a pipe")).lines();
        let url = lines.next().expect("the broker starts").expect("a line of text");
        Self { guard, url, folder }
    }

    /// With user and password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills the broker with SIGKILL and starts it again on the same data; the returned process ends when it answers.
    ///
    /// # Panics
    /// If the script cannot be started.
    pub fn restart(&self) -> Child {
        Command::new(script())
            .arg("restart")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("the script of the broker starts")
    }
}

fn script() -> PathBuf {
    repository().join("scripts/services/broker.sh")
}

impl Drop for PrivateBroker {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // What cannot be waited for ends by itself all the same.
        let _ = self.guard.wait();
    }
}
