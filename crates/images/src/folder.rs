//! A folder with one folder of image files for each class. Classes are numbered in the order of their names.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::files::{Entry, Place};
use crate::source::Labels;
use crate::{Error, Picture, Result};

/// Files of other kinds beside the pictures are left out.
const KNOWN: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Pictures by class, in the order of the classes' names.
pub(crate) struct Listing {
    classes: Vec<String>,
    /// Class number and file.
    pictures: Vec<(u32, Entry)>,
}

pub(crate) async fn list(place: &Place) -> Result<Listing> {
    let mut by_class: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in place.list().await? {
        let Some((class, _)) = entry.name.split_once('/') else { continue };
        let kind = entry.name.rsplit_once('.').map(|(_, kind)| kind).unwrap_or_default();
        if KNOWN.iter().any(|known| known.eq_ignore_ascii_case(kind)) {
            by_class.entry(class.to_owned()).or_default().push(entry);
        }
    }
    if by_class.is_empty() {
        let rule = "no folder of PNG, JPEG or WebP files for any class was found";
        return Err(Error::invalid(place.name(), "the whole folder", rule));
    }
    let classes = by_class.keys().cloned().collect();
    let numbered = (0..).zip(by_class.into_values());
    let pictures = numbered.flat_map(|(label, entries)| entries.into_iter().map(move |entry| (label, entry)));
    Ok(Listing { classes, pictures: pictures.collect() })
}

impl Listing {
    /// Names and sizes of all pictures.
    pub(crate) fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for (_, entry) in &self.pictures {
            hash.update((entry.name.len() as u64).to_le_bytes());
            hash.update(&entry.name);
            hash.update(entry.bytes.to_le_bytes());
        }
        hex::encode(hash.finalize())
    }

    pub(crate) async fn index(self, place: &Place, hash: &mut Sha256) -> Result<Labels> {
        let mut labels = Vec::with_capacity(self.pictures.len());
        for (label, entry) in &self.pictures {
            let bytes = place.read_entry(entry).await?;
            hash.update((entry.name.len() as u64).to_le_bytes());
            hash.update(&entry.name);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(&bytes);
            labels.push(*label);
        }
        Ok(Labels { labels, names: Some(self.classes) })
    }

    pub(crate) async fn pictures(self, place: &Place, wanted: &BTreeSet<u32>) -> Result<Vec<(u32, Picture)>> {
        let mut found = Vec::new();
        for (label, entry) in self.pictures {
            if wanted.contains(&label) {
                let bytes = place.read_entry(&entry).await?;
                let at = format!("file `{}`", entry.name);
                found.push((label, Picture::decode(&bytes, place.name(), &at)?));
            }
        }
        Ok(found)
    }
}
