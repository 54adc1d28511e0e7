//! How to be let in: credentials and certificates, from the environment and from files.
//!
//! Deliberately absent: passwords and keys in arguments, and any switch that turns verification off.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use url::Url;

use crate::{Error, Redacted, Result};

pub(super) const USERNAME: &str = "METAD2A_QUEUE_USERNAME";
pub(super) const PASSWORD: &str = "METAD2A_QUEUE_PASSWORD";
pub(super) const PASSWORD_FILE: &str = "METAD2A_QUEUE_PASSWORD_FILE";
pub(super) const CA_FILE: &str = "METAD2A_QUEUE_CA_FILE";
pub(super) const CLIENT_CERT_FILE: &str = "METAD2A_QUEUE_CLIENT_CERT_FILE";
pub(super) const CLIENT_KEY_FILE: &str = "METAD2A_QUEUE_CLIENT_KEY_FILE";

/// What an address leaves out. Files are read when a connection is first made.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RabbitAccess {
    /// Used where the address names no user.
    pub username: Option<String>,
    /// Used where the address holds no password.
    pub password: Option<String>,
    /// Holds the password alone; before `password`.
    pub password_file: Option<PathBuf>,
    /// PEM. Only what these authorities signed is trusted; without it, the system's authorities are.
    pub ca_file: Option<PathBuf>,
    /// PEM, the leaf first. Goes with `client_key_file`.
    pub client_cert_file: Option<PathBuf>,
    /// PEM: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub client_key_file: Option<PathBuf>,
}

impl RabbitAccess {
    /// From the variables `METAD2A_QUEUE_…`; an empty one counts as absent.
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(read: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name| read(name).filter(|value| !value.is_empty());
        Self {
            username: read(USERNAME),
            password: read(PASSWORD),
            password_file: read(PASSWORD_FILE).map(PathBuf::from),
            ca_file: read(CA_FILE).map(PathBuf::from),
            client_cert_file: read(CLIENT_CERT_FILE).map(PathBuf::from),
            client_key_file: read(CLIENT_KEY_FILE).map(PathBuf::from),
        }
    }

    /// Adds what the address leaves out: credentials, the heartbeat in seconds, the default virtual host.
    pub(super) fn complete(&self, mut url: Url, heartbeat: u16) -> Result<Url> {
        let fixed = |rule| Error::Address { address: Redacted::new(""), rule };
        if url.username().is_empty()
            && let Some(name) = &self.username
        {
            url.set_username(name).map_err(|()| fixed("it cannot hold a user name"))?;
        }
        if url.password().is_none()
            && let Some(password) = self.password()?
        {
            url.set_password(Some(&password)).map_err(|()| fixed("it cannot hold a password"))?;
        }
        if matches!(url.path(), "" | "/") {
            // The client library would take `/` for the virtual host with the empty name, which no broker has.
            url.set_path("/%2f");
        }
        if !url.query_pairs().any(|(key, _)| key == "heartbeat") {
            url.query_pairs_mut().append_pair("heartbeat", &heartbeat.to_string());
        }
        Ok(url)
    }

    fn password(&self) -> Result<Option<String>> {
        let Some(path) = &self.password_file else { return Ok(self.password.clone()) };
        let text =
            String::from_utf8(read_file(PASSWORD_FILE, path)?).map_err(|error| Error::Credentials {
                variable: PASSWORD_FILE,
                path: path.clone(),
                source: io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()),
            })?;
        // Editors end files with a line break, which is no part of the password.
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// The side of TLS that does not depend on the broker. A wrong file is told with its variable and its path.
    pub(super) fn connector(&self) -> Result<RustlsConnector> {
        let trusted = match &self.ca_file {
            Some(path) => {
                RustlsConnectorConfig::default().with_parsable_certificates(certificates(CA_FILE, path)?)
            }
            None => RustlsConnectorConfig::new_with_native_certs()
                .map_err(|source| Error::Trust { variable: CA_FILE, source })?,
        };
        match (&self.client_cert_file, &self.client_key_file) {
            (None, None) => trusted.connector_with_no_client_auth().map_err(|source| match &self.ca_file {
                Some(path) => Error::Credentials { variable: CA_FILE, path: path.clone(), source },
                None => Error::Trust { variable: CA_FILE, source },
            }),
            (Some(chain), Some(key)) => trusted
                .connector_with_single_cert(
                    certificates(CLIENT_CERT_FILE, chain)?,
                    private_key(CLIENT_KEY_FILE, key)?,
                )
                .map_err(|source| Error::Credentials {
                    variable: CLIENT_KEY_FILE,
                    path: key.clone(),
                    source,
                }),
            (Some(_), None) => {
                Err(Error::HalfCertificate { given: CLIENT_CERT_FILE, missing: CLIENT_KEY_FILE })
            }
            (None, Some(_)) => {
                Err(Error::HalfCertificate { given: CLIENT_KEY_FILE, missing: CLIENT_CERT_FILE })
            }
        }
    }
}

fn read_file(variable: &'static str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Credentials { variable, path: path.to_owned(), source })
}

fn not_pem(variable: &'static str, path: &Path, what: impl fmt::Display) -> Error {
    let source = io::Error::new(io::ErrorKind::InvalidData, what.to_string());
    Error::Credentials { variable, path: path.to_owned(), source }
}

fn certificates(variable: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read_file(variable, path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(variable, path, error))?;
    if found.is_empty() {
        return Err(not_pem(variable, path, "it holds no certificate in PEM form"));
    }
    Ok(found)
}

fn private_key(variable: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read_file(variable, path)?).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => {
            not_pem(variable, path, "it holds no private key in PEM form that is not encrypted")
        }
        other => not_pem(variable, path, other),
    })
}

/// Shows no credentials.
impl fmt::Debug for RabbitAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitAccess")
            .field("password_file", &self.password_file)
            .field("ca_file", &self.ca_file)
            .field("client_cert_file", &self.client_cert_file)
            .field("client_key_file", &self.client_key_file)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(access: &RabbitAccess, text: &str) -> String {
        access.complete(text.parse().unwrap(), 30).unwrap().to_string()
    }

    #[test]
    fn an_address_is_completed_and_what_it_says_is_kept() {
        let nothing = RabbitAccess::default();
        assert_eq!(completed(&nothing, "amqp://u:p@host"), "amqp://u:p@host/%2f?heartbeat=30");
        assert_eq!(completed(&nothing, "amqp://u:p@host/"), "amqp://u:p@host/%2f?heartbeat=30");
        let complete = "amqps://u:p@host:1/v?heartbeat=5";
        let access = RabbitAccess { username: Some("x".into()), password: Some("y".into()), ..nothing };
        assert_eq!(completed(&access, complete), complete);
        assert_eq!(completed(&access, "amqp://host"), "amqp://x:y@host/%2f?heartbeat=30");
    }

    #[test]
    fn a_password_file_goes_before_the_variable_and_loses_its_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "s3 cr@t\r\n").unwrap();
        let variables = |name: &str| match name {
            USERNAME => Some("metad2a".to_owned()),
            PASSWORD => Some("old".to_owned()),
            PASSWORD_FILE => Some(path.display().to_string()),
            _ => Some(String::new()),
        };
        let access = RabbitAccess::from_variables(variables);
        assert_eq!(access.ca_file, None, "an empty variable counts as absent");
        assert_eq!(completed(&access, "amqp://host/v"), "amqp://metad2a:s3%20cr%40t@host/v?heartbeat=30");
        assert!(!format!("{access:?}").contains("old"));
    }

    #[test]
    fn files_that_cannot_be_used_are_named_with_their_variable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonsense.pem");
        std::fs::write(&path, "no certificate").unwrap();
        let refused = |access: RabbitAccess, variable: &str| {
            let error = access.connector().unwrap_err();
            assert!(!error.is_retryable());
            assert!(error.to_string().contains(variable), "{error}");
        };
        let nothing = RabbitAccess::default();
        refused(RabbitAccess { ca_file: Some(path.clone()), ..nothing.clone() }, CA_FILE);
        refused(RabbitAccess { ca_file: Some("missing.pem".into()), ..nothing.clone() }, CA_FILE);
        refused(RabbitAccess { client_cert_file: Some(path.clone()), ..nothing.clone() }, CLIENT_KEY_FILE);
        refused(RabbitAccess { client_key_file: Some(path), ..nothing.clone() }, CLIENT_CERT_FILE);
        let missing = RabbitAccess { password_file: Some("missing".into()), ..nothing };
        let error = missing.complete("amqp://host".parse().unwrap(), 30).unwrap_err();
        assert!(error.to_string().contains(PASSWORD_FILE), "{error}");
    }
}
