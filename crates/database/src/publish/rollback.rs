//! Going back to an old snapshot: forwards, as a new one. Nothing is removed, so a mistake is undone the same way.

use crate::names::check_pipeline;
use crate::{Error, FileRef, Published, Put, Result, Snapshot, Store, now, random_id};

impl Store {
    /// Publishes the content of snapshot `number` again, as the newest one. Nothing is done where the current snapshot
    /// has that content already.
    ///
    /// The caller must keep garbage collection away meanwhile, as a publisher does, by leading the pipeline.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no such snapshot, [`Error::Checks`] with every file and rule that is broken in
    /// it (see [`Store::verify`]); the current snapshot then stays as it is.
    pub async fn roll_back(&self, pipeline: &str, number: u32) -> Result<Published> {
        check_pipeline(pipeline)?;
        let Some(old) = self.snapshot(pipeline, number).await? else {
            return Err(Error::Invalid {
                what: format!("snapshot {number} of `{pipeline}`"),
                rule: "was never published, or garbage collection removed it".to_owned(),
            });
        };
        let broken = self.verify(&old).await?.broken;
        if !broken.is_empty() {
            let violations = broken.iter().map(ToString::to_string).collect();
            return Err(Error::Checks { pipeline: pipeline.to_owned(), violations });
        }
        loop {
            let newest = self.current_snapshot(pipeline).await?;
            if let Some(same) = newest.as_ref().filter(|newest| newest.has_content_of(&old)) {
                return Ok(Published::Unchanged(same.number));
            }
            let files: Vec<FileRef> = old.tables.keys().flat_map(|table| old.files(table)).collect();
            self.check_files(&files, "it was removed meanwhile; the current snapshot stays").await?;
            let snapshot = Snapshot {
                number: newest.map_or(number, |newest| newest.number) + 1,
                execution_id: random_id(),
                published_at: now(),
                restored_from: Some(number),
                ..old.clone()
            };
            if self.put_manifest(&snapshot).await? == Put::Created {
                return Ok(Published::New(snapshot.number));
            }
            tracing::info!(pipeline, number = snapshot.number, "somebody else published first");
        }
    }
}
