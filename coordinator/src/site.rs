//! Where an operator's command looks: the pipeline's store, and its queue as far as it can be reached.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metad2a_database::{Access, Store};
use metad2a_pipeline::envelope::Event;
use metad2a_pipeline::planner::Existing;
use metad2a_queue::{Address, Queue, RabbitAccess, RabbitOptions, RabbitQueue};
use url::Url;

use crate::cli::Addresses;
use crate::hint::{FILE, Hint};
use crate::ledger;
use crate::project::{self, Project};

/// A pipeline and its store.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) project: Project,
    /// None where nothing was run yet.
    pub(crate) store: Option<Store>,
}

/// The pipeline's queue, from outside.
#[derive(Debug)]
pub(crate) enum Reached {
    Open(Arc<dyn Queue>),
    /// An embedded queue that nobody has made yet.
    NotThereYet,
    /// Why it cannot be asked.
    Unreachable(String),
}

/// Who leads, as far as the queue tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leader {
    Nobody,
    Holder(String),
    /// The queue cannot be asked, for this reason.
    Unknown(String),
}

impl Site {
    /// Opens the store for reading; one that is not there yet stays untouched.
    pub(crate) async fn look(file: &Path, addresses: &Addresses) -> anyhow::Result<Self> {
        Self::open(file, addresses, Access::ReadOnly).await
    }

    /// Opens the store for writing, if there is one.
    pub(crate) async fn change(file: &Path, addresses: &Addresses) -> anyhow::Result<Self> {
        let site = Self::look(file, addresses).await?;
        if site.store.is_none() {
            return Ok(site);
        }
        Self::open(file, addresses, Access::ReadWrite).await
    }

    async fn open(file: &Path, addresses: &Addresses, access: Access) -> anyhow::Result<Self> {
        let project = project::load(file, addresses)?;
        let store = match Store::open(&project.specification.store, access).await {
            Ok(store) => Some(store),
            Err(metad2a_database::Error::NoDatabase { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { project, store })
    }

    pub(crate) fn pipeline(&self) -> &str {
        &self.project.specification.name
    }

    /// The store, or what to do where there is none.
    pub(crate) fn needed_store(&self) -> anyhow::Result<&Store> {
        self.store.as_ref().ok_or_else(|| {
            anyhow::anyhow!(
                "store `{}` holds nothing yet; `metad2a run` fills it",
                self.project.specification.store
            )
        })
    }

    pub(crate) async fn existing(&self) -> anyhow::Result<Existing> {
        match &self.store {
            Some(store) => ledger::read(store).await,
            None => Ok(Existing::default()),
        }
    }

    /// The queue. Makes no file of an embedded one.
    pub(crate) async fn queue(&self) -> Reached {
        let url = &self.project.specification.queue;
        let opened: metad2a_queue::Result<Arc<dyn Queue>> = match url.parse() {
            Ok(Address::Sqlite(path)) if !path.exists() => return Reached::NotThereYet,
            Ok(Address::Amqp(url)) => look_at(url).await.map(|queue| Arc::new(queue) as Arc<dyn Queue>),
            Ok(_) => metad2a_queue::open(url).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(queue) => Reached::Open(queue),
            Err(error) => Reached::Unreachable(told(&error)),
        }
    }

    /// The hint of the run that was led last, or of the one that `leader` leads.
    pub(crate) async fn hint(&self, leader: &Leader) -> anyhow::Result<Option<Hint>> {
        let Some(store) = &self.store else { return Ok(None) };
        let Some((_, json)) = store.newest_run_file(self.pipeline(), FILE).await? else { return Ok(None) };
        // One of another version tells nothing, which is no error: it is only a hint.
        let hint = serde_json::from_slice::<Hint>(&json).ok();
        Ok(hint.filter(|hint| match leader {
            Leader::Holder(holder) => hint.holder == *holder && hint.outcome.is_none(),
            Leader::Nobody | Leader::Unknown(_) => true,
        }))
    }
}

impl Site {
    /// The hint of one run.
    pub(crate) async fn hint_of(&self, run_id: &str) -> anyhow::Result<Option<Hint>> {
        let Some(store) = &self.store else { return Ok(None) };
        let json = store.run_file(self.pipeline(), run_id, FILE).await?;
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
    }
}

impl Reached {
    pub(crate) async fn leader(&self, pipeline: &str) -> Leader {
        match self {
            Self::Open(queue) => match queue.leader(pipeline).await {
                Ok(Some(holder)) => Leader::Holder(holder),
                Ok(None) => Leader::Nobody,
                Err(error) => Leader::Unknown(told(&error)),
            },
            Self::NotThereYet => Leader::Nobody,
            Self::Unreachable(why) => Leader::Unknown(why.clone()),
        }
    }

    /// Tells workers and coordinator that there are new decisions. Those who do not hear it look for themselves: the
    /// coordinator within seconds, a worker before it commits.
    pub(crate) async fn tell_of_decisions(&self, pipeline: &str) -> Result<(), String> {
        match self {
            Self::Open(queue) => {
                let event = serde_json::to_vec(&Event::Decided).unwrap_or_default();
                queue.broadcast(pipeline, b"decided").await.map_err(|error| told(&error))?;
                queue.emit(pipeline, &event).await.map_err(|error| told(&error))
            }
            Self::NotThereYet => Ok(()),
            Self::Unreachable(why) => Err(why.clone()),
        }
    }

    /// Ends the connection. What was asked is answered, so an error on the way out does not matter.
    pub(crate) async fn close(&self) {
        if let Self::Open(queue) = self
            && let Err(error) = queue.close().await
        {
            tracing::debug!(%error, "the queue was not closed in order");
        }
    }
}

/// Connects to a broker for a person, who would rather hear that it is away than wait for it.
pub(crate) async fn look_at(url: Url) -> metad2a_queue::Result<RabbitQueue> {
    let options = RabbitOptions {
        start: Duration::from_secs(2),
        answer: Duration::from_secs(10),
        patience: Duration::from_secs(10),
        ..RabbitOptions::default()
    };
    RabbitQueue::connect(url, options, &RabbitAccess::from_environment()).await
}

/// An error of the queue with its cause.
fn told(error: &metad2a_queue::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
