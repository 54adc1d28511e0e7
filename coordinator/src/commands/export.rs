//! `metad2a export`: a published snapshot as one file that other programs expect.

use std::path::Path;

use metad2a_database::tables::{DatasetRow, EvaluationRow};
use metad2a_database::{Access, Store};
use metad2a_exchange::{CellTable, Error, cell_table};

use super::output::write_file;
use crate::chosen_snapshot::chosen;
use crate::cli::exchange::{Export, ExportForm};
use crate::{Exit, project};

pub(crate) async fn export(arguments: Export) -> anyhow::Result<Exit> {
    // First, so that a wrong name costs nothing.
    let encode = encoder(&arguments.to)?;
    let project = project::load(&arguments.pipeline, &arguments.addresses)?;
    let pipeline = &project.specification.name;
    let store = Store::open(&project.specification.store, Access::ReadOnly).await?;
    let snapshot = chosen(&store, pipeline, arguments.snapshot).await?;
    let datasets: Vec<DatasetRow> = store.read_table(&snapshot).await?;
    let evaluations: Vec<EvaluationRow> = store.read_table(&snapshot).await?;
    let bytes = match arguments.format {
        ExportForm::NatsBench => {
            let table = cell_table(&datasets, &evaluations, &arguments.datasets)?;
            eprintln!(
                "metad2a: snapshot {} of `{pipeline}`: 15625 cells, {} columns of accuracies",
                snapshot.number,
                table.columns.len()
            );
            encode(&table)?
        }
    };
    write_file(&arguments.to, &bytes)?;
    Ok(Exit::Done)
}

type Encode = fn(&CellTable) -> Result<Vec<u8>, Error>;

fn encoder(path: &Path) -> Result<Encode, Error> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("csv") => Ok(CellTable::to_csv),
        Some("parquet") => Ok(CellTable::to_parquet),
        _ => {
            let rule = format!("must end in `.csv` or `.parquet`, got `{}`", path.display());
            Err(Error::Declaration { flag: "--to", rule })
        }
    }
}
