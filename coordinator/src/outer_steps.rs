//! Closes meta-training rounds: reads the shards' parameters, takes the outer step, stores the next checkpoint.
//!
//! Parameters are safetensors; the coordinator sees one flat vector per file, in the order of names, and knows nothing
//! of the model. The file's metadata (configuration, target scale) is copied from the first accepted shard.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, ensure};
use bytes::Bytes;
use metad2a_database::Store;
use metad2a_pipeline::planner::{Merge, RoundClosed};
use metad2a_pipeline::rounds::outer_step;
use metad2a_pipeline::tasks::Blob;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::ledger::{blob_of, file_of};

/// Kind under which checkpoints and momentum lie.
const CHECKPOINTS: &str = "checkpoints";

/// Takes the outer step of a round over its accepted shards.
pub(crate) async fn close_round(store: &Store, merge: &Merge) -> anyhow::Result<RoundClosed> {
    let start = read(store, &merge.shards[0].start).await?;
    let mut ends = Vec::with_capacity(merge.shards.len());
    let mut metadata = None;
    for shard in &merge.shards {
        let end = read(store, &shard.parameters).await?;
        ensure!(
            end.shapes == start.shapes,
            "`{}` and `{}` hold tensors of other names or shapes",
            shard.parameters.path,
            merge.shards[0].start.path
        );
        metadata.get_or_insert(end.metadata);
        ends.push(end.values);
    }
    let momentum = match &merge.momentum {
        Some(blob) => read(store, blob).await?.values,
        None => Vec::new(),
    };
    let stepped = outer_step(&start.values, &ends, &momentum, merge.outer)?;
    let checkpoint =
        Parameters { values: stepped.parameters, shapes: start.shapes.clone(), metadata: metadata.flatten() };
    let checkpoint = write(store, &checkpoint).await?;
    let momentum = if merge.outer.momentum > 0.0 {
        let momentum = Parameters { values: stepped.momentum, shapes: start.shapes, metadata: None };
        Some(write(store, &momentum).await?)
    } else {
        None
    };
    Ok(RoundClosed {
        shards: merge.shards.iter().map(|shard| shard.task.clone()).collect(),
        accepted: merge.accepted.clone(),
        checkpoint,
        momentum,
        optimisers: merge.optimisers.clone(),
        loss: merge.shards.iter().map(|shard| shard.loss).sum::<f64>() / merge.shards.len() as f64,
    })
}

/// A safetensors file as one flat vector.
#[derive(Debug, Clone, PartialEq)]
struct Parameters {
    values: Vec<f32>,
    /// By name, which is the order of `values`.
    shapes: BTreeMap<String, Vec<usize>>,
    metadata: Option<HashMap<String, String>>,
}

impl Parameters {
    fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let tensors = SafeTensors::deserialize(bytes)?;
        let mut names: Vec<&str> = tensors.names();
        names.sort_unstable();
        let mut parameters =
            Self { values: Vec::new(), shapes: BTreeMap::new(), metadata: header.metadata().clone() };
        for name in names {
            let tensor = tensors.tensor(name)?;
            ensure!(
                tensor.dtype() == Dtype::F32,
                "tensor `{name}` is {:?}; parameters are F32",
                tensor.dtype()
            );
            let numbers = tensor.data().chunks_exact(4);
            parameters
                .values
                .extend(numbers.map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])));
            parameters.shapes.insert(name.to_owned(), tensor.shape().to_vec());
        }
        Ok(parameters)
    }

    fn encode(&self) -> anyhow::Result<Vec<u8>> {
        let bytes: Vec<u8> = self.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut views = Vec::with_capacity(self.shapes.len());
        let mut from = 0;
        for (name, shape) in &self.shapes {
            let to = from + 4 * shape.iter().product::<usize>();
            views.push((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), &bytes[from..to])?));
            from = to;
        }
        // Several keys would be written in random order; ours has one.
        Ok(safetensors::serialize(views, self.metadata.clone())?)
    }
}

async fn read(store: &Store, blob: &Blob) -> anyhow::Result<Parameters> {
    let bytes = store.get_data(&file_of(blob)).await?;
    Parameters::decode(&bytes).with_context(|| format!("`{}` is not a file of parameters", blob.path))
}

async fn write(store: &Store, parameters: &Parameters) -> anyhow::Result<Blob> {
    let bytes = Bytes::from(parameters.encode()?);
    let file = store.put_data(CHECKPOINTS, "safetensors", bytes, None).await?;
    Ok(blob_of(&file))
}

#[cfg(test)]
mod tests {
    use metad2a_database::Access;
    use metad2a_pipeline::planner::ShardResult;
    use metad2a_pipeline::tasks::{Model, OuterStep};

    use super::*;

    fn parameters(values: &[f32]) -> Parameters {
        Parameters {
            values: values.to_vec(),
            shapes: BTreeMap::from([("a".to_owned(), vec![2]), ("b".to_owned(), vec![1, values.len() - 2])]),
            metadata: Some(HashMap::from([("metad2a".to_owned(), "{\"hidden\":4}".to_owned())])),
        }
    }

    async fn merge(store: &Store, ends: &[&[f32]], outer: OuterStep) -> Merge {
        let start = write(store, &parameters(&[0.0, 0.0, 0.0])).await.unwrap();
        let mut shards = Vec::new();
        for (shard, end) in ends.iter().enumerate() {
            let blob = write(store, &parameters(end)).await.unwrap();
            shards.push(ShardResult {
                shard: shard as u32,
                task: "t".to_owned(),
                start: start.clone(),
                parameters: blob.clone(),
                optimiser: blob,
                loss: 0.5,
            });
        }
        Merge {
            id: "r".to_owned(),
            model: Model::Generator,
            round: 0,
            accepted: Vec::new(),
            optimisers: shards.iter().map(|shard| Some(shard.optimiser.clone())).collect(),
            shards,
            momentum: None,
            outer,
        }
    }

    #[test]
    fn a_file_of_parameters_survives_the_round_trip_with_its_metadata() {
        let parameters = parameters(&[1.0, -2.5, f32::MIN_POSITIVE]);
        assert_eq!(Parameters::decode(&parameters.encode().unwrap()).unwrap(), parameters);
    }

    #[tokio::test]
    async fn one_shard_with_rate_one_and_no_momentum_is_the_shard_itself() {
        let store = Store::open("memory:", Access::ReadWrite).await.unwrap();
        let outer = OuterStep { learning_rate: 1.0, momentum: 0.0 };
        let merge = merge(&store, &[&[1.0, 0.1, -7.3]], outer).await;
        let closed = close_round(&store, &merge).await.unwrap();
        assert_eq!(closed.checkpoint, merge.shards[0].parameters);
        assert_eq!(closed.momentum, None);
    }

    #[tokio::test]
    async fn shards_are_averaged_and_the_momentum_is_kept() {
        let store = Store::open("memory:", Access::ReadWrite).await.unwrap();
        let outer = OuterStep { learning_rate: 1.0, momentum: 0.5 };
        let merge = merge(&store, &[&[1.0, 0.0, 2.0], &[3.0, 0.0, 2.0]], outer).await;
        let closed = close_round(&store, &merge).await.unwrap();
        let checkpoint = read(&store, &closed.checkpoint).await.unwrap();
        // The mean is (2, 0, 2); Nesterov looks half a velocity ahead.
        assert_eq!(checkpoint.values, [3.0, 0.0, 3.0]);
        assert_eq!(checkpoint.metadata, parameters(&[0.0; 3]).metadata);
        assert_eq!(read(&store, &closed.momentum.unwrap()).await.unwrap().values, [2.0, 0.0, 2.0]);
    }

    #[tokio::test]
    async fn shards_of_another_shape_are_refused_by_name() {
        let store = Store::open("memory:", Access::ReadWrite).await.unwrap();
        let outer = OuterStep { learning_rate: 1.0, momentum: 0.0 };
        let merge = merge(&store, &[&[1.0, 0.0, 2.0, 4.0]], outer).await;
        let error = close_round(&store, &merge).await.unwrap_err();
        assert!(error.to_string().contains("hold tensors of other names or shapes"), "{error}");
    }
}
