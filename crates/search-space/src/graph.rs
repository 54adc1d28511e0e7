//! `MetaD2A`'s graph form of a cell: a vertex per edge of the cell, between a START and an END vertex.
//!
//! ```text
//!   vertex  0      1    2    3    4    5    6    7
//!   type    START  e0   e1   e2   e3   e4   e5   END        (eN = 2 + id of the operation on EDGES[N])
//! ```
//!
//! Which vertices are connected depends on the form, never on the operations: see [`EdgeForm`].

use serde::{Deserialize, Serialize};

use crate::cell::{Cell, EDGE_COUNT};
use crate::operation::Operation;

/// The number of vertices of a cell's graph.
pub const VERTICES: usize = 8;

/// The number of vertex types: START, END and the operations.
pub const VERTEX_TYPES: usize = 2 + Operation::ALL.len();

/// The type of the first vertex.
pub const START: usize = 0;

/// The type of the last vertex.
pub const END: usize = 1;

/// The edges (from vertex, to vertex) of every graph in the published meta-training database: the rows of the cell's
/// matrix plus a chain through all operations.
pub const CONSTANT_EDGES: [(usize, usize); 11] =
    [(0, 1), (1, 2), (1, 3), (1, 5), (2, 3), (2, 6), (3, 4), (3, 6), (4, 5), (5, 6), (6, 7)];

/// The edges that follow from the cell: operation u writes the node that operation v reads.
pub const LINE_GRAPH_EDGES: [(usize, usize); 10] =
    [(0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7)];

/// `adjacency[u][v]` is true where vertex u feeds vertex v.
pub type Adjacency = [[bool; VERTICES]; VERTICES];

/// Which edges the graph of a cell has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeForm {
    /// [`CONSTANT_EDGES`]: as the published database and models.
    Constant,
    /// [`LINE_GRAPH_EDGES`]: the cell's own topology.
    Line,
}

impl EdgeForm {
    /// The edges as pairs (from vertex, to vertex), ascending.
    pub const fn edges(self) -> &'static [(usize, usize)] {
        match self {
            Self::Constant => &CONSTANT_EDGES,
            Self::Line => &LINE_GRAPH_EDGES,
        }
    }

    /// The edges as a matrix.
    pub fn adjacency(self) -> Adjacency {
        let mut adjacency = [[false; VERTICES]; VERTICES];
        for (from, to) in self.edges() {
            adjacency[*from][*to] = true;
        }
        adjacency
    }
}

/// The types of the eight vertices of a cell's graph.
pub fn vertex_types(cell: Cell) -> [usize; VERTICES] {
    let mut types = [END; VERTICES];
    types[0] = START;
    for (edge, operation) in cell.operations().into_iter().enumerate() {
        types[1 + edge] = 2 + operation.id();
    }
    types
}

/// Why a generated graph is no cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGraph {
    /// The generator ended early (or never).
    #[error("the graph has {found} vertices; a cell has {VERTICES}")]
    VertexCount {
        /// How many there are.
        found: usize,
    },
    /// START, END or an operation is where it must not be, or the type does not exist.
    #[error(
        "vertex {vertex} has type {found}; vertex 0 must be {START} (START), vertex 7 must be {END} (END) and the \
         others 2 to 6 (operations)"
    )]
    VertexType {
        /// The vertex.
        vertex: usize,
        /// Its type.
        found: usize,
    },
    /// An edge leads to an earlier vertex or to itself.
    #[error("the graph has an edge from vertex {from} to vertex {to}; edges lead to later vertices")]
    BackwardEdge {
        /// Where it begins.
        from: usize,
        /// Where it ends.
        to: usize,
    },
    /// A vertex other than START that nothing feeds.
    #[error("vertex {vertex} has no predecessor")]
    NoPredecessor {
        /// The vertex.
        vertex: usize,
    },
    /// A vertex other than END that feeds nothing.
    #[error("vertex {vertex} has no successor")]
    NoSuccessor {
        /// The vertex.
        vertex: usize,
    },
}

/// The cell of a generated graph: the types of its vertices in the order of generation (fewer than eight where the
/// generator ended early) and its edges.
///
/// The rules are the reference's: eight vertices without a cycle, one START (first) and one END (last), every other
/// vertex an operation with a predecessor and a successor. A valid graph's cell is read off the types of vertices 1 to
/// 6 alone; *which* valid edges the generator drew does not matter.
pub fn cell_of_graph(types: &[usize], adjacency: &Adjacency) -> Result<Cell, InvalidGraph> {
    let types: &[usize; VERTICES] =
        types.try_into().map_err(|_| InvalidGraph::VertexCount { found: types.len() })?;
    for (vertex, expected) in [(0, START), (VERTICES - 1, END)] {
        if types[vertex] != expected {
            return Err(InvalidGraph::VertexType { vertex, found: types[vertex] });
        }
    }
    let mut operations = [Operation::None; EDGE_COUNT];
    for (edge, operation) in operations.iter_mut().enumerate() {
        let found = types[1 + edge];
        let id = found.checked_sub(2);
        *operation = *id
            .and_then(|id| Operation::ALL.get(id))
            .ok_or(InvalidGraph::VertexType { vertex: 1 + edge, found })?;
    }
    for (from, row) in adjacency.iter().enumerate() {
        if let Some(to) = (0..=from).find(|to| row[*to]) {
            return Err(InvalidGraph::BackwardEdge { from, to });
        }
    }
    for vertex in 0..VERTICES {
        if vertex > 0 && !adjacency.iter().any(|row| row[vertex]) {
            return Err(InvalidGraph::NoPredecessor { vertex });
        }
        if vertex + 1 < VERTICES && !adjacency[vertex].contains(&true) {
            return Err(InvalidGraph::NoSuccessor { vertex });
        }
    }
    Ok(Cell::new(operations))
}
