//! The models of the last few snapshots, read into the planner's terms.

use std::collections::BTreeMap;

use metad2a_database::{Decision, ModelRecord, Snapshot, Store};
use metad2a_pipeline::planner::{ModelSelected, Published, PublishedModel};
use metad2a_pipeline::source_changes::SourceState;
use metad2a_pipeline::tasks::{Blob, Model};

use crate::publication::ModelConfig;

/// What is published, as far as a refresh needs it. By default: nothing yet.
#[derive(Default)]
pub(crate) struct LastPublished {
    pub(crate) snapshot: Option<Snapshot>,
    /// Of the last few snapshots, newest first.
    pub(crate) models: Vec<Published>,
}

impl LastPublished {
    /// Reads the models of the newest `snapshots` snapshots.
    pub(crate) async fn read(store: &Store, pipeline: &str, snapshots: u32) -> anyhow::Result<Self> {
        let newest = store.current_snapshot(pipeline).await?;
        let mut models = Vec::new();
        let last = newest.as_ref().map_or(0, |newest| newest.number);
        for number in (last.saturating_sub(snapshots) + 1..=last).rev() {
            // An old one may have been removed.
            let Some(snapshot) = store.snapshot(pipeline, number).await? else { continue };
            for model in Model::ALL {
                models.extend(published(store, &snapshot, model).await?);
            }
        }
        Ok(Self { snapshot: newest, models })
    }

    /// The sources of the newest snapshot.
    pub(crate) fn sources(&self) -> BTreeMap<String, SourceState> {
        let sources = self.snapshot.iter().flat_map(|snapshot| &snapshot.sources);
        sources
            .map(|(name, source)| {
                let state = SourceState {
                    content_id: source.content_id.clone(),
                    classes: source.classes,
                    pictures: source.pictures,
                };
                (name.clone(), state)
            })
            .collect()
    }

    pub(crate) fn number(&self) -> Option<u32> {
        self.snapshot.as_ref().map(|snapshot| snapshot.number)
    }
}

async fn published(store: &Store, snapshot: &Snapshot, model: Model) -> anyhow::Result<Option<Published>> {
    let Some(sha256) = snapshot.models.get(model.name()) else { return Ok(None) };
    let record = store.model(&snapshot.pipeline, model.name(), sha256).await?;
    let config = record.as_ref().map(|record| serde_json::from_value::<ModelConfig>(record.config.clone()));
    let known = match (record, config) {
        (Some(record), Some(Ok(config))) => {
            let selection = match &config.selection {
                Some(id) => store.decision(id).await?,
                None => None,
            };
            known(&snapshot.pipeline, &record, config, selection)
        }
        (None, _) => Err("its record is not in the store any more".to_owned()),
        (Some(_), _) => Err("another version of this program published it".to_owned()),
    };
    Ok(Some(Published { snapshot: snapshot.number, model, sha256: sha256.clone(), known }))
}

fn known(
    pipeline: &str,
    record: &ModelRecord,
    config: ModelConfig,
    selection: Option<Decision>,
) -> Result<PublishedModel, String> {
    let selected =
        selection.and_then(|decision| serde_json::from_value::<ModelSelected>(decision.detail).ok());
    let (Some(selected), Some(learnt)) = (selected, config.learnt) else {
        return Err("how it was trained is not on record".to_owned());
    };
    Ok(PublishedModel {
        selected,
        weights: Blob {
            path: format!("{pipeline}/models/{}/{}.safetensors", record.model, record.sha256),
            sha256: record.sha256.clone(),
            bytes: record.bytes,
        },
        settings: config.settings,
        extractor: config.extractor,
        learnt,
    })
}
