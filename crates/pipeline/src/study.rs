//! Everything that a specification determines before any result exists: groups of classes, datasets, cells, units.
//!
//! ```text
//!   Specification ─┐
//!   source indexes ┴─► Study::design ─► datasets, feature shards, bundles of units, random cells
//! ```
//!
//! Pure: the same specification, indexes and seed give the same study, on every machine. **Invariants:** groups of
//! classes depend on the names of the source's classes alone, never on the seed, so no class of one group ever helps
//! another. A source that is added, or a count that is raised, leaves everything else of the study as it was.

mod blocks;
mod draws;
#[cfg(test)]
mod example;
#[cfg(test)]
mod growth;
mod sharing;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};

use metad2a_randomness::Key;
use metad2a_search_space::Cell;
use serde::{Serialize, Serializer};

use self::draws::{CellPool, classes_of, classes_of_dataset};
use self::sharing::{Blocks, Standing};

pub use self::blocks::WantedBlock;

use crate::envelope::SourceAddress;
use crate::ids::{Id, content_id};
use crate::specification::{DatasetKind, RefreshChoice, Specification, Use};
use crate::tasks::{
    Dataset, Evaluate, ExtractFeatures, Extractor, Look, Model, ModelSettings, PicturesPerClass, Recipe,
    Task, Unit, unit_of,
};
use crate::training_set::Group;

/// A source whose labels were read.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexedSource {
    pub content_id: String,
    /// Label and name of every class.
    pub classes: Vec<(u32, String)>,
    pub pictures: u64,
    pub address: SourceAddress,
}

/// A dataset with its place in the study.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyDataset {
    /// Such as `meta-train-letters-003` or the name of a target source.
    pub name: String,
    pub id: String,
    pub group: Group,
    pub source: String,
    pub dataset: Dataset,
    /// Ids of the `extract-features` tasks that hold its classes.
    pub features: Vec<String>,
    /// Keys the draw of its further cells: its id, or the name of the block of datasets that share them.
    block: String,
}

/// The whole plan of experiments of one specification.
#[derive(Debug, Clone)]
pub struct Study {
    pub specification: Specification,
    pub sources: BTreeMap<String, IndexedSource>,
    pub extractor: Extractor,
    pub datasets: Vec<StudyDataset>,
    pub extractions: Vec<ExtractFeatures>,
    /// Units of the meta-train and meta-valid datasets, bundle after bundle.
    units: Vec<Unit>,
    bundles: Vec<BundleRange>,
    evaluation_recipe: String,
    search_recipe: String,
    /// The rules of an unattended refresh; none in a run that a person asked for.
    pub refresh: Option<RefreshChoice>,
}

/// A bundle as a part of the study's units: hundreds of thousands of them are kept.
#[derive(Debug, Clone, Copy)]
struct BundleRange {
    /// Position in the study's datasets.
    dataset: u32,
    first: u32,
    count: u32,
}

/// Units of one dataset that are trained in one task.
#[derive(Debug, Clone, Copy)]
pub struct Bundle<'a> {
    pub dataset: &'a StudyDataset,
    pub units: &'a [Unit],
    recipe: &'a Recipe,
    recipe_id: &'a str,
}

impl Bundle<'_> {
    /// The task that trains these of the bundle's units.
    pub fn evaluate(&self, units: Vec<Unit>) -> Evaluate {
        Evaluate { dataset: self.dataset.dataset.clone(), recipe: self.recipe.clone(), units }
    }

    /// The id of one of its units, see [`Evaluate::unit_id`].
    pub fn unit_id(&self, unit: &Unit) -> Id {
        unit_of(&self.dataset.id, self.recipe_id, unit)
    }
}

/// A study that cannot be designed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error(
        "source `{source_name}` has {found} classes for {group}, and `datasets.{key}.least_classes` asks for {wanted}; \
         lower it, or give the group a larger share in `datasets.class_shares`"
    )]
    TooFewClasses { source_name: String, group: &'static str, key: String, found: usize, wanted: u32 },
    #[error("source `{source_name}` has {found} classes; a target needs at least 2")]
    NotATarget { source_name: String, found: usize },
}

impl Study {
    /// Draws the study. `weights_sha256` names the extractor's weights.
    pub fn design(
        specification: Specification,
        sources: BTreeMap<String, IndexedSource>,
        weights_sha256: String,
    ) -> Result<Self, Error> {
        let extractor = Extractor {
            kind: specification.extractor.kind,
            weights_sha256,
            image_size: specification.extractor.image_size,
        };
        let recipe_id = |name: &str| specification.recipe(name).id();
        let mut study = Self {
            evaluation_recipe: recipe_id(&specification.evaluations.recipe),
            search_recipe: recipe_id(&specification.search.recipe),
            specification,
            sources,
            extractor,
            datasets: Vec::new(),
            extractions: Vec::new(),
            units: Vec::new(),
            bundles: Vec::new(),
            refresh: None,
        };
        let groups = study.specification.datasets.clone();
        study.draw_datasets(Group::MetaTrain, "meta_train", &groups.meta_train)?;
        study.draw_datasets(Group::MetaValid, "meta_valid", &groups.meta_valid)?;
        study.draw_datasets(Group::MetaTest, "meta_test", &groups.meta_test)?;
        study.add_targets(groups.target_pictures)?;
        study.add_extractions();
        study.add_bundles();
        Ok(study)
    }

    /// Names everything that the study computes before training; keys the frozen training set.
    pub fn id(&self) -> String {
        #[derive(Serialize)]
        struct Basis<'a> {
            extractions: Vec<String>,
            bundles: Bundles<'a>,
            /// Imports and the protocols of theirs that models learn from; absent where there are none.
            #[serde(skip_serializing_if = "Option::is_none")]
            imported: Option<(&'a [String], &'a [String])>,
            /// What names the choices of the second wave; absent where there is none.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            around_best: Vec<String>,
        }
        let extractions = self.extractions.iter().map(extraction_id).collect();
        let (imports, protocols) = (&self.specification.imports, &self.specification.imported_protocols);
        let imported = (!protocols.is_empty()).then_some((imports.as_slice(), protocols.as_slice()));
        let around_best = self.wanted_blocks().into_iter().map(|block| block.id).collect();
        content_id("study", 1, &Basis { extractions, bundles: Bundles(self), imported, around_best })
    }

    /// Bundles of the meta-train and meta-valid datasets, dataset after dataset.
    pub fn bundles(&self) -> impl ExactSizeIterator<Item = Bundle<'_>> {
        (0..self.bundles.len()).map(|position| self.bundle(position))
    }

    /// The bundle at a position of [`Study::bundles`].
    pub(crate) fn bundle(&self, position: usize) -> Bundle<'_> {
        let BundleRange { dataset, first, count } = self.bundles[position];
        let (first, count) = (first as usize, count as usize);
        Bundle {
            dataset: &self.datasets[dataset as usize],
            units: &self.units[first..first + count],
            recipe: self.specification.recipe(&self.specification.evaluations.recipe),
            recipe_id: &self.evaluation_recipe,
        }
    }

    /// Trainings of all bundles together.
    pub(crate) fn unit_count(&self) -> u64 {
        self.units.len() as u64
    }

    /// The settings of one of the two models.
    pub fn settings(&self, model: Model) -> &ModelSettings {
        match model {
            Model::Generator => &self.specification.generator.settings,
            Model::Predictor => &self.specification.predictor.settings,
        }
    }

    /// Datasets for which cells are searched.
    pub fn searched(&self) -> impl Iterator<Item = &StudyDataset> {
        self.datasets.iter().filter(|dataset| matches!(dataset.group, Group::MetaTest | Group::Target))
    }

    /// Random cells trained beside the chosen ones: uniform over the strings, canonically distinct, never always-zero.
    pub fn random_cells(&self, dataset: &StudyDataset) -> Vec<Cell> {
        let key = Key::new(&format!("{}/{}", self.specification.seed, dataset.id), "random cells");
        let mut stream = key.stream(0);
        let cells: Vec<Cell> = Cell::all().collect();
        let mut drawn = Vec::new();
        let mut seen = BTreeSet::new();
        while drawn.len() < self.specification.search.random as usize && seen.len() < cells.len() {
            let cell = cells[stream.below(cells.len())].representative();
            if seen.insert(cell) && !cell.is_always_zero() {
                drawn.push(cell);
            }
        }
        drawn
    }

    /// Units that train `cells` with the search's seeds.
    pub fn measured_units(&self, cells: &[Cell]) -> Vec<Unit> {
        units_of(cells, &self.specification.search.seeds)
    }

    /// Units on `dataset` with the search's recipe, as one bundle.
    pub fn measurement<'a>(&'a self, dataset: &'a StudyDataset, units: &'a [Unit]) -> Bundle<'a> {
        let recipe = self.specification.recipe(&self.specification.search.recipe);
        Bundle { dataset, units, recipe, recipe_id: &self.search_recipe }
    }

    fn draw_datasets(&mut self, group: Group, key: &'static str, kinds: &[DatasetKind]) -> Result<(), Error> {
        let shared_by = self.specification.evaluations.shared_by;
        let mut blocks: BTreeMap<String, Blocks> = BTreeMap::new();
        for (at, kind) in kinds.iter().enumerate().filter(|(_, kind)| kind.count > 0) {
            let key = if kinds.len() == 1 { key.to_owned() } else { format!("{key}[{at}]") };
            for (source, pool) in self.class_pools(group, &key, kind)? {
                let blocks = blocks.entry(source.clone()).or_insert_with(|| Blocks::new(shared_by));
                let of = kind.name.as_ref().map_or_else(|| source.clone(), |name| format!("{source}.{name}"));
                for number in 0..kind.count {
                    let standing = Standing {
                        group,
                        source: &self.sources[&source].content_id,
                        kind: kind.name.as_deref(),
                        number,
                        count: kind.count,
                    };
                    let block = blocks.key(standing);
                    let dataset = Dataset {
                        source: self.sources[&source].content_id.clone(),
                        classes: classes_of_dataset(self.specification.seed, group, number, &pool, kind),
                        per_class: kind.pictures_per_class,
                        fractions: self.specification.sources[&source].split,
                        look: kind.look,
                    };
                    let name = format!("{}-{of}-{number:03}", group.name());
                    self.add_dataset(name, group, source.clone(), dataset, block);
                }
            }
        }
        Ok(())
    }

    /// The classes of each meta source that belong to `group`.
    fn class_pools(
        &self,
        group: Group,
        key: &str,
        wanted: &DatasetKind,
    ) -> Result<Vec<(String, Vec<u32>)>, Error> {
        let shares = self.specification.datasets.class_shares;
        let mut pools = Vec::new();
        for (name, source) in &self.sources {
            if self.specification.sources[name].purpose != Use::Meta {
                continue;
            }
            let classes = classes_of(group, source, shares);
            if classes.len() < wanted.least_classes as usize {
                return Err(Error::TooFewClasses {
                    source_name: name.clone(),
                    group: group.name(),
                    key: key.to_owned(),
                    found: classes.len(),
                    wanted: wanted.least_classes,
                });
            }
            pools.push((name.clone(), classes));
        }
        Ok(pools)
    }

    fn add_targets(&mut self, pictures: PicturesPerClass) -> Result<(), Error> {
        let targets: Vec<(String, Vec<u32>)> = self
            .sources
            .iter()
            .filter(|(name, _)| self.specification.sources[*name].purpose == Use::Target)
            .map(|(name, source)| (name.clone(), source.classes.iter().map(|(label, _)| *label).collect()))
            .collect();
        for (name, classes) in targets {
            if classes.len() < 2 {
                return Err(Error::NotATarget { source_name: name, found: classes.len() });
            }
            let dataset = Dataset {
                source: self.sources[&name].content_id.clone(),
                classes,
                per_class: pictures,
                fractions: self.specification.sources[&name].split,
                look: Look::default(),
            };
            self.add_dataset(name.clone(), Group::Target, name, dataset, None);
        }
        Ok(())
    }

    fn add_dataset(
        &mut self,
        name: String,
        group: Group,
        source: String,
        dataset: Dataset,
        block: Option<String>,
    ) {
        let id = dataset.id();
        let block = block.unwrap_or_else(|| id.clone());
        self.datasets.push(StudyDataset { name, id, group, source, dataset, features: Vec::new(), block });
    }

    /// The features of every source in every look that a dataset of it has: vectors of one look say nothing of another.
    fn add_extractions(&mut self) {
        let choice = &self.specification.extractor;
        for (name, source) in &self.sources {
            let labels: Vec<u32> = source.classes.iter().map(|(label, _)| *label).collect();
            let of_source = self.datasets.iter().filter(|dataset| dataset.source == *name);
            let looks: BTreeSet<Look> = of_source.map(|dataset| dataset.dataset.look).collect();
            let shards = extraction_shards(
                &source.content_id,
                &labels,
                self.specification.sources[name].split,
                choice.images_per_class,
                choice.classes_per_task,
                &self.extractor,
            );
            for shard in looks
                .iter()
                .flat_map(|&look| shards.iter().map(move |shard| ExtractFeatures { look, ..shard.clone() }))
            {
                let id = extraction_id(&shard);
                let mut used = false;
                for dataset in self.datasets.iter_mut().filter(|dataset| dataset.source == *name) {
                    if shard.look == dataset.dataset.look
                        && shard.classes.iter().any(|label| dataset.dataset.classes.contains(label))
                    {
                        dataset.features.push(id.clone());
                        used = true;
                    }
                }
                if used {
                    self.extractions.push(shard);
                }
            }
        }
    }

    fn add_bundles(&mut self) {
        let choice = &self.specification.evaluations;
        let pool = CellPool::new(self.specification.seed);
        let learnt = |(_, dataset): &(usize, &StudyDataset)| {
            matches!(dataset.group, Group::MetaTrain | Group::MetaValid)
        };
        for (position, dataset) in self.datasets.iter().enumerate().filter(learnt) {
            let cells = pool.of_dataset(&dataset.block, choice);
            for units in units_of(&cells, &choice.seeds).chunks(choice.bundle as usize) {
                self.bundles.push(BundleRange {
                    dataset: position as u32,
                    first: self.units.len() as u32,
                    count: units.len() as u32,
                });
                self.units.extend(units);
            }
        }
    }
}

/// The `extract-features` tasks of a source in its usual look: its classes in ascending order, cut into shards.
pub fn extraction_shards(
    source: &str,
    labels: &[u32],
    fractions: crate::tasks::Fractions,
    images_per_class: u32,
    classes_per_task: u32,
    extractor: &Extractor,
) -> Vec<ExtractFeatures> {
    let mut labels = labels.to_vec();
    labels.sort_unstable();
    labels
        .chunks(classes_per_task as usize)
        .map(|classes| ExtractFeatures {
            source: source.to_owned(),
            classes: classes.to_vec(),
            fractions,
            images_per_class,
            extractor: extractor.clone(),
            look: Look::default(),
        })
        .collect()
}

fn extraction_id(extraction: &ExtractFeatures) -> String {
    Task::ExtractFeatures(extraction.clone()).id()
}

fn units_of(cells: &[Cell], seeds: &[u64]) -> Vec<Unit> {
    cells.iter().flat_map(|cell| seeds.iter().map(|seed| Unit { cell: *cell, seed: *seed })).collect()
}

/// All bundles as their tasks, one at a time.
struct Bundles<'a>(&'a Study);

impl Serialize for Bundles<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.bundles().map(|bundle| bundle.evaluate(bundle.units.to_vec())))
    }
}
