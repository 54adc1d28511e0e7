//! Reading and writing tensors as safetensors bytes.
//!
//! A model's file holds its parameters under the published names and, under the metadata key `metad2a`, its
//! configuration and target scale as JSON. A published file has no such key and is read all the same.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::parameters::{Parameters, values};

/// The metadata key of the JSON below.
const KEY: &str = "metad2a";

/// How targets become the network's outputs: `output = (target - mean) / scale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetScale {
    /// Mean of the training set's targets.
    pub mean: f64,
    /// Their standard deviation (n - 1); a hundred times that in the paper's protocol, which divides by 100 again.
    pub scale: f64,
}

/// What a model's file says about the model.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    pub(crate) config: ModelConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target_scale: Option<TargetScale>,
}

/// The bytes of a model.
pub(crate) fn write_model(
    parameters: &Parameters,
    description: &Description,
    file: &'static str,
) -> Result<Vec<u8>> {
    let text = serde_json::to_string(description).map_err(|error| refused(file, &error))?;
    write(parameters.iter(), Some(HashMap::from([(KEY.to_owned(), text)])), file)
}

/// The tensors of a model, and its target scale. The stored configuration, if any, must be `config`.
pub(crate) fn read_model(
    config: &ModelConfig,
    bytes: &[u8],
    file: &'static str,
) -> Result<(BTreeMap<String, Tensor>, Option<TargetScale>)> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| refused(file, &error))?;
    let text = metadata.metadata().as_ref().and_then(|entries| entries.get(KEY));
    let mut scale = None;
    if let Some(text) = text {
        let stored: Description = serde_json::from_str(text).map_err(|error| refused(file, &error))?;
        if stored.config != *config {
            let reason = format!(
                "it was made with {:?}, but {config:?} is asked for; train it again, or use the version of this \
                 program and the settings that it was made with",
                stored.config
            );
            return Err(Error::Checkpoint { file, reason });
        }
        scale = stored.target_scale;
        if scale
            .is_some_and(|scale| !(scale.mean.is_finite() && scale.scale.is_finite() && scale.scale > 0.0))
        {
            return Err(refused(file, &"its target scale is not a mean and a positive scale"));
        }
    }
    Ok((read(bytes, file)?, scale))
}

/// The bytes of named tensors (f32).
pub(crate) fn write<'a>(
    tensors: impl Iterator<Item = (impl Into<String>, &'a Tensor)>,
    metadata: Option<HashMap<String, String>>,
    file: &'static str,
) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        let bytes: Vec<u8> = values(tensor)?.into_iter().flat_map(f32::to_le_bytes).collect();
        let shape: Vec<usize> = tensor.size().into_iter().map(|size| size as usize).collect();
        data.push((name.into(), shape, bytes));
    }
    let views = data.iter().map(|(name, shape, bytes)| {
        let view =
            TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|error| refused(file, &error))?;
        Ok((name.as_str(), view))
    });
    let views: Vec<_> = views.collect::<Result<_>>()?;
    safetensors::serialize(views, metadata).map_err(|error| refused(file, &error))
}

/// Named tensors. All must be f32.
pub(crate) fn read(bytes: &[u8], file: &'static str) -> Result<BTreeMap<String, Tensor>> {
    let stored = SafeTensors::deserialize(bytes).map_err(|error| refused(file, &error))?;
    let tensors = stored.tensors().into_iter().map(|(name, view)| {
        if view.dtype() != Dtype::F32 {
            let reason = format!("tensor `{name}` is {:?}, all must be F32", view.dtype());
            return Err(Error::Checkpoint { file, reason });
        }
        let shape: Vec<i64> = view.shape().iter().map(|size| *size as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, Kind::Float)?;
        Ok((name, tensor))
    });
    tensors.collect()
}

fn refused(file: &'static str, error: &impl ToString) -> Error {
    Error::Checkpoint { file, reason: error.to_string() }
}
