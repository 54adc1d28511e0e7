//! What tasks read: pictures of a source, extractor weights, files of the store.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use anyhow::Context;
use metad2a_database::{FileRef, sha256_hex};
use metad2a_images::{LabelledPicture, SourceLocation, read_classes, read_indexed};
use metad2a_networks::Extractor;
use metad2a_pipeline::envelope::Envelope;
use metad2a_pipeline::tasks::{self, Blob};

use super::Engine;
use super::error::BadInput;

/// The pictures of the last task: consecutive bundles are mostly of one dataset.
#[derive(Default)]
pub(super) struct PictureCache {
    last: Option<(PictureKey, Rc<Vec<LabelledPicture>>)>,
}

/// Source and classes.
type PictureKey = (String, Vec<u32>);

/// Extractors by the SHA-256 of their weights and their picture size.
#[derive(Default)]
pub(super) struct ExtractorCache {
    loaded: HashMap<(String, u32), Rc<Extractor>>,
}

impl Engine {
    /// All pictures of the classes, decoded, in the source's order.
    pub(super) fn pictures(
        &mut self,
        envelope: &Envelope,
        source: &str,
        classes: &[u32],
    ) -> anyhow::Result<Rc<Vec<LabelledPicture>>> {
        let key = (source.to_owned(), classes.to_vec());
        if let Some((cached, pictures)) = &self.pictures.last
            && *cached == key
        {
            return Ok(pictures.clone());
        }
        // First the old ones go: both together may not fit.
        self.pictures.last = None;
        let address = envelope
            .sources
            .get(source)
            .ok_or_else(|| BadInput::UnknownSource { source_id: source.to_owned() })?;
        let format = address.format.parse().map_err(|error| BadInput::UnknownFormat {
            source_name: address.name.clone(),
            format: address.format.clone(),
            reason: format!("{error}"),
        })?;
        let location = SourceLocation { format, paths: address.paths.clone() };
        let pictures = match &address.fingerprint {
            Some(fingerprint) => self.runtime.block_on(read_indexed(&location, classes, fingerprint)),
            None => self.runtime.block_on(read_classes(&location, classes)),
        }
        .with_context(|| format!("cannot read image source `{}`", address.name))?;
        let pictures = Rc::new(pictures);
        self.pictures.last = Some((key, pictures.clone()));
        Ok(pictures)
    }

    /// The extractor with exactly the weights that the task names.
    pub(super) fn extractor(
        &mut self,
        envelope: &Envelope,
        wanted: &tasks::Extractor,
    ) -> anyhow::Result<Rc<Extractor>> {
        let key = (wanted.weights_sha256.clone(), wanted.image_size);
        if let Some(extractor) = self.extractors.loaded.get(&key) {
            return Ok(extractor.clone());
        }
        let sha256 = &wanted.weights_sha256;
        let path = envelope
            .weights
            .get(sha256)
            .ok_or_else(|| BadInput::UnknownWeights { sha256: sha256.clone() })?;
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read the extractor weights `{path}`"))?;
        let found = sha256_hex(&bytes);
        if found != *sha256 {
            return Err(BadInput::OtherWeights { path: path.clone(), expected: sha256.clone(), found }.into());
        }
        drop(bytes);
        let kind = match wanted.kind {
            tasks::ExtractorKind::EfficientnetLite0 => metad2a_networks::ExtractorKind::EfficientnetLite0,
            tasks::ExtractorKind::Resnet18 => metad2a_networks::ExtractorKind::Resnet18,
        };
        let extractor = Extractor::load_on(kind, Path::new(path), wanted.image_size.into(), self.device)
            .with_context(|| format!("cannot load the extractor weights `{path}`"))?;
        let extractor = Rc::new(extractor);
        self.extractors.loaded.insert(key, extractor.clone());
        Ok(extractor)
    }

    /// A file of the store, its content checked.
    pub(super) fn blob(&self, blob: &Blob) -> anyhow::Result<Vec<u8>> {
        let file =
            FileRef { path: blob.path.clone(), sha256: blob.sha256.clone(), bytes: blob.bytes, rows: None };
        let bytes = self
            .runtime
            .block_on(self.store.get_data(&file))
            .with_context(|| format!("cannot read `{}` from the store", blob.path))?;
        Ok(bytes.to_vec())
    }

    /// Stores a safetensors file of a training.
    pub(super) fn store_checkpoint(&self, bytes: Vec<u8>) -> anyhow::Result<FileRef> {
        self.runtime
            .block_on(self.store.put_data("checkpoints", "safetensors", bytes.into(), None))
            .context("cannot store a checkpoint")
    }
}

/// The same file as tasks and summaries name it.
pub(super) fn blob_of(file: &FileRef) -> Blob {
    Blob { path: file.path.clone(), sha256: file.sha256.clone(), bytes: file.bytes }
}
