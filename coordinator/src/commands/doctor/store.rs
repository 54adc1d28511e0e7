//! The store: whether it is reachable, keeps the one promise that everything rests on, and what its clock says.

use std::path::Path;

use chrono::TimeDelta;
use metad2a_database::{Error, Examined, examine, now};
use metad2a_pipeline::specification::Specification;

use super::surroundings::{disk_space, nearest_folder};
use super::{Finding, Health, told};

const THING: &str = "store";
/// A clock that differs by more is worth a word: what people compare are its times and ours.
const SKEW_WARNED: TimeDelta = TimeDelta::seconds(30);
/// Object stores refuse requests whose time differs by 15 minutes.
const SKEW_REFUSED: TimeDelta = TimeDelta::minutes(10);

pub(super) async fn check(specification: &Specification) -> Vec<Finding> {
    let url = &specification.store;
    let local = url.strip_prefix("file:").map(Path::new);
    let mut findings = Vec::new();
    match local {
        Some(path) if !path.exists() => match nearest_folder(path) {
            Some(folder) if is_writable(&folder) => findings.push(Finding::ok(
                THING,
                format!("`{url}` is not there yet; a run makes it in `{}`", folder.display()),
            )),
            folder => {
                let folder = folder.as_deref().unwrap_or(path).display().to_string();
                findings.push(Finding::fail(
                    THING,
                    format!("`{url}` is not there, and `{folder}` cannot be written"),
                    "grant the right, or correct `store`",
                ));
            }
        },
        _ => match examine(url).await {
            Ok(examined) => findings.extend(examined_findings(url, &examined)),
            Err(error) => findings.push(failed(&error)),
        },
    }
    if let Some(path) = local {
        findings.push(disk_space("store's disk", path));
    }
    findings
}

fn is_writable(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

fn failed(error: &Error) -> Finding {
    let mend = match error {
        Error::NoPutIfAbsent { .. } => "nothing is safe on it",
        Error::Layout { .. } => "install the newer programs",
        Error::Url { .. } => "correct `store`, or the provider's variables",
        _ => "check address, credentials, rights and network",
    };
    Finding::fail(THING, told(error), mend)
}

fn examined_findings(url: &str, examined: &Examined) -> Vec<Finding> {
    let state = if examined.has_database { "holds a database" } else { "is empty yet" };
    let reached =
        format!("`{url}` {state}; put-if-absent holds; objects can be written, read, listed and removed");
    vec![Finding::ok(THING, reached), skew(examined.time - now())]
}

fn skew(skew: TimeDelta) -> Finding {
    let seconds = skew.num_milliseconds() as f64 / 1e3;
    let found = format!("{seconds:+.1} s against this machine's");
    let health = match skew.abs() {
        skew if skew >= SKEW_REFUSED => Health::Fail,
        skew if skew >= SKEW_WARNED => Health::Warn,
        _ => Health::Ok,
    };
    Finding::judged(health, "store's clock", found, "set this machine's clock (chrony, systemd-timesyncd)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_by_its_distance_in_both_directions() {
        let of = |seconds| skew(TimeDelta::seconds(seconds)).health;
        assert_eq!(
            [-900, -45, 0, 29, 45, 900].map(of),
            [Health::Fail, Health::Warn, Health::Ok, Health::Ok, Health::Warn, Health::Fail]
        );
    }

    #[tokio::test]
    async fn a_store_that_honours_the_promise_is_well_and_nothing_stays_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file:{}", folder.path().display());
        let examined = examine(&url).await.unwrap();
        let findings = examined_findings(&url, &examined);
        assert!(findings.iter().all(|finding| finding.health == Health::Ok), "{findings:?}");
        let files = std::fs::read_dir(folder.path()).unwrap().flatten();
        let left: Vec<_> = files.filter(|entry| entry.path().is_file()).collect();
        assert_eq!(left.len(), 0, "{left:?}");
    }
}
