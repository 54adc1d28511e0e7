//! From pictures to one vector per dataset: pictures pool into class vectors, class vectors into the dataset's.
//!
//! All classes of a batch are pooled in one go. Datasets may have different numbers of classes: shorter ones are padded
//! and the padding is masked, which changes nothing in their vectors.

use tch::{Device, Kind, Tensor};

use crate::config::ModelConfig;
use crate::error::{Result, require};
use crate::layers::{Attention, Linear};
use crate::parameters::{Declarations, Parameters};

/// The pictures of some datasets.
#[derive(Debug)]
pub struct SetBatch {
    /// Classes of all datasets, dataset by dataset × pictures × features.
    features: Tensor,
    /// Drawn classes of each dataset.
    classes: Vec<usize>,
    /// All classes of each dataset: a description of it, where the drawn ones are only some.
    classes_in_all: Vec<usize>,
}

impl SetBatch {
    /// `features` is (sum of `classes`, pictures, width), f32, on the model's device.
    pub(crate) fn new(features: Tensor, classes: Vec<usize>, classes_in_all: Vec<usize>) -> Self {
        debug_assert_eq!(features.size()[0], classes.iter().sum::<usize>() as i64);
        Self { features, classes, classes_in_all }
    }

    /// The number of datasets.
    pub fn count(&self) -> usize {
        self.classes.len()
    }

    /// Datasets of equal numbers of classes: (datasets, classes, pictures, width), f32, on the model's device.
    pub fn of_tensor(features: &Tensor) -> Result<Self> {
        let size = features.size();
        let four = size.len() == 4 && size.iter().all(|length| *length > 0);
        let rule = "it must be datasets, classes, pictures and features, at least one of each";
        require(four, "the shape of picture sets", &format!("{size:?}"), rule)?;
        let (datasets, classes) = (size[0] as usize, size[1] as usize);
        Ok(Self::new(features.f_flatten(0, 1)?, vec![classes; datasets], vec![classes; datasets]))
    }
}

/// Two attentions, a pool with one learned query, one affine map.
#[derive(Debug)]
struct SetPool {
    first: Attention,
    second: Attention,
    seed: Tensor,
    pool: Attention,
    output: Linear,
}

impl SetPool {
    fn declare(declared: &mut Declarations, name: &str, inputs: i64, width: i64) {
        Attention::declare(declared, &format!("{name}.enc.0.mab"), inputs, width);
        Attention::declare(declared, &format!("{name}.enc.1.mab"), width, width);
        declared.seed(&format!("{name}.dec.0"), width);
        Attention::declare(declared, &format!("{name}.dec.0.mab"), width, width);
        declared.linear(&format!("{name}.dec.1"), width, width);
    }

    fn of(parameters: &Parameters, name: &str) -> Self {
        Self {
            first: Attention::of(parameters, &format!("{name}.enc.0.mab")),
            second: Attention::of(parameters, &format!("{name}.enc.1.mab")),
            seed: parameters.expect(&format!("{name}.dec.0.S")),
            pool: Attention::of(parameters, &format!("{name}.dec.0.mab")),
            output: Linear::of(parameters, &format!("{name}.dec.1")),
        }
    }

    /// (n, l, inputs) → (n, width).
    fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let x = self.second.of_set(&self.first.of_set(x, mask)?, mask)?;
        let pooled = self.pool.of_query(&self.seed, &x, mask)?.f_squeeze_dim(1)?;
        self.output.forward(&pooled)
    }
}

/// Pictures → classes → dataset.
#[derive(Debug)]
pub(crate) struct SetEncoder {
    intra: SetPool,
    inter: SetPool,
    normalised: bool,
    descriptors: Option<Linear>,
}

/// Keeps the vector of a dataset without any variance finite (`PyTorch`'s usual value).
const NORM_EPSILON: f64 = 1e-5;

/// The number of classes (its logarithm), and the share of the features' variance that lies between classes.
const DESCRIPTORS: i64 = 2;

impl SetEncoder {
    pub(crate) fn declare(declared: &mut Declarations, config: &ModelConfig) {
        SetPool::declare(declared, "intra_setpool", config.feature_width, config.latent);
        SetPool::declare(declared, "inter_setpool", config.latent, config.latent);
        if config.dataset_descriptors {
            declared.linear_without_bias("descriptors", DESCRIPTORS, config.latent);
        }
    }

    pub(crate) fn of(parameters: &Parameters, config: &ModelConfig) -> Self {
        Self {
            intra: SetPool::of(parameters, "intra_setpool"),
            inter: SetPool::of(parameters, "inter_setpool"),
            normalised: config.normalised_datasets,
            descriptors: config.dataset_descriptors.then(|| Linear::without_bias(parameters, "descriptors")),
        }
    }

    /// → (datasets, latent).
    pub(crate) fn forward(&self, sets: &SetBatch) -> Result<Tensor> {
        let layout = Layout::of(&sets.classes, sets.features.device())?;
        let classes = layout.arrange(&self.intra.forward(&sets.features, None)?)?;
        let mut vector = self.inter.forward(&classes, layout.mask.as_ref())?;
        if self.normalised {
            let width = [vector.size()[1]];
            vector = vector.f_layer_norm(width, None::<&Tensor>, None::<&Tensor>, NORM_EPSILON, false)?;
        }
        match &self.descriptors {
            None => Ok(vector),
            Some(descriptors) => Ok(vector.f_add(&descriptors.forward(&describe(sets, &layout)?)?)?),
        }
    }
}

/// Where each class of a batch stands among its dataset's.
struct Layout {
    datasets: i64,
    /// Places of the classes, padded with zeros: (datasets · longest).
    places: Option<Tensor>,
    /// (datasets, 1, 1, longest): true at padding. None where all datasets have equally many classes.
    mask: Option<Tensor>,
    longest: i64,
}

impl Layout {
    fn of(classes: &[usize], device: Device) -> Result<Self> {
        let (datasets, longest) = (classes.len() as i64, classes.iter().copied().max().unwrap_or(0));
        if classes.iter().all(|count| *count == longest) {
            return Ok(Self { datasets, places: None, mask: None, longest: longest as i64 });
        }
        let mut places = Vec::with_capacity(classes.len() * longest);
        let mut padding = Vec::with_capacity(classes.len() * longest);
        let mut first = 0;
        for count in classes {
            for class in 0..longest {
                places.push(if class < *count { (first + class) as i64 } else { 0 });
                padding.push(class >= *count);
            }
            first += count;
        }
        let mask =
            Tensor::f_from_slice(&padding)?.f_view([datasets, 1, 1, longest as i64])?.f_to_device(device)?;
        let places = Tensor::f_from_slice(&places)?.f_to_device(device)?;
        Ok(Self { datasets, places: Some(places), mask: Some(mask), longest: longest as i64 })
    }

    /// (classes of all datasets, w) → (datasets, longest, w).
    fn arrange(&self, classes: &Tensor) -> Result<Tensor> {
        let shape = [self.datasets, self.longest];
        Ok(match &self.places {
            None => classes.f_unflatten(0, shape)?,
            Some(places) => classes.f_index_select(0, places)?.f_unflatten(0, shape)?,
        })
    }
}

/// (datasets, [`DESCRIPTORS`]): ln(classes / 10), and between-class variance / total variance.
fn describe(sets: &SetBatch, layout: &Layout) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let device = sets.features.device();
    let counts: Vec<f32> = sets.classes_in_all.iter().map(|count| (*count as f32 / 10.0).ln()).collect();
    let counts = Tensor::f_from_slice(&counts)?.f_to_device(device)?;
    let means = sets.features.f_mean_dim([1_i64].as_slice(), false, None)?;
    // E[x²] - E[x]²: the features are read once.
    let squares = sets.features.f_square()?.f_mean_dim([1_i64, 2].as_slice(), false, None)?;
    let within = squares.f_sub(&means.f_square()?.f_mean_dim([1_i64].as_slice(), false, None)?)?;
    let average = |x: &Tensor| -> Result<Tensor> {
        let arranged = layout.arrange(x)?;
        Ok(match &layout.mask {
            None => arranged.f_mean_dim([1_i64].as_slice(), false, None)?,
            Some(mask) => {
                let kept = mask
                    .f_logical_not()?
                    .f_to_kind(Kind::Float)?
                    .f_view([layout.datasets, layout.longest])?;
                let number = kept.f_sum_dim_intlist([1_i64].as_slice(), true, None)?;
                arranged
                    .f_mul(&kept.f_unsqueeze(2)?)?
                    .f_sum_dim_intlist([1_i64].as_slice(), false, None)?
                    .f_div(&number)?
            }
        })
    };
    let within = average(&within.f_unsqueeze(1)?)?.f_squeeze_dim(1)?.f_clamp_min(0.0)?;
    let centre = average(&means)?;
    let mean_square = average(&means.f_square()?)?;
    let between = mean_square.f_sub(&centre.f_square()?)?.f_mean_dim([1_i64].as_slice(), false, None)?;
    let between = between.f_clamp_min(0.0)?;
    let share = between.f_div(&within.f_add(&between)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?;
    Ok(Tensor::f_stack(&[counts, share], 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use metad2a_randomness::Key;

    fn pictures(classes: i64, step: u64) -> Tensor {
        let mut random = Key::new("set encoder", "pictures").stream(step);
        let values: Vec<f32> = (0..classes * 3 * 8).map(|_| random.normal() as f32).collect();
        Tensor::from_slice(&values).view([classes, 3, 8])
    }

    fn encoder() -> SetEncoder {
        encoder_of(&ModelConfig { latent: 12, ..ModelConfig::default_predictor(8) })
    }

    fn encoder_of(config: &ModelConfig) -> SetEncoder {
        let mut declared = Declarations::default();
        SetEncoder::declare(&mut declared, config);
        SetEncoder::of(&Parameters::initial(&declared.finish(), &Key::new("set encoder", "weights")), config)
    }

    #[test]
    fn a_normalised_vector_has_mean_zero_and_variance_one_however_large_the_features_are() {
        let config = ModelConfig {
            latent: 12,
            dataset_descriptors: false,
            normalised_datasets: true,
            ..ModelConfig::paper_predictor(8)
        };
        let encoder = encoder_of(&config);
        for factor in [0.1, 1.0, 1e4] {
            let sets = SetBatch::new(pictures(4, 0) * factor, vec![4], vec![4]);
            let vector = encoder.forward(&sets).expect("it is encoded");
            assert!(vector.mean(Kind::Float).abs().double_value(&[]) < 1e-5, "{factor}");
            assert!((vector.square().mean(Kind::Float).double_value(&[]) - 1.0).abs() < 1e-2, "{factor}");
        }
    }

    #[test]
    fn a_dataset_is_encoded_the_same_alone_and_beside_larger_ones() {
        let encoder = encoder();
        let (small, large) = (pictures(2, 0), pictures(5, 1));
        let together = SetBatch::new(Tensor::cat(&[&small, &large], 0), vec![2, 5], vec![2, 5]);
        let together = encoder.forward(&together).expect("it is encoded");
        for (place, (alone, count)) in [(small, 2), (large, 5)].into_iter().enumerate() {
            let alone =
                encoder.forward(&SetBatch::new(alone, vec![count], vec![count])).expect("it is encoded");
            let difference = (alone.get(0) - together.get(place as i64)).abs().max();
            assert!(f64::try_from(difference).expect("a number") < 1e-5);
        }
    }

    #[test]
    fn a_set_has_no_order() {
        let encoder = encoder();
        let pictures = pictures(4, 0);
        let encode = |features: Tensor| {
            encoder.forward(&SetBatch::new(features, vec![4], vec![4])).expect("it is encoded")
        };
        let turned = pictures.flip([0, 1]);
        let difference = (encode(pictures) - encode(turned)).abs().max();
        assert!(f64::try_from(difference).expect("a number") < 1e-5);
    }

    #[test]
    fn the_share_of_variance_between_classes_is_one_for_pictures_that_equal_their_class() {
        let classes = Tensor::from_slice(&[1_f32, 2.0, 5.0]).view([3, 1, 1]).expand([3, 4, 8], false);
        let layout = Layout::of(&[3], Device::Cpu).expect("a layout");
        let described =
            describe(&SetBatch::new(classes, vec![3], vec![100]), &layout).expect("a description");
        assert!((described.double_value(&[0, 0]) - 10_f64.ln()).abs() < 1e-6);
        assert!((described.double_value(&[0, 1]) - 1.0).abs() < 1e-4);
    }
}
