//! Every question of docs/COOKBOOK.md, asked of a snapshot that the programs made: DuckDB and Polars must find rows, and
//! the same ones.

use std::fmt::Write;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use metad2a_database::tables::EvaluationRow;
use metad2a_database::{Access, Store};
use metad2a_tests::{Project, analysts_tools, idx_images, idx_labels, program, repository};
use serde_json::{Value, json};

/// So high a rate that networks lose their numbers in the eight steps of the target with many classes, and keep them,
/// by ten orders of magnitude, in the two steps of the other.
const WILD: &str = "  wild: { epochs: 2, batch_size: 32, learning_rate: 100, weight_decay: 0.1, channels: 4, cells_per_stage: 1, image_size: 8 }\nevaluations: {";
/// Sums of the same numbers in another order.
const TOLERANCE: f64 = 1e-9;

/// A question of the document.
struct Question {
    title: String,
    sql: String,
    python: String,
}

/// The block that makes Polars' frames, and the questions.
fn read_cookbook(text: &str) -> (String, Vec<Question>) {
    let mut parts = text.split("\n### ");
    let opening = block(parts.next().unwrap(), "python").expect("the document says how to read the tables");
    let question = |part: &str| {
        let title = part.lines().next().unwrap().to_owned();
        let of = |language| {
            block(part, language).unwrap_or_else(|| panic!("`{title}` has no one block of {language}"))
        };
        let (sql, python) = (of("sql"), of("python"));
        Question { title, sql, python }
    };
    (opening, parts.map(question).collect())
}

/// The one block of this language.
fn block(text: &str, language: &str) -> Option<String> {
    let mut found = blocks(text, language);
    let only = found.pop();
    only.filter(|_| found.is_empty())
}

fn blocks(text: &str, language: &str) -> Vec<String> {
    let opened = format!("\n```{language}\n");
    let opened = text.split(&opened).skip(1);
    opened.filter_map(|rest| Some(rest.split("\n```").next()?.to_owned())).collect()
}

/// Two snapshots: several seeds, trainings that diverge, latencies, and, in the second, more cells and what others found.
async fn published() -> Project {
    let project = Project::new();
    project.write("others-images", &idx_images(2, 40));
    project.write("others-labels", &idx_labels(2, 40));
    project.add_source("many", "target", 10, 40);
    project.edit("target_pictures_per_class: { train: 8", "target_pictures_per_class: { train: 12");
    project.edit("evaluations: {", WILD);
    project.edit(
        "anchors: 2, cells_per_dataset: 2, bundle: 2",
        "anchors: 4, cells_per_dataset: 1, bundle: 5, seeds: [0, 1], latency: true",
    );
    project.edit("search: { recipe: tiny", "search: { recipe: wild");
    ran(&project, &project.run(&["run"]));

    let imports = [import_accuracies(&project).await, import_latencies(&project)].join(", ");
    project.edit("models:\n", &format!("imports: [{imports}]\nmodels:\n"));
    project.edit("cells_per_dataset: 1", "cells_per_dataset: 2");
    ran(&project, &project.run(&["run"]));
    project
}

fn ran(project: &Project, output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}\n{}", output.status, project.worker_log());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn import(project: &Project, arguments: &[&str]) -> String {
    let common = ["--origin", "a test", "--format", "json"];
    let output = project.run(&[&["import"], arguments, &common].concat());
    let told: Value = serde_json::from_str(&ran(project, &output)).unwrap();
    told["import"].as_str().unwrap().to_owned()
}

/// Of the cells that we have trained, on two datasets, after short and long trainings.
async fn import_accuracies(project: &Project) -> String {
    let store = Store::open(&project.store(), Access::ReadOnly).await.unwrap();
    let snapshot = store.current_snapshot("small").await.unwrap().unwrap();
    let rows: Vec<EvaluationRow> = store.read_table(&snapshot).await.unwrap();
    let mut cells: Vec<i64> = rows.iter().map(|row| row.arch_index).collect();
    cells.sort_unstable();
    cells.dedup();
    let mut accuracies = "arch_index,dataset,accuracy,epochs,split\n".to_owned();
    let mut latencies = "arch_index,device,batch,latency_ms\n".to_owned();
    for (place, cell) in cells.iter().enumerate() {
        let long = 30.0 + place as f64;
        let short = long - (place % 3) as f64 * 1.5 - 5.0;
        for (dataset, accuracy, epochs) in
            [("easy", short, 12), ("easy", long, 200), ("hard", short - 10.0, 12), ("hard", long * 0.5, 200)]
        {
            let _ = writeln!(accuracies, "{cell},{dataset},{accuracy},{epochs},valid");
        }
        for (device, milliseconds) in [("phone", 40 - place % 7), ("board", 90 - place % 11)] {
            let _ = writeln!(latencies, "{cell},{device},1,{milliseconds}");
        }
    }
    let datasets =
        json!({"easy": {"classes": 10, "image_size": 32}, "hard": {"classes": 100, "image_size": 32}});
    project.write("accuracies.csv", accuracies.as_bytes());
    project.write("latencies.csv", latencies.as_bytes());
    project.write("datasets.json", datasets.to_string().as_bytes());
    let of = ["evaluations", "accuracies.csv", "--datasets", "datasets.json", "--accuracy-unit", "percent"];
    import(project, &[&of[..], &["--protocol", "theirs"]].concat())
}

fn import_latencies(project: &Project) -> String {
    import(project, &["latencies", "latencies.csv", "--protocol", "tflite"])
}

/// The answer of DuckDB, through our own command.
fn ask_duckdb(project: &Project, query: &str) -> Result<Value, String> {
    let mut command = project.command(&["sql", query, "--format", "json"]);
    let output = command.env("METAD2A_DUCKDB", analysts_tools().join("bin/duckdb")).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{error} in what DuckDB answered"))
}

/// The programs as a person has them, on `PATH`.
fn in_shell(project: &Project, lines: &str) -> Output {
    let own = std::env::var("PATH").unwrap();
    let ours = program("metad2a");
    let path =
        format!("{}:{}:{own}", ours.parent().unwrap().display(), analysts_tools().join("bin").display());
    let mut command = Command::new("sh");
    command.args(["-e", "-c", lines]).current_dir(project.path()).env("PATH", path);
    command.env_remove("METAD2A_STORE").env_remove("METAD2A_QUEUE").output().unwrap()
}

/// The answers of Polars to all questions, in one process.
fn ask_polars(folder: &Path, opening: String, questions: &[Question]) -> Vec<Value> {
    let mut child = Command::new("python3")
        .arg(repository().join("tests/system/cookbook.py"))
        .current_dir(folder)
        .env("PYTHONPATH", analysts_tools().join("python"))
        .env("METAD2A", program("metad2a"))
        .env_remove("METAD2A_STORE")
        .env_remove("METAD2A_QUEUE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let blocks: Vec<String> =
        std::iter::once(opening).chain(questions.iter().map(|question| question.python.clone())).collect();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&blocks).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the opening block fails, or an answer has no form in JSON");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Equal but for the last digits of numbers; the same columns in the same order.
fn agree(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| agree(value, other)))
        }
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1e-3),
            _ => a == b,
        },
    }
}

#[tokio::test]
#[ignore = "needs the built programs, the extractor's weights, duckdb and polars: scripts/test.sh"]
async fn every_question_of_the_cookbook_has_rows_and_duckdb_and_polars_find_the_same() {
    let text = std::fs::read_to_string(repository().join("docs/COOKBOOK.md")).unwrap();
    let (opening, questions) = read_cookbook(&text);
    assert!(questions.len() >= 15, "{} questions", questions.len());
    let project = published().await;
    for lines in blocks(&text, "sh") {
        ran(&project, &in_shell(&project, &lines));
    }
    let of_polars = ask_polars(project.path(), opening, &questions);
    assert_eq!(of_polars.len(), questions.len());
    let mut problems = String::new();
    for (question, polars) in questions.iter().zip(of_polars) {
        let title = &question.title;
        let problem = match (ask_duckdb(&project, &question.sql), polars.get("rows")) {
            (Err(error), _) => format!("in SQL: {error}"),
            (_, None) => format!("in Python: {}", polars["error"].as_str().unwrap_or_default()),
            (Ok(Value::Array(rows)), _) if rows.is_empty() => "no rows".to_owned(),
            (Ok(duckdb), Some(polars)) if !agree(&duckdb, polars) => {
                format!("DuckDB: {duckdb}\nPolars: {polars}")
            }
            (Ok(_), Some(_)) => continue,
        };
        let _ = writeln!(problems, "{title}\n{problem}\n");
    }
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn answers_agree_up_to_the_last_digits_and_no_further() {
    let rows = |value: f64, name: &str| json!([{"value": value, "name": name}]);
    assert!(agree(&rows(0.1 + 0.2, "a"), &rows(0.3, "a")));
    assert!(!agree(&rows(0.3, "a"), &rows(0.300_001, "a")));
    assert!(!agree(&rows(0.3, "a"), &rows(0.3, "b")));
    assert!(!agree(&json!([{"x": null}]), &json!([{"x": 0}])));
    assert!(!agree(&json!([{"x": 1}]), &json!([{"y": 1}])));
    assert!(!agree(&json!([1, 2]), &json!([2, 1])));
}
