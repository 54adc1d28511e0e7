//! The training loops. A step's batch and noise come from the stream of that step, so a training may stop anywhere and
//! go on from the stored model and optimiser.

use std::ops::ControlFlow;

use metad2a_randomness::{Key, Stream};
use tch::{Device, Tensor};

use crate::adam::Adam;
use crate::batches::{SetSize, draw_sets};
use crate::checkpoint::TargetScale;
use crate::data::{DatasetFeatures, TrainingSet};
use crate::episode::{EpisodeConfig, Group, Mode, Pool};
use crate::error::{Error, Result};
use crate::generator::Generator;
use crate::graphs::GraphBatch;
use crate::losses::predictor_loss;
use crate::metrics::{mean, standard_deviation};
use crate::parameters::Parameters;
use crate::predictor::Predictor;
use crate::set_encoder::SetBatch;

/// What a training went through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingMetrics {
    /// Steps done: fewer than asked for where the observer stopped it.
    pub steps: u64,
    /// Mean of the steps' losses per row; NaN without a step.
    pub mean_loss: f64,
    /// The last step's loss per row; NaN without a step.
    pub last_loss: f64,
}

/// Observes every finished step: its number and its loss per row; may stop the training.
pub type StepObserver<'a> = dyn FnMut(u64, f64) -> ControlFlow<()> + 'a;

/// Trains steps `first_step .. first_step + steps` on the best cells of each dataset (default mode) or on all rows
/// (paper mode). Fails without changing more than the finished steps changed.
#[expect(
    clippy::too_many_arguments,
    reason = "each is another thing; a struct of them would only be taken apart"
)]
pub fn train_generator(
    generator: &Generator,
    adam: &mut Adam,
    data: &TrainingSet,
    config: &EpisodeConfig,
    key: &Key,
    first_step: u64,
    steps: u64,
    observer: &mut StepObserver<'_>,
) -> Result<TrainingMetrics> {
    config.validate()?;
    data.validate(generator.config().feature_width)?;
    let top_fraction = if config.mode == Mode::Paper { 1.0 } else { config.top_fraction };
    let pool = Pool::new(data, top_fraction)?;
    let device = generator.parameters().device();
    let range = first_step..first_step.saturating_add(steps);
    run(generator.parameters(), adam, range, observer, |step| {
        let mut random = key.stream(step);
        let batch = Batch::draw(&pool, data, config, generator.config().feature_width, &mut random, device)?;
        let (means, log_variances) = generator.posterior(&batch.sets)?;
        let means = means.f_index_select(0, &batch.groups)?;
        let log_variances = log_variances.f_index_select(0, &batch.groups)?;
        let noise: Vec<f32> = (0..means.numel()).map(|_| (config.noise * random.normal()) as f32).collect();
        let noise = Tensor::f_from_slice(&noise)?.f_view_as(&means)?.f_to_device(device)?;
        let cells: Vec<_> = batch.rows.iter().map(|row| data.rows[*row].cell).collect();
        let graphs = GraphBatch::of_cells(&cells, generator.config(), device)?;
        let loss = generator.loss(&means, &log_variances, Some(&noise), &graphs, config.beta)?.loss;
        let rows = batch.rows.len() as f64;
        // Summed in the paper; averaged, so that the step does not depend on the batch size, by default.
        Ok(match config.mode {
            Mode::Paper => Loss { tensor: loss, rows },
            Mode::Default => Loss { tensor: loss.f_div_scalar(rows)?, rows: 1.0 },
        })
    })
}

/// Trains steps `first_step .. first_step + steps`. A predictor without a target scale takes that of `data` first and
/// keeps it for good.
#[expect(
    clippy::too_many_arguments,
    reason = "each is another thing; a struct of them would only be taken apart"
)]
pub fn train_predictor(
    predictor: &mut Predictor,
    adam: &mut Adam,
    data: &TrainingSet,
    config: &EpisodeConfig,
    key: &Key,
    first_step: u64,
    steps: u64,
    observer: &mut StepObserver<'_>,
) -> Result<TrainingMetrics> {
    config.validate()?;
    data.validate(predictor.config().feature_width)?;
    let pool = Pool::new(data, 1.0)?;
    let scale = predictor.target_scale().unwrap_or_else(|| target_scale(data, config.mode));
    predictor.set_target_scale(scale);
    let predictor = &*predictor;
    let device = predictor.parameters().device();
    let range = first_step..first_step.saturating_add(steps);
    run(predictor.parameters(), adam, range, observer, |step| {
        let mut random = key.stream(step);
        let batch = Batch::draw(&pool, data, config, predictor.config().feature_width, &mut random, device)?;
        let datasets = predictor.encode_sets(&batch.sets)?.f_index_select(0, &batch.groups)?;
        let cells: Vec<_> = batch.rows.iter().map(|row| data.rows[*row].cell).collect();
        let targets: Vec<f32> = batch
            .rows
            .iter()
            .map(|row| ((data.rows[*row].target - scale.mean) / scale.scale) as f32)
            .collect();
        let targets = Tensor::f_from_slice(&targets)?.f_to_device(device)?;
        let graphs = GraphBatch::of_cells(&cells, predictor.config(), device)?;
        let outputs = predictor.head(&datasets, &predictor.encode_graphs(&graphs)?)?.f_squeeze_dim(1)?;
        let tensor = predictor_loss(&outputs, &targets, &batch.groups, config)?;
        let rows = if config.mode == Mode::Paper { batch.rows.len() as f64 } else { 1.0 };
        Ok(Loss { tensor, rows })
    })
}

/// Mean and standard deviation of the targets; the paper divides by 100 again. Equal targets have scale 1.
fn target_scale(data: &TrainingSet, mode: Mode) -> TargetScale {
    let targets: Vec<f64> = data.rows.iter().map(|row| row.target).collect();
    let spread = standard_deviation(&targets);
    let spread = if spread > 0.0 { spread } else { 1.0 };
    let scale = if mode == Mode::Paper { 100.0 * spread } else { spread };
    TargetScale { mean: mean(&targets), scale }
}

/// One step's rows with the picture sets of their datasets.
struct Batch {
    sets: SetBatch,
    /// Places in the training set.
    rows: Vec<usize>,
    /// Each row's place among the sets.
    groups: Tensor,
}

impl Batch {
    fn draw(
        pool: &Pool,
        data: &TrainingSet,
        config: &EpisodeConfig,
        width: i64,
        random: &mut Stream,
        device: Device,
    ) -> Result<Self> {
        let drawn: Vec<Group> = pool.draw(config, random);
        let datasets: Vec<&DatasetFeatures> =
            drawn.iter().map(|group| &data.datasets[group.dataset]).collect();
        let size = SetSize { classes: config.classes_per_dataset, images_per_class: config.images_per_class };
        let sets = draw_sets(&datasets, size, width, random, device)?;
        let groups: Vec<i64> = drawn
            .iter()
            .enumerate()
            .flat_map(|(place, group)| vec![place as i64; group.rows.len()])
            .collect();
        let groups = Tensor::f_from_slice(&groups)?.f_to_device(device)?;
        let rows = drawn.into_iter().flat_map(|group| group.rows).collect();
        Ok(Self { sets, rows, groups })
    }
}

/// A step's loss; divided by `rows` it is reported.
struct Loss {
    tensor: Tensor,
    rows: f64,
}

fn run(
    parameters: &Parameters,
    adam: &mut Adam,
    steps: std::ops::Range<u64>,
    observer: &mut StepObserver<'_>,
    mut loss_of: impl FnMut(u64) -> Result<Loss>,
) -> Result<TrainingMetrics> {
    let (mut done, mut sum, mut last_loss) = (0, 0.0, f64::NAN);
    for step in steps {
        parameters.zero_grad();
        let loss = loss_of(step)?;
        last_loss = loss.tensor.f_double_value(&[])? / loss.rows;
        if !last_loss.is_finite() {
            return Err(Error::Diverged { step });
        }
        loss.tensor.f_backward()?;
        adam.step()?;
        done += 1;
        sum += last_loss;
        if observer(step, last_loss).is_break() {
            break;
        }
    }
    parameters.zero_grad();
    Ok(TrainingMetrics { steps: done, mean_loss: sum / done as f64, last_loss })
}
