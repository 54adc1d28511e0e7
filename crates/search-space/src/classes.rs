//! The classes of equal cells at each level, for the whole space, computed once per process.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use serde::{Serialize, Serializer};

use crate::canonical::Level;
use crate::cell::{CELL_COUNT, Cell};
use crate::index::ArchIndex;

/// A class of equal cells. Its id, also in the database, is the smallest [`ArchIndex`] among its members; so it does
/// not depend on how many classes there are, and names a cell by itself. Compare ids of the same level only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CanonicalId {
    index: ArchIndex,
    class: u16,
}

impl CanonicalId {
    /// The id as a number: that of the representative.
    pub fn get(self) -> u16 {
        self.index.get()
    }

    /// The representative's number.
    pub fn index(self) -> ArchIndex {
        self.index
    }

    /// The member with the smallest number.
    pub fn representative(self) -> Cell {
        self.index.cell()
    }

    /// The class's place among its level's classes by ascending id, from 0: dense, for tables in memory.
    pub fn class(self) -> usize {
        usize::from(self.class)
    }
}

impl fmt::Display for CanonicalId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.index.fmt(out)
    }
}

impl Serialize for CanonicalId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.index.serialize(serializer)
    }
}

/// The classes of one level.
#[derive(Debug)]
pub struct Classes {
    /// By the cell's place in the lexicographic order.
    of_place: Vec<CanonicalId>,
    /// By class; members by ascending number.
    members: Vec<Vec<Cell>>,
}

impl Classes {
    fn compute(level: Level) -> Self {
        let mut of_form: HashMap<String, CanonicalId> = HashMap::new();
        let mut members: Vec<Vec<Cell>> = Vec::new();
        let mut of_place = Vec::new();
        let mut of_index = Vec::with_capacity(CELL_COUNT);
        // By ascending number: the first member met is the representative, and classes are met by ascending id.
        for index in ArchIndex::all() {
            let cell = index.cell();
            let next = CanonicalId { index, class: members.len() as u16 };
            let id = *of_form.entry(cell.canonical_form(level)).or_insert(next);
            if id == next {
                members.push(Vec::new());
            }
            members[id.class()].push(cell);
            of_index.push(id);
        }
        of_place.extend(Cell::all().map(|cell| of_index[usize::from(cell.index())]));
        Self { of_place, members }
    }

    /// The number of classes.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// The class of a cell.
    pub fn of(&self, cell: Cell) -> CanonicalId {
        self.of_place[cell.place()]
    }

    /// The cells of the class of `cell`, by ascending number: the first is the representative.
    pub fn members(&self, cell: Cell) -> &[Cell] {
        &self.members[self.of(cell).class()]
    }

    /// One cell of each class, by ascending number.
    pub fn representatives(&self) -> impl ExactSizeIterator<Item = Cell> {
        self.members.iter().map(|members| members[0])
    }
}

/// The classes at `level`. The first call of a level computes them (about a tenth of a second), later ones look them up.
pub fn classes(level: Level) -> &'static Classes {
    static TABLES: [OnceLock<Classes>; Level::ALL.len()] = [const { OnceLock::new() }; Level::ALL.len()];
    TABLES[level as usize].get_or_init(|| Classes::compute(level))
}
