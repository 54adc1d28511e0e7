//! Which device does the arithmetic, and the CUDA back-end of libtorch, opened at run time.
//!
//! The program is linked against the CPU half of libtorch only, so that one binary serves CPU and GPU machines. The
//! CUDA half registers itself when it is opened, which must happen before the first tensor. It must be of the same
//! version as the CPU half: the folder of the loaded `libtorch_cpu` is asked first.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use tch::{Cuda, Device};

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// What `--device` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The first card if there is one, else the CPU.
    Auto,
    Cpu,
    Cuda(usize),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("must be `auto`, `cpu` or `cuda:N`, got `{text}`")),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(number) => write!(formatter, "cuda:{number}"),
        }
    }
}

/// The device as rows and markers name it.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(number) => format!("cuda:{number}"),
        Device::Cpu => "cpu".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Opens the device. Call before anything else of libtorch. `auto` falls back to the CPU and says so once; a card that
/// was asked for by name and does not work is an error.
pub fn open(choice: Choice) -> anyhow::Result<Device> {
    match choice {
        Choice::Cpu => Ok(Device::Cpu),
        Choice::Cuda(number) => open_card(number).with_context(|| format!("cannot use `--device {choice}`")),
        Choice::Auto => {
            // A machine without the driver has no card: the large library is not even opened.
            if !has_driver() {
                tracing::info!("no NVIDIA driver on this machine: using the CPU");
                return Ok(Device::Cpu);
            }
            open_card(0).or_else(|error| {
                tracing::warn!(
                    "there is an NVIDIA driver, but no card can be used: {error:#}; using the CPU"
                );
                Ok(Device::Cpu)
            })
        }
    }
}

fn has_driver() -> bool {
    Path::new("/proc/driver/nvidia").exists() || Path::new("/dev/nvidiactl").exists()
}

fn open_card(number: usize) -> anyhow::Result<Device> {
    load_cuda_backend()?;
    if !Cuda::is_available() {
        bail!(
            "`{CUDA_LIBRARY}` was opened, but libtorch sees no usable card: check the driver with `nvidia-smi`"
        );
    }
    let cards = Cuda::device_count();
    if number as i64 >= cards {
        bail!("this machine has {cards} card(s), numbered from 0");
    }
    Ok(Device::Cuda(number))
}

/// Opens the CUDA half of libtorch and leaves it open for the life of the process.
fn load_cuda_backend() -> anyhow::Result<()> {
    let mut problems = Vec::new();
    for candidate in candidates() {
        match open_library(&candidate) {
            Ok(()) => {
                tracing::debug!(library = %candidate.display(), "CUDA back-end opened");
                return Ok(());
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    bail!(
        "the CUDA half of libtorch cannot be opened ({}); install the GPU build of the same libtorch version and put \
         its folder into LD_LIBRARY_PATH",
        problems.join("; ")
    )
}

fn open_library(path: &Path) -> Result<(), libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    #[expect(
        unsafe_code,
        reason = "opening a library runs its initialisers; this one is libtorch's own other half"
    )]
    // SAFETY: the library's initialisers only register the CUDA back-end with the libtorch that is loaded already.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }?;
    // Closing it would leave registered functions without code.
    let _open_for_ever = library.into_raw();
    Ok(())
}

/// Where the library may lie, best first; the bare name is searched in `LD_LIBRARY_PATH` and the program's rpath.
fn candidates() -> Vec<PathBuf> {
    let beside = std::fs::read_to_string("/proc/self/maps").ok().and_then(|maps| folder_of_libtorch(&maps));
    let configured = std::env::var_os("LIBTORCH").map(|folder| Path::new(&folder).join("lib"));
    beside
        .into_iter()
        .chain(configured)
        .map(|folder| folder.join(CUDA_LIBRARY))
        .filter(|path| path.exists())
        .chain([PathBuf::from(CUDA_LIBRARY)])
        .collect()
}

/// The folder of the loaded `libtorch_cpu`, from the text of `/proc/self/maps`.
fn folder_of_libtorch(maps: &str) -> Option<PathBuf> {
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    let path = &line[line.find('/')?..];
    Path::new(path).parent().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_reads_back_as_it_is_written() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(Choice::Cuda(0)));
        assert_eq!("gpu".parse::<Choice>().unwrap_err(), "must be `auto`, `cpu` or `cuda:N`, got `gpu`");
    }

    #[test]
    fn the_cuda_half_is_sought_beside_the_loaded_cpu_half() {
        let maps = "7f00-7f01 r-xp 00000000 08:01 42 /usr/lib/libc.so.6\n\
                    7f02-7f03 r-xp 00000000 08:01 43   /opt/my torch/lib/libtorch_cpu.so\n";
        assert_eq!(folder_of_libtorch(maps), Some(PathBuf::from("/opt/my torch/lib")));
        assert_eq!(folder_of_libtorch("7f00-7f01 r-xp 0 0 0 [stack]"), None);
    }

    #[test]
    fn a_card_that_cannot_be_used_is_an_error_when_asked_for_by_name() {
        // No machine has a card of this number.
        let error = format!("{:#}", open(Choice::Cuda(4_000)).unwrap_err());
        assert!(error.starts_with("cannot use `--device cuda:4000`: "), "{error}");
    }
}
