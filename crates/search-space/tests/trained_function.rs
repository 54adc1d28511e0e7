//! `Level::Trained` against an independent judge: cells are evaluated with numbers in place of pictures.
//!
//! Signals are numbers modulo a prime, split in a part that pooling changes (it multiplies it) and a part that is the
//! same everywhere (a bias). Every convolution gets its own random function. Two cells compute the same function up to
//! the names of their convolutions exactly if, over all ways to hand out the functions, they have the same smallest
//! output, but for a coincidence of probability 2⁻⁵⁰.

use std::collections::HashMap;

use metad2a_search_space::{Cell, EDGES, Level, Operation, classes};

const PRIME: u128 = (1 << 61) - 1;

/// A fixed, scrambled number for a purpose.
fn constant(purpose: u64) -> u128 {
    let mut word = (purpose + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3 {
        word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    u128::from(word) % PRIME
}

type Signal = (u128, u128);

fn convolve(function: usize, operation: Operation, (changing, steady): Signal) -> Signal {
    let function = function as u64 * 10;
    if (changing, steady) == (0, 0) {
        return (0, constant(function));
    }
    let kernel = function + operation.id() as u64;
    let sum = (changing * constant(kernel) + steady * constant(kernel + 5) + constant(function + 6)) % PRIME;
    (sum * sum % PRIME * sum % PRIME, 0)
}

/// The cell's output where its n-th convolution that reaches the output gets function `names[n]`.
fn output(cell: Cell, names: &[usize]) -> Signal {
    let used = cell.edges_reaching_output();
    let mut names = names.iter();
    let mut nodes = [(constant(1000), 0), (0, 0), (0, 0), (0, 0)];
    for (edge, (from, to)) in EDGES.into_iter().enumerate() {
        if !used[edge] {
            continue;
        }
        let input = nodes[from];
        let (changing, steady) = match cell.operations()[edge] {
            Operation::None => (0, 0),
            Operation::SkipConnect => input,
            Operation::AvgPool3x3 => (input.0 * constant(1001) % PRIME, input.1),
            operation => convolve(*names.next().expect("a name per convolution"), operation, input),
        };
        nodes[to] = ((nodes[to].0 + changing) % PRIME, (nodes[to].1 + steady) % PRIME);
    }
    nodes[3]
}

/// Calls `visit` with every order of `items[fixed..]`.
fn for_each_order(items: &mut [usize], fixed: usize, visit: &mut impl FnMut(&[usize])) {
    if fixed == items.len() {
        visit(items);
    }
    for chosen in fixed..items.len() {
        items.swap(fixed, chosen);
        for_each_order(items, fixed + 1, visit);
        items.swap(fixed, chosen);
    }
}

/// The smallest output, over all ways to name the convolutions.
fn signature(cell: Cell) -> Signal {
    let reaching = cell.edges_reaching_output();
    let convolutions =
        cell.operations().into_iter().zip(reaching).filter(|(op, used)| *used && op.is_convolution());
    let mut names: Vec<usize> = (0..convolutions.count()).collect();
    let mut smallest = (PRIME, PRIME);
    for_each_order(&mut names, 0, &mut |names| smallest = smallest.min(output(cell, names)));
    smallest
}

#[test]
fn cells_are_in_one_class_exactly_if_they_train_the_same_function() {
    let mut found: HashMap<Signal, Cell> = HashMap::new();
    for cell in Cell::all().filter(|cell| !cell.is_always_zero()) {
        let first = *found.entry(signature(cell)).or_insert(cell);
        assert_eq!(
            first.canonical_class(),
            cell.canonical_class(),
            "{first} and {cell} train the same function"
        );
    }
    // As many classes as functions, and the one of the cells without function.
    assert_eq!(found.len() + 1, classes(Level::Trained).count());
}
