//! Reads the indexes of all image sources and the hash of the extractor's weights, and designs the study.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use metad2a_images::{SourceLocation, index};
use metad2a_pipeline::envelope::SourceAddress;
use metad2a_pipeline::specification::{Source, Specification};
use metad2a_pipeline::study::{IndexedSource, Study};
use sha2::{Digest, Sha256};

/// The study of a specification.
pub(crate) async fn design(specification: Specification) -> anyhow::Result<Study> {
    let mut sources = BTreeMap::new();
    for (name, source) in index_all(&specification).await {
        sources.insert(name, source?);
    }
    study(specification, sources)
}

/// Every source of a specification, or why it cannot be used.
pub(crate) async fn index_all(specification: &Specification) -> Vec<(String, anyhow::Result<IndexedSource>)> {
    let mut sources = Vec::with_capacity(specification.sources.len());
    for (name, source) in &specification.sources {
        sources.push((name.clone(), indexed(address_of(name, source)).await));
    }
    sources
}

/// The study of a specification and its sources.
pub(crate) fn study(
    specification: Specification,
    sources: BTreeMap<String, IndexedSource>,
) -> anyhow::Result<Study> {
    let weights = weights_sha256(&specification.extractor.weights)?;
    Ok(Study::design(specification, sources, weights)?)
}

fn address_of(name: &str, source: &Source) -> SourceAddress {
    let (format, paths) = (source.format.clone(), source.paths.clone());
    SourceAddress { name: name.to_owned(), format, paths, fingerprint: None }
}

/// Reads labels, class names and the content id of a source. Its address then names what was read: files that come to a
/// folder or pattern later do not disturb the run.
pub(crate) async fn indexed(mut address: SourceAddress) -> anyhow::Result<IndexedSource> {
    let wrong = || format!("source `{}`", address.name);
    let format = address.format.parse().map_err(anyhow::Error::from).with_context(wrong)?;
    let location = SourceLocation { format, paths: address.paths.clone() };
    let found = index(&location).await.map_err(anyhow::Error::from).with_context(wrong)?;
    let classes = found.classes.into_iter().map(|class| (class.label, class.name)).collect();
    (address.paths, address.fingerprint) = (found.files, Some(found.fingerprint));
    Ok(IndexedSource { content_id: found.content_id, classes, pictures: found.pictures, address })
}

/// The SHA-256 of a local file of weights.
pub(crate) fn weights_sha256(path: &str) -> anyhow::Result<String> {
    let mut file = std::fs::File::open(Path::new(path)).with_context(|| {
        format!("`{path}`, the extractor's weights, cannot be read; `scripts/weights/fetch.sh` fetches them")
    })?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = std::io::Read::read(&mut file, &mut buffer)
            .with_context(|| format!("`{path}` cannot be read"))?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}
