//! Saving and loading weights.

use std::{collections::HashMap, fs};

use metad2a_networks::{Error, Network, NetworkShape};
use metad2a_randomness::Key;
use metad2a_search_space::Cell;
use tch::{Kind, Tensor};

const CELL: &str = "|nor_conv_1x1~0|+|avg_pool_3x3~0|nor_conv_3x3~1|+|none~0|skip_connect~1|nor_conv_1x1~2|";
/// Its convolution 0→2 is read by nothing.
const WITH_UNREAD: &str = "|none~0|+|nor_conv_3x3~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|";
const SHAPE: NetworkShape = NetworkShape { channels: 3, cells_per_stage: 2, classes: 5 };

fn network(cell: &str, unit: &str) -> Network {
    Network::new(cell.parse::<Cell>().unwrap(), &SHAPE, &Key::new(unit, "weights")).unwrap()
}

fn tensors(network: &Network) -> HashMap<String, Tensor> {
    let all = network.parameters().iter().chain(network.statistics());
    all.map(|(name, tensor)| (name.clone(), tensor.detach().copy())).collect()
}

fn problems(error: &Error) -> String {
    assert!(matches!(error, Error::Weights { .. }), "{error}");
    error.to_string()
}

#[test]
fn saved_weights_come_back_bit_for_bit_with_the_names_of_the_published_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    for cell in [CELL, WITH_UNREAD] {
        let saved = network(cell, "one");
        let images = Tensor::from_slice(&[0.5_f32; 2 * 3 * 64]).reshape([2, 3, 8, 8]);
        let _ = saved.forward(&images, true).unwrap();
        saved.save(&path).unwrap();
        let loaded = network(cell, "another");
        assert_ne!(tensors(&loaded)["classifier.weight"], tensors(&saved)["classifier.weight"]);
        loaded.load(&path).unwrap();
        let (expected, found) = (tensors(&saved), tensors(&loaded));
        for (name, tensor) in &expected {
            assert_eq!(tensor, &found[name], "{name}");
        }
        assert_eq!(loaded.to_safetensors().unwrap(), fs::read(&path).unwrap());
    }
    let text = String::from_utf8_lossy(&fs::read(&path).unwrap()[..8192]).into_owned();
    assert!(text.contains("cells.0.layers.1.op.1.weight"), "parameters that nothing reads are saved, too");
    assert!(text.contains(r#"\"channels\":3"#) && text.contains("nor_conv_1x1~1"), "cell and size are told");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no unfinished file stays");
}

#[test]
fn weights_that_do_not_fit_are_refused_with_every_difference_and_change_nothing() {
    let network = network(CELL, "one");
    let before = tensors(&network);
    let mut wrong = tensors(&network);
    wrong.remove("stem.1.running_var");
    wrong.insert("classifier.bias".to_owned(), Tensor::zeros([6], tch::kind::FLOAT_CPU));
    wrong.insert("cells.0.layers.1.op.1.weight".to_owned(), Tensor::zeros([1], tch::kind::FLOAT_CPU));
    let integers = wrong["lastact.0.bias"].to_kind(Kind::Int64);
    wrong.insert("lastact.0.bias".to_owned(), integers);
    wrong.insert("stem.0.weight".to_owned(), wrong["stem.0.weight"].zeros_like());
    let message = problems(&network.load_tensors(&wrong).unwrap_err());
    for expected in [
        "`stem.1.running_var` is missing",
        "`classifier.bias` has shape [6], [5] is needed",
        "`lastact.0.bias` has elements of kind Int64, F32 is needed",
        "`cells.0.layers.1.op.1.weight` is not part of it",
        CELL,
    ] {
        assert!(message.contains(expected), "{message}");
    }
    for (name, tensor) in tensors(&network) {
        assert_eq!(tensor, before[&name], "{name}");
    }
}

#[test]
fn step_counters_of_published_weights_are_passed_over() {
    let network = network(CELL, "one");
    let mut published = tensors(&network);
    published.insert("stem.1.num_batches_tracked".to_owned(), Tensor::from(7_i64));
    network.load_tensors(&published).unwrap();
}

#[test]
fn a_file_that_is_missing_or_broken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let network = network(CELL, "one");
    let absent = folder.path().join("absent.safetensors");
    assert!(network.load(&absent).unwrap_err().to_string().contains("absent.safetensors"));
    let broken = folder.path().join("broken.safetensors");
    fs::write(&broken, b"\x80\x02}q\x00.").unwrap();
    let message = network.load(&broken).unwrap_err().to_string();
    assert!(message.contains("broken.safetensors") && message.contains("not a readable"), "{message}");
}

#[test]
fn sizes_out_of_range_and_pictures_of_a_wrong_shape_are_refused() {
    let cell = CELL.parse::<Cell>().unwrap();
    let shape = NetworkShape { channels: 0, ..SHAPE };
    let error = Network::new(cell, &shape, &Key::new("u", "weights")).unwrap_err();
    assert_eq!(error.to_string(), "`channels` must be between 1 and 1024, got `0`");
    let images = Tensor::zeros([2, 3, 30, 30], tch::kind::FLOAT_CPU);
    let error = network(CELL, "one").forward(&images, false).unwrap_err();
    assert!(error.to_string().contains("[2, 3, 30, 30]"), "{error}");
}
