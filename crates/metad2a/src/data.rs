//! What the models learn from: features of pictures, by class, and accuracies of cells.

use std::collections::HashSet;
use std::sync::Arc;

use metad2a_search_space::Cell;

use crate::error::{Error, Result};

/// The features of one dataset's pictures.
#[derive(Debug, Clone)]
pub struct DatasetFeatures {
    /// The dataset's id, for messages and metrics.
    pub id: String,
    /// Classes → pictures → numbers. Shared, because many datasets are made of the same classes.
    pub classes: Vec<Arc<Vec<Vec<f32>>>>,
}

impl DatasetFeatures {
    /// Checks that there is a class, that every class has a picture and that every picture has `width` finite numbers.
    pub fn validate(&self, width: i64) -> Result<()> {
        self.validate_once(width, &mut HashSet::new())
    }

    /// Skips classes that are among `checked`, and adds the others: many datasets share a class.
    fn validate_once(&self, width: i64, checked: &mut HashSet<*const Vec<Vec<f32>>>) -> Result<()> {
        if self.classes.is_empty() {
            return self.refuse("it has no classes; give it at least one".to_owned());
        }
        for (class, pictures) in self.classes.iter().enumerate() {
            if checked.insert(Arc::as_ptr(pictures)) {
                self.validate_class(class, pictures, width)?;
            }
        }
        Ok(())
    }

    fn validate_class(&self, class: usize, pictures: &[Vec<f32>], width: i64) -> Result<()> {
        if pictures.is_empty() {
            return self.refuse(format!("class {class} has no pictures; extract at least one"));
        }
        for (picture, features) in pictures.iter().enumerate() {
            if features.len() as i64 != width {
                let found = features.len();
                return self.refuse(format!(
                    "picture {picture} of class {class} has {found} features, the model takes {width}; use the \
                     extractor that the model was made for"
                ));
            }
            if !features.iter().all(|number| number.is_finite()) {
                return self
                    .refuse(format!("picture {picture} of class {class} has a feature that is no number"));
            }
        }
        Ok(())
    }

    fn refuse(&self, rule: String) -> Result<()> {
        Err(Error::Data { dataset: self.id.clone(), rule })
    }
}

/// The measured accuracy of a cell on a dataset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// The dataset's place in [`TrainingSet::datasets`].
    pub dataset: usize,
    /// The trained cell.
    pub cell: Cell,
    /// Its accuracy, 0 to 1.
    pub target: f64,
}

/// Datasets and what is known about cells on them.
#[derive(Debug, Clone, Default)]
pub struct TrainingSet {
    /// The datasets. One without rows is allowed and never drawn.
    pub datasets: Vec<DatasetFeatures>,
    /// The rows, in any order. Their order matters for repeating a training bit for bit.
    pub rows: Vec<Row>,
}

impl TrainingSet {
    /// Checks the features of every dataset, and that every row names a dataset and has a finite target.
    pub fn validate(&self, width: i64) -> Result<()> {
        let mut checked = HashSet::new();
        for dataset in &self.datasets {
            dataset.validate_once(width, &mut checked)?;
        }
        for (place, row) in self.rows.iter().enumerate() {
            let Some(dataset) = self.datasets.get(row.dataset) else {
                let rule = format!("row {place} names it, but there are {} datasets", self.datasets.len());
                return Err(Error::Data { dataset: row.dataset.to_string(), rule });
            };
            if !row.target.is_finite() {
                let rule = format!("the target of row {place} ({}) is no number", row.cell);
                return Err(Error::Data { dataset: dataset.id.clone(), rule });
            }
        }
        Ok(())
    }

    /// The places of each dataset's rows.
    pub(crate) fn rows_by_dataset(&self) -> Vec<Vec<usize>> {
        let mut places = vec![Vec::new(); self.datasets.len()];
        for (place, row) in self.rows.iter().enumerate() {
            places[row.dataset].push(place);
        }
        places
    }
}
