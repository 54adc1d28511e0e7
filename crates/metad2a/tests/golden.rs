//! The models in the paper's form against files that an independent implementation wrote: every output, loss and
//! gradient, and greedy decoding. The files are those of `tests/golden`, or of the folder that `METAD2A_GOLDEN_DIR`
//! names; `scripts/golden/metad2a.py` writes them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use metad2a_model::{Drawing, Generator, GraphBatch, ModelConfig, Parameters, Predictor, SetBatch};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::{Kind, Tensor};

/// The largest error allowed, relative to a tensor's largest value.
const LIMIT: f64 = 1e-4;

struct Golden {
    tensors: BTreeMap<String, Tensor>,
    sizes: HashMap<String, String>,
}

impl Golden {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("the file is read");
        let stored = SafeTensors::deserialize(&bytes).expect("the file is safetensors");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("the header is read");
        let tensors = stored.tensors().into_iter().map(|(name, view)| {
            let kind = if view.dtype() == Dtype::I64 { Kind::Int64 } else { Kind::Float };
            let shape: Vec<i64> = view.shape().iter().map(|size| *size as i64).collect();
            (name, Tensor::f_from_data_size(view.data(), &shape, kind).expect("a tensor"))
        });
        Self { tensors: tensors.collect(), sizes: header.metadata().clone().expect("the sizes") }
    }

    fn size(&self, name: &str) -> i64 {
        self.sizes[name].parse().expect("a number")
    }

    fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("the file has no `{name}`"))
    }

    /// The weights under their published names, as a published file would hold them. `changed`: one number of one
    /// weight is off by this much.
    fn weights(&self, changed: f64) -> Vec<u8> {
        self.weights_and(changed, None)
    }

    /// The same and a tensor of this name.
    fn weights_and(&self, changed: f64, another: Option<&str>) -> Vec<u8> {
        let mut data: Vec<(String, Vec<usize>, Vec<u8>)> = self
            .tensors
            .iter()
            .filter_map(|(name, tensor)| {
                let name = name.strip_prefix("weight.")?;
                let mut values = vec![0_f32; tensor.numel()];
                tensor.copy_data(&mut values, tensor.numel());
                if name == "intra_setpool.enc.0.mab.fc_v.weight" {
                    values[0] += changed as f32;
                }
                let shape = tensor.size().into_iter().map(|size| size as usize).collect();
                Some((name.to_owned(), shape, values.into_iter().flat_map(f32::to_le_bytes).collect()))
            })
            .collect();
        data.extend(another.map(|name| (name.to_owned(), vec![1], vec![0; 4])));
        let views = data.iter().map(|(name, shape, bytes)| {
            (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a view"))
        });
        safetensors::serialize(views, None).expect("the weights are written")
    }

    fn sets(&self) -> SetBatch {
        let shape = [self.size("classes"), self.size("images_per_class")];
        SetBatch::of_tensor(&self.get("input.features").unflatten(1, shape)).expect("sets")
    }

    fn graphs(&self) -> GraphBatch {
        GraphBatch::of_tensors(self.get("input.types"), self.get("input.adjacency"))
    }

    fn config(&self, paper: fn(i64) -> ModelConfig) -> ModelConfig {
        let width = self.get("input.features").size()[2];
        ModelConfig { hidden: self.size("hs"), latent: self.size("nz"), ..paper(width) }
    }
}

/// Errors by name.
#[derive(Default)]
struct Report(Vec<(String, f64)>);

impl Report {
    fn compare(&mut self, name: &str, found: &Tensor, expected: &Tensor, scale: &Tensor) {
        let found = found.detach().to_kind(Kind::Double).reshape_as(expected);
        let error = (found - expected.to_kind(Kind::Double)).abs().max();
        let scale = scale.to_kind(Kind::Double).abs().max().clamp_min(1e-6);
        let error = f64::try_from(error / scale).expect("a number");
        self.0.push((name.to_owned(), if error.is_nan() { f64::INFINITY } else { error }));
    }

    fn output(&mut self, golden: &Golden, name: &str, found: &Tensor) {
        let expected = golden.get(&format!("expect.{name}"));
        self.compare(name, found, expected, expected);
    }

    /// Every gradient of the file, which must name exactly the model's parameters. The true gradient of a key's bias
    /// is zero: it is judged on the scale of the key's weight.
    fn gradients(&mut self, golden: &Golden, parameters: &Parameters) {
        let names: Vec<&str> = golden.tensors.keys().filter_map(|name| name.strip_prefix("grad.")).collect();
        let ours: Vec<&str> = parameters.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ours);
        for (name, parameter) in parameters.iter() {
            let expected = golden.get(&format!("grad.{name}"));
            let scale = if name.ends_with("fc_k.bias") {
                golden.get(&format!("grad.{}", name.replace("bias", "weight")))
            } else {
                expected
            };
            self.compare(&format!("grad.{name}"), &parameter.grad(), expected, scale);
        }
    }

    fn worst(&self) -> &(String, f64) {
        self.0.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("something was compared")
    }
}

fn generator(golden: &Golden, changed: f64) -> Report {
    let config = golden.config(ModelConfig::paper_generator);
    let model = Generator::load(&config, &golden.weights(changed)).expect("the weights are loaded");
    let mut report = Report::default();
    let (mu, logvar) = model.posterior(&golden.sets()).expect("codes");
    let beta = golden.sizes["beta"].parse().expect("a number");
    let loss = model.loss(&mu, &logvar, None, &golden.graphs(), beta).expect("a loss");
    loss.loss.backward();
    for (name, found) in [
        ("mu", &mu),
        ("logvar", &logvar),
        ("loss", &loss.loss),
        ("reconstruction", &loss.reconstruction),
        ("kl", &loss.divergence),
    ] {
        report.output(golden, name, found);
    }
    report.gradients(golden, model.parameters());
    let decoded = model.decode(&mu.detach(), Drawing::Greedy).expect("graphs");
    report.output(golden, "greedy_types", &decoded.types);
    report.output(golden, "greedy_adjacency", &decoded.adjacency);
    report
}

fn predictor(golden: &Golden, changed: f64) -> Report {
    let config = golden.config(ModelConfig::paper_predictor);
    let model = Predictor::load(&config, &golden.weights(changed)).expect("the weights are loaded");
    let mut report = Report::default();
    let sets = model.encode_sets(&golden.sets()).expect("dataset vectors");
    let graphs = model.encode_graphs(&golden.graphs()).expect("graph vectors");
    let prediction = model.head(&sets, &graphs).expect("outputs");
    let loss = (&prediction - golden.get("input.target")).square().sum(Kind::Float);
    loss.backward();
    report.output(golden, "dataset_embedding", &sets);
    report.output(golden, "graph_embedding", &graphs);
    report.output(golden, "prediction", &prediction);
    report.output(golden, "loss", &loss);
    report.gradients(golden, model.parameters());
    report
}

fn files(kind: &str) -> Vec<PathBuf> {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folder = std::env::var_os("METAD2A_GOLDEN_DIR").map_or_else(own, PathBuf::from);
    let entries = std::fs::read_dir(&folder).expect("the golden folder is listed");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(kind) && path.extension().is_some_and(|extension| extension == "safetensors")
    });
    files.sort();
    assert!(!files.is_empty(), "there is no {kind} file in {}", folder.display());
    files
}

fn all_agree(kind: &str, compare: fn(&Golden, f64) -> Report) {
    tch::set_num_threads(1);
    for path in files(kind) {
        let report = compare(&Golden::read(&path), 0.0);
        let (name, error) = report.worst();
        assert!(*error <= LIMIT, "{}: {name} is off by {error:e}", path.display());
    }
}

fn a_changed_weight_is_found(kind: &str, compare: fn(&Golden, f64) -> Report) {
    for path in files(kind) {
        let report = compare(&Golden::read(&path), 1e-2);
        assert!(report.worst().1 > LIMIT, "{} did not notice", path.display());
    }
}

#[test]
fn the_generator_equals_the_published_one() {
    all_agree("generator_", generator);
}

#[test]
fn the_predictor_equals_the_published_one() {
    all_agree("predictor_", predictor);
}

#[test]
fn a_weight_changed_by_a_hundredth_breaks_the_generators_comparison() {
    a_changed_weight_is_found("generator_", generator);
}

#[test]
fn a_weight_changed_by_a_hundredth_breaks_the_predictors_comparison() {
    a_changed_weight_is_found("predictor_", predictor);
}

#[test]
fn parameters_that_nothing_reads_are_left_out_and_unknown_ones_refused() {
    let golden = Golden::read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/predictor_constant_edges.safetensors"),
    );
    let config = golden.config(ModelConfig::paper_predictor);
    let load = |another| Predictor::load(&config, &golden.weights_and(0.0, Some(another)));
    let model = load("hv_unify.0.bias").expect("published files hold it");
    assert!(model.parameters().get("hv_unify.0.bias").is_none());
    let refused = load("head.bias").expect_err("no model has it").to_string();
    assert!(refused.contains("`head.bias` is not part of the model"), "{refused}");
    let wider = ModelConfig { hidden: 64, ..config.clone() };
    let refused = Predictor::load(&wider, &golden.weights(0.0)).expect_err("another width").to_string();
    assert!(refused.contains("has shape"), "{refused}");
}
