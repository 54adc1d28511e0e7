//! Rewrites the generated part of `docs/DATA.md`: `cargo run -p metad2a-database --example data_dictionary`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/DATA.md");
    let document = std::fs::read_to_string(&path)?;
    std::fs::write(&path, metad2a_database::with_dictionary(&document)?)?;
    Ok(())
}
