//! `metad2a doctor`: whether everything around a pipeline is as it must be. Changes nothing that lasts.
//!
//! One line for each thing that was looked at, with what to do where it is not right. A check that fails does not keep
//! the others from being made.

mod queue;
mod store;
mod surroundings;

use std::fmt::Write;

use serde::Serialize;

use super::output::answer;
use crate::cli::Doctor;
use crate::{Exit, project};

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Health {
    Ok,
    /// Works, but somebody should know.
    Warn,
    /// A run would not work.
    Fail,
}

/// What was looked at and how it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Finding {
    thing: String,
    health: Health,
    found: String,
    /// What to do, where it is not right.
    mend: Option<String>,
}

impl Finding {
    /// A measure that is right, doubtful or wrong; only then is there something to mend.
    fn judged(
        health: Health,
        thing: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let mend = (health != Health::Ok).then(|| mend.into());
        Self { thing: thing.into(), health, found: found.into(), mend }
    }

    fn ok(thing: impl Into<String>, found: impl Into<String>) -> Self {
        Self { thing: thing.into(), health: Health::Ok, found: found.into(), mend: None }
    }

    fn warn(thing: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { thing: thing.into(), health: Health::Warn, found: found.into(), mend: Some(mend.into()) }
    }

    fn fail(thing: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { thing: thing.into(), health: Health::Fail, found: found.into(), mend: Some(mend.into()) }
    }
}

pub(crate) async fn doctor(arguments: Doctor) -> anyhow::Result<Exit> {
    let project = project::load(&arguments.pipeline.file, &arguments.pipeline.addresses)?;
    let specification = &project.specification;
    let mut findings = vec![
        Finding::ok("program", format!("metad2a {}", env!("CARGO_PKG_VERSION"))),
        Finding::ok("pipeline", format!("`{}` of {}", specification.name, arguments.pipeline.file.display())),
    ];
    findings.extend(queue::check(specification).await);
    findings.extend(store::check(specification).await);
    findings.extend(surroundings::check(specification, &arguments.device).await);
    answer(arguments.format, findings.as_slice(), table)?;
    let fails = findings.iter().any(|finding| finding.health == Health::Fail);
    Ok(if fails { Exit::Failed } else { Exit::Done })
}

fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.thing.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { thing, health, found, mend } in findings {
        let word = match health {
            Health::Ok => "ok",
            Health::Warn => "warn",
            Health::Fail => "FAIL",
        };
        let _ = write!(text, "{word:<5} {thing:<width$}  {found}");
        if let Some(mend) = mend {
            let _ = write!(text, "; {mend}");
        }
        text.push('\n');
    }
    text
}

/// An error with its causes on one line.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let message = next.to_string();
        // Many errors end with their cause's own words.
        if !text.contains(&message) {
            let _ = write!(text, ": {message}");
        }
        cause = next.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_has_one_line_and_says_what_to_do() {
        let findings = [
            Finding::ok("broker", "RabbitMQ 4.0.5 at amqp://broker/"),
            Finding::warn("broker's time-out", "30 minutes", "raise `consumer_timeout` for longer slices"),
            Finding::fail("source `letters`", "`data/letters.parquet` is missing", "fetch it"),
        ];
        insta::assert_snapshot!(table(&findings), @"
        ok    broker             RabbitMQ 4.0.5 at amqp://broker/
        warn  broker's time-out  30 minutes; raise `consumer_timeout` for longer slices
        FAIL  source `letters`   `data/letters.parquet` is missing; fetch it
        ");
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_says_nothing_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot connect")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("connection\nrefused"));
        assert_eq!(told(&error), "cannot connect: connection refused");
    }
}
