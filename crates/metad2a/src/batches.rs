//! From datasets to picture sets: which classes and pictures a model sees.

use metad2a_randomness::Stream;
use tch::{Device, Tensor};

use crate::data::DatasetFeatures;
use crate::error::Result;
use crate::set_encoder::SetBatch;

/// How much of a dataset is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetSize {
    pub(crate) classes: usize,
    pub(crate) images_per_class: usize,
}

/// One random set of each of these datasets (which may repeat; all valid and of this width): up to `size.classes`
/// classes without replacement and `size.images_per_class` pictures of each. A class with fewer pictures repeats them
/// equally often, give or take one.
pub(crate) fn draw_sets(
    datasets: &[&DatasetFeatures],
    size: SetSize,
    width: i64,
    random: &mut Stream,
    device: Device,
) -> Result<SetBatch> {
    let most: usize = datasets.iter().map(|dataset| dataset.classes.len().min(size.classes)).sum();
    let mut features: Vec<f32> = Vec::with_capacity(most * size.images_per_class * width as usize);
    let mut drawn = Vec::with_capacity(datasets.len());
    for dataset in datasets {
        let places: Vec<usize> = (0..dataset.classes.len()).collect();
        let classes = random.sample(&places, size.classes);
        for class in &classes {
            let pictures = &dataset.classes[*class];
            let order = random.permutation(pictures.len());
            for picture in order.iter().cycle().take(size.images_per_class) {
                features.extend_from_slice(&pictures[*picture]);
            }
        }
        drawn.push(classes.len());
    }
    let total = drawn.iter().sum::<usize>() as i64;
    let features = Tensor::f_from_slice(&features)?
        .f_view([total, size.images_per_class as i64, width])?
        .f_to_device(device)?;
    let in_all = datasets.iter().map(|dataset| dataset.classes.len()).collect();
    Ok(SetBatch::new(features, drawn, in_all))
}
