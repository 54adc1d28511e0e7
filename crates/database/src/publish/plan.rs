//! Which table files stay and which files are merged. Pure.
//!
//! A refresh adds a few small result files. They become one table file, which takes in older ones until the next
//! is more than twice as large, so that the number of files grows with the logarithm of the number of refreshes and
//! each row is rewritten about as often.

use std::collections::BTreeSet;

use crate::{FileRef, TableFile};

/// Table files do not grow beyond about this size by merging: larger ones gain readers nothing.
const LARGE_BYTES: u64 = 256 * 1024 * 1024;
/// An older file is taken in if it is at most this many times as large as what is being merged.
const TAKE_IN_RATIO: u64 = 2;

/// What makes up the new state of one table.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Files of the current snapshot that stay.
    pub(super) keep: Vec<TableFile>,
    /// Each group becomes one new file.
    pub(super) merges: Vec<Vec<MergeInput>>,
}

/// A file to be merged, and the result files whose rows it holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MergeInput {
    pub(super) file: FileRef,
    pub(super) sources: Vec<String>,
}

/// Plans the files that hold exactly the rows of the `wanted` result files, each once.
pub(super) fn plan(previous: &[TableFile], wanted: &[FileRef]) -> Plan {
    let mut missing: BTreeSet<&str> = wanted.iter().map(|file| file.sha256.as_str()).collect();
    let mut keep = Vec::new();
    for file in previous {
        // A file with a row that is wanted no more is left out, and its other rows are merged anew.
        if file.sources.iter().all(|source| missing.contains(source.as_str())) {
            for source in &file.sources {
                missing.remove(source.as_str());
            }
            keep.push(file.clone());
        }
    }

    let mut groups: Vec<Vec<MergeInput>> = Vec::new();
    let mut group_bytes = 0;
    for file in wanted {
        // Two markers may name the same content; removing makes sure that it is taken once.
        if !missing.remove(file.sha256.as_str()) {
            continue;
        }
        if groups.is_empty() || group_bytes + file.bytes > LARGE_BYTES {
            groups.push(Vec::new());
            group_bytes = 0;
        }
        group_bytes += file.bytes;
        if let Some(group) = groups.last_mut() {
            group.push(MergeInput { file: file.clone(), sources: vec![file.sha256.clone()] });
        }
    }

    if let Some(group) = groups.last_mut() {
        keep.sort_by_key(|file| file.file.bytes);
        let mut taken = 0;
        for file in &keep {
            let bytes = file.file.bytes;
            if bytes > TAKE_IN_RATIO * group_bytes || group_bytes + bytes > LARGE_BYTES {
                break;
            }
            group_bytes += bytes;
            group.push(MergeInput { file: file.file.clone(), sources: file.sources.clone() });
            taken += 1;
        }
        keep.drain(..taken);
    }
    Plan { keep, merges: groups }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn result_file(name: usize, bytes: u64) -> FileRef {
        FileRef { path: format!("results/t/{name}"), sha256: format!("{name:04}"), bytes, rows: Some(1) }
    }

    /// What publishing a plan leaves in the manifest, were files as large as their parts.
    fn apply(plan: Plan, generation: usize) -> Vec<TableFile> {
        let mut files = plan.keep;
        for (position, group) in plan.merges.into_iter().enumerate() {
            let bytes = group.iter().map(|input| input.file.bytes).sum();
            let sources = group.into_iter().flat_map(|input| input.sources).collect();
            let name = format!("merged-{generation}-{position}");
            let file = FileRef { path: name.clone(), sha256: name, bytes, rows: None };
            files.push(TableFile { file, sources });
        }
        files
    }

    fn held(files: &[TableFile]) -> Vec<String> {
        let mut sources: Vec<String> = files.iter().flat_map(|file| file.sources.clone()).collect();
        sources.sort();
        sources
    }

    #[test]
    fn equal_inputs_need_no_new_file() {
        let wanted: Vec<FileRef> = (0..3).map(|name| result_file(name, 100)).collect();
        let files = apply(plan(&[], &wanted), 0);
        let again = plan(&files, &wanted);
        assert_eq!(again, Plan { keep: files, merges: Vec::new() });
    }

    #[test]
    fn nightly_refreshes_leave_few_files() {
        let mut files = Vec::new();
        let mut rewritten = 0;
        for night in 0..365 {
            let wanted: Vec<FileRef> = (0..=night).map(|name| result_file(name, 1000)).collect();
            let plan = plan(&files, &wanted);
            rewritten += plan.merges.iter().flatten().map(|input| input.file.bytes).sum::<u64>();
            files = apply(plan, night);
            assert!(files.len() <= 9, "{} files after night {night}", files.len());
        }
        assert!(rewritten < 12 * 365 * 1000, "each row was rewritten {} times", rewritten / 365_000);
    }

    #[test]
    fn large_files_are_left_alone() {
        let large = TableFile { file: result_file(0, LARGE_BYTES), sources: vec!["0000".to_owned()] };
        let wanted = [result_file(0, LARGE_BYTES), result_file(1, LARGE_BYTES - 1), result_file(2, 2)];
        let plan = plan(std::slice::from_ref(&large), &wanted);
        assert_eq!(plan.keep, [large]);
        assert_eq!(plan.merges.len(), 2);
    }

    proptest! {
        #[test]
        fn every_wanted_file_is_held_exactly_once(
            steps in proptest::collection::vec(
                proptest::collection::vec((0..40_usize, 1..10_000_u64), 0..30), 1..8)
        ) {
            let mut files = Vec::new();
            for (generation, names) in steps.into_iter().enumerate() {
                // A step may also drop files that an earlier one held, and name one twice.
                let wanted: Vec<FileRef> =
                    names.into_iter().map(|(name, bytes)| result_file(name, bytes)).collect();
                files = apply(plan(&files, &wanted), generation);
                let expected: BTreeSet<String> = wanted.iter().map(|file| file.sha256.clone()).collect();
                prop_assert_eq!(held(&files), expected.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
