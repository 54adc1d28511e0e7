//! The shipped pictures.

use metad2a_tests::repository;
use sha2::{Digest, Sha256};

#[test]
fn the_shipped_data_is_what_its_sums_say_and_at_most_8_mb() {
    let folder = repository();
    let sums = std::fs::read_to_string(folder.join("data/SHA256SUMS")).unwrap();
    let mut total = 0;
    for line in sums.lines() {
        let (expected, path) = line.split_once("  ").unwrap();
        let content = std::fs::read(folder.join(path)).unwrap();
        assert_eq!(hex::encode(Sha256::digest(&content)), expected, "{path}");
        total += content.len();
    }
    assert!(total <= 8_000_000, "{total} bytes");
}
