//! Named tensors in and out of safetensors: every name, shape and kind is checked, and all problems are told at once.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fs,
    io::Write as _,
    path::Path,
};

use safetensors::{Dtype, SafeTensors, View};
use tch::{Kind, Tensor};

use crate::{Error, Result};

/// A tensor by its name.
pub(crate) type Named = (String, Tensor);

/// More differences than this are only counted: a file of another network differs everywhere.
const PROBLEMS_SHOWN: usize = 8;

/// Reads all tensors of a file, on the CPU.
pub(crate) fn read(path: &Path) -> Result<Vec<Named>> {
    let bytes =
        fs::read(path).map_err(|source| Error::File { action: "read", path: path.to_owned(), source })?;
    decode(&bytes, &path.display().to_string())
}

/// Reads all tensors of safetensors bytes, on the CPU. `origin` names them in errors.
pub(crate) fn decode(bytes: &[u8], origin: &str) -> Result<Vec<Named>> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|source| Error::Format { origin: origin.to_owned(), source })?;
    let mut tensors = Vec::with_capacity(file.len());
    for (name, view) in file.tensors() {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::I64 => Kind::Int64,
            other => {
                return Err(Error::Weights {
                    origin: origin.to_owned(),
                    network: "any network".to_owned(),
                    problems: vec![format!("`{name}` has elements of kind {other:?}, F32 is needed")],
                });
            }
        };
        let shape: Vec<i64> = view.shape().iter().map(|&extent| extent as i64).collect();
        tensors.push((name, Tensor::f_from_data_size(view.data(), &shape, kind)?));
    }
    Ok(tensors)
}

/// Copies `loaded` into `wanted`, by name. Nothing is changed unless every name, shape and kind fits.
///
/// The step counters that PyTorch keeps beside batch norms (`num_batches_tracked`) are of no use and passed over, and
/// so are names for which `ignored` says so.
pub(crate) fn assign(
    wanted: &[Named],
    loaded: &[Named],
    origin: &str,
    network: &str,
    ignored: impl Fn(&str) -> bool,
) -> Result<()> {
    let by_name: HashMap<&str, &Tensor> =
        loaded.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut problems = Vec::new();
    for (name, tensor) in wanted {
        match by_name.get(name.as_str()) {
            None => problems.push(format!("`{name}` is missing")),
            Some(found) if found.size() != tensor.size() => {
                problems.push(format!(
                    "`{name}` has shape {:?}, {:?} is needed",
                    found.size(),
                    tensor.size()
                ));
            }
            Some(found) if found.kind() != Kind::Float => {
                problems.push(format!("`{name}` has elements of kind {:?}, F32 is needed", found.kind()));
            }
            Some(_) => {}
        }
    }
    let known: HashSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    let mut unknown: Vec<&str> = by_name
        .keys()
        .copied()
        .filter(|name| !known.contains(name) && !name.ends_with(".num_batches_tracked") && !ignored(name))
        .collect();
    unknown.sort_unstable();
    problems.extend(unknown.into_iter().map(|name| format!("`{name}` is not part of it")));
    if !problems.is_empty() {
        let hidden = problems.len().saturating_sub(PROBLEMS_SHOWN);
        problems.truncate(PROBLEMS_SHOWN);
        if hidden > 0 {
            problems.push(format!("and {hidden} more"));
        }
        return Err(Error::Weights { origin: origin.to_owned(), network: network.to_owned(), problems });
    }
    let _guard = tch::no_grad_guard();
    for (name, tensor) in wanted {
        tensor.shallow_clone().f_copy_(by_name[name.as_str()])?;
    }
    Ok(())
}

/// A tensor's bytes and shape, on the CPU and in the usual order.
struct Plain {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Plain {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Safetensors bytes of f32 tensors; `description` becomes the value of the metadata key `metad2a`.
///
/// One key only: the format keeps its metadata in an unordered map, and the bytes shall repeat.
pub(crate) fn encode(tensors: &[Named], description: String) -> Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let tensor = tensor.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
        let count = tensor.numel();
        let mut bytes = vec![0; count * Kind::Float.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, count)?;
        let shape = tensor.size().iter().map(|&extent| extent as usize).collect();
        plain.push((name.as_str(), Plain { shape, bytes }));
    }
    let views = plain.iter().map(|(name, tensor)| (*name, tensor));
    safetensors::serialize(views, Some(HashMap::from([("metad2a".to_owned(), description)])))
        .map_err(|source| Error::Format { origin: "tensors to save".to_owned(), source })
}

/// Writes a file whole or not at all: under another name first, then renamed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| Error::File { action: "write", path: path.to_owned(), source };
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.tmp", std::process::id()));
    let mut file = fs::File::create(&unfinished).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&unfinished, path).map_err(failed)
}
