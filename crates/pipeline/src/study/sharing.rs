//! Which datasets share their further cells, so that their figures can be compared cell by cell. Pure.
//!
//! Datasets of one source are cut into blocks of `shared_by`: first within their kind, then what is left over of several
//! kinds together. So every block is full but one of each source at most. **Invariant:** a kind that comes last, and a
//! source, leave the others' blocks as they were; so does a count that is raised from one multiple of `shared_by` to
//! another.

use crate::training_set::Group;

/// Where a dataset stands in its kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing<'a> {
    pub(super) group: Group,
    /// Content id of its source.
    pub(super) source: &'a str,
    pub(super) kind: Option<&'a str>,
    pub(super) number: u32,
    /// Datasets of the kind.
    pub(super) count: u32,
}

/// The blocks of one group and source.
#[derive(Debug)]
pub(super) struct Blocks {
    shared_by: u32,
    left_over: u32,
}

impl Blocks {
    pub(super) fn new(shared_by: u32) -> Self {
        Self { shared_by, left_over: 0 }
    }

    /// What keys the further cells of a dataset; none where they are its own. Asked of all datasets in their order.
    pub(super) fn key(&mut self, dataset: Standing<'_>) -> Option<String> {
        if self.shared_by == 1 {
            return None;
        }
        let Standing { group, source, kind, number, count } = dataset;
        let block = if number < count - count % self.shared_by {
            format!("kind {}, block {}", kind.unwrap_or_default(), number / self.shared_by)
        } else {
            self.left_over += 1;
            format!("left over, block {}", (self.left_over - 1) / self.shared_by)
        };
        Some(format!("{} {source} shared by {}: {block}", group.name(), self.shared_by))
    }
}
