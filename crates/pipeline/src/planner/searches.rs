//! Searches with the chosen models, and trainings of what they found.

use super::board::{Board, Look};
use super::{Chosen, Error, Existing, Failure, Planner, SearchResult, evaluations};
use crate::ids::Id;
use crate::study::{Bundle, Study, StudyDataset};
use crate::tasks::{Search, Summary, Task, Unit};

/// The searches of a study whose models are chosen.
#[derive(Debug, Clone)]
pub(super) struct Searches<'a> {
    pub(super) board: Board,
    items: Vec<SearchItem<'a>>,
}

#[derive(Debug, Clone)]
struct SearchItem<'a> {
    dataset: &'a StudyDataset,
    id: String,
    task: Task,
}

impl<'a> Searches<'a> {
    pub(super) fn new(study: &'a Study, existing: &Existing, generator: &Chosen, predictor: &Chosen) -> Self {
        let item = |dataset: &'a StudyDataset| {
            let task = Task::Search(search_task(study, dataset, generator, predictor));
            SearchItem { dataset, id: task.id(), task }
        };
        let items: Vec<SearchItem<'a>> = study.searched().map(item).collect();
        let board = Board::new(items.len(), items.len() as u64, |place, ids| {
            let item = &items[place as usize];
            ids.extend(Id::parse(&item.id));
            look(existing, item)
        });
        Self { board, items }
    }

    pub(super) fn look_again(&mut self, existing: &Existing, place: u32) {
        self.board.put(place, look(existing, &self.items[place as usize]));
    }

    pub(super) fn task(&self, place: u32) -> (String, Task) {
        let item = &self.items[place as usize];
        (item.id.clone(), item.task.clone())
    }

    pub(super) fn problem(&self, existing: &Existing, place: u32) -> Option<String> {
        let item = &self.items[place as usize];
        if let Some(failure) = lacks_features(existing, item) {
            let name = &item.dataset.name;
            return failure
                .is_problem()
                .then(|| format!("dataset `{name}` has no search: its features failed"));
        }
        let failure = existing.failure(&item.id).filter(|failure| failure.is_problem());
        failure.map(|failure| super::open::problem(&item.task, &item.id, failure))
    }

    /// What the finished searches found, without measurements yet.
    pub(super) fn results(&self, study: &Study, existing: &Existing) -> Result<Vec<SearchResult>, Error> {
        let mut results = Vec::new();
        for item in self.items.iter().filter(|item| existing.is_done(&item.id)) {
            let Some(Summary::Search { ranked, .. }) = existing.summary(&item.id) else {
                return Err(Error::Summary { id: item.id.clone(), expected: "search" });
            };
            results.push(SearchResult {
                dataset: item.dataset.clone(),
                task: item.id.clone(),
                chosen: ranked.iter().take(study.specification.search.chosen as usize).cloned().collect(),
                random: study.random_cells(item.dataset),
                evaluations: Vec::new(),
            });
        }
        Ok(results)
    }
}

/// Why a dataset has no features.
fn lacks_features<'a>(existing: &'a Existing, item: &SearchItem<'_>) -> Option<&'a Failure> {
    item.dataset.features.iter().find_map(|id| existing.failure(id))
}

fn look(existing: &Existing, item: &SearchItem<'_>) -> Look {
    if let Some(failure) = lacks_features(existing, item).or_else(|| existing.failure(&item.id)) {
        Look::stopped(failure.verdict)
    } else if existing.is_done(&item.id) {
        Look { done: 1, ..Look::default() }
    } else {
        Look { open: true, ..Look::default() }
    }
}

fn search_task(study: &Study, dataset: &StudyDataset, generator: &Chosen, predictor: &Chosen) -> Search {
    let specification = &study.specification;
    let recipe = specification.recipe(&specification.search.recipe);
    Search {
        dataset: dataset.id.clone(),
        source: dataset.dataset.source.clone(),
        classes: dataset.dataset.classes.clone(),
        look: dataset.dataset.look,
        features: dataset.features.clone(),
        generator: generator.selected.checkpoint.clone(),
        generator_settings: generator.settings.clone(),
        predictor: predictor.selected.checkpoint.clone(),
        predictor_settings: predictor.settings.clone(),
        candidates: specification.search.candidates,
        sets: specification.search.sets,
        seed: specification.seed,
        constraints: specification.search.constraints,
        channels: recipe.channels,
        cells_per_stage: recipe.cells_per_stage,
        image_size: recipe.image_size,
    }
}

/// Trainings of the chosen and the random cells. One unit a place: these trainings are the longest, and few.
#[derive(Debug, Clone)]
pub(super) struct Measurements {
    pub(super) board: Board,
    searches: Vec<SearchResult>,
    /// Position in `searches`, and what is trained on its dataset.
    units: Vec<(usize, Unit)>,
}

impl Measurements {
    pub(super) fn new(study: &Study, existing: &Existing, searches: Vec<SearchResult>) -> Self {
        let mut units = Vec::new();
        for (position, search) in searches.iter().enumerate() {
            let mut cells: Vec<_> = search.chosen.iter().map(|ranked| ranked.cell).collect();
            cells.extend(search.random.iter().copied().filter(|cell| !search.is_chosen(*cell)));
            units.extend(study.measured_units(&cells).into_iter().map(|unit| (position, unit)));
        }
        let mut measurements = Self { board: Board::default(), searches, units };
        measurements.board =
            Board::new(measurements.units.len(), measurements.units.len() as u64, |place, ids| {
                evaluations::sort(existing, &measurements.bundle(study, place), ids).look()
            });
        measurements
    }

    pub(super) fn look_again(&mut self, study: &Study, existing: &Existing, place: u32) {
        let sorted = evaluations::sort(existing, &self.bundle(study, place), &mut Vec::new());
        self.board.put(place, sorted.look());
    }

    pub(super) fn bundle<'a>(&'a self, study: &'a Study, place: u32) -> Bundle<'a> {
        let (position, unit) = &self.units[place as usize];
        study.measurement(&self.searches[*position].dataset, std::slice::from_ref(unit))
    }

    /// The searches with the tasks that hold their measured rows.
    pub(super) fn results(&self, study: &Study, existing: &Existing) -> Vec<SearchResult> {
        let mut searches = self.searches.clone();
        for (place, (position, unit)) in self.units.iter().enumerate() {
            let unit = self.bundle(study, place as u32).unit_id(unit);
            searches[*position].evaluations.extend(existing.holder_of(unit).map(|id| id.to_string()));
        }
        for search in &mut searches {
            search.evaluations.sort_unstable();
            search.evaluations.dedup();
        }
        searches
    }
}

impl Planner<'_> {
    /// Opens the searches once both models are chosen, and the measurements once all searches are settled.
    pub(super) fn search_and_measure(&mut self) -> Result<(), Error> {
        let (Some(generator), Some(predictor)) = (self.generator.chosen(), self.predictor.chosen()) else {
            return Ok(());
        };
        let searches = self
            .searches
            .get_or_insert_with(|| Searches::new(self.study, &self.existing, generator, predictor));
        if self.measurements.is_none() && searches.board.progress().is_settled() {
            let results = searches.results(self.study, &self.existing)?;
            self.measurements = Some(Measurements::new(self.study, &self.existing, results));
        }
        Ok(())
    }
}
