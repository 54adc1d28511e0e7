//! A cell: six operations on the edges between four nodes.
//!
//! Node 0 is the input, node 3 the output; node `i` is the sum of its incoming edges' results.

use crate::canonical::{self, Level};
use crate::classes::{CanonicalId, classes};
use crate::graph::{self, Adjacency, EdgeForm, VERTICES};
use crate::index::ArchIndex;
use crate::operation::Operation;

/// The number of edges of a cell.
pub const EDGE_COUNT: usize = 6;

/// The number of cells: five operations on each of six edges.
pub const CELL_COUNT: usize = 5_usize.pow(EDGE_COUNT as u32);

/// The edges (from node, to node) in the order of the cell string. Other sources order them differently: convert by
/// node, never by position.
pub const EDGES: [(usize, usize); EDGE_COUNT] = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];

/// One of the 15,625 cells. Reads and writes as its string, also in serde:
/// `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|`.
///
/// ```
/// use metad2a_search_space::{Cell, Level, MacroShape, parameters};
///
/// let text = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|avg_pool_3x3~2|";
/// let cell: Cell = text.parse()?;
/// assert_eq!(cell.to_string(), text);
/// assert_eq!(cell.canonical_form(Level::Trained), "a=nor_conv_3x3(0);0+pool(a)");
/// assert_eq!(parameters(cell, MacroShape::nas_bench_201(32, 10)), 316_346);
/// # Ok::<(), metad2a_search_space::CellError>(())
/// ```
///
/// The order is lexicographic by the operations' ids, first edge first. It is *not* the benchmark's numbering: that is
/// [`Cell::index`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell {
    /// The operations' ids as a number in base five, first edge most significant: 0..[`CELL_COUNT`].
    place: u16,
}

impl Cell {
    /// The cell with these operations, in the order of [`EDGES`].
    pub fn new(operations: [Operation; EDGE_COUNT]) -> Self {
        let place = operations.iter().fold(0, |place, operation| 5 * place + operation.id() as u16);
        Self { place }
    }

    /// The cell at a place of the lexicographic order.
    pub(crate) fn at_place(place: usize) -> Self {
        debug_assert!(place < CELL_COUNT);
        Self { place: place as u16 }
    }

    /// The cell's place in the lexicographic order, 0..[`CELL_COUNT`].
    pub(crate) fn place(self) -> usize {
        usize::from(self.place)
    }

    /// All cells in lexicographic order.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..CELL_COUNT).map(Self::at_place)
    }

    /// The six operations in the order of [`EDGES`].
    pub fn operations(self) -> [Operation; EDGE_COUNT] {
        let mut operations = [Operation::None; EDGE_COUNT];
        let mut rest = self.place();
        for operation in operations.iter_mut().rev() {
            *operation = Operation::ALL[rest % 5];
            rest /= 5;
        }
        operations
    }

    /// The cell's number in NAS-Bench-201 and NATS-Bench.
    pub fn index(self) -> ArchIndex {
        ArchIndex::of(self)
    }

    /// The cell with this number.
    pub fn from_index(index: ArchIndex) -> Self {
        index.cell()
    }

    /// For each edge: does it carry the cell's input to its output? It lies on a path from node 0 to node 3 without a
    /// `none`. The other edges have no influence on what the network can learn about a picture, but see
    /// [`Cell::edges_reaching_output`] before leaving one out of a network.
    pub fn live_edges(self) -> [bool; EDGE_COUNT] {
        let operations = self.operations();
        let mut fed = [true, false, false, false];
        for target in 1..4 {
            fed[target] =
                incoming(target).any(|(edge, source)| operations[edge] != Operation::None && fed[source]);
        }
        let mut live = self.edges_reaching_output();
        for (edge, (source, _)) in EDGES.into_iter().enumerate() {
            live[edge] &= fed[source];
        }
        live
    }

    /// For each edge: can its result reach the output? It is not `none`, and a path without `none` leads from its end
    /// to node 3. A network needs exactly these edges: a convolution whose own input is always zero is not live, but
    /// the bias of its batch normalisation is added to the output and learns.
    pub fn edges_reaching_output(self) -> [bool; EDGE_COUNT] {
        let operations = self.operations();
        let mut reaches = [false, false, false, true];
        for node in (0..3).rev() {
            reaches[node] = EDGES.into_iter().zip(operations).any(|((source, target), operation)| {
                source == node && operation != Operation::None && reaches[target]
            });
        }
        let mut edges = [false; EDGE_COUNT];
        for (edge, (_, target)) in EDGES.into_iter().enumerate() {
            edges[edge] = operations[edge] != Operation::None && reaches[target];
        }
        edges
    }

    /// Does the output ignore the input? True for 341 cells. Their networks cannot do better than chance: predict
    /// chance, never train them.
    pub fn is_always_zero(self) -> bool {
        self.live_edges() == [false; EDGE_COUNT]
    }

    /// A text that is equal for two cells exactly if `level` regards them as the same.
    pub fn canonical_form(self, level: Level) -> String {
        canonical::form(self, level)
    }

    /// The cell's class at `level`.
    pub fn class(self, level: Level) -> CanonicalId {
        classes(level).of(self)
    }

    /// The cell's class at the product's level, [`Level::CANONICAL`]: cells of one class are trained once.
    pub fn canonical_class(self) -> CanonicalId {
        self.class(Level::CANONICAL)
    }

    /// The member of [`Cell::canonical_class`] with the smallest number: the one that is trained.
    #[must_use]
    pub fn representative(self) -> Self {
        self.canonical_class().representative()
    }

    /// The types of the eight vertices of the cell's graph: START, six operations (id + 2), END.
    pub fn vertex_types(self) -> [usize; VERTICES] {
        graph::vertex_types(self)
    }

    /// The cell's graph in `MetaD2A`'s form: vertex types and edges.
    pub fn graph(self, form: EdgeForm) -> ([usize; VERTICES], Adjacency) {
        (self.vertex_types(), form.adjacency())
    }
}

/// The edges into `target` as (place in [`EDGES`], source node), by ascending source.
pub(crate) fn incoming(target: usize) -> impl Iterator<Item = (usize, usize)> {
    EDGES
        .into_iter()
        .enumerate()
        .filter(move |(_, (_, to))| *to == target)
        .map(|(edge, (from, _))| (edge, from))
}
