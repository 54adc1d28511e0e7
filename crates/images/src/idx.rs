//! IDX, the form of MNIST: a header of big-endian numbers, then unsigned bytes. Plain or gzip.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Read;

use flate2::read::MultiGzDecoder;

use crate::source::{Labels, SourceFile};
use crate::{Error, Picture, Result};

/// Unsigned bytes in three dimensions: pictures, rows, columns.
const PICTURES: [u8; 4] = [0, 0, 8, 3];
/// Unsigned bytes in one dimension.
const LABELS: [u8; 4] = [0, 0, 8, 1];
/// More pixels than any file of this form has; what claims more is damage or an attack.
const MOST_BYTES: u64 = 8 << 30;

/// The dimensions that a header names, and the bytes after it.
struct Content<'a> {
    dimensions: Vec<u32>,
    body: Cow<'a, [u8]>,
}

pub(crate) fn labels(pictures: &SourceFile, labels: &SourceFile) -> Result<Labels> {
    let count = read(pictures, PICTURES)?.dimensions[0];
    let labels = label_bytes(labels, count)?;
    Ok(Labels { labels: labels.iter().map(|label| u32::from(*label)).collect(), names: None })
}

pub(crate) fn pictures(
    pictures: &SourceFile,
    labels: &SourceFile,
    wanted: &BTreeSet<u32>,
) -> Result<Vec<(u32, Picture)>> {
    let content = read(pictures, PICTURES)?;
    let [count, height, width] = content.dimensions[..] else { unreachable!("the magic number says three") };
    if height == 0 || width == 0 {
        return Err(Error::invalid(
            &pictures.name,
            "the header",
            format!("pictures of {width} x {height} pixels"),
        ));
    }
    let labels = label_bytes(labels, count)?;
    let rows = content.body.chunks_exact(height as usize * width as usize);
    let labelled = rows.zip(&labels).map(|(grey, label)| (u32::from(*label), grey));
    let chosen = labelled.filter(|(label, _)| wanted.contains(label));
    Ok(chosen.map(|(label, grey)| (label, Picture::from_grey(width, height, grey))).collect())
}

fn label_bytes(file: &SourceFile, pictures: u32) -> Result<Vec<u8>> {
    let content = read(file, LABELS)?;
    let count = content.dimensions[0];
    if count != pictures {
        let rule = format!("it has {count} labels, but the file of pictures has {pictures} pictures");
        return Err(Error::invalid(&file.name, "the header", rule));
    }
    Ok(content.body.into_owned())
}

fn read(file: &SourceFile, magic: [u8; 4]) -> Result<Content<'_>> {
    let unpacked = unpack(file)?;
    let header = 4 + 4 * usize::from(magic[3]);
    if unpacked.len() < header {
        let rule = format!("it ends after {} bytes; the header alone has {header}", unpacked.len());
        return Err(Error::invalid(&file.name, "the header", rule));
    }
    if unpacked[..4] != magic {
        let rule = format!(
            "it starts with {:02x?}; an IDX file of this kind starts with {magic:02x?}",
            &unpacked[..4]
        );
        return Err(Error::invalid(&file.name, "byte 0", rule));
    }
    let dimensions: Vec<u32> = unpacked[4..header]
        .chunks_exact(4)
        .map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
        .collect();
    let expected =
        dimensions.iter().try_fold(1_u64, |size, dimension| size.checked_mul(u64::from(*dimension)));
    let Some(expected) = expected.filter(|size| *size <= MOST_BYTES) else {
        let rule = format!("it claims {dimensions:?} bytes, more than the limit of {MOST_BYTES}");
        return Err(Error::invalid(&file.name, "the header", rule));
    };
    let found = (unpacked.len() - header) as u64;
    if found != expected {
        let rule = format!("its header promises {expected} bytes after it, found {found}");
        return Err(Error::invalid(&file.name, format!("byte {}", unpacked.len()), rule));
    }
    let body = match unpacked {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[header..]),
        Cow::Owned(mut bytes) => Cow::Owned(bytes.split_off(header)),
    };
    Ok(Content { dimensions, body })
}

/// The bytes, unpacked where they are gzip.
fn unpack(file: &SourceFile) -> Result<Cow<'_, [u8]>> {
    if !file.bytes.starts_with(&[0x1F, 0x8B]) {
        return Ok(Cow::Borrowed(&file.bytes));
    }
    let mut unpacked = Vec::new();
    let limited = MultiGzDecoder::new(file.bytes.as_ref()).take(MOST_BYTES + 1).read_to_end(&mut unpacked);
    limited.map_err(|error| Error::invalid(&file.name, "the gzip stream", error.to_string()))?;
    if unpacked.len() as u64 > MOST_BYTES {
        let rule = format!("it unpacks to more than the limit of {MOST_BYTES} bytes");
        return Err(Error::invalid(&file.name, "the gzip stream", rule));
    }
    Ok(Cow::Owned(unpacked))
}
