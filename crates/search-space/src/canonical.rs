//! When two cells are the same: levels of equivalence and the canonical form of a cell at each.
//!
//! [`Level::L1`] to [`Level::L5`] write the cell bottom-up as an expression in its input `0`: `s(0) = "0"`, `s(i)` is
//! the sorted list of the terms of its edges, joined by `+`, and `s(3)` is the form. A skip writes the source's
//! expression, any other operation `(…)@operation`; the levels differ in what they do with zeros, sums and pooling.
//! [`Level::Trained`] is another kind of form, see `trained.rs`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cell::{Cell, EDGE_COUNT, incoming};
use crate::operation::Operation;
use crate::trained;

/// How much two cells may differ and still be the same.
///
/// | level | cells are the same if they agree after … | classes |
/// |---|---|---|
/// | `L0` | nothing: the strings are equal | 15,625 |
/// | `L1` | skips are resolved (the authors' `to_unique_str(consider_zero=False)`) | 12,751 |
/// | `L2` | a branch of a `none` or of a zero node is written `#` (`consider_zero=True`) | 6,466 |
/// | `L3` | such branches are removed | 5,390 |
/// | `L4` | sums of sums are flattened | 4,930 |
/// | `L5` | pooling is moved inside sums: pool(a + b) = pool(a) + pool(b) | 4,660 |
/// | `Trained` | as `L5`, but shared convolutions stay shared and biases of dead ones stay | 5,228 |
///
/// **What `L1` to `L5` mix.** They write an expression, and an expression does not say whether a term that occurs twice
/// is one convolution whose result is used twice (2·conv(x), one set of weights) or two convolutions of the same input
/// (conv(x) + conv′(x), two sets). Both have the same form, but they are not the same network: at `L5`, 364 classes
/// contain both kinds, and a representative that shares is slightly weaker than the members that do not. Besides, `L3`
/// to `L5` drop a convolution of an always-zero node, although its batch normalisation still adds a bias that learns.
/// So they do not say what is trained; they are kept because published counts and other tools use them.
///
/// **Not every level is coarser than the one before.** `L2` splits classes of `L1`, because the authors' test for zero
/// does not see that a node with two zero inputs, `#+#`, is zero. From `L2` to `L5` each level only merges.
/// `Trained` only splits classes of `L5`, but it splits classes of `L1` to `L4` as well as merging them.
///
/// `Trained` is the product's level, [`Level::CANONICAL`]. Members of one class share the function that is trained, up
/// to rounding, and so its accuracy; parameters, FLOPs and latency differ, as the benchmark also counts edges without
/// effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The string itself.
    L0,
    /// Skips resolved.
    L1,
    /// Zero branches written as `#`.
    L2,
    /// Zero branches removed.
    L3,
    /// Sums flattened.
    L4,
    /// Pooling moved inside sums.
    L5,
    /// The same function during training.
    Trained,
}

impl Level {
    /// All levels.
    pub const ALL: [Self; 7] = [Self::L0, Self::L1, Self::L2, Self::L3, Self::L4, Self::L5, Self::Trained];

    /// The level that decides which cells are trained once.
    pub const CANONICAL: Self = Self::Trained;

    /// The level's name, as in serde.
    pub const fn name(self) -> &'static str {
        match self {
            Self::L0 => "l0",
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::L3 => "l3",
            Self::L4 => "l4",
            Self::L5 => "l5",
            Self::Trained => "trained",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The form of a node that is always zero.
pub(crate) const ZERO: &str = "#";

/// The canonical form of a cell: see [`Cell::canonical_form`].
pub(crate) fn form(cell: Cell, level: Level) -> String {
    let operations = cell.operations();
    match level {
        Level::L0 => cell.to_string(),
        Level::L1 => nested(operations, |operation, source| {
            Some(if operation == Operation::SkipConnect {
                source.to_owned()
            } else {
                term(source, operation)
            })
        }),
        Level::L2 => {
            nested(operations, |operation, source| Some(branch(operation, source).unwrap_or(ZERO.to_owned())))
        }
        Level::L3 => nested(operations, branch),
        Level::L4 => flat(operations, false),
        Level::L5 => flat(operations, true),
        Level::Trained => trained::form(cell),
    }
}

/// The form whose sums nest: `x` gives the term of an edge from its operation and its source's form, `None` where the
/// edge is left out of the sum. A sum without a term is [`ZERO`].
fn nested(operations: [Operation; EDGE_COUNT], x: impl Fn(Operation, &str) -> Option<String>) -> String {
    let mut nodes = vec!["0".to_owned()];
    for target in 1..4 {
        let terms =
            incoming(target).filter_map(|(edge, source)| x(operations[edge], &nodes[source])).collect();
        nodes.push(sum(terms));
    }
    nodes.remove(3)
}

/// The term of an edge; `None` where it is zero.
fn branch(operation: Operation, source: &str) -> Option<String> {
    match operation {
        _ if source == ZERO => None,
        Operation::None => None,
        Operation::SkipConnect => Some(source.to_owned()),
        _ => Some(term(source, operation)),
    }
}

/// The form whose nodes are multisets of terms, so that the skip of a sum adds its terms one by one. With
/// `linear_pooling` the pool of a sum is the sum of the pooled terms.
fn flat(operations: [Operation; EDGE_COUNT], linear_pooling: bool) -> String {
    let mut nodes = vec![vec!["0".to_owned()]];
    for target in 1..4 {
        let mut terms = Vec::new();
        for (edge, source) in incoming(target) {
            let inputs = &nodes[source];
            match operations[edge] {
                Operation::None => {}
                Operation::SkipConnect => terms.extend(inputs.iter().cloned()),
                Operation::AvgPool3x3 if linear_pooling => {
                    terms.extend(inputs.iter().map(|input| term(input, Operation::AvgPool3x3)));
                }
                _ if inputs.is_empty() => {}
                operation => terms.push(term(&sum(inputs.clone()), operation)),
            }
        }
        nodes.push(terms);
    }
    sum(nodes.remove(3))
}

fn term(source: &str, operation: Operation) -> String {
    format!("({source})@{operation}")
}

/// The sorted terms, joined; [`ZERO`] without any.
fn sum(mut terms: Vec<String>) -> String {
    if terms.is_empty() {
        return ZERO.to_owned();
    }
    terms.sort_unstable();
    terms.join("+")
}
