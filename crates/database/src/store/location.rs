//! From a URL to an object store.
//!
//! Deliberately absent: secrets in URLs, which end up in logs and shell histories. They are refused.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};
use url::Url;

use crate::store::Access;
use crate::{Error, Result};

/// Where a URL leads.
pub(super) struct Location {
    /// Retries by itself.
    pub(super) objects: Arc<dyn ObjectStore>,
    /// Never retries.
    pub(super) once: Arc<dyn ObjectStore>,
    /// What paths begin with for outside readers.
    pub(super) base: String,
    /// Of a local store.
    pub(super) folder: Option<PathBuf>,
}

impl Location {
    /// A store that never retries by itself.
    fn plain(objects: Arc<dyn ObjectStore>, base: String) -> Self {
        Self { once: objects.clone(), objects, base, folder: None }
    }
}

pub(super) fn resolve(url: &str, access: Access) -> Result<Location> {
    let invalid = |rule: &str| Error::Url { url: redacted(url), rule: rule.to_owned() };
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(invalid("must begin with `file:`, `s3://`, `gs://`, `az://` or `memory:`"));
    };
    match scheme {
        "file" => local(url, rest, access),
        "memory" => Ok(Location::plain(memory(rest), url.to_owned())),
        "s3" | "gs" | "az" => {
            let parsed = Url::parse(url).map_err(|error| invalid(&format!("is not a URL: {error}")))?;
            if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() {
                return Err(invalid("must hold no credentials; put them in the environment"));
            }
            let bucket = parsed.host_str().filter(|host| !host.is_empty());
            let bucket = bucket.ok_or_else(|| invalid("must name a bucket or container"))?;
            let built = match scheme {
                "s3" => build_s3(bucket),
                "gs" => build_gcs(bucket),
                _ => build_azure(bucket),
            };
            let (objects, once) = built.map_err(|error| invalid(&error.to_string()))?;
            let prefix = parsed.path().trim_matches('/');
            let base = url.trim_end_matches('/').to_owned();
            if prefix.is_empty() {
                return Ok(Location { objects, once, base, folder: None });
            }
            Ok(Location {
                objects: Arc::new(PrefixStore::new(objects, prefix)),
                once: Arc::new(PrefixStore::new(once, prefix)),
                base,
                folder: None,
            })
        }
        _ => Err(invalid("must begin with `file:`, `s3://`, `gs://`, `az://` or `memory:`")),
    }
}

/// The URL without what stands before an `@`, for messages.
fn redacted(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

fn local(url: &str, rest: &str, access: Access) -> Result<Location> {
    let invalid = |rule: String| Error::Url { url: url.to_owned(), rule };
    // `file:data`, `file:/data` and `file:///data` alike; a host makes no sense for a local folder.
    let folder = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(invalid("must be `file:PATH` or `file:///PATH`, without a host".to_owned())),
        None => rest,
    };
    if folder.is_empty() {
        return Err(invalid("must name a folder".to_owned()));
    }
    let folder = PathBuf::from(folder);
    if access == Access::ReadWrite {
        std::fs::create_dir_all(&folder)
            .map_err(|error| invalid(format!("cannot create the folder: {error}")))?;
    } else if !folder.exists() {
        return Err(Error::NoDatabase { url: url.to_owned() });
    }
    let folder =
        folder.canonicalize().map_err(|error| invalid(format!("cannot open the folder: {error}")))?;
    let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| invalid(error.to_string()))?;
    // A marker must not survive a power cut that its data did not.
    let objects: Arc<dyn ObjectStore> = Arc::new(store.with_fsync(true));
    Ok(Location { folder: Some(folder.clone()), ..Location::plain(objects, folder.display().to_string()) })
}

fn memory(name: &str) -> Arc<dyn ObjectStore> {
    static SHARED: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);
    if name.is_empty() {
        return Arc::new(InMemory::new());
    }
    SHARED.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default().clone()
}

type Pair = (Arc<dyn ObjectStore>, Arc<dyn ObjectStore>);

fn never_retry() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn build_s3(bucket: &str) -> object_store::Result<Pair> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    for (key, value) in
        secrets_from_files(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])?
    {
        builder = builder.with_config(AmazonS3ConfigKey::from_str(&key)?, value);
    }
    Ok((Arc::new(builder.clone().build()?), Arc::new(builder.with_retry(never_retry()).build()?)))
}

fn build_gcs(bucket: &str) -> object_store::Result<Pair> {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
    for (key, value) in secrets_from_files(&["GOOGLE_SERVICE_ACCOUNT_KEY"])? {
        builder = builder.with_config(GoogleConfigKey::from_str(&key)?, value);
    }
    Ok((Arc::new(builder.clone().build()?), Arc::new(builder.with_retry(never_retry()).build()?)))
}

fn build_azure(container: &str) -> object_store::Result<Pair> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(container);
    for (key, value) in secrets_from_files(&["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_CLIENT_SECRET"])? {
        builder = builder.with_config(AzureConfigKey::from_str(&key)?, value);
    }
    Ok((Arc::new(builder.clone().build()?), Arc::new(builder.with_retry(never_retry()).build()?)))
}

/// For every `NAME` whose `NAME_FILE` is set: the key and the file's content, without the line end.
fn secrets_from_files(names: &[&str]) -> object_store::Result<Vec<(String, String)>> {
    let mut secrets = Vec::new();
    for name in names {
        let Some(path) = std::env::var_os(format!("{name}_FILE")) else { continue };
        let secret = std::fs::read_to_string(&path).map_err(|error| object_store::Error::Generic {
            store: "credentials",
            source: format!("`{name}_FILE` names `{}`: {error}", path.display()).into(),
        })?;
        secrets.push((name.to_ascii_lowercase(), secret.trim_end().to_owned()));
    }
    Ok(secrets)
}
