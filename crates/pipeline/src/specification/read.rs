//! From the raw value of the file to the checked specification: keys, defaults and rules, one function per section.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::datasets::datasets;
use super::evaluations::evaluations;
use super::recipes::recipes;
use super::section::{Problem, Problems, Section};
use super::{ExtractorChoice, Patience, RefreshChoice, SearchChoice, Source, Specification, Training, Use};
use crate::labels::Label;
use crate::tasks::{Constraints, ExtractorKind, Fractions, Mode, ModelSettings, OuterStep, Recipe};

/// All cells of the search space.
pub(super) const CELLS: u32 = 15_625;

pub(super) fn specification(value: Value) -> Result<Specification, Vec<Problem>> {
    let problems = Problems::default();
    let specification = root(Section::new("", value, &problems));
    let found = problems.take();
    match specification {
        Some(specification) if found.is_empty() => Ok(specification),
        _ => Err(found),
    }
}

fn root(mut root: Section<'_>) -> Option<Specification> {
    let version: Option<u32> = root.required("version", "the version of this file's format, `1`");
    if let Some(version) = version.filter(|version| *version != 1) {
        root.problem(
            "version",
            format!("must be `1`, the only format that this program reads, got `{version}`"),
        );
    }
    let name: Option<String> = root.required("name", "a name of lower-case letters, digits and dashes");
    if let Some(name) = &name {
        check_name(&root, "name", name);
    }
    let seed = root.optional("seed", "a whole number of at least 0").unwrap_or(0);
    let store = root.required("store", "a URL such as `file:./store` or `s3://bucket/prefix`");
    let queue = root.required("queue", "a URL such as `sqlite:./queue.sqlite` or `amqps://broker`");
    let patience = patience(root.section("patience"));
    let sources = sources(root.required_section("sources"));
    if !sources.values().any(|source| source.purpose == Use::Meta) {
        root.problem("sources", "must hold at least one source with `use: meta` to learn from".to_owned());
    }
    let extractor = extractor(root.required_section("extractor"));
    let datasets = datasets(root.section("datasets"));
    let recipes = recipes(root.required_section("recipes"));
    let evaluations = evaluations(root.required_section("evaluations"), &recipes);
    let width = extractor.as_ref().map_or(1, |extractor| extractor.kind.width());
    let mut models = root.section("models");
    let generator = training(models.section("generator"), width);
    let predictor = training(models.section("predictor"), width);
    let imported_protocols = imported_protocols(&mut models);
    models.finish();
    let search = search(root.required_section("search"), &recipes);
    let refresh = refresh(root.section("refresh"));
    let imports = imports(&mut root);
    if imports.is_empty() && !imported_protocols.is_empty() {
        let rule = "names protocols of imported rows, but `imports` lists no import".to_owned();
        root.problem("models.imported_protocols", rule);
    }
    root.finish();
    Some(Specification {
        name: name?,
        seed,
        store: store?,
        queue: queue?,
        patience,
        sources,
        extractor: extractor?,
        datasets,
        recipes,
        evaluations: evaluations?,
        generator,
        predictor,
        search: search?,
        refresh,
        imports,
        imported_protocols,
    })
}

/// Ids of imports, each once.
fn imports(root: &mut Section<'_>) -> Vec<String> {
    let mut ids: Vec<String> =
        root.optional("imports", "a list of ids that `metad2a import` printed").unwrap_or_default();
    let is_id =
        |id: &String| id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    for wrong in ids.iter().filter(|id| !is_id(id)) {
        let rule =
            format!("must list ids of 64 hexadecimal digits, as `metad2a import` prints them, got `{wrong}`");
        root.problem("imports", rule);
    }
    // The order says nothing, and must not make another plan.
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn imported_protocols(models: &mut Section<'_>) -> Vec<String> {
    let mut names: Vec<String> = models
        .optional("imported_protocols", "a list of protocols such as `nats-bench@200`")
        .unwrap_or_default();
    names.sort_unstable();
    names.dedup();
    names
}

pub(super) fn check_name(section: &Section<'_>, key: &str, name: &str) {
    let allowed = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if name.is_empty() || name.len() > 60 || !name.chars().all(allowed) {
        let rule = format!("must be 1 to 60 lower-case letters, digits and dashes, got `{name}`");
        section.problem(key, rule);
    }
}

fn patience(mut section: Section<'_>) -> Patience {
    let patience = Patience {
        max_attempts: section.count("max_attempts", 3, 1, 100),
        no_progress_seconds: section.count("no_progress_seconds", 600, 5, 86_400).into(),
    };
    section.finish();
    patience
}

fn sources(section: Section<'_>) -> BTreeMap<String, Source> {
    let mut sources = BTreeMap::new();
    for (name, mut entry) in section.named_sections() {
        check_name(&entry, "(name)", &name);
        let format: Option<String> = entry.required(
            "format",
            "`huggingface-parquet`, `idx`, `cifar10-binary`, `cifar100-binary` or `image-folder`",
        );
        let paths: Option<Vec<String>> = entry.required("paths", "a list of files, folders or URLs");
        if paths.as_ref().is_some_and(Vec::is_empty) {
            entry.problem("paths", "must name at least one file, folder or URL".to_owned());
        }
        let purpose: Option<Use> = entry.required("use", "`meta` or `target`");
        let split = fractions(entry.section("split"));
        entry.finish();
        if let (Some(format), Some(paths), Some(purpose)) = (format, paths, purpose) {
            sources.insert(name, Source { format, paths, purpose, split });
        }
    }
    sources
}

/// Three shares of a whole.
pub(super) fn thirds(section: &mut Section<'_>, defaults: [f64; 3]) -> [f64; 3] {
    let shares = [
        section.number("train", defaults[0], 0.0, 1.0),
        section.number("valid", defaults[1], 0.0, 1.0),
        section.number("test", defaults[2], 0.0, 1.0),
    ];
    let sum: f64 = shares.iter().sum();
    if (sum - 1.0).abs() > 1e-9 {
        let rule = format!("must add up to 1 with `valid` and `test`, got a sum of `{sum}`");
        section.problem("train", rule);
    }
    shares
}

fn fractions(mut section: Section<'_>) -> Fractions {
    let [train, valid, test] = thirds(&mut section, [0.6, 0.2, 0.2]);
    section.finish();
    Fractions { train, valid, test }
}

fn extractor(mut section: Section<'_>) -> Option<ExtractorChoice> {
    let kind: Option<ExtractorKind> = section.required("kind", "`efficientnet-lite0` or `resnet18`");
    let weights: Option<String> = section.required("weights", "a safetensors file");
    let usual_size = if kind == Some(ExtractorKind::Resnet18) { 32 } else { 96 };
    let image_size = section.count("image_size", usual_size, 32, 512);
    let images_per_class = section.count("images_per_class", 20, 1, 10_000);
    let classes_per_task = section.count("classes_per_task", 20, 1, 1_000);
    section.finish();
    Some(ExtractorChoice { kind: kind?, weights: weights?, image_size, images_per_class, classes_per_task })
}

pub(super) fn recipe_name(section: &mut Section<'_>, recipes: &BTreeMap<String, Recipe>) -> Option<String> {
    let name: String = section.required("recipe", "the name of one of the `recipes`")?;
    if !recipes.contains_key(&name) {
        let known = recipes.keys().cloned().collect::<Vec<_>>().join("`, `");
        section.problem("recipe", format!("must be one of the `recipes` (`{known}`), got `{name}`"));
    }
    Some(name)
}

pub(super) fn seeds(section: &mut Section<'_>) -> Vec<u64> {
    let seeds: Vec<u64> = section.optional("seeds", "a list of whole numbers").unwrap_or_else(|| vec![0]);
    let mut distinct = seeds.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if seeds.is_empty() || distinct.len() != seeds.len() {
        section.problem("seeds", format!("must hold at least one number and none twice, got `{seeds:?}`"));
    }
    seeds
}

fn training(mut section: Section<'_>, feature_width: u32) -> Training {
    let mode: Mode = section.optional("mode", "`default` or `paper`").unwrap_or(Mode::Default);
    // The paper's rate, and no ranking loss, reproduce the published model; the default mode has a loss of its own.
    let (learning_rate, ranking_weight, label) = match mode {
        Mode::Paper => (1e-4, 0.0, Label::ValidAccuracy),
        Mode::Default => (1e-3, 0.5, Label::FittedAccuracy),
    };
    let label = section.optional("label", "`valid-accuracy` or `fitted-accuracy`").unwrap_or(label);
    let mut outer = section.section("outer");
    let outer_step = OuterStep {
        learning_rate: outer.number("learning_rate", 1.0, 0.0, 10.0),
        momentum: outer.number("momentum", 0.0, 0.0, 0.9999),
    };
    outer.finish();
    let shards = section.count("shards", 1, 1, 1_024);
    let quorum = section.count("quorum", shards, 1, 1_024);
    if quorum > shards {
        section.problem("quorum", format!("must be at most `shards` ({shards}), got `{quorum}`"));
    }
    let deadline = section.count("shard_deadline_seconds", 3_600, 10, 604_800);
    let training = Training {
        settings: ModelSettings {
            mode,
            label,
            feature_width,
            hidden: section.count("hidden", 56, 4, 4_096),
            latent: section.count("latent", 56, 4, 4_096),
            batch_size: section.count("batch_size", 32, 1, 4_096),
            learning_rate: section.number("learning_rate", learning_rate, 1e-9, 1.0),
            images_per_class: section.count("images_per_class", 20, 1, 1_000),
            classes_per_dataset: section.count("classes_per_dataset", 20, 2, 1_000),
            top_fraction: section.number("top_fraction", 0.25, 0.001, 1.0),
            ranking_weight: section.number("ranking_weight", ranking_weight, 0.0, 1_000.0),
        },
        rounds: section.count("rounds", 10, 1, 100_000),
        steps_per_round: section.count("steps_per_round", 100, 1, 1_000_000),
        shards,
        quorum,
        shard_deadline: Duration::from_secs(deadline.into()),
        outer: outer_step,
        validate_every: section.count("validate_every", 5, 1, 100_000),
    };
    if !training.settings.latent.is_multiple_of(4) {
        let rule =
            format!("must be a multiple of 4, the attention heads, got `{}`", training.settings.latent);
        section.problem("latent", rule);
    }
    section.finish();
    training
}

fn search(mut section: Section<'_>, recipes: &BTreeMap<String, Recipe>) -> Option<SearchChoice> {
    let recipe = recipe_name(&mut section, recipes);
    if let Some(name) = &recipe
        && recipes.get(name).is_some_and(|recipe| recipe.halving.is_some())
    {
        let rule = "must name a recipe without `halving`: chosen and random cells are compared by what they reach in \
                    the end";
        section.problem("recipe", format!("{rule}, got `{name}`"));
    }
    let candidates = section.count("candidates", 500, 1, CELLS);
    let chosen = section.count("chosen", 3, 1, CELLS);
    if chosen > candidates {
        section.problem("chosen", format!("must be at most `candidates` ({candidates}), got `{chosen}`"));
    }
    let sets = section.count("sets", 10, 1, 1_000);
    let random = section.count("random", chosen, 0, CELLS);
    let seeds = seeds(&mut section);
    let mut limits = section.section("constraints");
    let constraints = Constraints {
        max_parameters: limits.optional("max_parameters", "a number of parameters"),
        max_flops: limits.optional("max_flops", "a number of multiply-adds"),
    };
    limits.finish();
    section.finish();
    Some(SearchChoice { candidates, sets, chosen, random, recipe: recipe?, seeds, constraints })
}

fn refresh(mut section: Section<'_>) -> RefreshChoice {
    let warm_start = section.optional("warm_start", "`true` or `false`").unwrap_or(false);
    let shrink_tolerance = section.number("shrink_tolerance", 0.1, 0.0, 1.0);
    let mut gate = section.section("model_gate");
    let choice = RefreshChoice {
        warm_start,
        shrink_tolerance,
        snapshots: gate.count("snapshots", 3, 1, 100),
        confidence: gate.number("confidence", 0.95, 0.5, 0.999),
        generator_tolerance: gate.number("generator_tolerance", 0.2, -1_000.0, 1_000.0),
        predictor_tolerance: gate.number("predictor_tolerance", 0.1, -2.0, 2.0),
    };
    gate.finish();
    section.finish();
    choice
}

#[cfg(test)]
mod tests {
    use super::super::Specification;

    const SMALL: &str = r"
version: 1
name: small
store: file:./store
queue: sqlite:./queue.sqlite
sources:
  letters: { format: huggingface-parquet, paths: [letters.parquet], use: meta }
extractor: { kind: efficientnet-lite0, weights: weights.safetensors }
recipes:
  short: { epochs: 2, channels: 4, cells_per_stage: 1, image_size: 16 }
evaluations: { recipe: short }
search: { recipe: short }
";

    #[test]
    fn a_short_file_gets_the_documented_defaults() {
        let specification = Specification::parse("pipeline.yaml", SMALL).unwrap();
        assert_eq!(specification.patience.max_attempts, 3);
        assert_eq!(specification.extractor.image_size, 96);
        assert_eq!(specification.generator.settings.feature_width, 1280);
        assert_eq!(specification.recipe("short").batch_size, 256);
        assert_eq!(specification.search.candidates, 500);
        assert!(!specification.refresh.warm_start);
        assert_eq!(specification.refresh.snapshots, 3);
    }

    #[test]
    fn all_errors_are_reported_at_once_each_with_key_rule_and_value() {
        let text = SMALL
            .replace("name: small", "name: Small Pipeline\nsed: 3")
            .replace("use: meta", "use: training, split: { train: 0.9 }")
            .replace("epochs: 2", "epochs: 0")
            .replace("search: { recipe: short }", "search: { recipe: shrot, chosen: 9, candidates: 3 }");
        let error = Specification::parse("pipeline.yaml", &text).unwrap_err();
        insta::assert_snapshot!(error, @r#"
        `pipeline.yaml` has 8 problems to mend:
          `name` must be 1 to 60 lower-case letters, digits and dashes, got `Small Pipeline`
          `sources.letters.use` must be `meta` or `target`, got `"training"`
          `sources.letters.split.train` must add up to 1 with `valid` and `test`, got a sum of `1.3`
          `sources` must hold at least one source with `use: meta` to learn from
          `recipes.short.epochs` must be a whole number from 1 to 100000, got `0`
          `search.recipe` must be one of the `recipes` (`short`), got `shrot`
          `search.chosen` must be at most `candidates` (3), got `9`
          `sed` is not a known key; did you mean `seed`?
        "#);
    }

    #[test]
    fn what_a_search_finds_is_never_stopped_early() {
        let halved = "halving: { rungs: [1], keep: 0.5, by: train-loss-sum }, epochs: 2";
        let both = SMALL.replace("epochs: 2", halved);
        insta::assert_snapshot!(Specification::parse("pipeline.yaml", &both).unwrap_err(), @"
        `pipeline.yaml` has 1 problem to mend:
          `search.recipe` must name a recipe without `halving`: chosen and random cells are compared by what they reach in the end, got `short`
        ");
        let apart = both
            .replace("recipes:", "recipes:\n  whole: { epochs: 2 }")
            .replace("search: { recipe: short }", "search: { recipe: whole }");
        let specification = Specification::parse("pipeline.yaml", &apart).unwrap();
        assert!(specification.recipe("short").halving.is_some());
    }

    #[test]
    fn all_shards_are_the_quorum_unless_the_file_says_fewer() {
        let with = |keys: &str| {
            let text = format!("{SMALL}models: {{ generator: {{ {keys} }} }}\n");
            Specification::parse("pipeline.yaml", &text)
        };
        let training = with("shards: 4").unwrap().generator;
        assert_eq!((training.quorum, training.quorum_below_all()), (4, None));
        assert_eq!(training.shard_deadline.as_secs(), 3_600);
        let training = with("shards: 4, quorum: 3, shard_deadline_seconds: 60").unwrap().generator;
        assert_eq!((training.quorum_below_all(), training.shard_deadline.as_secs()), (Some(3), 60));
        insta::assert_snapshot!(with("shards: 4, quorum: 5").unwrap_err(), @"
        `pipeline.yaml` has 1 problem to mend:
          `models.generator.quorum` must be at most `shards` (4), got `5`
        ");
    }

    #[test]
    fn text_that_is_not_yaml_is_refused_with_its_place() {
        let error = Specification::parse("pipeline.yaml", "version: [1\nname: x").unwrap_err();
        assert!(error.to_string().starts_with("`pipeline.yaml` is not YAML"), "{error}");
        assert!(error.to_string().contains("line"), "{error}");
    }

    #[test]
    fn an_empty_file_names_everything_that_is_missing() {
        let error = Specification::parse("pipeline.yaml", "").unwrap_err();
        insta::assert_snapshot!(error, @"
        `pipeline.yaml` has 14 problems to mend:
          `version` is missing; it must be the version of this file's format, `1`
          `name` is missing; it must be a name of lower-case letters, digits and dashes
          `store` is missing; it must be a URL such as `file:./store` or `s3://bucket/prefix`
          `queue` is missing; it must be a URL such as `sqlite:./queue.sqlite` or `amqps://broker`
          `sources` is missing; it must be a mapping
          `sources` must hold at least one source with `use: meta` to learn from
          `extractor` is missing; it must be a mapping
          `extractor.kind` is missing; it must be `efficientnet-lite0` or `resnet18`
          `extractor.weights` is missing; it must be a safetensors file
          `recipes` is missing; it must be a mapping
          `evaluations` is missing; it must be a mapping
          `evaluations.recipe` is missing; it must be the name of one of the `recipes`
          `search` is missing; it must be a mapping
          `search.recipe` is missing; it must be the name of one of the `recipes`
        ");
    }

    #[test]
    fn imports_are_ids_and_learning_from_them_needs_one() {
        let text = SMALL.replace("name: small", "name: small\nimports: [nats.csv]");
        let error = Specification::parse("pipeline.yaml", &text).unwrap_err().to_string();
        assert!(error.contains("`imports` must list ids of 64 hexadecimal digits"), "{error}");
        let text = SMALL.replace("name: small", "name: small\nmodels: { imported_protocols: [a@50] }");
        let error = Specification::parse("pipeline.yaml", &text).unwrap_err().to_string();
        assert!(error.contains("`imports` lists no import"), "{error}");
        let (first, second) = ("ab".repeat(32), "cd".repeat(32));
        let text =
            SMALL.replace("name: small", &format!("name: small\nimports: [{second}, {first}, {second}]"));
        assert_eq!(Specification::parse("pipeline.yaml", &text).unwrap().imports, [first, second]);
    }
}
