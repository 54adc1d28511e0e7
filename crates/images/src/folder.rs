//! A folder with one folder of image files for each class. Classes are numbered in the order of their names.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::files::{Entry, Place};
use crate::source::Labels;
use crate::{Error, Picture, Result};

/// Files of other kinds beside the pictures are left out.
const KNOWN: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Pictures by class, in the order of names.
struct Listing {
    classes: Vec<String>,
    /// Class number and file.
    pictures: Vec<(u32, Entry)>,
}

async fn list(place: &Place) -> Result<Listing> {
    let mut classes: Vec<String> = Vec::new();
    let mut pictures = Vec::new();
    for entry in place.list().await? {
        let Some((class, _)) = entry.name.split_once('/') else { continue };
        let known = entry
            .name
            .rsplit_once('.')
            .is_some_and(|(_, kind)| KNOWN.iter().any(|known| known.eq_ignore_ascii_case(kind)));
        if !known {
            continue;
        }
        // Entries come sorted, so a class is either the last one seen or new.
        if classes.last().is_none_or(|last| last != class) {
            classes.push(class.to_owned());
        }
        pictures.push((classes.len() as u32 - 1, entry));
    }
    if pictures.is_empty() {
        let rule = "no folder of PNG, JPEG or WebP files for any class was found";
        return Err(Error::invalid(place.name(), "the whole folder", rule));
    }
    Ok(Listing { classes, pictures })
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
