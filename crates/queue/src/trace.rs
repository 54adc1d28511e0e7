//! Which run a message belongs to, in the form that tracing tools read: the W3C's `traceparent`.
//!
//! ```text
//!   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//!      the run's trace                  the message's span
//! ```
//!
//! A coordinator makes one context per run and a child of it per message. The header stays with a message through all
//! attempts, so the log lines of coordinator and workers about one task can be found by it.
//!
//! Deliberately absent, today: OpenTelemetry's libraries. Nothing sends spans anywhere; a collector that reads the logs
//! can.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    num::{NonZeroU64, NonZeroU128},
    str::FromStr,
};

use crate::Message;

/// The name of the header.
pub const TRACEPARENT: &str = "traceparent";

/// A trace and one span in it. Written and read as the value of `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: NonZeroU128,
    span: NonZeroU64,
}

/// What cannot be read as a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no `traceparent` of the form `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`")]
pub struct NoTraceContext;

impl TraceContext {
    /// A new trace, with its first span.
    ///
    /// # Panics
    /// Never: neither half of the trace's id is zero.
    pub fn start() -> Self {
        let trace = (u128::from(random().get()) << 64) | u128::from(random().get());
        Self { trace: NonZeroU128::new(trace).expect("both halves are not zero"), span: random() }
    }

    /// A new span in the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span: random(), ..*self }
    }

    /// 32 hexadecimal digits, for logs.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// 16 hexadecimal digits, for logs.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }
}

/// Unlike those of any other process; nothing that must repeat depends on it.
fn random() -> NonZeroU64 {
    loop {
        if let Some(number) = NonZeroU64::new(RandomState::new().build_hasher().finish()) {
            return number;
        }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last part says that the trace is recorded.
        write!(f, "00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

impl FromStr for TraceContext {
    type Err = NoTraceContext;

    fn from_str(text: &str) -> Result<Self, NoTraceContext> {
        let hex = |part: &str, digits| {
            let allowed = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            part.len() == digits && part.bytes().all(allowed)
        };
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, span, flags, rest @ ..] = &parts[..] else { return Err(NoTraceContext) };
        // Later versions may add parts; the first one has none.
        let known = hex(version, 2) && *version != "ff" && (*version != "00" || rest.is_empty());
        if !(known && hex(trace, 32) && hex(span, 16) && hex(flags, 2)) {
            return Err(NoTraceContext);
        }
        let trace = u128::from_str_radix(trace, 16).ok().and_then(NonZeroU128::new);
        let span = u64::from_str_radix(span, 16).ok().and_then(NonZeroU64::new);
        Ok(Self { trace: trace.ok_or(NoTraceContext)?, span: span.ok_or(NoTraceContext)? })
    }
}

impl Message {
    /// Puts the message into a trace.
    #[must_use]
    pub fn with_trace(self, context: &TraceContext) -> Self {
        self.with_header(TRACEPARENT, context.to_string())
    }

    /// The trace that the message belongs to. What cannot be read counts as none: it is a hint.
    pub fn trace(&self) -> Option<TraceContext> {
        self.headers.get(TRACEPARENT)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_share_the_trace_and_have_spans_of_their_own() {
        let run = TraceContext::start();
        let (first, second) = (run.child(), run.child());
        assert_eq!(first.trace_id(), second.trace_id());
        assert_ne!(first.span_id(), second.span_id());
        assert_ne!(first.span_id(), run.span_id());
        assert_ne!(TraceContext::start().trace_id(), run.trace_id());
    }

    #[test]
    fn a_message_carries_its_trace_as_the_w3c_writes_it() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context: TraceContext = text.parse().unwrap();
        let message = Message::new("task", []).with_trace(&context);
        assert_eq!(message.headers[TRACEPARENT], text);
        assert_eq!(message.trace(), Some(context));
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-what-comes";
        assert_eq!(later.parse::<TraceContext>().unwrap().span_id(), "00f067aa0ba902b7");
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(NoTraceContext), "{text}");
        }
    }
}
