//! Where everything comes from.

use maud::{Markup, html};

use super::table::{Column, folded, short, table, text};
use crate::report::provenance::Provenance;

pub(super) fn section(provenance: &Provenance) -> Markup {
    html! {
        section id="provenance" aria-labelledby="provenance-heading" {
            h2 id="provenance-heading" { "Provenance" }
            p { "Ids are hashes, here shortened. Inputs of the snapshot: " code { (provenance.inputs_id) } "." }
            (recipes(provenance))
            (programs_and_runs(provenance))
            (data(provenance))
            @if !provenance.imports.is_empty() || !provenance.imported_rows.is_empty() { (imports(provenance)) }
        }
    }
}

fn recipes(provenance: &Provenance) -> Markup {
    let rows: Vec<Vec<Markup>> = provenance
        .recipes
        .iter()
        .map(|recipe| {
            let seeds: Vec<String> = recipe.seeds.iter().map(i64::to_string).collect();
            vec![
                short(&recipe.id),
                text(recipe.epochs),
                text(recipe.batch_size),
                text(recipe.channels),
                text(recipe.cells_per_stage),
                text(recipe.image_size),
                text(recipe.precision.as_deref().unwrap_or("–")),
                text(seeds.join(", ")),
                text(recipe.trainings),
            ]
        })
        .collect();
    let columns = [
        Column::Text("recipe"),
        Column::Number("epochs"),
        Column::Number("batch size"),
        Column::Number("channels"),
        Column::Number("cells per stage"),
        Column::Number("image size (pixels)"),
        Column::Text("precision"),
        Column::Text("seeds"),
        Column::Number("networks"),
    ];
    table("Recipes and seeds of our trainings", &columns, &rows)
}

fn programs_and_runs(provenance: &Provenance) -> Markup {
    let programs: Vec<Vec<Markup>> = provenance
        .programs
        .iter()
        .map(|(worker, libtorch, device)| vec![text(worker), text(libtorch), text(device)])
        .collect();
    let runs: Vec<Vec<Markup>> = provenance
        .runs
        .iter()
        .map(|run| {
            let time = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M").to_string();
            vec![
                short(&run.id),
                text(&run.code_version),
                text(time(run.started_at)),
                text(run.finished_at.map_or_else(|| "–".to_owned(), time)),
                text(run.tasks_done),
                text(run.tasks_failed),
                text(&run.outcome),
            ]
        })
        .collect();
    html! {
        (table("Programs that trained", &[
            Column::Text("worker"), Column::Text("libtorch"), Column::Text("device"),
        ], &programs))
        (table("Runs of the pipeline (UTC)", &[
            Column::Text("run"), Column::Text("coordinator"), Column::Text("started"), Column::Text("ended"),
            Column::Number("tasks done"), Column::Number("failed"), Column::Text("outcome"),
        ], &runs))
    }
}

fn data(provenance: &Provenance) -> Markup {
    let sources: Vec<Vec<Markup>> = provenance
        .sources
        .iter()
        .map(|source| {
            vec![text(&source.name), text(source.classes), text(source.pictures), short(&source.content_id)]
        })
        .collect();
    let models = provenance.models.iter().map(|(name, id)| vec![text(name), short(id)]);
    let seeds = provenance.search_seeds.iter().map(|(name, seed)| vec![text(name), text(seed)]);
    let hashes = provenance
        .data_hashes
        .iter()
        .map(|(name, hash)| vec![text(name), if hash.is_empty() { text("imported") } else { short(hash) }]);
    html! {
        (table("Image sources", &[
            Column::Text("source"), Column::Number("classes"), Column::Number("pictures"), Column::Text("content"),
        ], &sources))
        (table("Published models", &[Column::Text("model"), Column::Text("SHA-256")], &models.collect::<Vec<_>>()))
        (folded("Hashes of the pictures of each dataset", &[
            Column::Text("dataset"), Column::Text("hash"),
        ], &hashes.collect::<Vec<_>>()))
        (folded("Seeds of the searches", &[
            Column::Text("dataset"), Column::Number("seed"),
        ], &seeds.collect::<Vec<_>>()))
    }
}

fn imports(provenance: &Provenance) -> Markup {
    let evaluations: Vec<Vec<Markup>> = provenance
        .imports
        .iter()
        .map(|import| vec![short(&import.task_id), text(&import.protocol), text(import.rows)])
        .collect();
    let tables = provenance.imported_rows.iter().map(|(name, rows)| vec![text(name), text(rows)]);
    html! {
        (table("Imported rows by table", &[
            Column::Text("table"), Column::Number("rows"),
        ], &tables.collect::<Vec<_>>()))
        @if !evaluations.is_empty() {
            (table("Imports of accuracies", &[
                Column::Text("import"), Column::Text("protocol"), Column::Number("rows"),
            ], &evaluations))
        }
    }
}
