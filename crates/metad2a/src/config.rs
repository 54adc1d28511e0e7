//! The shape of a model, and how cells become graphs.

use metad2a_search_space::{Cell, EDGE_COUNT, EdgeForm, Operation};
use serde::{Deserialize, Serialize};

use crate::error::{Result, require};

/// Which edges the graph of a cell has.
pub use metad2a_search_space::EdgeForm as GraphForm;

/// Which cell stands for a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellForm {
    /// The cell itself, as in the paper.
    AsWritten,
    /// Edges that carry no signal from input to output become `none`.
    LiveEdges,
    /// One cell of each canonical class: the class's representative, whose edges that cannot reach the output become
    /// `none`. Cells that train alike look alike.
    Canonical,
}

impl CellForm {
    /// The cell that the model sees in the place of `cell`.
    #[must_use]
    pub fn of(self, cell: Cell) -> Cell {
        match self {
            Self::AsWritten => cell,
            Self::LiveEdges => keep(cell, cell.live_edges()),
            Self::Canonical => {
                let representative = cell.representative();
                // Not the live edges: a dead convolution's bias is part of what the class learns.
                keep(representative, representative.edges_reaching_output())
            }
        }
    }
}

fn keep(cell: Cell, kept: [bool; EDGE_COUNT]) -> Cell {
    let mut operations = cell.operations();
    for (operation, kept) in operations.iter_mut().zip(kept) {
        if !kept {
            *operation = Operation::None;
        }
    }
    Cell::new(operations)
}

/// The number of attention heads in every set encoder: part of the published model, so no parameter.
pub(crate) const HEADS: i64 = 4;

/// The shape of a generator or predictor. It is stored with the model's weights and must be the same when they are
/// read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Numbers per picture: 512 in the paper.
    pub feature_width: i64,
    /// Width of a vertex's state (`hs`).
    pub hidden: i64,
    /// Width of a dataset's vector (`nz`); a multiple of 4, as there are four attention heads.
    pub latent: i64,
    /// The edges of every graph.
    pub graph: GraphForm,
    /// The cell that stands for a cell.
    pub cells: CellForm,
    /// Whether the dataset's vector also receives the number of classes and how far the classes lie apart.
    pub dataset_descriptors: bool,
    /// Whether the dataset's vector is brought to mean 0 and variance 1 over its numbers, before the descriptors are
    /// added. The published encoder has nothing that bounds it: on few datasets a training drives the vector so far
    /// that the predictor's tanh saturates, and every cell gets the same accuracy from then on. Absent in models that
    /// were made before it.
    #[serde(default)]
    pub normalised_datasets: bool,
    /// Generator only. The published decoder also draws edges, and may draw START and END inside a graph, although
    /// every graph has the same edges; a decoder with fixed edges draws only the six operations, so that whatever it
    /// draws is valid.
    pub fixed_edges: bool,
}

impl ModelConfig {
    /// The published generator.
    pub fn paper_generator(feature_width: i64) -> Self {
        Self {
            feature_width,
            hidden: 56,
            latent: 56,
            graph: EdgeForm::Constant,
            cells: CellForm::AsWritten,
            dataset_descriptors: false,
            normalised_datasets: false,
            fixed_edges: false,
        }
    }

    /// The published predictor.
    pub fn paper_predictor(feature_width: i64) -> Self {
        Self { hidden: 512, ..Self::paper_generator(feature_width) }
    }

    /// A generator of canonical cells on the cell's true graph.
    pub fn default_generator(feature_width: i64) -> Self {
        Self {
            graph: EdgeForm::Line,
            cells: CellForm::Canonical,
            dataset_descriptors: true,
            normalised_datasets: true,
            fixed_edges: true,
            ..Self::paper_generator(feature_width)
        }
    }

    /// A predictor for canonical cells on the cell's true graph. Narrower than the published one, which has thousands
    /// of parameters per training row.
    pub fn default_predictor(feature_width: i64) -> Self {
        Self { hidden: 128, fixed_edges: false, ..Self::default_generator(feature_width) }
    }

    /// Checks the widths.
    pub fn validate(&self) -> Result<()> {
        let sane = |width: i64| (1..=65_536).contains(&width);
        require(sane(self.feature_width), "feature_width", &self.feature_width, "it must be 1 to 65536")?;
        require(sane(self.hidden), "hidden", &self.hidden, "it must be 1 to 65536")?;
        let rule = "it must be a multiple of 4 (the attention heads) up to 65536";
        require(sane(self.latent) && self.latent % HEADS == 0, "latent", &self.latent, rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_stays_in_the_class_and_is_the_same_for_all_of_it() {
        for cell in Cell::all() {
            let form = CellForm::Canonical.of(cell);
            assert_eq!(form.canonical_class(), cell.canonical_class(), "{cell}");
            assert_eq!(CellForm::Canonical.of(form), form);
            assert_eq!(CellForm::AsWritten.of(cell), cell);
        }
    }

    #[test]
    fn an_edge_without_signal_is_none() {
        for cell in Cell::all() {
            let form = CellForm::LiveEdges.of(cell);
            for (edge, live) in cell.live_edges().into_iter().enumerate() {
                let expected = if live { cell.operations()[edge] } else { Operation::None };
                assert_eq!(form.operations()[edge], expected, "{cell}");
            }
        }
    }

    #[test]
    fn a_latent_width_that_the_heads_cannot_share_is_refused() {
        let config = ModelConfig { latent: 30, ..ModelConfig::default_generator(512) };
        assert!(config.validate().expect_err("30 is no multiple of 4").to_string().contains("latent is 30"));
    }
}
