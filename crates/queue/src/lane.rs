//! Names of the queues: one lane per pipeline, kind of machine and urgency.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Version of the messages, part of every lane's name: programs of different protocols never meet in one lane.
pub const PROTOCOL: u32 = 1;

/// The longest pipeline name. AMQP allows 255 bytes for a whole queue name.
const LONGEST_PIPELINE: usize = 100;

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

/// One queue of tasks. Its name is `metad2a.<pipeline>.v<protocol>.<class>.<urgency>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lane {
    /// See [`check_pipeline`](Lane::check_pipeline) for the rule.
    pub pipeline: String,
    pub class: Class,
    pub urgency: Urgency,
}

impl Lane {
    pub fn new(pipeline: impl Into<String>, class: Class, urgency: Urgency) -> Self {
        Self { pipeline: pipeline.into(), class, urgency }
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
        write!(f, "metad2a.{}.v{PROTOCOL}.{}.{}", self.pipeline, self.class, self.urgency)
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
    fn a_lane_is_named_after_pipeline_protocol_class_and_urgency() {
        let lane = Lane::new("nightly", Class::Gpu, Urgency::High);
        assert_eq!(lane.to_string(), "metad2a.nightly.v1.gpu.high");
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
