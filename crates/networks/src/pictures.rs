//! A data set in memory: pictures as bytes, kept on the training device in the order that convolutions like.

use tch::{Device, Kind, Tensor};

use crate::{Error, Result, error::require, layers::channels_last, recipe::check_image_size};

/// Square RGB pictures of one size with their labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pictures {
    /// n · 3 · size · size bytes: picture, channel, row, column.
    pub pixels: Vec<u8>,
    /// One class number per picture, counted from 0.
    pub labels: Vec<i64>,
    /// Edge in pixels.
    pub size: i64,
}

/// The three splits of a data set. Validation and test pictures may be absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingData {
    /// Pictures that the weights are fitted to.
    pub train: Pictures,
    /// Pictures for every choice that is made.
    pub valid: Pictures,
    /// Pictures that are looked at once, at the end.
    pub test: Pictures,
    /// Number of classes; labels lie below it.
    pub classes: i64,
}

/// A checked data set on a device, shared by all units that are trained on it.
#[derive(Debug)]
pub struct PreparedData {
    pub(crate) train: Prepared,
    pub(crate) valid: Option<Prepared>,
    pub(crate) test: Option<Prepared>,
    classes: i64,
    size: i64,
    device: Device,
    mean: [f64; 3],
    deviation: [f64; 3],
    /// normalised = byte · scale + shift, one value per channel.
    scale: Tensor,
    shift: Tensor,
}

/// Pictures (n, s, s, 3), u8, and labels (n), i64.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) pixels: Tensor,
    pub(crate) labels: Tensor,
}

impl Prepared {
    pub(crate) fn count(&self) -> i64 {
        self.labels.size()[0]
    }
}

impl PreparedData {
    /// Checks the data, takes mean and standard deviation of each channel from the training pictures only, and copies
    /// all pictures to the device.
    pub fn new(data: &TrainingData, device: Device) -> Result<Self> {
        require((1..=100_000).contains(&data.classes), "classes", "between 1 and 100000", data.classes)?;
        let size = data.train.size;
        check_image_size(size)?;
        require(!data.train.labels.is_empty(), "train", "at least one picture", 0)?;
        for (name, pictures) in [("train", &data.train), ("valid", &data.valid), ("test", &data.test)] {
            check(name, pictures, size, data.classes)?;
        }
        let (mean, deviation) = channel_statistics(&data.train);
        let per_channel = |value: &dyn Fn(usize) -> f64| -> Result<Tensor> {
            let values = [value(0) as f32, value(1) as f32, value(2) as f32];
            Ok(Tensor::f_from_slice(&values)?.f_to_device(device)?)
        };
        Ok(Self {
            train: prepare(&data.train, device)?,
            valid: prepare_some(&data.valid, device)?,
            test: prepare_some(&data.test, device)?,
            classes: data.classes,
            size,
            device,
            scale: per_channel(&|channel| 1.0 / deviation[channel])?,
            shift: per_channel(&|channel| -mean[channel] / deviation[channel])?,
            mean,
            deviation,
        })
    }

    /// Number of classes.
    pub fn classes(&self) -> i64 {
        self.classes
    }

    /// Edge of the pictures in pixels.
    pub fn image_size(&self) -> i64 {
        self.size
    }

    /// Where the pictures are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Mean of the training pixels, 0 to 255, per channel. Who uses a trained network subtracts it first …
    pub fn mean(&self) -> [f64; 3] {
        self.mean
    }

    /// … and then divides by this: their standard deviation, per channel (1 where all pixels are equal).
    pub fn deviation(&self) -> [f64; 3] {
        self.deviation
    }

    /// Bytes (n, s, s, 3) → normalised (n, 3, s, s), f32, stored channels last.
    pub(crate) fn normalised(&self, pixels: &Tensor) -> Result<Tensor> {
        let values = pixels.f_to_kind(Kind::Float)?.f_mul_(&self.scale)?.f_add_(&self.shift)?;
        Ok(values.f_permute([0, 3, 1, 2])?)
    }
}

fn check(name: &'static str, pictures: &Pictures, size: i64, classes: i64) -> Result<()> {
    let count = pictures.labels.len();
    let bytes = count * 3 * (size * size) as usize;
    let invalid = |rule: String, value: String| Error::Invalid { name, rule, value };
    if count > 0 && pictures.size != size {
        return Err(invalid(format!("of the training pictures' size ({size})"), pictures.size.to_string()));
    }
    if pictures.pixels.len() != bytes {
        let rule = format!("{bytes} bytes ({count} labels × 3 × {size} × {size})");
        return Err(invalid(rule, format!("{} bytes", pictures.pixels.len())));
    }
    match pictures.labels.iter().position(|label| !(0..classes).contains(label)) {
        None => Ok(()),
        Some(place) => Err(invalid(
            format!("labelled from 0 to {}", classes - 1),
            format!("{} (picture {place})", pictures.labels[place]),
        )),
    }
}

/// Mean and standard deviation of each channel. Sums are integers, so their order does not matter.
fn channel_statistics(pictures: &Pictures) -> ([f64; 3], [f64; 3]) {
    let plane = (pictures.size * pictures.size) as usize;
    let (mut sums, mut squares) = ([0_u64; 3], [0_u64; 3]);
    for (position, pixels) in pictures.pixels.chunks_exact(plane).enumerate() {
        for &pixel in pixels {
            sums[position % 3] += u64::from(pixel);
            squares[position % 3] += u64::from(pixel) * u64::from(pixel);
        }
    }
    let count = (pictures.labels.len() * plane) as f64;
    let mean = sums.map(|sum| sum as f64 / count);
    let mut deviation = [1.0; 3];
    for channel in 0..3 {
        let variance = squares[channel] as f64 / count - mean[channel] * mean[channel];
        // Equal pixels: rounding may leave a trace of a variance, never one of a grey level.
        if variance > 1e-6 {
            deviation[channel] = variance.sqrt();
        }
    }
    (mean, deviation)
}

fn prepare(pictures: &Pictures, device: Device) -> Result<Prepared> {
    let shape = [pictures.labels.len() as i64, 3, pictures.size, pictures.size];
    let pixels = Tensor::f_from_data_size(&pictures.pixels, &shape, Kind::Uint8)?;
    let pixels = channels_last(&pixels)?.f_permute([0, 2, 3, 1])?;
    Ok(Prepared {
        pixels: pixels.f_to_device(device)?,
        labels: Tensor::f_from_slice(&pictures.labels)?.f_to_device(device)?,
    })
}

fn prepare_some(pictures: &Pictures, device: Device) -> Result<Option<Prepared>> {
    if pictures.labels.is_empty() { Ok(None) } else { prepare(pictures, device).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> TrainingData {
        let pictures = |count: usize, step: usize| Pictures {
            pixels: (0..count * 3 * 64).map(|place| (place * step % 251) as u8).collect(),
            labels: (0..count as i64).map(|label| label % 2).collect(),
            size: 8,
        };
        TrainingData { train: pictures(4, 7), valid: pictures(2, 11), test: Pictures::default(), classes: 2 }
    }

    #[test]
    fn training_pictures_have_mean_zero_and_variance_one_after_normalisation() {
        let data = PreparedData::new(&data(), Device::Cpu).unwrap();
        let images = data.normalised(&data.train.pixels).unwrap();
        assert_eq!(images.size(), [4, 3, 8, 8]);
        for channel in 0..3 {
            let values = images.select(1, channel);
            assert!(values.mean(None).double_value(&[]).abs() < 1e-5);
            assert!((values.std(false).double_value(&[]) - 1.0).abs() < 1e-5);
        }
        assert!(data.test.is_none());
    }

    #[test]
    fn a_pixel_stays_at_its_place() {
        let mut given = data();
        given.train.pixels.fill(0);
        // Picture 1, channel 2, row 3, column 4.
        given.train.pixels[3 * 64 + 2 * 64 + 3 * 8 + 4] = 200;
        let data = PreparedData::new(&given, Device::Cpu).unwrap();
        let images = data.normalised(&data.train.pixels).unwrap();
        let value = images.double_value(&[1, 2, 3, 4]) * data.deviation()[2] + data.mean()[2];
        assert!((value - 200.0).abs() < 1e-3);
        // A channel without any contrast is not divided by zero.
        assert!((images.double_value(&[0, 0, 0, 0])).abs() < 1e-9);
    }

    #[test]
    fn data_that_breaks_a_rule_is_refused_with_the_place() {
        let message = |change: &dyn Fn(&mut TrainingData)| {
            let mut data = data();
            change(&mut data);
            PreparedData::new(&data, Device::Cpu).unwrap_err().to_string()
        };
        assert_eq!(
            message(&|data| data.valid.labels[1] = 2),
            "`valid` must be labelled from 0 to 1, got `2 (picture 1)`"
        );
        assert_eq!(
            message(&|data| data.train.pixels.truncate(5)),
            "`train` must be 768 bytes (4 labels × 3 × 8 × 8), got `5 bytes`"
        );
        assert!(message(&|data| data.valid.size = 16).contains("training pictures' size (8)"));
        assert!(
            message(&|data| data.train = Pictures { size: 8, ..Pictures::default() })
                .contains("at least one")
        );
    }
}
