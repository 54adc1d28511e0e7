//! A folder with one folder of image files for each class. Classes are numbered in the order of their names.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::files::{Entry, Place};
use crate::source::Labels;
use crate::{Error, Picture, Result};

/// Files of other kinds beside the pictures are left out.
const KNOWN: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Pictures by class, in the order of the classes' names.
struct Listing {
    classes: Vec<String>,
    /// Class number and file.
    pictures: Vec<(u32, Entry)>,
}

async fn list(place: &Place) -> Result<Listing> {
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

pub(crate) async fn index(place: &Place, hash: &mut Sha256) -> Result<Labels> {
    let listing = list(place).await?;
    let mut labels = Vec::with_capacity(listing.pictures.len());
    for (label, entry) in &listing.pictures {
        let bytes = place.read_entry(entry).await?;
        hash.update((entry.name.len() as u64).to_le_bytes());
        hash.update(&entry.name);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
        labels.push(*label);
    }
    Ok(Labels { labels, names: Some(listing.classes) })
}

pub(crate) async fn pictures(place: &Place, wanted: &BTreeSet<u32>) -> Result<Vec<(u32, Picture)>> {
    let mut found = Vec::new();
    for (label, entry) in list(place).await?.pictures {
        if wanted.contains(&label) {
            let bytes = place.read_entry(&entry).await?;
            found.push((label, Picture::decode(&bytes, place.name(), &format!("file `{}`", entry.name))?));
        }
    }
    Ok(found)
}
