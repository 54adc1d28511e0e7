//! One picture: decoded, scaled, hashed.

use std::io::Cursor;

use image::imageops::FilterType;
use image::{DynamicImage, ImageReader, Limits, RgbImage};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// No side of a picture is longer: larger claims are damage or an attack.
const LONGEST_SIDE: u32 = 16_384;
/// Memory that decoding one picture may take, in bytes.
const LARGEST_DECODED: u64 = 512 << 20;

/// An 8-bit RGB picture; rows from the top, three bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Decodes a PNG, JPEG or WebP file. `file` and `place` name it in errors.
    pub(crate) fn decode(bytes: &[u8], file: &str, place: &str) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::invalid(file, place, "the picture holds no bytes"));
        }
        let wrong = |error: image::ImageError| {
            Error::invalid(file, place, format!("not a readable picture: {error}"))
        };
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|error| Error::invalid(file, place, error.to_string()))?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(LONGEST_SIDE);
        limits.max_image_height = Some(LONGEST_SIDE);
        limits.max_alloc = Some(LARGEST_DECODED);
        reader.limits(limits);
        Ok(Self::from_image(&reader.decode().map_err(wrong)?))
    }

    fn from_image(image: &DynamicImage) -> Self {
        let (width, height) = (image.width(), image.height());
        let rgb = if image.color().has_alpha() {
            image.to_rgba8().pixels().flat_map(|pixel| over_white(pixel.0)).collect()
        } else {
            image.to_rgb8().into_raw()
        };
        Self { width, height, rgb }
    }

    /// A grey picture.
    pub(crate) fn from_grey(width: u32, height: u32, grey: &[u8]) -> Self {
        Self { width, height, rgb: grey.iter().flat_map(|level| [*level; 3]).collect() }
    }

    /// A picture whose colours lie in three planes, red first.
    pub(crate) fn from_planes(width: u32, height: u32, planes: &[u8]) -> Self {
        let size = planes.len() / 3;
        let rgb = (0..size).flat_map(|at| [planes[at], planes[size + at], planes[2 * size + at]]).collect();
        Self { width, height, rgb }
    }

    /// The picture scaled to a square of `side` pixels (triangle filter, anti-aliased); the same numbers everywhere.
    ///
    /// # Panics
    /// If `rgb` does not have three bytes for each pixel.
    #[must_use]
    pub fn resized(&self, side: u32) -> Self {
        self.scaled(side, side)
    }

    /// The picture's brightness (Rec. 709) in all three channels; the same numbers everywhere.
    #[must_use]
    pub fn grey(&self) -> Self {
        let levels: Vec<u8> = self.rgb.chunks_exact(3).map(brightness).collect();
        Self::from_grey(self.width, self.height, &levels)
    }

    /// The picture reduced to at most `pixels` a side, and enlarged to its size again (triangle filter both times).
    ///
    /// # Panics
    /// If `rgb` does not have three bytes for each pixel, or `pixels` is 0.
    #[must_use]
    pub fn blurred(&self, pixels: u32) -> Self {
        let (width, height) = (self.width.min(pixels), self.height.min(pixels));
        self.scaled(width, height).scaled(self.width, self.height)
    }

    fn scaled(&self, width: u32, height: u32) -> Self {
        if (self.width, self.height) == (width, height) {
            return self.clone();
        }
        let image =
            RgbImage::from_raw(self.width, self.height, self.rgb.clone()).expect("three bytes a pixel");
        let scaled = image::imageops::resize(&image, width, height, FilterType::Triangle);
        Self { width, height, rgb: scaled.into_raw() }
    }

    /// SHA-256 of size and pixels, in hexadecimal: equal for equal pictures, whatever file they came from.
    pub fn pixel_hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.width.to_le_bytes());
        hash.update(self.height.to_le_bytes());
        hash.update(&self.rgb);
        hex::encode(hash.finalize())
    }
}

/// In whole numbers, rounded: floating point may differ between machines.
fn brightness(rgb: &[u8]) -> u8 {
    let weighted: u32 =
        rgb.iter().zip([2_126, 7_152, 722]).map(|(level, weight)| u32::from(*level) * weight).sum();
    ((weighted + 5_000) / 10_000) as u8
}

fn over_white([red, green, blue, alpha]: [u8; 4]) -> [u8; 3] {
    let lay = |level: u8| {
        let (level, alpha) = (u32::from(level), u32::from(alpha));
        ((level * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    [lay(red), lay(green), lay(blue)]
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, LumaA, Rgb};
    use proptest::prelude::*;

    use super::*;

    fn png(image: &DynamicImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
        bytes
    }

    #[test]
    fn grey_16_bit_and_transparent_pictures_become_8_bit_rgb() {
        let grey = DynamicImage::ImageLuma8(image::GrayImage::from_pixel(2, 1, image::Luma([7])));
        assert_eq!(Picture::decode(&png(&grey), "f", "p").unwrap().rgb, [7; 6]);
        let deep = image::ImageBuffer::from_pixel(1, 1, Rgb([0xFFFF_u16, 0x8000, 0]));
        let picture = Picture::decode(&png(&DynamicImage::ImageRgb16(deep)), "f", "p").unwrap();
        assert_eq!(picture.rgb, [255, 128, 0]);
        let clear = image::ImageBuffer::from_pixel(1, 1, LumaA([0_u8, 0]));
        assert_eq!(Picture::decode(&png(&DynamicImage::ImageLumaA8(clear)), "f", "p").unwrap().rgb, [255; 3]);
    }

    #[test]
    fn an_empty_and_a_damaged_picture_are_refused_with_file_and_place() {
        let empty = Picture::decode(&[], "a.parquet", "row 3").unwrap_err();
        assert_eq!(empty.to_string(), "`a.parquet`, row 3: the picture holds no bytes");
        let mut cut = png(&DynamicImage::new_rgb8(40, 40));
        cut.truncate(50);
        let error = Picture::decode(&cut, "a.parquet", "row 3").unwrap_err().to_string();
        assert!(error.starts_with("`a.parquet`, row 3: not a readable picture"), "{error}");
    }

    #[test]
    fn a_decompression_bomb_is_refused_before_it_unfolds() {
        // A PNG that claims 20,000 x 20,000 pixels in its header.
        let mut bomb = png(&DynamicImage::new_rgb8(1, 1));
        bomb[16..20].copy_from_slice(&20_000_u32.to_be_bytes());
        bomb[20..24].copy_from_slice(&20_000_u32.to_be_bytes());
        let checksum = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&checksum.to_be_bytes());
        let error = Picture::decode(&bomb, "b.png", "picture").unwrap_err().to_string();
        assert!(error.contains("limit"), "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
        !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
    }

    #[test]
    fn scaling_keeps_a_flat_picture_flat() {
        let flat = Picture { width: 7, height: 5, rgb: vec![90; 7 * 5 * 3] };
        for side in [1, 3, 16] {
            assert_eq!(flat.resized(side).rgb, vec![90; (side * side * 3) as usize]);
        }
    }

    #[test]
    fn grey_is_brightness_in_every_channel_and_leaves_grey_as_it_is() {
        let colours =
            Picture { width: 4, height: 1, rgb: vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255] };
        let grey = [54, 182, 18, 255].map(|level| [level; 3]).concat();
        assert_eq!(colours.grey(), Picture { rgb: grey, ..colours.clone() });
        let levels: Vec<u8> = (0..=255).collect();
        let already = Picture::from_grey(16, 16, &levels);
        assert_eq!(already.grey(), already);
    }

    #[test]
    fn a_blurred_picture_keeps_its_size_and_loses_what_is_finer() {
        let stripes: Vec<u8> = (0..16 * 12).map(|at| if at % 2 == 0 { 0 } else { 200 }).collect();
        let fine = Picture::from_grey(16, 12, &stripes);
        let blurred = fine.blurred(4);
        assert_eq!((blurred.width, blurred.height), (16, 12));
        let spread =
            |picture: &Picture| picture.rgb.iter().max().unwrap() - picture.rgb.iter().min().unwrap();
        assert_eq!(spread(&fine), 200);
        assert!(spread(&blurred) < 60, "{}", spread(&blurred));
        assert_eq!(fine.blurred(16), fine, "nothing is reduced to more than there is");
        assert_ne!(fine.blurred(12), fine);
    }

    proptest! {
        #[test]
        fn the_hash_tells_pictures_apart(mut rgb in prop::collection::vec(any::<u8>(), 12), at in 0..12_usize) {
            let first = Picture { width: 2, height: 2, rgb: rgb.clone() };
            prop_assert_eq!(first.pixel_hash(), first.clone().pixel_hash());
            let turned = Picture { width: 4, height: 1, rgb: rgb.clone() };
            prop_assert_ne!(first.pixel_hash(), turned.pixel_hash());
            rgb[at] = rgb[at].wrapping_add(1);
            prop_assert_ne!(first.pixel_hash(), Picture { width: 2, height: 2, rgb }.pixel_hash());
        }
    }
}
