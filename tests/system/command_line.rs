//! What a person reads: errors, overviews, help.

use std::process::{Output, Stdio};

use metad2a_tests::Project;

/// Standard output, standard error and exit code, without what changes from place to place.
pub(crate) fn transcript(project: &Project, output: &Output) -> String {
    let folder = project.path().display().to_string();
    let text = format!(
        "exit code {}\n{}{}",
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    text.replace(&folder, "[folder]").trim_end().to_owned()
}

#[test]
#[ignore = "needs the built programs: scripts/test.sh"]
fn a_missing_file_is_named() {
    let project = Project::new();
    let output = project.run(&["run", "nightly.yaml"]);
    insta::assert_snapshot!(transcript(&project, &output), @"
    exit code 2
    metad2a: `nightly.yaml` cannot be read; name the pipeline's file: No such file or directory (os error 2)
    ");
}

#[test]
#[ignore = "needs the built programs: scripts/test.sh"]
fn all_mistakes_of_a_file_are_told_at_once_and_nothing_is_written() {
    let project = Project::new();
    project.edit("epochs: 2", "epochs: none");
    project.edit("use: target", "use: targets");
    project.edit("seed: 7", "sed: 7");
    let output = project.run(&["run"]);
    insta::assert_snapshot!(transcript(&project, &output), @r#"
    exit code 2
    metad2a: `pipeline.yaml` has 3 problems to mend:
      `sources.others.use` must be `meta` or `target`, got `"targets"`
      `recipes.tiny.epochs` must be a whole number from 1 to 100000, got `"none"`
      `sed` is not a known key; did you mean `seed`?
    "#);
    assert!(!project.path().join("store").exists());
    assert!(!project.path().join("queue.sqlite").exists());
}

#[test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
fn a_damaged_source_is_named_with_its_place_and_nothing_is_written() {
    let project = Project::new();
    project.write("shapes-images", &metad2a_tests::idx_images(10, 24)[..1000]);
    let output = project.run(&["run"]);
    let text = transcript(&project, &output);
    assert!(text.starts_with("exit code 2"), "{text}");
    assert!(text.contains("shapes-images"), "{text}");
    assert!(!project.path().join("store").exists());
}

#[test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
fn a_plan_shows_what_is_left_and_writes_nothing() {
    let project = Project::new();
    let output = project.run(&["plan"]);
    insta::assert_snapshot!(transcript(&project, &output), @"
    exit code 0
    small: open, 4 datasets

    stage             done  failed    left  unit
    features             0       0       3  class shards
    evaluations          0       0      12  trainings
    generator            0       0       2  rounds
    predictor            0       0       2  rounds
    search               0       0       1  datasets
    measurements         0       0       4  trainings

    Tasks that can run now: 3 extract-features, 6 evaluate
    ");
    assert!(!project.path().join("store").exists());
}

#[test]
#[ignore = "needs the built programs: scripts/test.sh"]
fn a_search_without_a_snapshot_says_what_to_do() {
    let project = Project::new();
    let output =
        project.run(&["search", "--dataset", "others-images", "others-labels", "--dataset-format", "idx"]);
    insta::assert_snapshot!(transcript(&project, &output), @"
    exit code 1
    metad2a: pipeline `small` has no snapshot yet; `metad2a run` publishes one
    ");
}

#[test]
#[ignore = "needs the built programs: scripts/test.sh"]
fn the_help_of_a_run_names_its_options() {
    let project = Project::new();
    let output = project.run(&["run", "--help"]);
    insta::assert_snapshot!(transcript(&project, &output), @"
    exit code 0
    Computes what a pipeline asks for and what is not there yet, and publishes a snapshot

    Usage: metad2a run [OPTIONS] [PIPELINE]

    Arguments:
      [PIPELINE]
              The file that says what is computed
              
              [default: pipeline.yaml]

    Options:
          --store <URL>
              Store in place of the file's `store`
              
              [env: METAD2A_STORE=]

          --queue <URL>
              Queue in place of the file's `queue`
              
              [env: METAD2A_QUEUE]

          --workers <SLOTS>
              Compute slots of the local worker; 0 starts none. By default, on an embedded queue, one
              for each card, or each core where there is none; on a broker no local worker

          --device <auto|cpu|cuda:N>
              Device of the local worker
              
              [default: auto]

          --detach
              Run in the background; returns when the run leads the pipeline

          --log-file <FILE>
              Where a run in the background writes what it says. By default beside an embedded queue, in
              `logs/`; on a broker in the folder for temporary files

          --refresh
              Unattended, every night for instance: takes in new and changed sources, computes only what
              is missing, and publishes only what passes the gates for data and models

          --warm-start
              Train on from the last published models, not from the seed

          --allow-shrink
              Sources and tables are meant to shrink this time

          --format <FORMAT>
              Possible values:
              - table: For people
              - json:  For programs: one JSON document on standard output
              
              [default: table]

      -v, --verbose...
              Say more on standard error; twice for everything

          --log-format <LOG_FORMAT>
              Form of the log on standard error
              
              [default: text]
              [possible values: text, json]

      -h, --help
              Print help (see a summary with '-h')

    Examples:
      metad2a run pipeline.yaml
      metad2a run pipeline.yaml --workers 0 --format json
      metad2a run pipeline.yaml --detach
      metad2a run --refresh pipeline.yaml
    ");
}

#[test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
fn a_command_whose_reader_has_left_ends_quietly() {
    let project = Project::new();
    for command in [&["completions", "bash"][..], &["plan"], &["plan", "--format", "json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = project.command(command).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command:?}");
        assert_eq!(output.status.code(), Some(0), "{command:?}");
    }
}
