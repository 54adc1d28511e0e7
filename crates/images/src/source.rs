//! A source as a whole: its form, its index, and the pictures of chosen classes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::Place;
use crate::{Error, Picture, Result, cifar, folder, idx, parquet, patterns};

/// How the pictures of a source are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceFormat {
    /// Columns `image: {bytes, path}` and `label`, as Hugging Face writes image datasets. One or more files, patterns
    /// such as `data/*.parquet`, or folders of `.parquet` files.
    HuggingfaceParquet,
    /// MNIST's form, plain or gzip: a file of pictures and a file of labels, in this order.
    Idx,
    /// `data_batch_1.bin` and its like: files, patterns, or folders of `.bin` files.
    Cifar10Binary,
    /// `train.bin` and its like, as above; the fine labels are used.
    Cifar100Binary,
    /// A folder with one folder of PNG, JPEG or WebP files for each class.
    ImageFolder,
}

impl SourceFormat {
    pub const ALL: [Self; 5] =
        [Self::HuggingfaceParquet, Self::Idx, Self::Cifar10Binary, Self::Cifar100Binary, Self::ImageFolder];

    pub fn name(self) -> &'static str {
        match self {
            Self::HuggingfaceParquet => "huggingface-parquet",
            Self::Idx => "idx",
            Self::Cifar10Binary => "cifar10-binary",
            Self::Cifar100Binary => "cifar100-binary",
            Self::ImageFolder => "image-folder",
        }
    }
}

impl fmt::Display for SourceFormat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl FromStr for SourceFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(|format| format!("`{format}`")).join(", ");
            Error::Format { found: name.to_owned(), known }
        })
    }
}

/// Where a source lies: local paths or URLs of object stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLocation {
    pub format: SourceFormat,
    pub paths: Vec<String>,
}

/// A class of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassEntry {
    pub label: u32,
    /// As the source names it, or the label in decimal.
    pub name: String,
    pub pictures: u64,
}

/// What is in a source, without its pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceIndex {
    /// SHA-256 over form and content: the same wherever the source lies.
    pub content_id: String,
    /// Ascending by label.
    pub classes: Vec<ClassEntry>,
    pub pictures: u64,
    /// The location's paths, with patterns and folders of data files replaced by the files that were read.
    pub files: Vec<String>,
    /// What [`read_indexed`] holds the source to, though it reads a part of it: the content id of a source of files, a
    /// hash of the names and sizes of all pictures of an image folder.
    pub fingerprint: String,
}

/// A decoded picture with its label in the source and its pixel hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledPicture {
    pub label: u32,
    pub picture: Picture,
    pub hash: String,
}

/// A file of a source with its bytes.
pub(crate) struct SourceFile {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
}

/// The labels of all pictures in order, and the names of classes where the source knows them.
pub(crate) struct Labels {
    pub(crate) labels: Vec<u32>,
    pub(crate) names: Option<Vec<String>>,
}

/// Reads labels and names, and hashes the content. No picture is decoded.
pub async fn index(location: &SourceLocation) -> Result<SourceIndex> {
    let mut hash = content_hash(location.format);
    let mut labels = Vec::new();
    let mut names: Option<Vec<String>> = None;
    let (mut files, mut listing) = (location.paths.clone(), None);
    if location.format == SourceFormat::ImageFolder {
        let place = folder_of(location)?;
        let listed = folder::list(&place).await?;
        listing = Some(listed.hash());
        let found = listed.index(&place, &mut hash).await?;
        labels = found.labels;
        names = found.names;
    } else {
        let groups = groups(location).await?;
        for group in &groups {
            let files = read_group(group, &mut hash).await?;
            let found = match location.format {
                SourceFormat::HuggingfaceParquet => parquet::labels(&files[0])?,
                SourceFormat::Idx => idx::labels(&files[0], &files[1])?,
                SourceFormat::Cifar10Binary => cifar::labels(&files[0], cifar::TEN)?,
                SourceFormat::Cifar100Binary => cifar::labels(&files[0], cifar::HUNDRED)?,
                SourceFormat::ImageFolder => unreachable!("folders are read above"),
            };
            labels.extend(found.labels);
            names = joined_names(names, found.names, &files[0])?;
        }
        files = groups.concat();
    }
    if labels.is_empty() {
        return Err(Error::invalid(&location.paths.join(", "), "the whole source", "it holds no picture"));
    }
    let content_id = hex::encode(hash.finalize());
    Ok(SourceIndex {
        fingerprint: listing.unwrap_or_else(|| content_id.clone()),
        content_id,
        pictures: labels.len() as u64,
        classes: classes(&labels, names.as_deref()),
        files,
    })
}

fn content_hash(format: SourceFormat) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update(format!("{format}\n"));
    hash
}

/// A source grows by files that know more classes: the longer list of names holds if it starts with the shorter.
fn joined_names(
    known: Option<Vec<String>>,
    own: Option<Vec<String>>,
    file: &SourceFile,
) -> Result<Option<Vec<String>>> {
    let (Some(known), Some(own)) = (&known, &own) else { return Ok(known.or(own)) };
    let (longer, shorter) = if own.len() > known.len() { (own, known) } else { (known, own) };
    if !longer.starts_with(shorter) {
        let rule = "its classes have other names than those of the source's first file";
        return Err(Error::invalid(&file.name, "the footer", rule));
    }
    Ok(Some(longer.clone()))
}

fn classes(labels: &[u32], names: Option<&[String]>) -> Vec<ClassEntry> {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for label in labels {
        *counts.entry(*label).or_default() += 1;
    }
    let name = |label: u32| {
        let known = names.and_then(|names| names.get(label as usize));
        known.cloned().unwrap_or_else(|| label.to_string())
    };
    counts.into_iter().map(|(label, pictures)| ClassEntry { label, name: name(label), pictures }).collect()
}

/// Decodes the pictures of the wanted classes, in the source's order.
pub async fn read_classes(location: &SourceLocation, wanted: &[u32]) -> Result<Vec<LabelledPicture>> {
    read(location, wanted, None).await
}

/// As [`read_classes`], of a source that must still be what it was when it was indexed: see
/// [`SourceIndex::fingerprint`].
///
/// # Errors
/// [`Error::Changed`] where it is not.
pub async fn read_indexed(
    location: &SourceLocation,
    wanted: &[u32],
    fingerprint: &str,
) -> Result<Vec<LabelledPicture>> {
    read(location, wanted, Some(fingerprint)).await
}

async fn read(
    location: &SourceLocation,
    wanted: &[u32],
    fingerprint: Option<&str>,
) -> Result<Vec<LabelledPicture>> {
    let wanted_labels: BTreeSet<u32> = wanted.iter().copied().collect();
    let changed = || Error::Changed { source_name: location.paths.join(", ") };
    let mut found = Vec::new();
    if location.format == SourceFormat::ImageFolder {
        let place = folder_of(location)?;
        let listed = folder::list(&place).await?;
        if fingerprint.is_some_and(|fingerprint| fingerprint != listed.hash()) {
            return Err(changed());
        }
        found = listed.pictures(&place, &wanted_labels).await?;
    } else {
        let mut hash = content_hash(location.format);
        for group in groups(location).await? {
            let files = read_group(&group, &mut hash).await?;
            found.extend(match location.format {
                SourceFormat::HuggingfaceParquet => parquet::pictures(&files[0], &wanted_labels)?,
                SourceFormat::Idx => idx::pictures(&files[0], &files[1], &wanted_labels)?,
                SourceFormat::Cifar10Binary => cifar::pictures(&files[0], cifar::TEN, &wanted_labels)?,
                SourceFormat::Cifar100Binary => cifar::pictures(&files[0], cifar::HUNDRED, &wanted_labels)?,
                SourceFormat::ImageFolder => unreachable!("folders are read above"),
            });
        }
        let content_id = hex::encode(hash.finalize());
        if fingerprint.is_some_and(|fingerprint| fingerprint != content_id) {
            return Err(changed());
        }
    }
    for label in wanted_labels {
        if !found.iter().any(|(known, _)| *known == label) {
            return Err(Error::UnknownClass { source_name: location.paths.join(", "), label });
        }
    }
    let labelled = found.into_iter().map(|(label, picture)| {
        let hash = picture.pixel_hash();
        LabelledPicture { label, picture, hash }
    });
    Ok(labelled.collect())
}

/// The paths that are read together: pairs for IDX, single files otherwise.
async fn groups(location: &SourceLocation) -> Result<Vec<Vec<String>>> {
    let (format, found) = (location.format.name(), location.paths.len());
    if location.format == SourceFormat::Idx {
        let [images, labels] = location.paths.as_slice() else {
            return Err(Error::PathCount {
                format,
                needed: "a file of pictures and a file of labels",
                found,
            });
        };
        return Ok(vec![vec![images.clone(), labels.clone()]]);
    }
    if found == 0 {
        return Err(Error::PathCount { format, needed: "at least one file", found });
    }
    let ending = if location.format == SourceFormat::HuggingfaceParquet { ".parquet" } else { ".bin" };
    let files = patterns::expand(&location.paths, ending).await?;
    Ok(files.into_iter().map(|path| vec![path]).collect())
}

fn folder_of(location: &SourceLocation) -> Result<Place> {
    let [path] = location.paths.as_slice() else {
        let found = location.paths.len();
        return Err(Error::PathCount { format: location.format.name(), needed: "one folder", found });
    };
    Place::new(path)
}

async fn read_group(paths: &[String], hash: &mut Sha256) -> Result<Vec<SourceFile>> {
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let bytes = Place::new(path)?.read().await?;
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
        files.push(SourceFile { name: path.clone(), bytes });
    }
    Ok(files)
}
