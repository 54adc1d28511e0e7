//! Names of the queues: one lane per pipeline, dialect, kind of machine and urgency.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Version of how messages are put on the wire (properties, headers), part of every lane's name: programs of different
/// protocols never meet in one lane.
pub const PROTOCOL: u32 = 1;

/// The longest pipeline name, and the longest dialect. AMQP allows 255 bytes for a whole queue name.
const LONGEST_PIPELINE: usize = 100;
const LONGEST_DIALECT: usize = 32;

/// The kind of machine a task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    Gpu,
    Cpu,
}

/// Separate lanes instead of priorities: quorum queues of RabbitMQ before 4.0 ignore priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    High,
    Normal,
}

/// One queue of tasks. Its name is `metad2a.<pipeline>.v<protocol>.<dialect>.<class>.<urgency>`.
///
/// The dialect stands for what a taker must know to work on the bodies. Builds that know different things speak different
/// dialects and so have different lanes: during an upgrade each takes only what it knows, and nothing is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lane {
    /// See [`check_pipeline`](Lane::check_pipeline) for the rule.
    pub pipeline: String,
    /// Chosen by whoever writes and reads the bodies; 1 to 32 ASCII letters, digits and `-`.
    pub dialect: String,
    pub class: Class,
    pub urgency: Urgency,
}

impl Lane {
    pub fn new(
        pipeline: impl Into<String>,
        dialect: impl Into<String>,
        class: Class,
        urgency: Urgency,
    ) -> Self {
        Self { pipeline: pipeline.into(), dialect: dialect.into(), class, urgency }
    }

    /// Refuses pipeline names that could not be told apart within a queue's name, or that a broker refuses.
    pub fn check_pipeline(name: &str) -> Result<()> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > LONGEST_PIPELINE || !name.bytes().all(allowed) {
            return Err(Error::PipelineName { name: name.to_owned(), longest: LONGEST_PIPELINE });
        }
        Ok(())
    }

    pub(crate) fn checked_name(&self) -> Result<String> {
        Self::check_pipeline(&self.pipeline)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if self.dialect.is_empty()
            || self.dialect.len() > LONGEST_DIALECT
            || !self.dialect.bytes().all(allowed)
        {
            return Err(Error::Dialect { name: self.dialect.clone(), longest: LONGEST_DIALECT });
        }
        Ok(self.to_string())
    }

    pub(crate) fn checked_names(lanes: &[Lane]) -> Result<Vec<String>> {
        if lanes.is_empty() {
            return Err(Error::NoLanes);
        }
        lanes.iter().map(Lane::checked_name).collect()
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pipeline, dialect, class, urgency } = self;
        write!(f, "metad2a.{pipeline}.v{PROTOCOL}.{dialect}.{class}.{urgency}")
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
        })
    }
}

impl fmt::Display for Urgency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::High => "high",
            Self::Normal => "normal",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_named_after_pipeline_protocol_dialect_class_and_urgency() {
        let lane = Lane::new("nightly", "3f9a2c1e", Class::Gpu, Urgency::High);
        assert_eq!(lane.to_string(), "metad2a.nightly.v1.3f9a2c1e.gpu.high");
        assert!(
            Lane::new("x".repeat(100), "y".repeat(32), Class::Gpu, Urgency::Normal).to_string().len() <= 255
        );
    }

    #[test]
    fn dialects_that_would_blur_the_queue_name_are_refused() {
        for dialect in ["", "a.b", "a b", &"x".repeat(33)] {
            let refused = Lane::new("nightly", dialect, Class::Gpu, Urgency::High).checked_name();
            assert!(matches!(refused, Err(Error::Dialect { .. })), "{dialect:?}");
        }
    }

    #[test]
    fn pipeline_names_that_would_blur_the_queue_name_are_refused() {
        for name in ["", "a.b", "a b", "naïve", "a/b", &"x".repeat(101)] {
            assert!(matches!(Lane::check_pipeline(name), Err(Error::PipelineName { .. })), "{name:?}");
        }
        for name in ["a", "Nightly_2", "x-1", &"x".repeat(100)] {
            assert!(Lane::check_pipeline(name).is_ok(), "{name:?}");
        }
    }
}
