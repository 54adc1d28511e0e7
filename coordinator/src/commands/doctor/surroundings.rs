//! The worker program and its device, the image sources, the weights, and the disks.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use metad2a_pipeline::envelope::SourceAddress;
use metad2a_pipeline::specification::Specification;
use metad2a_pipeline::tasks::ExtractorKind;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::{Finding, Health};
use crate::local_workers::program;
use crate::sources::{indexed, weights_sha256};

/// What `scripts/weights/fetch.sh` fetches.
const SHIPPED_WEIGHTS: &str = "13badca7f05595226fd5df1861c04c6a9e92854bffb31b67616e2a844a375bc0";
/// Opening libtorch's GPU half from a cold disk takes tens of seconds.
const WORKER_PATIENCE: Duration = Duration::from_mins(2);
const GIB: u64 = 1 << 30;
/// A store or queue with less than this stops within a run.
const LEAST_SPACE: u64 = GIB / 4;
const AMPLE_SPACE: u64 = 4 * GIB;

pub(super) async fn check(specification: &Specification, device: &str) -> Vec<Finding> {
    let mut findings = worker(device).await;
    for (name, source) in &specification.sources {
        let address = SourceAddress {
            name: name.clone(),
            format: source.format.clone(),
            paths: source.paths.clone(),
            fingerprint: None,
        };
        let thing = format!("source `{name}`");
        findings.push(match indexed(address).await {
            Ok(source) => Finding::ok(thing, format!("{} classes can be read", source.classes.len())),
            Err(error) => Finding::fail(thing, format!("{error:#}"), "correct `sources`, or fetch the files"),
        });
    }
    findings.push(weights(specification));
    findings
}

fn weights(specification: &Specification) -> Finding {
    let (thing, path) = ("weights", &specification.extractor.weights);
    match weights_sha256(path) {
        Ok(_) if specification.extractor.kind != ExtractorKind::EfficientnetLite0 => {
            Finding::ok(thing, format!("`{path}` can be read"))
        }
        Ok(sha256) if sha256 == SHIPPED_WEIGHTS => {
            Finding::ok(thing, format!("`{path}` holds the weights that `scripts/weights/fetch.sh` fetches"))
        }
        Ok(sha256) => Finding::warn(
            thing,
            format!("`{path}` holds other weights than the usual ones (SHA-256 {sha256})"),
            "fine if they are yours; else run `scripts/weights/fetch.sh`",
        ),
        Err(error) => Finding::fail(thing, format!("{error:#}"), "or correct `extractor.weights`"),
    }
}

async fn worker(device: &str) -> Vec<Finding> {
    let program = match program() {
        Ok(program) => program,
        Err(error) => {
            let mend = "workers of other machines are not concerned";
            return vec![Finding::warn("worker", format!("{error:#}"), mend)];
        }
    };
    let mut findings = vec![version_of(&program).await];
    if findings[0].health != super::Health::Fail {
        findings.push(device_of(&program, device).await);
    }
    findings
}

/// Both programs read each other's messages and records, so they should be of one version.
async fn version_of(program: &Path) -> Finding {
    let thing = "worker";
    let shown = program.display();
    let asked = Command::new(program).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match tokio::time::timeout(WORKER_PATIENCE, asked).await {
        Ok(Ok(output)) if output.status.success() => output,
        Ok(Ok(output)) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let reason = errors.lines().last().unwrap_or("it says nothing").to_owned();
            let mend = "install libtorch and put its `lib` into LD_LIBRARY_PATH";
            return Finding::fail(thing, format!("`{shown}` does not start: {reason}"), mend);
        }
        Ok(Err(error)) => return Finding::fail(thing, format!("`{shown}`: {error}"), "install it anew"),
        Err(_) => return Finding::fail(thing, format!("`{shown}` does not answer"), "install it anew"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(1).unwrap_or("unknown");
    let ours = env!("CARGO_PKG_VERSION");
    if version == ours {
        return Finding::ok(thing, format!("`{shown}`, version {version}"));
    }
    let found = format!("`{shown}` has version {version}, this program {ours}");
    Finding::warn(thing, found, "install both of one version")
}

/// Starts a compute process on an empty store, which says what it computes on before it waits for work.
async fn device_of(program: &Path, device: &str) -> Finding {
    let thing = "worker's device";
    let started = Command::new(program)
        .args(["compute", "--device", device])
        // Nothing is written to it; in the environment, as a supervisor hands it on.
        .env("METAD2A_STORE", "memory:doctor")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return Finding::fail(thing, error.to_string(), "install the worker anew"),
    };
    let Some(output) = child.stdout.take() else {
        return Finding::fail(thing, "the worker has no standard output", "try again");
    };
    let mut lines = BufReader::new(output).lines();
    let line = tokio::time::timeout(WORKER_PATIENCE, lines.next_line()).await;
    let ready = line.ok().and_then(Result::ok).flatten();
    let report = ready.and_then(|line| serde_json::from_str::<serde_json::Value>(&line).ok());
    let named = report.as_ref().and_then(|report| report["device"].as_str());
    if let Some(name) = named {
        return Finding::ok(thing, format!("`{name}` works (asked for: `{device}`)"));
    }
    drop(child.stdin.take());
    let output = tokio::time::timeout(WORKER_PATIENCE, child.wait_with_output()).await;
    let errors = output.ok().and_then(Result::ok).map(|output| output.stderr).unwrap_or_default();
    let errors = String::from_utf8_lossy(&errors);
    let reason = errors.lines().last().unwrap_or("the compute process says nothing").to_owned();
    Finding::fail(thing, reason, "check libtorch, the driver (`nvidia-smi`) and `--device`")
}

/// The folder in which `path` lies or will be made.
pub(super) fn nearest_folder(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned)
}

/// Room on the disk where a local store or queue lies.
pub(super) fn disk_space(thing: &str, path: &Path) -> Finding {
    let folder = nearest_folder(path).unwrap_or_else(|| PathBuf::from("/"));
    match rustix::fs::statvfs(&folder) {
        Ok(disk) => judge_space(thing, disk.f_bavail.saturating_mul(disk.f_frsize), &folder),
        Err(error) => {
            Finding::warn(thing, format!("`{}`: {error}", folder.display()), "look at it with `df`")
        }
    }
}

fn judge_space(thing: &str, free: u64, folder: &Path) -> Finding {
    let found = format!("{:.1} GiB free at `{}`", free as f64 / GIB as f64, folder.display());
    let health = match free {
        ..LEAST_SPACE => Health::Fail,
        LEAST_SPACE..AMPLE_SPACE => Health::Warn,
        AMPLE_SPACE.. => Health::Ok,
    };
    Finding::judged(health, thing, found, "make room, for instance with `metad2a gc`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_judged_by_its_room() {
        let of = |free| judge_space("disk", free, Path::new("/srv")).health;
        assert_eq!([0, GIB, 10 * GIB].map(of), [Health::Fail, Health::Warn, Health::Ok]);
    }

    #[test]
    fn the_nearest_folder_of_what_is_not_there_is_an_ancestor() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest_folder(&folder.path().join("a/b/c")), Some(folder.path().to_owned()));
    }
}
