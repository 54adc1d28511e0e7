//! A small pipeline in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use metad2a_database::{Access, Store};

use crate::{idx_images, idx_labels};

/// Small enough for a test, with every stage: two meta-training datasets, one for validation, one target.
const PIPELINE: &str = r"
version: 1
name: small
seed: 7
store: file:store
queue: sqlite:queue.sqlite
sources:
  shapes: { format: idx, paths: [shapes-images, shapes-labels], use: meta }
  others: { format: idx, paths: [others-images, others-labels], use: target }
extractor: { kind: efficientnet-lite0, weights: WEIGHTS, image_size: 32, images_per_class: 4, classes_per_task: 5 }
datasets:
  class_shares: { train: 0.6, valid: 0.4, test: 0.0 }
  meta_train: { count: 2, least_classes: 3, most_classes: 4, pictures_per_class: { train: 8, valid: 4 } }
  meta_valid: { count: 1, least_classes: 3, most_classes: 3, pictures_per_class: { train: 8, valid: 4 } }
  target_pictures_per_class: { train: 8, valid: 4, test: 4 }
recipes:
  tiny:
    epochs: 2
    batch_size: 16
    channels: 4
    cells_per_stage: 1
    image_size: 8
    augmentation: { horizontal_flip: false, crop_padding: 1 }
evaluations: { recipe: tiny, anchors: 2, cells_per_dataset: 2, bundle: 2 }
models:
  generator: { hidden: 8, latent: 8, batch_size: 4, images_per_class: 2, rounds: 2, steps_per_round: 2, validate_every: 1 }
  predictor: { hidden: 8, latent: 8, batch_size: 4, images_per_class: 2, rounds: 2, steps_per_round: 2, validate_every: 1 }
search: { recipe: tiny, candidates: 6, chosen: 2, random: 2, sets: 2 }
";

/// The folder of the project's sources.
///
/// # Panics
/// Never: the tests lie in the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository").to_owned()
}

/// The folder of `bin/duckdb` and `python/polars`.
///
/// # Panics
/// If they were not set up.
pub fn analysts_tools() -> PathBuf {
    let folder = repository().join(".tools-analysis");
    assert!(
        folder.exists(),
        "`{}` is not there; `scripts/setup-analysis-tools.sh` makes it",
        folder.display()
    );
    folder
}

/// A built program, beside the folder of this test.
///
/// # Panics
/// If it is not built.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    let folder = own.parent().expect("a program lies in a folder");
    // Tests lie in target/<profile>/deps, programs in target/<profile>.
    let profile = folder.parent().filter(|_| folder.ends_with("deps")).unwrap_or(folder);
    let program = profile.join(name);
    assert!(program.exists(), "`{}` is not built; `cargo build --workspace` builds it", program.display());
    program
}

/// The pipeline with its pictures; the folder goes away with it.
#[derive(Debug)]
pub struct Project {
    folder: tempfile::TempDir,
    name: String,
}

impl Default for Project {
    fn default() -> Self {
        Self::new()
    }
}

impl Project {
    /// # Panics
    /// If the folder cannot be written.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let project = Self { folder, name: "small".to_owned() };
        project.write("shapes-images", &idx_images(10, 24));
        project.write("shapes-labels", &idx_labels(10, 24));
        project.write("others-images", &idx_images(4, 40));
        project.write("others-labels", &idx_labels(4, 40));
        let weights = repository().join(".weights/efficientnet-lite0.safetensors");
        let text = PIPELINE.replace("WEIGHTS", &weights.display().to_string());
        project.write("pipeline.yaml", text.as_bytes());
        project
    }

    /// The same with three times so many more tasks, each the training of one cell.
    ///
    /// # Panics
    /// If the folder cannot be written.
    pub fn with_cells(cells_per_dataset: usize) -> Self {
        let project = Self::new();
        let more = format!("cells_per_dataset: {cells_per_dataset}, bundle: 1");
        project.edit("cells_per_dataset: 2, bundle: 2", &more);
        project
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The pipeline's name, which its lanes on a broker are named after.
    pub fn pipeline(&self) -> &str {
        &self.name
    }

    /// Gives the pipeline a name that no other test has: a broker is shared.
    pub fn rename(&mut self) {
        let name = format!("small-{}", metad2a_database::random_id());
        self.edit(&format!("name: {}", self.name), &format!("name: {name}"));
        self.name = name;
    }

    /// # Panics
    /// If the file cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) {
        let file = self.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a file lies in a folder")).expect("a folder");
        std::fs::write(file, content).expect("a file in a temporary folder");
    }

    /// Adds an image source to the specification, with pictures of its own.
    pub fn add_source(&self, name: &str, purpose: &str, classes: usize, per_class: usize) {
        self.write(&format!("{name}-images"), &idx_images(classes, per_class));
        self.write(&format!("{name}-labels"), &idx_labels(classes, per_class));
        let paths = format!("[{name}-images, {name}-labels]");
        self.edit(
            "sources:\n",
            &format!("sources:\n  {name}: {{ format: idx, paths: {paths}, use: {purpose} }}\n"),
        );
    }

    /// How many files lie in a folder of the project and below; none where there is no such folder.
    pub fn count_files(&self, folder: &str) -> usize {
        count_files(&self.path().join(folder))
    }

    /// Changes the specification.
    ///
    /// # Panics
    /// If it does not hold `from`.
    pub fn edit(&self, from: &str, to: &str) {
        let file = self.path().join("pipeline.yaml");
        let text = std::fs::read_to_string(&file).expect("the specification");
        assert!(text.contains(from), "the specification has no `{from}`");
        self.write("pipeline.yaml", text.replace(from, to).as_bytes());
    }

    /// `metad2a` in the project's folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("metad2a"));
        command
            .current_dir(self.path())
            .args(arguments)
            .env_remove("METAD2A_STORE")
            .env_remove("METAD2A_QUEUE");
        command
    }

    /// Runs `metad2a` to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    /// Address of the store, for reading the tables.
    pub fn store(&self) -> String {
        format!("file:{}", self.path().join("store").display())
    }

    /// How many tasks a finished run has committed.
    ///
    /// # Panics
    /// If the local store cannot be read.
    pub async fn committed(&self) -> usize {
        let store = Store::open(&self.store(), Access::ReadOnly).await.expect("the store opens");
        store.list("done/").await.expect("the store can be listed").len()
    }

    /// The worker's log, for messages of failed tests.
    pub fn worker_log(&self) -> String {
        std::fs::read_to_string(self.path().join("logs/worker.log")).unwrap_or_default()
    }
}

fn count_files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { count_files(&entry.path()) } else { 1 }).sum()
}
