//! `MetaD2A`'s graph form and the judge of generated graphs.

use metad2a_search_space::graph::{
    Adjacency, CONSTANT_EDGES, END, InvalidGraph, LINE_GRAPH_EDGES, START, VERTICES, cell_of_graph,
};
use metad2a_search_space::{Cell, EDGES, EdgeForm};
use proptest::prelude::*;

const TEXT: &str = "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|";

fn example() -> ([usize; VERTICES], Adjacency) {
    TEXT.parse::<Cell>().expect(TEXT).graph(EdgeForm::Line)
}

#[test]
fn every_cell_reads_back_from_both_graph_forms() {
    for cell in Cell::all() {
        for form in [EdgeForm::Constant, EdgeForm::Line] {
            let (types, adjacency) = cell.graph(form);
            assert_eq!(cell_of_graph(&types, &adjacency), Ok(cell), "{form:?}");
        }
    }
}

#[test]
fn vertex_types_are_start_then_operations_then_end() {
    assert_eq!(example().0, [START, 2, 3, 4, 5, 6, 2, END]);
}

#[test]
fn the_line_graph_joins_the_edge_that_writes_a_node_to_those_that_read_it() {
    let mut derived = Vec::new();
    for (reader, (from, _)) in EDGES.iter().enumerate() {
        if *from == 0 {
            derived.push((0, 1 + reader));
        }
    }
    for (writer, (_, node)) in EDGES.iter().enumerate() {
        derived.extend(
            EDGES
                .iter()
                .enumerate()
                .filter(|(_, (from, _))| from == node)
                .map(|(reader, _)| (1 + writer, 1 + reader)),
        );
        if *node == 3 {
            derived.push((1 + writer, 7));
        }
    }
    derived.sort_unstable();
    assert_eq!(derived, LINE_GRAPH_EDGES);
}

#[test]
fn the_constant_edges_are_a_chain_and_the_rows_of_the_cell_matrix() {
    let added: Vec<_> = CONSTANT_EDGES.iter().filter(|edge| !LINE_GRAPH_EDGES.contains(edge)).collect();
    let lacking: Vec<_> = LINE_GRAPH_EDGES.iter().filter(|edge| !CONSTANT_EDGES.contains(edge)).collect();
    assert_eq!(added, [&(1, 2), &(2, 3), &(3, 4), &(4, 5), &(5, 6)]);
    assert_eq!(lacking, [&(0, 2), &(0, 4), &(4, 7), &(5, 7)]);
}

#[test]
fn a_graph_that_ended_early_is_refused() {
    let (types, adjacency) = example();
    assert_eq!(cell_of_graph(&types[..7], &adjacency), Err(InvalidGraph::VertexCount { found: 7 }));
    assert_eq!(cell_of_graph(&[], &adjacency), Err(InvalidGraph::VertexCount { found: 0 }));
    let longer = [types.as_slice(), &[END]].concat();
    assert_eq!(cell_of_graph(&longer, &adjacency), Err(InvalidGraph::VertexCount { found: 9 }));
}

#[test]
fn start_and_end_stand_at_the_ends_and_nowhere_else() {
    let (types, adjacency) = example();
    for (vertex, found) in [(0, END), (0, 2), (3, START), (6, END), (4, 7), (7, START), (7, 5)] {
        let mut types = types;
        types[vertex] = found;
        assert_eq!(cell_of_graph(&types, &adjacency), Err(InvalidGraph::VertexType { vertex, found }));
    }
}

#[test]
fn a_cycle_is_refused() {
    let (types, adjacency) = example();
    for (from, to) in [(3, 1), (7, 0), (2, 2)] {
        let mut adjacency = adjacency;
        adjacency[from][to] = true;
        assert_eq!(cell_of_graph(&types, &adjacency), Err(InvalidGraph::BackwardEdge { from, to }));
    }
}

#[test]
fn every_vertex_is_fed_and_feeds() {
    let (types, adjacency) = example();
    for vertex in 1..VERTICES {
        let mut adjacency = adjacency;
        for row in &mut adjacency {
            row[vertex] = false;
        }
        let found = cell_of_graph(&types, &adjacency);
        assert!(
            matches!(found, Err(InvalidGraph::NoPredecessor { .. } | InvalidGraph::NoSuccessor { .. })),
            "{vertex}: {found:?}"
        );
    }
    let mut orphan = adjacency;
    orphan[0][4] = false;
    assert_eq!(cell_of_graph(&types, &orphan), Err(InvalidGraph::NoPredecessor { vertex: 4 }));
    let mut useless = adjacency;
    useless[5][7] = false;
    assert_eq!(cell_of_graph(&types, &useless), Err(InvalidGraph::NoSuccessor { vertex: 5 }));
}

proptest! {
    /// The reference reads the types only, so other valid edges are the same cell; and no graph makes it panic.
    #[test]
    fn a_graph_is_valid_exactly_if_it_obeys_the_rules(
        types in prop::collection::vec(0..8_usize, VERTICES), ends in any::<bool>(),
        edges in any::<[[bool; VERTICES]; VERTICES]>(), ascending in prop::bool::weighted(0.9),
    ) {
        let (mut types, mut adjacency) = (types, edges);
        if ends {
            types[0] = START;
            types[VERTICES - 1] = END;
            for inner in &mut types[1..VERTICES - 1] {
                *inner = 2 + *inner % 5;
            }
        }
        if ascending {
            for (from, row) in adjacency.iter_mut().enumerate() {
                row[..=from].fill(false);
            }
        }
        let ordered = (0..VERTICES).all(|from| !adjacency[from][..=from].contains(&true));
        let fed = (1..VERTICES).all(|to| (0..VERTICES).any(|from| adjacency[from][to]));
        let feeds = (0..VERTICES - 1).all(|from| (0..VERTICES).any(|to| adjacency[from][to]));
        let typed = types[0] == START && types[7] == END && types[1..7].iter().all(|inner| (2..7).contains(inner));
        let read = cell_of_graph(&types, &adjacency);
        prop_assert_eq!(read.is_ok(), typed && ordered && fed && feeds);
        if let Ok(cell) = read {
            prop_assert_eq!(cell.vertex_types().to_vec(), types);
        }
    }
}
