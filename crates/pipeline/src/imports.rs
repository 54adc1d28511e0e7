//! Knowledge from outside, as far as planning needs it. Pure.
//!
//! An import is committed like a task: its rows first, its marker `done/import/…` second. A pipeline names imports by
//! id and so publishes their rows; models learn from the rows of the protocols that it names, and from no others.
//!
//! **Invariant:** imported rows only ever teach. Selection and reports stay with the pipeline's own held-out classes,
//! whatever an import's authors held out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::specification::Specification;
use crate::tasks::Extractor;
use crate::training_set::ImportedRows;

/// Kind of the marker of an import. No task has it.
pub const IMPORT_KIND: &str = "import";
/// A ranking needs two cells: datasets with fewer figures teach nothing.
pub const LEAST_ROWS: usize = 2;

/// A file of an import, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedFile {
    pub name: String,
    pub sha256: String,
    pub bytes: u64,
}

/// What the marker of an import says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportSummary {
    /// Where it comes from, as the person said.
    pub origin: String,
    pub files: Vec<ImportedFile>,
    /// Everything that the person said; part of the import's id.
    pub declaration: serde_json::Value,
    pub holds: Holds,
}

/// The rows of an import.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "table", rename_all = "kebab-case")]
pub enum Holds {
    Evaluations {
        /// By protocol.
        protocols: BTreeMap<String, ProtocolSummary>,
    },
    Features {
        /// Name of the class source.
        class_source: String,
        extractor: Extractor,
        classes: u64,
        rows: u64,
    },
    Latencies {
        devices: Vec<String>,
        rows: u64,
    },
}

/// The rows of one protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolSummary {
    pub rows: u64,
    pub datasets: u64,
    /// Datasets with validation accuracies of at least [`LEAST_ROWS`] trainings: those that can teach a ranking.
    pub teaching_datasets: u64,
    /// Names of the class sources of these teaching datasets.
    pub class_sources: BTreeSet<String>,
}

/// The imports of a store, by id.
pub type Imports = BTreeMap<String, ImportSummary>;

/// What a pipeline says about imports.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// Ids in `imports`.
    pub imports: &'a [String],
    /// Names in `models.imported_protocols`.
    pub protocols: &'a [String],
    /// The pipeline's own sources. Nothing else may teach about their classes: some of them are held out.
    pub sources: &'a [&'a str],
}

/// As [`imported_rows`], of what a specification says.
pub fn rows_for(
    specification: &Specification,
    imports: &Imports,
    extractor: &Extractor,
) -> Result<Vec<ImportedRows>, Vec<String>> {
    let sources: Vec<&str> = specification.sources.keys().map(String::as_str).collect();
    let choice = Choice {
        imports: &specification.imports,
        protocols: &specification.imported_protocols,
        sources: &sources,
    };
    imported_rows(choice, imports, extractor)
}

/// Names of the class sources that imported rows teach about, as a specification says.
pub fn class_sources_for<'a>(specification: &Specification, imports: &'a Imports) -> BTreeSet<&'a str> {
    let listed = specification.imports.iter().filter_map(|id| imports.get(id));
    let protocols = listed.filter_map(|import| match &import.holds {
        Holds::Evaluations { protocols } => Some(protocols),
        Holds::Features { .. } | Holds::Latencies { .. } => None,
    });
    let chosen = protocols.flat_map(|all| {
        all.iter().filter(|(name, _)| specification.imported_protocols.contains(name)).map(|(_, it)| it)
    });
    chosen.flat_map(|summary| summary.class_sources.iter().map(String::as_str)).collect()
}

/// What models learn from beside the pipeline's own rows, or everything that is wrong with the choice.
pub fn imported_rows(
    choice: Choice<'_>,
    imports: &Imports,
    extractor: &Extractor,
) -> Result<Vec<ImportedRows>, Vec<String>> {
    let Choice { imports: named, protocols, sources } = choice;
    let mut problems = Vec::new();
    for id in named.iter().filter(|id| !imports.contains_key(*id)) {
        problems.push(format!(
            "import `{id}` is not in the store; `metad2a import list` shows those that are, `metad2a import` adds it"
        ));
    }
    let listed: BTreeMap<&String, &ImportSummary> =
        named.iter().filter_map(|id| imports.get(id).map(|import| (id, import))).collect();
    let mut chosen = Vec::new();
    for protocol in protocols.iter().collect::<BTreeSet<_>>() {
        match rows_of(protocol, &listed, sources, extractor) {
            Ok(rows) => chosen.push(rows),
            // With an import that is missing the reason would mislead.
            Err(problem) if problems.is_empty() => problems.push(problem),
            Err(_) => {}
        }
    }
    if problems.is_empty() { Ok(chosen) } else { Err(problems) }
}

fn rows_of(
    protocol: &str,
    listed: &BTreeMap<&String, &ImportSummary>,
    own: &[&str],
    extractor: &Extractor,
) -> Result<ImportedRows, String> {
    let mut evaluations = Vec::new();
    let mut sources: BTreeSet<&String> = BTreeSet::new();
    let mut known: BTreeSet<&String> = BTreeSet::new();
    for (id, import) in listed {
        let Holds::Evaluations { protocols } = &import.holds else { continue };
        known.extend(protocols.keys());
        if let Some(summary) = protocols.get(protocol) {
            evaluations.push((*id).clone());
            sources.extend(&summary.class_sources);
        }
    }
    if evaluations.is_empty() {
        let known = known.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none".to_owned() } else { known };
        return Err(format!(
            "no listed import has rows of protocol `{protocol}` of `models.imported_protocols`; there are {known}"
        ));
    }
    if sources.is_empty() {
        return Err(format!(
            "protocol `{protocol}` has no dataset with validation accuracies of {LEAST_ROWS} or more trainings; models \
             learn from nothing else, so leave it out of `models.imported_protocols`"
        ));
    }
    let shared: Vec<String> =
        sources.iter().filter(|name| own.contains(&name.as_str())).map(|name| format!("`{name}`")).collect();
    if !shared.is_empty() {
        return Err(format!(
            "protocol `{protocol}` has figures on classes of {}, which this pipeline holds out itself, so models must not \
             learn from them; leave it out of `models.imported_protocols`",
            shared.join(", ")
        ));
    }
    let mut features = Vec::new();
    for (id, import) in listed {
        if let Holds::Features { class_source, extractor: found, .. } = &import.holds
            && sources.contains(class_source)
            && found == extractor
        {
            features.push((*id).clone());
        }
    }
    if features.is_empty() {
        return Err(format!(
            "protocol `{protocol}` needs features of its classes, made by `{}` at {} pixels as this pipeline's are; import \
             them with the `--class-source` of its datasets and list that import too",
            extractor.name(),
            extractor.image_size
        ));
    }
    Ok(ImportedRows { protocol: protocol.to_owned(), evaluations, features })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::ExtractorKind;

    fn extractor(weights: &str) -> Extractor {
        Extractor { kind: ExtractorKind::Resnet18, weights_sha256: weights.to_owned(), image_size: 32 }
    }

    fn import(holds: Holds) -> ImportSummary {
        ImportSummary {
            origin: "a test".to_owned(),
            files: Vec::new(),
            declaration: serde_json::Value::Null,
            holds,
        }
    }

    fn evaluations(protocol: &str, teaching_datasets: u64) -> ImportSummary {
        let teaches = teaching_datasets > 0;
        let class_sources = teaches.then(|| "theirs".to_owned()).into_iter().collect();
        let summary = ProtocolSummary { rows: 9, datasets: 3, teaching_datasets, class_sources };
        import(Holds::Evaluations { protocols: BTreeMap::from([(protocol.to_owned(), summary)]) })
    }

    fn features(weights: &str) -> ImportSummary {
        import(Holds::Features {
            class_source: "theirs".to_owned(),
            extractor: extractor(weights),
            classes: 3,
            rows: 60,
        })
    }

    fn store() -> Imports {
        let imports = [
            ("rows-a", evaluations("a@50", 2)),
            ("rows-b", evaluations("b@50", 0)),
            ("ours", features("w")),
            ("theirs", features("v")),
        ];
        imports.map(|(id, import)| (id.to_owned(), import)).into()
    }

    fn choose(named: &[&str], protocols: &[&str]) -> Result<Vec<ImportedRows>, Vec<String>> {
        choose_beside(&["ours"], named, protocols)
    }

    fn choose_beside(
        sources: &[&str],
        named: &[&str],
        protocols: &[&str],
    ) -> Result<Vec<ImportedRows>, Vec<String>> {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let choice = Choice { imports: &texts(named), protocols: &texts(protocols), sources };
        imported_rows(choice, &store(), &extractor("w"))
    }

    #[test]
    fn classes_of_the_pipelines_own_sources_teach_nothing_from_elsewhere() {
        let problems = choose_beside(&["ours", "theirs"], &["rows-a", "ours"], &["a@50"]).unwrap_err();
        insta::assert_snapshot!(problems.join("\n"), @"protocol `a@50` has figures on classes of `theirs`, which this pipeline holds out itself, so models must not learn from them; leave it out of `models.imported_protocols`");
        // To publish them is no harm.
        assert_eq!(choose_beside(&["theirs"], &["rows-a", "ours"], &[]).unwrap(), []);
    }

    #[test]
    fn a_protocol_brings_its_rows_and_the_features_of_the_same_extractor() {
        let chosen = choose(&["theirs", "rows-b", "ours", "rows-a"], &["a@50"]).unwrap();
        let expected = ImportedRows {
            protocol: "a@50".to_owned(),
            evaluations: vec!["rows-a".to_owned()],
            features: vec!["ours".to_owned()],
        };
        assert_eq!(chosen, [expected]);
    }

    #[test]
    fn an_import_may_be_published_without_being_learnt_from() {
        assert_eq!(choose(&["rows-a", "rows-b"], &[]).unwrap(), []);
    }

    #[test]
    fn every_choice_that_cannot_be_is_refused_with_what_to_do() {
        let wrong = [
            choose(&["rows-a", "lost", "gone"], &["a@50"]),
            choose(&["rows-a", "ours"], &["c@50"]),
            choose(&["rows-b", "ours"], &["b@50"]),
            choose(&["rows-a", "theirs"], &["a@50"]),
        ];
        let lines: Vec<String> = wrong.into_iter().flat_map(|choice| choice.unwrap_err()).collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        import `lost` is not in the store; `metad2a import list` shows those that are, `metad2a import` adds it
        import `gone` is not in the store; `metad2a import list` shows those that are, `metad2a import` adds it
        no listed import has rows of protocol `c@50` of `models.imported_protocols`; there are `a@50`
        protocol `b@50` has no dataset with validation accuracies of 2 or more trainings; models learn from nothing else, so leave it out of `models.imported_protocols`
        protocol `a@50` needs features of its classes, made by `resnet18:w` at 32 pixels as this pipeline's are; import them with the `--class-source` of its datasets and list that import too
        ");
    }
}
