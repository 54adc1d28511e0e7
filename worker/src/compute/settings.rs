//! From a task's model settings to the model crate's own configurations.

use metad2a_model::{EpisodeConfig, ModelConfig};
use metad2a_pipeline::tasks::{Mode, Model, ModelSettings};

/// The shape of a model.
pub(super) fn model_config(model: Model, settings: &ModelSettings) -> ModelConfig {
    let width = settings.feature_width.into();
    let mut config = match (settings.mode, model) {
        (Mode::Paper, Model::Generator) => ModelConfig::paper_generator(width),
        (Mode::Paper, Model::Predictor) => ModelConfig::paper_predictor(width),
        (Mode::Default, Model::Generator) => ModelConfig::default_generator(width),
        (Mode::Default, Model::Predictor) => ModelConfig::default_predictor(width),
    };
    config.hidden = settings.hidden.into();
    config.latent = settings.latent.into();
    config
}

/// The steps of its training.
pub(super) fn episode_config(settings: &ModelSettings) -> EpisodeConfig {
    let usual = match settings.mode {
        Mode::Paper => EpisodeConfig::paper(),
        Mode::Default => EpisodeConfig::default(),
    };
    EpisodeConfig {
        batch_size: settings.batch_size as usize,
        learning_rate: settings.learning_rate,
        images_per_class: settings.images_per_class as usize,
        classes_per_dataset: settings.classes_per_dataset as usize,
        top_fraction: settings.top_fraction,
        ranking_weight: settings.ranking_weight,
        ..usual
    }
}
