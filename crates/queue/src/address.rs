//! Addresses of queues, and how to show them without their password.

use std::{fmt, path::PathBuf, str::FromStr};

use url::Url;

use crate::Error;

/// An address whose password is replaced by `***`, safe for logs and messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted(String);

impl Redacted {
    /// Works on any text: what cannot be parsed loses everything between the scheme and the last `@`.
    pub fn new(address: &str) -> Self {
        if let Ok(mut url) = Url::parse(address)
            && url.has_host()
            // An `@` further on means that a password holds `/`, `?` or `#`, and was cut in two.
            && address.matches('@').count() <= 1
            && address.contains('@') == (!url.username().is_empty() || url.password().is_some())
        {
            if url.password().is_some() && url.set_password(Some("***")).is_err() {
                return Self(format!("{}:…", url.scheme()));
            }
            // A query may hold the path of a key file, but also anything a person put there by mistake.
            url.set_query(None);
            url.set_fragment(None);
            return Self(url.into());
        }
        match address.rsplit_once('@') {
            None => Self(address.to_owned()),
            Some((before, after)) => {
                let scheme =
                    before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
                Self(format!("{scheme}***@{after}"))
            }
        }
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A parsed address. Its `Debug` and `Display` show no password.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    Sqlite(PathBuf),
    Amqp(Url),
    Memory(String),
    Unreliable { seed: u64, inner: Box<Address> },
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |rule| Error::Address { address: Redacted::new(text), rule };
        let (scheme, rest) = text.split_once(':').ok_or_else(|| refuse("it has no scheme"))?;
        match scheme {
            "sqlite" if rest.is_empty() => Err(refuse("the path is missing")),
            "sqlite" => {
                // `sqlite:///abs`, `sqlite:/abs` and `sqlite:rel` are all in use; `//host` makes no sense for a file.
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() || (rest.starts_with("//") && !path.starts_with('/')) {
                    return Err(refuse("a path after `sqlite://` must start with `/`"));
                }
                Ok(Self::Sqlite(PathBuf::from(path)))
            }
            "memory" if rest.is_empty() => Err(refuse("the name is missing")),
            "memory" => Ok(Self::Memory(rest.to_owned())),
            "amqp" | "amqps" => {
                let url = Url::parse(text).map_err(|_| refuse("it is no valid URL"))?;
                if url.host_str().is_none_or(str::is_empty) {
                    return Err(refuse("the host is missing"));
                }
                Ok(Self::Amqp(url))
            }
            "unreliable" => {
                let (seed, inner) =
                    rest.split_once(':').ok_or_else(|| refuse("write `unreliable:SEED:ADDRESS`"))?;
                let seed = seed.parse().map_err(|_| refuse("the seed is no whole number"))?;
                Ok(Self::Unreliable { seed, inner: Box::new(inner.parse()?) })
            }
            _ => Err(refuse("the scheme is unknown")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Amqp(url) => Redacted::new(url.as_str()).fmt(f),
            Self::Memory(name) => write!(f, "memory:{name}"),
            Self::Unreliable { seed, inner } => write!(f, "unreliable:{seed}:{inner}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_name_their_back_end() {
        assert_eq!("sqlite:queue.db".parse::<Address>().unwrap(), Address::Sqlite("queue.db".into()));
        assert_eq!("sqlite:///tmp/q.db".parse::<Address>().unwrap(), Address::Sqlite("/tmp/q.db".into()));
        assert_eq!("memory:x".parse::<Address>().unwrap(), Address::Memory("x".into()));
        assert!(matches!("amqps://broker/vhost".parse::<Address>().unwrap(), Address::Amqp(_)));
        assert_eq!(
            "unreliable:7:memory:x".parse::<Address>().unwrap(),
            Address::Unreliable { seed: 7, inner: Box::new(Address::Memory("x".into())) }
        );
    }

    #[test]
    fn wrong_addresses_are_refused_with_the_rule() {
        for text in [
            "",
            "queue.db",
            "sqlite:",
            "sqlite://host/x",
            "memory:",
            "amqp:",
            "redis://x",
            "unreliable:x:memory:a",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(matches!(error, Error::Address { .. }), "{text}: {error}");
            assert!(!error.is_retryable());
        }
    }

    #[test]
    fn a_broken_address_still_hides_its_password() {
        let error = "amqp://user:s3cr3t@ho st".parse::<Address>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error}");
    }

    proptest! {
        #[test]
        fn a_password_is_never_shown(password in "[A-Z0-9@:/%#?]{6,20}", host in "[a-z]{1,9}") {
            let text = format!("amqp://user:{password}@{host}/v");
            prop_assert!(!Redacted::new(&text).to_string().contains(&password));
            if let Ok(address) = text.parse::<Address>() {
                let shown = format!("{address} {address:?}");
                prop_assert!(!shown.contains(&password));
            }
        }
    }
}
