//! Builds that know different things, and what ties the messages of a run together.

use std::io::Write;
use std::sync::Mutex;

use metad2a_queue::TraceContext;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_task_of_another_build_is_left_to_workers_that_know_it() {
    let world = World::new().await;
    let newer = Lane { dialect: "newer".into(), ..lane(Urgency::Normal) };
    let theirs = Message::new("an id that we would not give it", "a body that we could not read");
    world.queue.publish(&newer, &[theirs]).await.unwrap();
    world.publish(&envelope(3)).await;
    world.work_until(world.compute([success()]), is_finished).await;
    assert_eq!(world.queue.ready(&newer).await.unwrap(), 1, "nobody of this build touched it");
    assert_eq!(world.queue.dead_letters(PIPELINE).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_next_attempt_and_every_line_of_the_log_belong_to_the_trace_of_the_run() {
    let lines: Arc<Mutex<Vec<u8>>> = Arc::default();
    let recorded = Arc::clone(&lines);
    let subscriber =
        tracing_subscriber::fmt().json().with_writer(move || Recorder(Arc::clone(&recorded))).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::new().await;
    let run = TraceContext::start();
    let task = envelope(3);
    let message = Message::new(task.task.id(), task.encode()).with_trace(&run.child());
    world.queue.publish(&lane(Urgency::Normal), std::slice::from_ref(&message)).await.unwrap();
    // The first attempt dies, the second hangs until the stop and is given back.
    world.work_until(world.compute([crash()]), is_failed).await;

    let (again, _) = world.next_message().await.expect("the second attempt was given back");
    assert_ne!(again.body, message.body, "another attempt");
    assert_eq!(again.trace(), message.trace());
    let log = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
    let of_the_task: Vec<&str> = log.lines().filter(|line| line.contains(&again.id)).collect();
    assert!(of_the_task.len() >= 3, "started, failed, started again: {log}");
    for line in of_the_task {
        assert!(line.contains(&run.trace_id()), "no trace: {line}");
    }
}

struct Recorder(Arc<Mutex<Vec<u8>>>);

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
