//! The page that `metad2a report` makes of a real run.

use std::fs::read_to_string;
use std::process::Output;

use metad2a_tests::Project;
use serde_json::Value;

fn told(project: &Project, output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}\n{}", output.status, project.worker_log());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
fn a_report_needs_nothing_but_itself_and_has_the_figures_that_the_run_told() {
    let project = Project::new();
    let run: Value =
        serde_json::from_str(&told(&project, &project.run(&["run", "--format", "json"]))).unwrap();

    assert_eq!(told(&project, &project.run(&["report"])), "small-1.html\n");
    let page = read_to_string(project.path().join("small-1.html")).unwrap();
    for outside in ["http:", "https:", "src=", "<script", "<link", "@import", "url("] {
        assert!(!page.contains(outside), "`{outside}` in the page");
    }
    let links: Vec<&str> = page.split("href=\"").skip(1).collect();
    assert!(!links.is_empty() && links.iter().all(|link| link.starts_with('#')));

    let target = &run["datasets"][0];
    for cell in target["chosen"].as_array().unwrap().iter().chain(target["random"].as_array().unwrap()) {
        let test = cell["test_accuracy"].as_f64().expect("every cell was measured");
        assert!(page.contains(&format!("<td class=\"n\">{:.1}</td>", 100.0 * test)), "{cell}");
        assert!(page.contains(&format!(">Cell {}</title>", cell["arch_index"])), "{cell}");
    }

    let arguments = ["report", "--snapshot", "1", "--format", "json", "--output", "figures.json"];
    assert_eq!(told(&project, &project.run(&arguments)), "figures.json\n");
    let figures: Value =
        serde_json::from_str(&read_to_string(project.path().join("figures.json")).unwrap()).unwrap();
    assert_eq!(figures["targets"][0]["outcome"], *target);
    assert_eq!(figures["evaluations"], run["evaluations"]);

    let unknown = project.run(&["report", "--snapshot", "2"]);
    assert_eq!(unknown.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&unknown.stderr);
    assert!(errors.contains("pipeline `small` has no snapshot 2"), "{errors}");
    let nowhere = project.run(&["report", "--output", "no/such/folder/page.html"]);
    assert_eq!(nowhere.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&nowhere.stderr);
    assert!(errors.contains("`no/such/folder/page.html` cannot be written"), "{errors}");
}
