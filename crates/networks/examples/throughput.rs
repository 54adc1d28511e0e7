//! Prints how many pictures per second one thread trains and extracts: `cargo run -p metad2a-networks --example
//! throughput [WEIGHTS]`, with the weights of EfficientNet-Lite0 for the second part.

#![expect(clippy::print_stdout, reason = "a program whose output is its purpose")]

use std::{ops::ControlFlow, path::Path};

use metad2a_networks::{
    Augmentation, Extractor, ExtractorKind, Pictures, PreparedData, Recipe, Result, RgbPicture, TrainingData,
    train,
};
use metad2a_search_space::Cell;
use tch::Device;

const CELLS: [(&str, &str); 3] = [
    (
        "3x3",
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
    ),
    ("mixed", "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"),
    (
        "pool",
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    ),
];
const PICTURES: usize = 64 * 20;

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

fn main() -> Result<()> {
    tch::set_num_threads(1);
    println!("cell   C N  size batch  pictures/s (best epoch)  pictures per second of CPU");
    for (channels, cells_per_stage, image_size, epochs) in [(8, 1, 16, 6), (16, 1, 32, 3)] {
        let (valid, test) = (Pictures::default(), Pictures::default());
        let data = TrainingData { train: pictures(image_size), valid, test, classes: 10 };
        let data = PreparedData::new(&data, Device::cuda_if_available())?;
        for (name, cell) in CELLS {
            let cell: Cell = cell.parse().expect("a constant of this file");
            let recipe = Recipe {
                epochs,
                batch_size: 64,
                channels,
                cells_per_stage,
                image_size,
                augmentation: Augmentation { horizontal_flip: true, crop_padding: 2 },
                ..Recipe::nas_bench_201()
            };
            let busy = cpu_seconds();
            let unit = train(cell, &recipe, &data, "throughput", &mut |_| ControlFlow::Continue(()))?;
            let best = unit.curves.iter().map(|row| row.seconds).fold(f64::INFINITY, f64::min);
            let rate = PICTURES as f64 / best;
            let cpu_rate = PICTURES as f64 * f64::from(epochs) / (cpu_seconds() - busy);
            println!(
                "{name:6} {channels:2} {cells_per_stage}  {image_size:4}    64  {rate:9.0} {cpu_rate:33.0}"
            );
        }
    }
    let Some(weights) = std::env::args().nth(1) else { return Ok(()) };
    for image_size in [32, 64, 96] {
        let kind = ExtractorKind::EfficientnetLite0;
        let extractor = Extractor::load(kind, Path::new(&weights), image_size)?;
        let rgb: Vec<u8> = (0..64 * 64 * 3).map(|place| (place * 7919 % 251) as u8).collect();
        let pictures = vec![RgbPicture { width: 64, height: 64, rgb: &rgb }; 128];
        let busy = cpu_seconds();
        extractor.extract(&pictures)?;
        let rate = pictures.len() as f64 / (cpu_seconds() - busy);
        println!("{kind} at {image_size}: {rate:.0} pictures per second of CPU");
    }
    Ok(())
}
