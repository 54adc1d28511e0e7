//! Prints, as lines of JSON, how many pictures a second of one thread's time trains and extracts:
//!
//!   throughput [--size 32] [--only PREFIX] [--weights EFFICIENTNET]
//!
//! Trainings are whole ones, with augmentation, updates and figures. `scripts/bench/networks.sh` sets them beside a plain
//! `PyTorch` loop.

#![expect(clippy::print_stdout, reason = "a program whose output is its purpose")]

use std::{ops::ControlFlow, path::Path};

use metad2a_networks::{
    Augmentation, Extractor, ExtractorKind, Pictures, Precision, PreparedData, Recipe, Result, RgbPicture,
    TrainingData, train,
};
use metad2a_search_space::Cell;
use serde_json::json;
use tch::Device;

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

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn main() -> Result<()> {
    tch::set_num_threads(1);
    let size = argument("--size").and_then(|size| size.parse().ok()).unwrap_or(32);
    let only = argument("--only").unwrap_or_default();
    let (valid, test) = (Pictures::default(), Pictures::default());
    let data = TrainingData { train: pictures(size), valid, test, classes: 10 };
    let data = PreparedData::new(&data, Device::Cpu)?;
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
                let rate = PICTURES as f64 / seconds;
                println!("{}", json!({ "case": case, "cell": text, "what": precision_name, "rate": rate }));
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
