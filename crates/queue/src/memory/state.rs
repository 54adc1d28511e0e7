//! What a named queue holds. Pure data: no waiting, no locks.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::{EVENT_CAPACITY, Message};

/// A listener that never reads must not fill the memory.
const NOTICE_CAPACITY: usize = 1_000;

/// **Invariant:** a message is in exactly one of `lanes`, `out`, `dead`, or gone.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Connections that were not closed.
    pub(super) open: HashSet<u64>,
    lanes: HashMap<String, VecDeque<Waiting>>,
    out: BTreeMap<u64, Out>,
    dead: HashMap<String, u64>,
    events: HashMap<String, VecDeque<Vec<u8>>>,
    listeners: HashMap<u64, Listener>,
    leaders: HashMap<String, Leader>,
    /// Numbers deliveries, listeners and terms of leaders.
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    message: Message,
    redelivered: bool,
}

#[derive(Debug)]
struct Out {
    connection: u64,
    lane: String,
    message: Message,
}

#[derive(Debug)]
struct Listener {
    pipeline: String,
    notices: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
struct Leader {
    holder: String,
    connection: u64,
    term: u64,
}

/// A message just given out.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) number: u64,
    pub(super) message: Message,
    pub(super) redelivered: bool,
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn publish(&mut self, lane: String, messages: &[Message]) {
        let waiting = messages.iter().map(|message| Waiting { message: message.clone(), redelivered: false });
        self.lanes.entry(lane).or_default().extend(waiting);
    }

    pub(super) fn take(&mut self, connection: u64, lane: &str) -> Option<Taken> {
        let Waiting { message, redelivered } = self.lanes.get_mut(lane)?.pop_front()?;
        let number = self.number();
        self.out.insert(number, Out { connection, lane: lane.to_owned(), message: message.clone() });
        Some(Taken { number, message, redelivered })
    }

    pub(super) fn acknowledge(&mut self, number: u64) -> bool {
        self.out.remove(&number).is_some()
    }

    pub(super) fn give_back(&mut self, number: u64) -> bool {
        let Some(out) = self.out.remove(&number) else {
            return false;
        };
        let waiting = Waiting { message: out.message, redelivered: true };
        // To the front, as RabbitMQ does where it can: what was first stays first.
        self.lanes.entry(out.lane).or_default().push_front(waiting);
        true
    }

    pub(super) fn dead_letter(&mut self, number: u64, pipeline: &str) -> bool {
        if self.out.remove(&number).is_none() {
            return false;
        }
        *self.dead.entry(pipeline.to_owned()).or_default() += 1;
        true
    }

    pub(super) fn ready(&self, lane: &str) -> u64 {
        self.lanes.get(lane).map_or(0, |waiting| waiting.len() as u64)
    }

    pub(super) fn purge(&mut self, lane: &str) -> u64 {
        self.lanes.remove(lane).map_or(0, |waiting| waiting.len() as u64)
    }

    pub(super) fn dead_letters(&self, pipeline: &str) -> u64 {
        self.dead.get(pipeline).copied().unwrap_or_default()
    }

    pub(super) fn purge_dead_letters(&mut self, pipeline: &str) -> u64 {
        self.dead.remove(pipeline).unwrap_or_default()
    }

    pub(super) fn broadcast(&mut self, pipeline: &str, notice: &[u8]) {
        for listener in self.listeners.values_mut().filter(|listener| listener.pipeline == pipeline) {
            push_bounded(&mut listener.notices, notice, NOTICE_CAPACITY);
        }
    }

    pub(super) fn listen(&mut self, pipeline: &str) -> u64 {
        let number = self.number();
        let listener = Listener { pipeline: pipeline.to_owned(), notices: VecDeque::new() };
        self.listeners.insert(number, listener);
        number
    }

    pub(super) fn next_notice(&mut self, listener: u64) -> Option<Vec<u8>> {
        self.listeners.get_mut(&listener)?.notices.pop_front()
    }

    pub(super) fn stop_listening(&mut self, listener: u64) {
        self.listeners.remove(&listener);
    }

    pub(super) fn emit(&mut self, pipeline: &str, event: &[u8]) {
        push_bounded(self.events.entry(pipeline.to_owned()).or_default(), event, EVENT_CAPACITY as usize);
    }

    pub(super) fn next_event(&mut self, pipeline: &str) -> Option<Vec<u8>> {
        self.events.get_mut(pipeline)?.pop_front()
    }

    /// The number of the new term, or the name of the present leader.
    pub(super) fn lead(&mut self, pipeline: &str, holder: &str, connection: u64) -> Result<u64, String> {
        if let Some(leader) = self.leaders.get(pipeline) {
            return Err(leader.holder.clone());
        }
        let term = self.number();
        self.leaders.insert(pipeline.to_owned(), Leader { holder: holder.to_owned(), connection, term });
        Ok(term)
    }

    pub(super) fn leader(&self, pipeline: &str) -> Option<String> {
        self.leaders.get(pipeline).map(|leader| leader.holder.clone())
    }

    pub(super) fn leads(&self, pipeline: &str, term: u64) -> bool {
        self.leaders.get(pipeline).is_some_and(|leader| leader.term == term)
    }

    pub(super) fn resign(&mut self, pipeline: &str, term: u64) {
        if self.leads(pipeline, term) {
            self.leaders.remove(pipeline);
        }
    }

    /// Gives back what the connection took and ends its leaderships, as a broker does for a lost connection.
    pub(super) fn disconnect(&mut self, connection: u64) {
        self.open.remove(&connection);
        self.leaders.retain(|_, leader| leader.connection != connection);
        let taken: Vec<u64> = self
            .out
            .iter()
            .filter(|(_, out)| out.connection == connection)
            .map(|(number, _)| *number)
            .collect();
        // The last taken goes to the front first, so that the old order comes back.
        for number in taken.into_iter().rev() {
            self.give_back(number);
        }
    }
}

fn push_bounded(buffer: &mut VecDeque<Vec<u8>>, item: &[u8], capacity: usize) {
    if buffer.len() == capacity {
        buffer.pop_front();
    }
    buffer.push_back(item.to_vec());
}
