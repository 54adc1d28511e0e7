//! IDX, the form of MNIST: a header of big-endian numbers, then unsigned bytes. Plain or gzip.

use std::collections::BTreeSet;
use std::io::Read;

use flate2::read::MultiGzDecoder;

use crate::source::{Labels, SourceFile};
use crate::{Error, Picture, Result};

/// Unsigned bytes in three dimensions: pictures, rows, columns.
const PICTURES: [u8; 4] = [0, 0, 8, 3];
/// Unsigned bytes in one dimension.
const LABELS: [u8; 4] = [0, 0, 8, 1];
/// More than any known file of this form (EMNIST's largest has 640 MB); what claims more is damage or an attack.
const MOST_BYTES: u64 = 1 << 30;

/// The dimensions that a header names, and the bytes after it.
struct Content {
    dimensions: Vec<u32>,
    body: Vec<u8>,
}

pub(crate) fn labels(pictures: &SourceFile, labels: &SourceFile) -> Result<Labels> {
    let (content, _) = read_pictures(pictures)?;
    let labels = label_bytes(labels, content.dimensions[0])?;
    Ok(Labels { labels: labels.iter().map(|label| u32::from(*label)).collect(), names: None })
}

pub(crate) fn pictures(
    pictures: &SourceFile,
    labels: &SourceFile,
    wanted: &BTreeSet<u32>,
) -> Result<Vec<(u32, Picture)>> {
    let (content, (width, height)) = read_pictures(pictures)?;
    let labels = label_bytes(labels, content.dimensions[0])?;
    let rows = content.body.chunks_exact(height as usize * width as usize);
    let labelled = rows.zip(&labels).map(|(grey, label)| (u32::from(*label), grey));
    let chosen = labelled.filter(|(label, _)| wanted.contains(label));
    Ok(chosen.map(|(label, grey)| (label, Picture::from_grey(width, height, grey))).collect())
}

/// The pictures with their width and height in pixels.
fn read_pictures(file: &SourceFile) -> Result<(Content, (u32, u32))> {
    let content = read(file, PICTURES)?;
    let [_, height, width] = content.dimensions[..] else { unreachable!("the magic number says three") };
    if height == 0 || width == 0 {
        let rule = format!("pictures of {width} x {height} pixels");
        return Err(Error::invalid(&file.name, "the header", rule));
    }
    Ok((content, (width, height)))
}

fn label_bytes(file: &SourceFile, pictures: u32) -> Result<Vec<u8>> {
    let content = read(file, LABELS)?;
    let count = content.dimensions[0];
    if count != pictures {
        let rule = format!("it has {count} labels, but the file of pictures has {pictures} pictures");
        return Err(Error::invalid(&file.name, "the header", rule));
    }
    Ok(content.body)
}

/// Reads the header first, and then no more than it promises: a small packed file may unfold without end.
fn read(file: &SourceFile, magic: [u8; 4]) -> Result<Content> {
    let mut reader: Box<dyn Read + '_> = if file.bytes.starts_with(&[0x1F, 0x8B]) {
        Box::new(MultiGzDecoder::new(file.bytes.as_ref()))
    } else {
        Box::new(file.bytes.as_ref())
    };
    let length = 4 + 4 * usize::from(magic[3]);
    let header = read_up_to(file, &mut reader, length as u64)?;
    if header.len() < length {
        let rule = format!("it ends after {} bytes; the header alone has {length}", header.len());
        return Err(Error::invalid(&file.name, "the header", rule));
    }
    if header[..4] != magic {
        let rule = format!(
            "it starts with {:02x?}; an IDX file of this kind starts with {magic:02x?}",
            &header[..4]
        );
        return Err(Error::invalid(&file.name, "byte 0", rule));
    }
    let dimensions: Vec<u32> = header[4..]
        .chunks_exact(4)
        .map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
        .collect();
    let expected =
        dimensions.iter().try_fold(1_u64, |size, dimension| size.checked_mul(u64::from(*dimension)));
    let Some(expected) = expected.filter(|size| *size <= MOST_BYTES) else {
        let rule = format!("it claims {dimensions:?} bytes, more than the limit of {MOST_BYTES}");
        return Err(Error::invalid(&file.name, "the header", rule));
    };
    let body = read_up_to(file, &mut reader, expected + 1)?;
    let found = body.len() as u64;
    if found != expected {
        let found = if found > expected { "more".to_owned() } else { found.to_string() };
        let rule = format!("its header promises {expected} bytes after it, found {found}");
        return Err(Error::invalid(&file.name, format!("byte {}", length + body.len()), rule));
    }
    Ok(Content { dimensions, body })
}

fn read_up_to(file: &SourceFile, reader: &mut dyn Read, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match reader.take(most).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Error::invalid(&file.name, "the gzip stream", error.to_string())),
    }
}
