//! Prints, as lines of JSON, how many pictures a second of one thread's time trains and extracts:
//!
//!   throughput [--size 32] [--only PREFIX] [--weights EFFICIENTNET] [--memory]
//!
//! Trainings are whole ones, with augmentation, updates and figures; `steps` are forward and backward passes of one batch
//! again and again, so that the difference is what a training costs beside them, updates included. With `--memory` it only
//! tells by how many bytes the first case's training raised the most that the process had resident; what it frees stays with
//! the process, so a second case could not be told apart. `scripts/bench/networks.sh` sets all of it beside a plain `PyTorch`
//! loop.

#![expect(clippy::print_stdout, reason = "a program whose output is its purpose")]

use std::{ops::ControlFlow, path::Path};

use metad2a_networks::{
    Augmentation, Extractor, ExtractorKind, Network, NetworkShape, Pictures, Precision, PreparedData, Recipe,
    Result, RgbPicture, TrainingData, train,
};
use metad2a_randomness::Key;
use metad2a_search_space::Cell;
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// The first two are those of the comparison by single networks; then a bundle of eight drawn at random.
const CELLS: [(&str, &str); 10] = [
    (
        "3x3",
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
    ),
    ("mixed", "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"),
    (
        "bundle-1",
        "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|nor_conv_3x3~0|skip_connect~1|nor_conv_1x1~2|",
    ),
    ("bundle-2", "|skip_connect~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|"),
    (
        "bundle-3",
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
    ),
    ("bundle-4", "|avg_pool_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"),
    (
        "bundle-5",
        "|nor_conv_1x1~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|skip_connect~2|",
    ),
    ("bundle-6", "|none~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_3x3~0|avg_pool_3x3~1|nor_conv_3x3~2|"),
    (
        "bundle-7",
        "|skip_connect~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|nor_conv_1x1~0|nor_conv_3x3~1|avg_pool_3x3~2|",
    ),
    ("bundle-8", "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|nor_conv_1x1~0|skip_connect~1|nor_conv_3x3~2|"),
];
const BATCH: i64 = 64;
const PICTURES: usize = 64 * 16;

fn pictures(size: i64) -> Pictures {
    let bytes = PICTURES * 3 * (size * size) as usize;
    Pictures {
        pixels: (0..bytes).map(|place| (place * 7919 % 251) as u8).collect(),
        labels: (0..PICTURES as i64).map(|place| place % 10).collect(),
        size,
    }
}

/// Seconds that this thread has run: what others do on the machine hardly matters. Linux only; 0 elsewhere.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Bytes of this process that are resident now, and the most ever. Linux only; 0 elsewhere.
fn resident() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    (bytes("VmRSS:").unwrap_or(0) * 1024, bytes("VmHWM:").unwrap_or(0) * 1024)
}

/// Pictures a second of forward and backward passes alone, in float32.
fn steps(cell: Cell, recipe: &Recipe) -> Result<f64> {
    let shape =
        NetworkShape { channels: recipe.channels, cells_per_stage: recipe.cells_per_stage, classes: 10 };
    let network = Network::new(cell, &shape, &Key::new("throughput", "weights"))?;
    let images =
        Tensor::f_randn([BATCH, 3, recipe.image_size, recipe.image_size], (Kind::Float, Device::Cpu))?;
    let labels = Tensor::f_randint(10, [BATCH], (Kind::Int64, Device::Cpu))?;
    let batches = PICTURES as i64 / BATCH;
    network.step(&images, &labels)?;
    let start = cpu_seconds();
    for _ in 0..batches {
        network.step(&images, &labels)?;
    }
    Ok((batches * BATCH) as f64 / (cpu_seconds() - start))
}

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn main() -> Result<()> {
    tch::set_num_threads(1);
    let size = argument("--size").and_then(|size| size.parse().ok()).unwrap_or(32);
    let only = argument("--only").unwrap_or_default();
    let memory = std::env::args().any(|argument| argument == "--memory");
    let (valid, test) = (Pictures::default(), Pictures::default());
    let data = TrainingData { train: pictures(size), valid, test, classes: 10 };
    let data = PreparedData::new(&data, Device::Cpu)?;
    let (before, _) = resident();
    for (channels, cells_per_stage) in [(8, 1), (16, 5)] {
        for (name, text) in CELLS {
            let case = format!("C{channels}N{cells_per_stage}/{name}");
            if !case.starts_with(&only) || (channels > 8 && name.starts_with("bundle")) {
                continue;
            }
            let cell: Cell = text.parse().expect("a constant of this file");
            for (precision, precision_name) in
                [(Precision::Float32, "float32"), (Precision::Bfloat16, "bfloat16")]
            {
                let recipe = Recipe {
                    epochs: 2,
                    batch_size: BATCH,
                    channels,
                    cells_per_stage,
                    image_size: size,
                    augmentation: Augmentation { horizontal_flip: true, crop_padding: 2 },
                    precision,
                    ..Recipe::nas_bench_201()
                };
                // The second epoch: the first warms up.
                let (mut last, mut seconds) = (cpu_seconds(), 0.0);
                train(cell, &recipe, &data, "throughput", &mut |_| {
                    let now = cpu_seconds();
                    seconds = now - last;
                    last = now;
                    ControlFlow::Continue(())
                })?;
                if memory {
                    let most = resident().1.saturating_sub(before);
                    println!("{}", json!({ "case": case, "what": "memory", "rate": most }));
                    return Ok(());
                }
                let rate = PICTURES as f64 / seconds;
                println!("{}", json!({ "case": case, "cell": text, "what": precision_name, "rate": rate }));
                if precision == Precision::Float32 {
                    println!("{}", json!({ "case": case, "what": "steps", "rate": steps(cell, &recipe)? }));
                }
            }
        }
    }
    let Some(weights) = argument("--weights") else { return Ok(()) };
    for image_size in [32, 64, 96] {
        let kind = ExtractorKind::EfficientnetLite0;
        let extractor = Extractor::load(kind, Path::new(&weights), image_size)?;
        let rgb: Vec<u8> = (0..64 * 64 * 3).map(|place| (place * 7919 % 251) as u8).collect();
        let pictures = vec![RgbPicture { width: 64, height: 64, rgb: &rgb }; 128];
        let busy = cpu_seconds();
        extractor.extract(&pictures)?;
        let rate = pictures.len() as f64 / (cpu_seconds() - busy);
        println!(
            "{}",
            json!({ "case": format!("extract/{image_size}"), "what": kind.to_string(), "rate": rate })
        );
    }
    Ok(())
}
