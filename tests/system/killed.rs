//! Kill -9 at any moment: the next run finishes the work, and the tables are those of a calm run.

use std::process::Stdio;
use std::time::{Duration, Instant};

use metad2a_randomness::Key;
use metad2a_tests::{DETERMINISTIC_TABLES, Project, deterministic_tables};
use rustix::process::{Pid, Signal, kill_process};

/// Processes whose command line names this project's folder or its store.
fn processes_of(project: &Project) -> Vec<(Pid, String)> {
    let mark = project.path().display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(number) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        let Ok(command) = std::fs::read_to_string(entry.path().join("cmdline")) else { continue };
        if String::from_utf8_lossy(&environment).contains(&mark) && command.contains("metad2a-worker") {
            found.extend(Pid::from_raw(number).map(|pid| (pid, command)));
        }
    }
    found
}

fn kill(pid: Pid) {
    // It may have ended by itself a moment ago.
    let _ = kill_process(pid, Signal::KILL);
}

#[tokio::test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
async fn after_kill_9_at_random_moments_the_tables_are_those_of_a_calm_run() {
    let calm = Project::new();
    let started = Instant::now();
    let output = calm.run(&["run"]);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), calm.worker_log());
    let length = started.elapsed();
    let expected = deterministic_tables(&calm.store()).await;
    assert_eq!(expected.len(), DETERMINISTIC_TABLES);

    let killed = Project::new();
    let mut moments = Key::new("killed", "moments").stream(u64::from(std::process::id()));
    let mut ended_early = 0;
    for attempt in 0..6 {
        let wait = length.mul_f64(moments.uniform_between(0.05, 0.6));
        let mut coordinator =
            killed.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(wait);
        let workers = processes_of(&killed);
        // Half of the time the coordinator dies, else one of the worker's processes, supervisor or compute.
        if attempt % 2 == 0 || workers.is_empty() {
            coordinator.kill().unwrap();
            coordinator.wait().unwrap();
            let gone = Instant::now() + Duration::from_secs(20);
            while !processes_of(&killed).is_empty() {
                assert!(
                    Instant::now() < gone,
                    "workers outlive their coordinator: {:?}",
                    processes_of(&killed)
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        } else {
            kill(workers[moments.below(workers.len())].0);
            std::thread::sleep(wait);
            coordinator.kill().unwrap();
            coordinator.wait().unwrap();
        }
        ended_early += u32::from(!killed.path().join("store/small/snapshots/000001.json").exists());
    }
    assert!(ended_early > 0, "no run was killed before its end");
    let output = killed.run(&["run"]);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), killed.worker_log());
    let found = deterministic_tables(&killed.store()).await;
    for (table, rows) in &expected {
        assert_eq!(&found[table], rows, "table `{table}` after {ended_early} kills");
    }
}

#[test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
fn a_second_coordinator_names_the_first_and_leaves() {
    let project = Project::new();
    let mut first = project.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let leads = Instant::now() + Duration::from_secs(20);
    while processes_of(&project).is_empty() {
        assert!(Instant::now() < leads, "the first coordinator starts a worker");
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = project.run(&["run"]);
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(second.status.code(), Some(4));
    let errors = String::from_utf8_lossy(&second.stderr);
    assert!(errors.contains(&format!("is being run by process {}", first.id())), "{errors}");
}
