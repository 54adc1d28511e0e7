//! The benchmark's numbering of the cells, computed.
//!
//! The authors of NAS-Bench-201 listed all cells in lexicographic order and shuffled the list with Python's
//! `random.seed(88); random.shuffle(cells)`. Repeating that (MT19937 seeded by `init_by_array([88])`, Fisher-Yates from
//! the end, bounded integers by rejection) gives every published number.

use std::fmt;
use std::sync::LazyLock;

use rand_mt::Mt;
use serde::{Deserialize, Serialize};

use crate::cell::{CELL_COUNT, Cell};

/// The seed of the published shuffle.
const SEED: u32 = 88;

/// The number of a cell in NAS-Bench-201 and NATS-Bench, 0..15,625.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ArchIndex(u16);

/// A number that no cell has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{found} is not the number of a cell; they are 0 to {}", CELL_COUNT - 1)]
pub struct ArchIndexError {
    /// The number.
    pub found: u32,
}

impl ArchIndex {
    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// The cell with this number.
    pub fn cell(self) -> Cell {
        Cell::at_place(usize::from(NUMBERING.place_of[usize::from(self.0)]))
    }

    /// The number of this cell.
    pub fn of(cell: Cell) -> Self {
        Self(NUMBERING.index_of[cell.place()])
    }

    /// All numbers, ascending.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..CELL_COUNT as u16).map(Self)
    }
}

impl TryFrom<u32> for ArchIndex {
    type Error = ArchIndexError;

    fn try_from(found: u32) -> Result<Self, ArchIndexError> {
        match u16::try_from(found) {
            Ok(number) if usize::from(number) < CELL_COUNT => Ok(Self(number)),
            _ => Err(ArchIndexError { found }),
        }
    }
}

impl From<ArchIndex> for u32 {
    fn from(index: ArchIndex) -> Self {
        Self::from(index.0)
    }
}

/// The type of whole numbers in the database's tables.
impl From<ArchIndex> for i64 {
    fn from(index: ArchIndex) -> Self {
        Self::from(index.0)
    }
}

impl From<ArchIndex> for usize {
    fn from(index: ArchIndex) -> Self {
        Self::from(index.0)
    }
}

impl fmt::Display for ArchIndex {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// The shuffle and its inverse.
struct Numbering {
    /// Number of a cell → its lexicographic place.
    place_of: Vec<u16>,
    /// Lexicographic place of a cell → its number.
    index_of: Vec<u16>,
}

static NUMBERING: LazyLock<Numbering> = LazyLock::new(|| {
    let mut place_of: Vec<u16> = (0..CELL_COUNT as u16).collect();
    let mut generator = Mt::new_with_key([SEED]);
    for last in (1..CELL_COUNT).rev() {
        place_of.swap(last, below(&mut generator, last as u32 + 1));
    }
    let mut index_of = vec![0; CELL_COUNT];
    for (index, place) in place_of.iter().enumerate() {
        index_of[usize::from(*place)] = index as u16;
    }
    Numbering { place_of, index_of }
});

/// A number below `bound` as Python's `random.Random._randbelow` draws it: the top bits of a word, until one fits.
fn below(generator: &mut Mt, bound: u32) -> usize {
    let shift = bound.leading_zeros();
    loop {
        let drawn = generator.next_u32() >> shift;
        if drawn < bound {
            return drawn as usize;
        }
    }
}
