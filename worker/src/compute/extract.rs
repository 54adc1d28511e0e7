//! `extract-features`: a class shard of a source → one feature vector per picture.

use std::borrow::Cow;
use std::collections::HashMap;

use anyhow::Context;
use metad2a_database::Checkpoint;
use metad2a_database::tables::FeatureRow;
use metad2a_images::{LabelledPicture, Picture, Split, split_of};
use metad2a_networks::RgbPicture;
use metad2a_pipeline::envelope::Envelope;
use metad2a_pipeline::tasks::{ExtractFeatures, Summary};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::Engine;
use super::checkpoints::{BadCheckpoint, belongs};
use super::error::BadInput;
use super::evaluate::split_fractions;
use super::look::seen;
use super::slice::Slice;
use crate::protocol::{Finished, Job, Outcome, Paused};

/// Pictures of one call of the extractor: enough to fill a card, few enough for 8 GiB.
const PICTURES_PER_CALL: usize = 64;

/// Raised when the form changes; another version's checkpoints are passed over.
const VERSION: u32 = 1;
const VECTORS: &str = "vectors";

/// What a checkpoint says beside the vectors, which are those of the first pictures in the order of the choice.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    task: String,
    pictures: usize,
}

impl Engine {
    pub(super) fn extract_features(
        &mut self,
        job: &Job,
        task: &ExtractFeatures,
        slice: &mut Slice<'_>,
    ) -> anyhow::Result<Outcome> {
        let extractor = self.extractor(&job.envelope, &task.extractor)?;
        let pictures = self.pictures(&job.envelope, &task.source, &task.classes)?;
        let chosen = chosen(task, &job.envelope, &pictures)?;
        let total = chosen.len() as u64;
        slice.progress(0, total);
        let width = task.extractor.kind.width() as usize;
        let resumed = self.resumed(job, |checkpoint| self.load_vectors(checkpoint, chosen.len(), width))?;
        let mut vectors = resumed.unwrap_or_default();
        let finished = vectors.len();
        for part in chosen[finished..].chunks(PICTURES_PER_CALL) {
            let seen: Vec<Cow<'_, Picture>> =
                part.iter().map(|chosen| seen(&chosen.picture.picture, task.look)).collect();
            let views: Vec<RgbPicture<'_>> = seen
                .iter()
                .map(|picture| RgbPicture { width: picture.width, height: picture.height, rgb: &picture.rgb })
                .collect();
            vectors.extend(extractor.extract(&views).context("cannot extract features")?);
            slice.progress(vectors.len() as u64, total);
            if vectors.len() < chosen.len() && slice.is_over() {
                return self.save_vectors(job, &vectors, total).map(Outcome::Paused);
            }
        }
        let name = task.extractor.name();
        let row = |(chosen, vector): (&Chosen<'_>, Vec<f32>)| FeatureRow {
            source_content_id: task.source.clone(),
            extractor: name.clone(),
            class_label: chosen.picture.label.into(),
            picture_index: chosen.index,
            picture_hash: chosen.picture.hash.clone(),
            vector,
            provenance: None,
            grey: task.look.grey.then_some(true),
            resolution: task.look.resolution.map(i64::from),
        };
        let rows: Vec<FeatureRow> = chosen.iter().zip(vectors).map(row).collect();
        let file = self
            .runtime
            .block_on(self.store.put_rows("features", &rows))
            .context("cannot store the features")?;
        let summary = Summary::Features { pictures: rows.len() as u64 };
        Ok(Outcome::Finished(Finished { files: vec![file], units: Vec::new(), summary }))
    }

    fn save_vectors(&self, job: &Job, vectors: &[Vec<f32>], total: u64) -> anyhow::Result<Paused> {
        let state = State { version: VERSION, task: job.id.clone(), pictures: vectors.len() };
        let shape = vec![vectors.len(), vectors.first().map_or(0, Vec::len)];
        let bytes: Vec<u8> = vectors.iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, shape, &bytes).context("feature vectors of several widths")?;
        let tensors = safetensors::serialize([(VECTORS, view)], None::<HashMap<String, String>>)
            .context("cannot write a checkpoint")?;
        let files = self.save(job, &state, vec![tensors.into()])?;
        Ok(Paused { files, done: vectors.len() as u64, total })
    }

    fn load_vectors(
        &self,
        checkpoint: &Checkpoint,
        most: usize,
        width: usize,
    ) -> anyhow::Result<Vec<Vec<f32>>> {
        let (state, tensors): (State, _) = self.load(checkpoint)?;
        let State { version, task, pictures } = state;
        belongs(version == VERSION, || format!("it has form {version}, this program knows {VERSION}"))?;
        belongs(task == checkpoint.id, || format!("it is of task `{task}`"))?;
        belongs((1..most).contains(&pictures), || {
            format!("it is of {pictures} pictures, the task of {most}")
        })?;
        let foreign = |error: &dyn std::fmt::Display| BadCheckpoint::Foreign(error.to_string());
        let [vectors] = &tensors[..] else {
            let rule = format!("it has {} files of tensors where feature vectors have one", tensors.len());
            return Err(BadCheckpoint::Foreign(rule).into());
        };
        let file = SafeTensors::deserialize(vectors).map_err(|error| foreign(&error))?;
        let view = file.tensor(VECTORS).map_err(|error| foreign(&error))?;
        belongs(view.dtype() == Dtype::F32 && view.shape() == [pictures, width], || {
            format!(
                "its vectors are {:?} of shape {:?}, not {pictures} × {width}",
                view.dtype(),
                view.shape()
            )
        })?;
        let numbers: Vec<f32> = view
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        Ok(numbers.chunks_exact(width).map(<[f32]>::to_vec).collect())
    }
}

struct Chosen<'a> {
    picture: &'a LabelledPicture,
    /// Position among the pictures of its class, in the source's order.
    index: i64,
}

/// The first training pictures of every class, in the order of their hashes: a choice that no seed and no order of the
/// files can change. Equal pictures count once.
fn chosen<'a>(
    task: &ExtractFeatures,
    envelope: &Envelope,
    pictures: &'a [LabelledPicture],
) -> anyhow::Result<Vec<Chosen<'a>>> {
    let fractions = split_fractions(task.fractions);
    let mut all = Vec::new();
    for &class in &task.classes {
        let mut of_class: Vec<Chosen<'a>> = pictures
            .iter()
            .filter(|picture| picture.label == class)
            .zip(0..)
            .map(|(picture, index)| Chosen { picture, index })
            .filter(|chosen| split_of(&chosen.picture.hash, &fractions) == Split::Train)
            .collect();
        of_class.sort_by(|a, b| a.picture.hash.cmp(&b.picture.hash));
        of_class.dedup_by(|a, b| a.picture.hash == b.picture.hash);
        of_class.truncate(task.images_per_class as usize);
        if of_class.is_empty() {
            let source_name = envelope
                .sources
                .get(&task.source)
                .map_or_else(|| task.source.clone(), |address| address.name.clone());
            return Err(BadInput::EmptyClass { source_name, class }.into());
        }
        all.extend(of_class);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use metad2a_pipeline::tasks::{Extractor, ExtractorKind, Fractions, Look, Task};

    use super::*;

    fn task(images_per_class: u32) -> ExtractFeatures {
        ExtractFeatures {
            source: "source".into(),
            classes: vec![3, 1],
            fractions: Fractions { train: 0.5, valid: 0.25, test: 0.25 },
            images_per_class,
            extractor: Extractor {
                kind: ExtractorKind::Resnet18,
                weights_sha256: String::new(),
                image_size: 32,
            },
            look: Look::default(),
        }
    }

    /// The hash, label and position of what is chosen.
    fn choice(
        task: &ExtractFeatures,
        pictures: &[LabelledPicture],
    ) -> anyhow::Result<Vec<(String, u32, i64)>> {
        let envelope = Envelope {
            task: Task::ExtractFeatures(task.clone()),
            sources: std::collections::BTreeMap::new(),
            weights: std::collections::BTreeMap::new(),
            slice: 0,
            failures: Vec::new(),
            max_attempts: 1,
            patience_seconds: 1,
            measure_latency: false,
        };
        let chosen = chosen(task, &envelope, pictures)?;
        Ok(chosen
            .iter()
            .map(|chosen| (chosen.picture.hash.clone(), chosen.picture.label, chosen.index))
            .collect())
    }

    /// Pictures of both classes, whose hashes are spread over all splits.
    fn pictures() -> Vec<LabelledPicture> {
        (0..40_u8)
            .map(|number| {
                let picture = Picture { width: 1, height: 1, rgb: vec![number; 3] };
                let hash = picture.pixel_hash();
                LabelledPicture { label: if number % 2 == 0 { 1 } else { 3 }, picture, hash }
            })
            .collect()
    }

    #[test]
    fn the_choice_is_of_training_pictures_and_does_not_depend_on_the_order_of_the_files() {
        let mut pictures = pictures();
        let task = task(4);
        let first = choice(&task, &pictures).unwrap();
        assert_eq!(first.iter().map(|(_, label, _)| *label).collect::<Vec<_>>(), [3, 3, 3, 3, 1, 1, 1, 1]);
        for (hash, label, index) in &first {
            assert!(split_of(hash, &split_fractions(task.fractions)) == Split::Train);
            let of_class: Vec<&LabelledPicture> =
                pictures.iter().filter(|picture| picture.label == *label).collect();
            assert_eq!(of_class[*index as usize].hash, *hash);
        }
        pictures.reverse();
        let names =
            |choice: Vec<(String, u32, i64)>| choice.into_iter().map(|(hash, ..)| hash).collect::<Vec<_>>();
        assert_eq!(names(choice(&task, &pictures).unwrap()), names(first));
    }

    #[test]
    fn all_training_pictures_are_taken_where_there_are_few_and_equal_ones_count_once() {
        let task = task(100);
        let once = choice(&task, &pictures()).unwrap();
        let fractions = split_fractions(task.fractions);
        let is_training = |hash: &str| split_of(hash, &fractions) == Split::Train;
        let all: Vec<String> = pictures().into_iter().map(|picture| picture.hash).collect();
        assert_eq!(once.len(), all.iter().filter(|hash| is_training(hash)).count());
        assert!(once.iter().all(|(hash, ..)| is_training(hash)));
        let twice: Vec<LabelledPicture> = pictures().into_iter().chain(pictures()).collect();
        assert_eq!(choice(&task, &twice).unwrap(), once);
    }

    #[test]
    fn a_class_without_training_pictures_is_named() {
        let pictures: Vec<LabelledPicture> =
            pictures().into_iter().filter(|picture| picture.label == 3).collect();
        let error = choice(&task(4), &pictures).unwrap_err().to_string();
        assert!(error.starts_with("class 1 of image source `source`"), "{error}");
    }
}
