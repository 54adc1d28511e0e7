//! What a person reads: errors, overviews, help.

use std::process::Output;

use metad2a_tests::Project;

/// Standard output, standard error and exit code, without what changes from place to place.
fn transcript(project: &Project, output: &Output) -> String {
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
    insta::assert_snapshot!(transcript(&project, &output), @"");
}

#[test]
#[ignore = "needs the built programs: scripts/test.sh"]
fn all_mistakes_of_a_file_are_told_at_once_and_nothing_is_written() {
    let project = Project::new();
    project.edit("epochs: 2", "epochs: none");
    project.edit("use: target", "use: targets");
    project.edit("seed: 7", "sed: 7");
    let output = project.run(&["run"]);
    insta::assert_snapshot!(transcript(&project, &output), @"");
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
    insta::assert_snapshot!(transcript(&project, &output), @"");
    assert!(!project.path().join("store").exists());
}

#[test]
#[ignore = "needs the built programs: scripts/test.sh"]
fn a_search_without_a_snapshot_says_what_to_do() {
    let project = Project::new();
    let output =
        project.run(&["search", "--dataset", "others-images", "others-labels", "--dataset-format", "idx"]);
    insta::assert_snapshot!(transcript(&project, &output), @"");
}

#[test]
#[ignore = "needs the built programs: scripts/test.sh"]
fn the_help_of_a_run_names_its_options() {
    let project = Project::new();
    let output = project.run(&["run", "--help"]);
    insta::assert_snapshot!(transcript(&project, &output), @"");
}
