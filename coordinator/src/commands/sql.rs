//! `metad2a sql`: a question to a published snapshot, answered by the program `duckdb`.
//!
//! A local store is read where it lies. From a bucket the tables that the query mentions are fetched first, with the
//! store's own credentials, so that `duckdb` needs none.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, anyhow, bail};
use metad2a_database::{Snapshot, Store};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::snapshots::places;
use crate::Exit;
use crate::cli::snapshots::{Sql, SqlFormat};
use crate::site::Site;
use crate::views::{create_views, mentions};

pub(crate) async fn sql(arguments: Sql) -> anyhow::Result<Exit> {
    let site = Site::look(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let snapshot = site.snapshot(arguments.snapshot).await?;
    let store = site.needed_store()?;
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let tables = if store.is_local_folder() {
        places(store, &snapshot, None)?
    } else {
        fetched(store, &snapshot, &arguments.query, folder.path()).await?
    };
    let script = format!("{}{}\n;\n", create_views(&tables), arguments.query);
    ask(arguments.duckdb.as_deref(), arguments.format, &script).await
}

/// Table → files, of those that the query mentions.
async fn fetched(
    store: &Store,
    snapshot: &Snapshot,
    query: &str,
    folder: &Path,
) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for table in snapshot.tables.keys().filter(|table| mentions(query, table)) {
        for file in snapshot.files(table) {
            let path = folder.join(format!("{table}-{}.parquet", file.sha256));
            let data = store.get_data(&file).await?;
            tokio::fs::write(&path, data)
                .await
                .with_context(|| format!("`{}` cannot be written", path.display()))?;
            tables.entry(table.clone()).or_default().push(path.display().to_string());
        }
    }
    Ok(tables)
}

/// Hands the script to the program, which answers on our standard output.
async fn ask(duckdb: Option<&Path>, format: SqlFormat, script: &str) -> anyhow::Result<Exit> {
    let program = duckdb.map_or_else(|| OsString::from("duckdb"), OsString::from);
    let form: &[&str] = match format {
        SqlFormat::Table => &["-box"],
        SqlFormat::Json => &["-json"],
        SqlFormat::Csv => &["-csv", "-nullvalue", ""],
    };
    let started = Command::new(&program)
        .args(["-no-init", "-batch", "-bail"])
        .args(form)
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = started.map_err(|error| match (error.kind(), duckdb) {
        (ErrorKind::NotFound, None) => anyhow!(
            "no program `duckdb` is on PATH: install DuckDB (https://duckdb.org/install), or name the \
             program with `--duckdb` or METAD2A_DUCKDB; `metad2a snapshots path --format sql` prints the views for any \
             other way to run it"
        ),
        (_, _) => anyhow!(error)
            .context(format!("`{}` cannot be started; see `--duckdb`", Path::new(&program).display())),
    })?;
    let mut input = child.stdin.take().context("the program has an input")?;
    // It may leave before it has read everything, which its exit code tells.
    let _ = input.write_all(script.as_bytes()).await;
    drop(input);
    let status = child.wait().await.context("`duckdb` cannot be waited for")?;
    match status.code() {
        Some(0) => Ok(Exit::Done),
        // It has said what is wrong with the query.
        Some(_) => Ok(Exit::Failed),
        // Whoever reads has left.
        None if is_closed_pipe(status) => Ok(Exit::Done),
        None => bail!("`duckdb` was killed ({status})"),
    }
}

fn is_closed_pipe(status: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(rustix::process::Signal::PIPE.as_raw())
}
