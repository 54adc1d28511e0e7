//! The two models and what differs between them when they are trained.

use anyhow::Context;
use metad2a_model::{Adam, Generator, Predictor, TrainingSet};
use metad2a_pipeline::tasks::{Model, ModelSettings};
use metad2a_randomness::Key;
use std::ops::ControlFlow;
use tch::Device;

use super::settings::{episode_config, model_config};

/// A model under training.
pub(super) enum Learner {
    Generator(Generator),
    Predictor(Predictor),
}

impl Learner {
    /// A model with its first values, drawn from `key`.
    pub(super) fn new(
        model: Model,
        settings: &ModelSettings,
        key: &Key,
        device: Device,
    ) -> anyhow::Result<Self> {
        let config = model_config(model, settings);
        Ok(match model {
            Model::Generator => {
                let mut generator = Generator::new(&config, key)?;
                generator.to_device(device)?;
                Self::Generator(generator)
            }
            Model::Predictor => {
                let mut predictor = Predictor::new(&config, key)?;
                predictor.to_device(device)?;
                Self::Predictor(predictor)
            }
        })
    }

    /// A model with the parameters of a checkpoint.
    pub(super) fn load(
        model: Model,
        settings: &ModelSettings,
        checkpoint: &[u8],
        device: Device,
    ) -> anyhow::Result<Self> {
        Ok(match model {
            Model::Generator => Self::Generator(load_generator(settings, checkpoint, device)?),
            Model::Predictor => Self::Predictor(load_predictor(settings, checkpoint, device)?),
        })
    }

    pub(super) fn to_safetensors(&self) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Generator(generator) => generator.to_safetensors(),
            Self::Predictor(predictor) => predictor.to_safetensors(),
        }
        .context("cannot write a checkpoint")
    }

    /// The optimiser over the model's parameters: fresh, or in the state that it was stored in.
    pub(super) fn optimiser(&self, settings: &ModelSettings, state: Option<&[u8]>) -> anyhow::Result<Adam> {
        let parameters = match self {
            Self::Generator(generator) => generator.parameters(),
            Self::Predictor(predictor) => predictor.parameters(),
        };
        let config = episode_config(settings).adam();
        match state {
            None => Adam::new(parameters, config),
            Some(state) => Adam::load(parameters, config, state),
        }
        .context("cannot prepare the optimiser")
    }

    /// Trains `steps` steps that are numbered from `first_step`: each draws its own randomness from its number.
    /// `each_step` gets the loss of every step and may end the training behind it.
    #[expect(clippy::too_many_arguments, reason = "they are those of the model crate's own functions")]
    pub(super) fn train(
        &mut self,
        adam: &mut Adam,
        data: &TrainingSet,
        settings: &ModelSettings,
        key: &Key,
        first_step: u64,
        steps: u64,
        each_step: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> anyhow::Result<()> {
        let config = episode_config(settings);
        let mut each_step = |_step: u64, loss: f64| each_step(loss);
        match self {
            Self::Generator(generator) => metad2a_model::train_generator(
                generator,
                adam,
                data,
                &config,
                key,
                first_step,
                steps,
                &mut each_step,
            ),
            Self::Predictor(predictor) => metad2a_model::train_predictor(
                predictor,
                adam,
                data,
                &config,
                key,
                first_step,
                steps,
                &mut each_step,
            ),
        }
        .context("cannot train the model")?;
        Ok(())
    }
}

pub(super) fn load_generator(
    settings: &ModelSettings,
    checkpoint: &[u8],
    device: Device,
) -> anyhow::Result<Generator> {
    let config = model_config(Model::Generator, settings);
    let mut generator = Generator::load(&config, checkpoint).context("cannot load the generator")?;
    generator.to_device(device)?;
    Ok(generator)
}

pub(super) fn load_predictor(
    settings: &ModelSettings,
    checkpoint: &[u8],
    device: Device,
) -> anyhow::Result<Predictor> {
    let config = model_config(Model::Predictor, settings);
    let mut predictor = Predictor::load(&config, checkpoint).context("cannot load the predictor")?;
    predictor.to_device(device)?;
    Ok(predictor)
}
