//! CIFAR-10 and CIFAR-100 binary files: records of one or two label bytes and 3 x 32 x 32 pixels, a plane a colour.

use std::collections::BTreeSet;

use crate::source::{Labels, SourceFile};
use crate::{Error, Picture, Result};

const SIDE: u32 = 32;
const PIXELS: usize = 3 * 32 * 32;

/// How the records of a file look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Bytes before the pixels; the last of them is the label that is used.
    label_bytes: usize,
    classes: u32,
}

pub(crate) const TEN: Layout = Layout { label_bytes: 1, classes: 10 };
/// A coarse label, then the fine one.
pub(crate) const HUNDRED: Layout = Layout { label_bytes: 2, classes: 100 };

pub(crate) fn labels(file: &SourceFile, layout: Layout) -> Result<Labels> {
    let records = records(file, layout)?;
    Ok(Labels { labels: records.into_iter().map(|(label, _)| label).collect(), names: None })
}

pub(crate) fn pictures(
    file: &SourceFile,
    layout: Layout,
    wanted: &BTreeSet<u32>,
) -> Result<Vec<(u32, Picture)>> {
    let records = records(file, layout)?.into_iter();
    let chosen = records.filter(|(label, _)| wanted.contains(label));
    Ok(chosen.map(|(label, planes)| (label, Picture::from_planes(SIDE, SIDE, planes))).collect())
}

fn records(file: &SourceFile, layout: Layout) -> Result<Vec<(u32, &[u8])>> {
    let length = layout.label_bytes + PIXELS;
    let whole = file.bytes.chunks_exact(length);
    if !whole.remainder().is_empty() || file.bytes.is_empty() {
        let rule = format!(
            "a file holds whole records of {length} bytes; {} are left over",
            whole.remainder().len()
        );
        return Err(Error::invalid(&file.name, format!("byte {}", file.bytes.len()), rule));
    }
    let mut records = Vec::new();
    for (number, record) in whole.enumerate() {
        let label = u32::from(record[layout.label_bytes - 1]);
        if label >= layout.classes {
            let rule = format!("label {label} is not below {}, the number of classes", layout.classes);
            return Err(Error::invalid(&file.name, format!("record {number}"), rule));
        }
        records.push((label, &record[layout.label_bytes..]));
    }
    Ok(records)
}
