//! A source as a whole: its form, its index, and the pictures of chosen classes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::Place;
use crate::{Error, Picture, Result, cifar, folder, idx, parquet};

/// How the pictures of a source are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceFormat {
    /// Columns `image: {bytes, path}` and `label`, as Hugging Face writes image datasets. One or more files.
    HuggingfaceParquet,
    /// MNIST's form, plain or gzip: a file of pictures and a file of labels, in this order.
    Idx,
    /// `data_batch_1.bin` and its like.
    Cifar10Binary,
    /// `train.bin` and its like; the fine labels are used.
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
    let mut hash = Sha256::new();
    hash.update(format!("{}\n", location.format));
    let mut labels = Vec::new();
    let mut names: Option<Vec<String>> = None;
    if location.format == SourceFormat::ImageFolder {
        let found = folder::index(&folder_of(location)?, &mut hash).await?;
        labels = found.labels;
        names = found.names;
    } else {
        for group in groups(location)? {
            let files = read_group(&group).await?;
            for file in &files {
                hash.update((file.bytes.len() as u64).to_le_bytes());
                hash.update(&file.bytes);
            }
            let found = match location.format {
                SourceFormat::HuggingfaceParquet => parquet::labels(&files[0])?,
                SourceFormat::Idx => idx::labels(&files[0], &files[1])?,
                SourceFormat::Cifar10Binary => cifar::labels(&files[0], cifar::TEN)?,
                SourceFormat::Cifar100Binary => cifar::labels(&files[0], cifar::HUNDRED)?,
                SourceFormat::ImageFolder => unreachable!("folders are read above"),
            };
            labels.extend(found.labels);
            if let (Some(known), Some(own)) = (&names, &found.names)
                && known != own
            {
                let rule = "its classes have other names than those of the source's first file";
                return Err(Error::invalid(&files[0].name, "the footer", rule));
            }
            names = names.or(found.names);
        }
    }
    if labels.is_empty() {
        return Err(Error::invalid(&location.paths.join(", "), "the whole source", "it holds no picture"));
    }
    Ok(SourceIndex {
        content_id: hex::encode(hash.finalize()),
        pictures: labels.len() as u64,
        classes: classes(&labels, names.as_deref()),
    })
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
    let wanted_labels: BTreeSet<u32> = wanted.iter().copied().collect();
    let mut found = Vec::new();
    if location.format == SourceFormat::ImageFolder {
        found = folder::pictures(&folder_of(location)?, &wanted_labels).await?;
    } else {
        for group in groups(location)? {
            let files = read_group(&group).await?;
            found.extend(match location.format {
                SourceFormat::HuggingfaceParquet => parquet::pictures(&files[0], &wanted_labels)?,
                SourceFormat::Idx => idx::pictures(&files[0], &files[1], &wanted_labels)?,
                SourceFormat::Cifar10Binary => cifar::pictures(&files[0], cifar::TEN, &wanted_labels)?,
                SourceFormat::Cifar100Binary => cifar::pictures(&files[0], cifar::HUNDRED, &wanted_labels)?,
                SourceFormat::ImageFolder => unreachable!("folders are read above"),
            });
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
fn groups(location: &SourceLocation) -> Result<Vec<Vec<String>>> {
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
    Ok(location.paths.iter().map(|path| vec![path.clone()]).collect())
}

fn folder_of(location: &SourceLocation) -> Result<Place> {
    let [path] = location.paths.as_slice() else {
        let found = location.paths.len();
        return Err(Error::PathCount { format: location.format.name(), needed: "one folder", found });
    };
    Place::new(path)
}

async fn read_group(paths: &[String]) -> Result<Vec<SourceFile>> {
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        files.push(SourceFile { name: path.clone(), bytes: Place::new(path)?.read().await? });
    }
    Ok(files)
}
