//! Networks against golden files of PyTorch, made by `scripts/golden/networks.py` or given by `METAD2A_GOLDEN_DIR`.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use metad2a_networks::{Computation, Network, NetworkShape};
use metad2a_randomness::Key;
use metad2a_search_space::{Cell, MacroShape};
use safetensors::SafeTensors;
use tch::{Kind, Tensor};

/// Largest difference, relative to the largest expected value of a tensor.
const LIMIT: f64 = 1e-4;

fn golden_files() -> Vec<PathBuf> {
    tch::set_num_threads(1);
    let folder = std::env::var_os("METAD2A_GOLDEN_DIR").map_or_else(own_folder, PathBuf::from);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("network_") && name.ends_with(".safetensors")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no network_*.safetensors in {}", folder.display());
    files
}

pub(crate) fn own_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Tensors of a file by name.
pub(crate) fn tensors(path: &Path) -> HashMap<String, Tensor> {
    Tensor::read_safetensors(path).unwrap().into_iter().collect()
}

struct Golden {
    tensors: HashMap<String, Tensor>,
    cell: Cell,
    shape: NetworkShape,
    parameters: i64,
}

impl Golden {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let facts = header.metadata().clone().unwrap();
        let number = |name: &str| facts[name].parse::<i64>().unwrap();
        Self {
            tensors: tensors(path),
            cell: facts["arch"].parse().unwrap(),
            shape: NetworkShape {
                channels: number("channels"),
                cells_per_stage: number("cells_per_stage"),
                classes: number("classes"),
            },
            parameters: number("params"),
        }
    }

    fn part(&self, prefix: &str) -> HashMap<String, Tensor> {
        let named = self.tensors.iter().filter_map(|(name, tensor)| {
            Some((name.strip_prefix(prefix)?.to_owned(), tensor.shallow_clone()))
        });
        named.collect()
    }

    /// A network of the file's cell and size, with other weights than the file's.
    fn network(&self, computation: Computation) -> Network {
        let mut network = Network::new(self.cell, &self.shape, &Key::new("golden", "weights")).unwrap();
        network.set_computation(computation);
        network
    }

    /// The error of every figure of the file, from `network` as it is.
    fn errors(&self, network: &Network) -> BTreeMap<String, f64> {
        let images = &self.tensors["input.images"];
        let labels = &self.tensors["input.labels"];
        let mut errors = BTreeMap::new();
        let compare = |errors: &mut BTreeMap<String, f64>, name: &str, found: &Tensor, expected: &Tensor| {
            errors.insert(name.to_owned(), relative_error(found, expected));
        };
        let logits = network.predict(images).unwrap();
        compare(&mut errors, "logits_eval", &logits, &self.tensors["expect.logits_eval"]);
        let step = network.step(images, labels).unwrap();
        compare(&mut errors, "logits_train", &step.logits, &self.tensors["expect.logits_train"]);
        compare(&mut errors, "loss_train", &step.loss, &self.tensors["expect.loss_train"]);
        let gradients: HashMap<_, _> = network.names_in_use().zip(step.gradients).collect();
        let expected_gradients = self.part("grad.");
        let steepest = expected_gradients.values().map(largest).fold(0.0, f64::max);
        for (name, expected) in &expected_gradients {
            // A shift whose only reader is another batch norm has no gradient but rounding, which is judged on the
            // scale of the others.
            let scale = largest(expected).max(1e-2 * steepest);
            let error = match gradients.get(name.as_str()) {
                Some(found) => error_at_scale(found, expected, scale),
                // The loss does not depend on it.
                None => largest(expected),
            };
            errors.insert(format!("grad.{name}"), error);
        }
        let statistics: HashMap<_, _> = network.statistics().iter().map(|(name, t)| (name, t)).collect();
        for (name, expected) in self.part("after.") {
            compare(&mut errors, &format!("after.{name}"), statistics[&name], &expected);
        }
        errors
    }
}

/// The largest difference relative to the largest expected value.
pub(crate) fn relative_error(found: &Tensor, expected: &Tensor) -> f64 {
    error_at_scale(found, expected, largest(expected))
}

fn error_at_scale(found: &Tensor, expected: &Tensor, scale: f64) -> f64 {
    let found = found.detach().to_kind(Kind::Double).reshape(expected.size());
    let error = largest(&(found - expected.to_kind(Kind::Double))) / scale.max(1e-6);
    if error.is_nan() { f64::INFINITY } else { error }
}

fn largest(tensor: &Tensor) -> f64 {
    tensor.abs().max().double_value(&[])
}

#[test]
fn every_golden_network_is_reproduced() {
    for path in golden_files() {
        let golden = Golden::read(&path);
        let network = golden.network(Computation::Plain);
        network.load_tensors(&golden.part("weight.")).unwrap();
        let errors = golden.errors(&network);
        assert!(errors.len() > 30, "{}: only {} figures", path.display(), errors.len());
        let (name, worst) = errors.iter().max_by(|one, other| one.1.total_cmp(other.1)).unwrap();
        assert!(*worst <= LIMIT, "{}: {name} is off by {worst:.1e}", path.display());
    }
}

#[test]
fn the_fast_ways_of_computing_change_the_statistics_of_unread_edges_only() {
    tch::set_num_threads(1);
    let ways = [Computation::Fused, Computation::ByHand];
    for (path, way) in golden_files().into_iter().flat_map(|path| ways.map(|way| (path.clone(), way))) {
        let golden = Golden::read(&path);
        let network = golden.network(way);
        network.load_tensors(&golden.part("weight.")).unwrap();
        let reaching = golden.cell.edges_reaching_output();
        for (name, error) in golden.errors(&network) {
            let edge = name.split_once(".layers.").map(|(_, rest)| rest[..1].parse::<usize>().unwrap());
            let is_unread_statistic = name.starts_with("after.") && edge.is_some_and(|edge| !reaching[edge]);
            assert!(
                is_unread_statistic || error <= LIMIT,
                "{} {way:?}: {name} is off by {error:.1e}",
                path.display()
            );
        }
    }
}

#[test]
fn one_weight_changed_by_a_hundredth_is_noticed() {
    for path in golden_files() {
        let golden = Golden::read(&path);
        let network = golden.network(Computation::Plain);
        let weights = golden.part("weight.");
        let _ = weights["classifier.weight"].view([-1]).narrow(0, 0, 1).g_add_scalar_(1e-2);
        network.load_tensors(&weights).unwrap();
        let worst = golden.errors(&network).into_values().fold(0.0, f64::max);
        assert!(worst > LIMIT, "{}: {worst:.1e}", path.display());
    }
}

#[test]
fn parameters_are_counted_as_the_formula_does() {
    for path in golden_files() {
        let golden = Golden::read(&path);
        let network = golden.network(Computation::Fused);
        let counted: i64 = network.parameters().iter().map(|(_, tensor)| tensor.numel() as i64).sum();
        let shape = MacroShape {
            channels: golden.shape.channels as u64,
            cells_per_stage: golden.shape.cells_per_stage as u64,
            image_size: 32,
            classes: golden.shape.classes as u64,
        };
        assert_eq!(counted, golden.parameters);
        assert_eq!(counted as u64, metad2a_search_space::parameters(golden.cell, shape));
    }
}
