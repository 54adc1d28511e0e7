//! What can go wrong, and what to do about it.

use std::path::PathBuf;

use crate::Redacted;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Messages never contain a password: addresses are [`Redacted`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(
        "queue address `{address}`: {rule}; write `sqlite:PATH`, `amqp://HOST[:PORT][/VHOST]`, `amqps://…` or `memory:NAME`"
    )]
    Address { address: Redacted, rule: &'static str },

    #[error(
        "queue credentials: cannot use `{path}`, the file that `{variable}` names; correct the file or the variable"
    )]
    Credentials {
        variable: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },

    #[error("`{given}` is set but `{missing}` is not; a client certificate needs both files")]
    HalfCertificate { given: &'static str, missing: &'static str },

    #[error(
        "this system names no authorities to trust; install them (`ca-certificates`), or name a file by `{variable}`"
    )]
    Trust {
        variable: &'static str,
        #[source]
        source: std::io::Error,
    },

    #[error(
        "pipeline name `{name}`: use 1 to {longest} ASCII letters, digits, `-` and `_`; it becomes part of queue names"
    )]
    PipelineName { name: String, longest: usize },

    #[error(
        "dialect `{name}`: use 1 to {longest} ASCII letters, digits and `-`; it becomes part of queue names"
    )]
    Dialect { name: String, longest: usize },

    #[error("a subscription needs at least one lane")]
    NoLanes,

    #[error("a message has no id; use the task's id")]
    EmptyId,

    #[error(
        "message `{id}`: its {what} has {size} bytes, the limit is {limit}; put large data into the store"
    )]
    TooLarge { id: String, what: &'static str, size: usize, limit: usize },

    #[error("this connection to the queue was closed; open a new one")]
    Closed,

    #[error("queue file `{path}`: cannot {action}; check that the disk is local, writable and not full")]
    Sqlite {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: rusqlite::Error,
    },

    #[error(
        "queue file `{path}`: its layout is {found}, this program knows {known}; use the newer program, or another file"
    )]
    Layout { path: PathBuf, found: i64, known: i64 },

    #[error("queue file `{path}` is another program's SQLite database; choose another path")]
    ForeignFile { path: PathBuf },

    #[error("cannot {action} `{path}`")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },

    #[error("queue address `{address}`: nobody knows its host; correct the address")]
    UnknownHost {
        address: Redacted,
        #[source]
        source: std::io::Error,
    },

    #[error(
        "broker `{address}`: no trusted connection; its certificate must come from a trusted authority (the system's, or that of \
         METAD2A_QUEUE_CA_FILE) and carry the host name of the address, and ours must be one that it accepts \
         (METAD2A_QUEUE_CLIENT_CERT_FILE, METAD2A_QUEUE_CLIENT_KEY_FILE)"
    )]
    Tls {
        address: Redacted,
        #[source]
        source: lapin::Error,
    },

    #[error("broker `{address}`: cannot {action}; check that it runs and is reachable, then try again")]
    Broker {
        address: Redacted,
        action: &'static str,
        #[source]
        source: lapin::Error,
    },

    #[error("broker `{address}` refused to {action}; check user, password, virtual host and permissions")]
    Refused {
        address: Redacted,
        action: &'static str,
        #[source]
        source: lapin::Error,
    },

    #[error(
        "broker `{address}`: cannot {action}, because the queue exists with other settings; delete it, or use another pipeline name"
    )]
    Topology {
        address: Redacted,
        action: &'static str,
        #[source]
        source: lapin::Error,
    },

    #[error("broker `{address}` did not accept message `{id}` in `{lane}`; publish it again")]
    NotConfirmed { address: Redacted, lane: String, id: String },

    #[error("broker `{address}` did not answer within {seconds} s while asked to {action}; try again")]
    Timeout { address: Redacted, action: &'static str, seconds: u64 },

    #[error(
        "broker `{address}` takes no messages, because it is short of memory or disk; free some or enlarge it, then try again"
    )]
    Blocked { address: Redacted },

    #[error("injected fault: {what}; a test asked for it, try again")]
    Injected { what: &'static str },
}

impl Error {
    /// Worth trying again after a pause, or certain to fail the same way?
    pub fn is_retryable(&self) -> bool {
        // No `_` arm: whoever adds a variant must choose.
        match self {
            Self::Broker { .. }
            | Self::UnknownHost { .. }
            | Self::Blocked { .. }
            | Self::NotConfirmed { .. }
            | Self::Timeout { .. }
            | Self::Injected { .. } => true,
            Self::Sqlite { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
            ),
            Self::Address { .. }
            | Self::Credentials { .. }
            | Self::HalfCertificate { .. }
            | Self::Trust { .. }
            | Self::Tls { .. }
            | Self::PipelineName { .. }
            | Self::Dialect { .. }
            | Self::NoLanes
            | Self::EmptyId
            | Self::TooLarge { .. }
            | Self::Closed
            | Self::Layout { .. }
            | Self::ForeignFile { .. }
            | Self::File { .. }
            | Self::Refused { .. }
            | Self::Topology { .. } => false,
        }
    }

    /// The same failure once more, for others who wait for the same attempt. `None` where its cause cannot be copied.
    pub(crate) fn again(&self) -> Option<Self> {
        Some(match self {
            Self::Broker { address, action, source } => {
                Self::Broker { address: address.clone(), action, source: source.clone() }
            }
            Self::Refused { address, action, source } => {
                Self::Refused { address: address.clone(), action, source: source.clone() }
            }
            Self::Timeout { address, action, seconds } => {
                Self::Timeout { address: address.clone(), action, seconds: *seconds }
            }
            Self::Tls { address, source } => Self::Tls { address: address.clone(), source: source.clone() },
            _ => return None,
        })
    }
}
