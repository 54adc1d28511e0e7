//! The pictures of one epoch in random order, each mirrored and cropped at random.
//!
//! All draws of an epoch are made at once from the unit's own stream; a batch is then one gather from the pictures in
//! memory, on whichever device they are.

use metad2a_randomness::Key;
use tch::{Kind, Tensor};

use crate::{Augmentation, Result, pictures::PreparedData};

/// The training pictures with the black border that crops may reach into.
pub(crate) struct Source<'a> {
    data: &'a PreparedData,
    augmentation: Augmentation,
    /// (n, s + 2p, s + 2p, 3), u8.
    padded: Tensor,
    /// 0..s, the pixels of a row.
    range: Tensor,
}

/// The draws of one epoch, one element per picture.
pub(crate) struct Epoch {
    order: Tensor,
    /// Left upper corner of the crop in the padded (and mirrored) picture.
    top: Tensor,
    left: Tensor,
    /// 1 where the picture is mirrored.
    mirrored: Tensor,
}

impl<'a> Source<'a> {
    pub(crate) fn new(data: &'a PreparedData, augmentation: Augmentation) -> Result<Self> {
        let padding = augmentation.crop_padding;
        let pixels = &data.train.pixels;
        let padded = if padding == 0 {
            pixels.shallow_clone()
        } else {
            pixels.f_constant_pad_nd([0, 0, padding, padding, padding, padding])?
        };
        let range = Tensor::f_arange(data.image_size(), (Kind::Int64, data.device()))?;
        Ok(Self { data, augmentation, padded, range })
    }

    /// Pictures of an epoch.
    pub(crate) fn count(&self) -> i64 {
        self.data.train.count()
    }

    /// Draws an epoch. It depends on key, epoch and the number of pictures only.
    pub(crate) fn epoch(&self, key: &Key, epoch: u32) -> Result<Epoch> {
        let count = self.count() as usize;
        let mut stream = key.stream(u64::from(epoch));
        let order = stream.permutation(count);
        let places = (2 * self.augmentation.crop_padding + 1) as usize;
        let (mut top, mut left, mut mirrored) = (vec![0_i64; count], vec![0; count], vec![0; count]);
        for picture in 0..count {
            if self.augmentation.horizontal_flip {
                mirrored[picture] = i64::from(stream.chance(0.5));
            }
            if places > 1 {
                top[picture] = stream.below(places) as i64;
                left[picture] = stream.below(places) as i64;
            }
        }
        let order: Vec<i64> = order.into_iter().map(|picture| picture as i64).collect();
        let to_device = |values: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_to_device(self.data.device())?)
        };
        Ok(Epoch {
            order: to_device(&order)?,
            top: to_device(&top)?,
            left: to_device(&left)?,
            mirrored: to_device(&mirrored)?,
        })
    }

    /// Pictures `start..start + count` of an epoch: normalised (count, 3, s, s), and their labels.
    pub(crate) fn batch(&self, epoch: &Epoch, start: i64, count: i64) -> Result<(Tensor, Tensor)> {
        let part = |draws: &Tensor| draws.f_narrow(0, start, count);
        let order = part(&epoch.order)?;
        let labels = self.data.train.labels.f_index_select(0, &order)?;
        let Augmentation { horizontal_flip, crop_padding } = self.augmentation;
        let pixels = if !horizontal_flip && crop_padding == 0 {
            self.padded.f_index_select(0, &order)?
        } else {
            let rows = part(&epoch.top)?.f_unsqueeze(1)?.f_add(&self.range)?;
            let columns = part(&epoch.left)?.f_unsqueeze(1)?.f_add(&self.range)?;
            // Column c of the mirrored picture is column last - c: c + mirrored · (last - 2c).
            let last = self.padded.size()[2] - 1;
            let change = columns.f_mul_scalar(-2)?.f_add_scalar(last)?;
            let columns = columns.f_add(&change.f_mul(&part(&epoch.mirrored)?.f_unsqueeze(1)?)?)?;
            self.padded.f_index(&[
                Some(order.f_reshape([count, 1, 1])?),
                Some(rows.f_unsqueeze(2)?),
                Some(columns.f_unsqueeze(1)?),
            ])?
        };
        Ok((self.data.normalised(&pixels)?, labels))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{Pictures, TrainingData};

    const SIZE: i64 = 8;

    /// Pictures whose every byte is different within a picture, and never 0.
    fn data(count: usize) -> PreparedData {
        let pixels = (0..count * 192).map(|place| (place % 192 + 1 + place / 192) as u8).collect();
        let train = Pictures { pixels, labels: (0..count as i64).collect(), size: SIZE };
        let (valid, test) = (Pictures::default(), Pictures::default());
        PreparedData::new(&TrainingData { train, valid, test, classes: count as i64 }, Device::Cpu).unwrap()
    }

    /// The bytes of a batch, undoing the normalisation: (n, 3, s, s).
    fn bytes(data: &PreparedData, images: &Tensor) -> Vec<i64> {
        let shape = [1, 3, 1, 1];
        let deviation = Tensor::from_slice(&data.deviation()).reshape(shape);
        let mean = Tensor::from_slice(&data.mean()).reshape(shape);
        let pixels = (images.to_kind(Kind::Double) * deviation + mean).round().to_kind(Kind::Int64);
        Vec::try_from(pixels.reshape(-1)).unwrap()
    }

    #[test]
    fn every_picture_is_a_mirrored_or_plain_crop_of_itself_with_a_black_border() {
        let (count, padding) = (20, 2);
        let data = data(count as usize);
        let augmentation = Augmentation { horizontal_flip: true, crop_padding: padding };
        let source = Source::new(&data, augmentation).unwrap();
        let epoch = source.epoch(&Key::new("unit", "augmentation"), 3).unwrap();
        let (images, labels) = source.batch(&epoch, 0, count).unwrap();
        let found = bytes(&data, &images);
        let labels: Vec<i64> = Vec::try_from(labels).unwrap();
        let mut kinds = std::collections::HashSet::new();
        for (position, &label) in labels.iter().enumerate() {
            let place = position as i64;
            let (top, left) = (epoch.top.int64_value(&[place]), epoch.left.int64_value(&[place]));
            let mirrored = epoch.mirrored.int64_value(&[place]) == 1;
            kinds.insert((mirrored, top, left));
            let mut expected = Vec::new();
            for channel in 0..3 {
                for row in 0..SIZE {
                    for column in 0..SIZE {
                        // Mirror first, then crop.
                        let (row, column) = (row + top - padding, column + left - padding);
                        let column = if mirrored { SIZE - 1 - column } else { column };
                        let inside = (0..SIZE).contains(&row) && (0..SIZE).contains(&column);
                        let byte = channel * 64 + row * 8 + column + 1 + label;
                        expected.push(if inside { byte } else { 0 });
                    }
                }
            }
            assert_eq!(found[position * 192..][..192], expected, "picture {position}");
        }
        assert!(kinds.len() > 12, "the draws hardly vary: {kinds:?}");
    }

    #[test]
    fn an_epoch_holds_every_picture_once_and_repeats_with_its_key() {
        let data = data(11);
        let source = Source::new(&data, Augmentation { horizontal_flip: true, crop_padding: 0 }).unwrap();
        let labels = |unit: &str, number: u32| -> Vec<i64> {
            let epoch = source.epoch(&Key::new(unit, "augmentation"), number).unwrap();
            let parts =
                [(0, 4), (4, 4), (8, 3)].map(|(start, count)| source.batch(&epoch, start, count).unwrap().1);
            Vec::try_from(Tensor::cat(&parts, 0)).unwrap()
        };
        let mut first = labels("unit", 0);
        assert_eq!(first, labels("unit", 0));
        assert_ne!(first, labels("unit", 1));
        assert_ne!(first, labels("another unit", 0));
        first.sort_unstable();
        assert_eq!(first, (0..11).collect::<Vec<_>>());
    }

    #[test]
    fn without_augmentation_pictures_are_unchanged() {
        let data = data(5);
        let source = Source::new(&data, Augmentation { horizontal_flip: false, crop_padding: 0 }).unwrap();
        let epoch = source.epoch(&Key::new("u", "augmentation"), 0).unwrap();
        let (images, labels) = source.batch(&epoch, 0, 5).unwrap();
        let plain = data.normalised(&data.train.pixels.index_select(0, &labels)).unwrap();
        assert_eq!(images, plain);
    }
}
