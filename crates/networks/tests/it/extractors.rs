//! Feature extractors against PyTorch, see `scripts/golden/networks.py`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use metad2a_networks::{Extractor, ExtractorKind, RgbPicture};
use tch::Tensor;

use super::golden::{own_folder, relative_error, tensors};

const LIMIT: f64 = 1e-4;

/// The formula of the script: a smooth part, an edge and a grain.
fn picture(width: usize, height: usize, seed: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                let edge = if x > width / 2 { 60 } else { 0 };
                bytes.push(((3 * x + 5 * y + 40 * c + seed * 17 + (x * y) % 23 + edge) % 256) as u8);
            }
        }
    }
    bytes
}

/// Names and shapes of torchvision's ResNet-18, in the order of their names.
fn resnet_shapes() -> BTreeMap<String, Vec<i64>> {
    let mut shapes = BTreeMap::new();
    let mut layer = |convolution: &str, norm: &str, inputs: i64, outputs: i64, kernel: i64| {
        shapes.insert(format!("{convolution}.weight"), vec![outputs, inputs, kernel, kernel]);
        for name in ["weight", "bias", "running_mean", "running_var"] {
            shapes.insert(format!("{norm}.{name}"), vec![outputs]);
        }
    };
    layer("conv1", "bn1", 3, 64, 7);
    let mut inputs = 64;
    for (number, outputs) in [(1, 64), (2, 128), (3, 256), (4, 512)] {
        for block in 0..2 {
            let name = |part: &str| format!("layer{number}.{block}.{part}");
            layer(&name("conv1"), &name("bn1"), inputs, outputs, 3);
            layer(&name("conv2"), &name("bn2"), outputs, outputs, 3);
            if inputs != outputs {
                layer(&name("downsample.0"), &name("downsample.1"), inputs, outputs, 1);
            }
            inputs = outputs;
        }
    }
    shapes
}

/// The script's weights: sines, scaled by what they are for.
fn resnet_weights() -> BTreeMap<String, Tensor> {
    let mut weights = BTreeMap::new();
    for (position, (name, shape)) in resnet_shapes().into_iter().enumerate() {
        let count: i64 = shape.iter().product();
        let fan_in = (count / shape[0]) as f64;
        let value = |index: i64| {
            let wave = (index as f64 * (1.0 + 0.37 * position as f64) + position as f64).sin();
            if shape.len() == 4 {
                wave as f32 * (2.0 / fan_in).sqrt() as f32
            } else if name.ends_with(".weight") || name.ends_with("running_var") {
                (1.0 + 0.25 * wave) as f32
            } else {
                (0.1 * wave) as f32
            }
        };
        let values: Vec<f32> = (0..count).map(value).collect();
        weights.insert(name, Tensor::from_slice(&values).reshape(shape));
    }
    weights
}

fn write(weights: &BTreeMap<String, Tensor>, folder: &Path) -> PathBuf {
    let path = folder.join("resnet18.safetensors");
    let named: Vec<(&str, &Tensor)> = weights.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    Tensor::write_safetensors(&named, &path).unwrap();
    path
}

fn assert_features_match(extractor: &Extractor, file: &str) {
    let (large, small) = (picture(70, 90, 1), picture(20, 30, 2));
    let large = RgbPicture { width: 70, height: 90, rgb: &large };
    let small = RgbPicture { width: 20, height: 30, rgb: &small };
    let expected = &tensors(&own_folder().join(file))["expect.features"];
    let width = extractor.kind().width();
    for (pictures, places) in [(vec![large, small], vec![0, 1]), (vec![small, small, large], vec![1, 1, 0])] {
        let features = extractor.extract(&pictures).unwrap();
        assert_eq!(features.len(), pictures.len());
        for (found, place) in features.iter().zip(places) {
            assert_eq!(found.len() as i64, width);
            let error = relative_error(&Tensor::from_slice(found), &expected.get(place));
            assert!(error <= LIMIT, "picture {place} is off by {error:.1e}");
        }
    }
    assert!(extractor.extract(&[]).unwrap().is_empty());
}

#[test]
fn resnet18_gives_the_features_of_pytorch() {
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    let mut weights = resnet_weights();
    // As in the published file.
    weights.insert("fc.weight".to_owned(), Tensor::zeros([1000, 512], tch::kind::FLOAT_CPU));
    weights.insert("fc.bias".to_owned(), Tensor::zeros([1000], tch::kind::FLOAT_CPU));
    weights.insert("bn1.num_batches_tracked".to_owned(), Tensor::from(1_i64));
    let path = write(&weights, folder.path());
    let extractor = Extractor::load(ExtractorKind::Resnet18, &path, 48).unwrap();
    assert_features_match(&extractor, "resnet18.safetensors");

    let wrong = [0_u8; 5];
    let error = extractor.extract(&[RgbPicture { width: 2, height: 1, rgb: &wrong }]).unwrap_err();
    assert_eq!(error.to_string(), "`rgb` must be 6 bytes (2 × 1 × 3), got `5 bytes`");
    let error = extractor.extract(&[RgbPicture { width: 0, height: 1, rgb: &[] }]).unwrap_err();
    assert_eq!(error.to_string(), "`picture` must be at least one pixel, got `0 × 1`");
}

#[test]
fn weights_of_another_network_are_refused_with_the_differences() {
    let folder = tempfile::tempdir().unwrap();
    let mut weights = resnet_weights();
    let bias = weights.remove("bn1.bias").unwrap();
    weights.insert("bn1.shift".to_owned(), bias);
    weights.insert("conv1.weight".to_owned(), Tensor::zeros([64, 3, 3, 3], tch::kind::FLOAT_CPU));
    let path = write(&weights, folder.path());
    let message = Extractor::load(ExtractorKind::Resnet18, &path, 48).unwrap_err().to_string();
    for expected in [
        "resnet18.safetensors",
        "`bn1.bias` is missing",
        "`bn1.shift` is not part of it",
        "`conv1.weight` has shape [64, 3, 3, 3], [64, 3, 7, 7] is needed",
    ] {
        assert!(message.contains(expected), "{message}");
    }
    let message = Extractor::load(ExtractorKind::EfficientnetLite0, &path, 48).unwrap_err().to_string();
    assert!(message.contains("`_conv_stem.weight` is missing") && message.contains("more"), "{message}");
}

#[test]
#[ignore = "needs weights: scripts/weights/fetch.sh"]
fn efficientnet_lite0_gives_the_features_of_pytorch() {
    tch::set_num_threads(1);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.weights/efficientnet-lite0.safetensors");
    let extractor = Extractor::load(ExtractorKind::EfficientnetLite0, &path, 64).unwrap();
    assert_features_match(&extractor, "efficientnet-lite0.safetensors");
}
