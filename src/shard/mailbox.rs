//! How shards speak to each other: one bounded queue into each shard, and a note of whom to wake.
//!
//! A sender never waits: a full queue is an answer (503). The shard collects whose bell the driver must ring.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use crossbeam::atomic::AtomicCell;
use crossbeam::queue::ArrayQueue;

use super::ConnectionId;
use crate::service::used_assertions::UsedAssertions;
use crate::service::{Answer, Ask, Asker, Settings};

/// Messages that wait for one shard. At 33,000 refreshes a second none of them sends one; sign-ins do, and a shard
/// that is a hundred milliseconds late holds back at most this many of them.
pub const INBOX_MESSAGES_MAX: usize = 4_096;

/// What one shard, or the thread that handles signals, tells another shard.
#[allow(missing_docs, reason = "the names say it")]
pub enum Message {
    /// Do this for a resident or an assertion that is yours, and answer.
    Ask {
        asker: Asker,
        ask: Ask,
    },
    Answer {
        connection: ConnectionId,
        answer: Answer,
    },
    /// Keys, sign-in and lifetimes as they are from now on.
    Settings(Arc<Settings>),
    /// Let go of this, which says that you live.
    Alive(Arc<()>),
    /// Take no new connection, answer what is in flight, close the rest.
    Drain,
    /// Take no write any more, and say under your number which assertions were used. The next drain leaves the connections
    /// that wait to be accepted to the process that has the listeners then.
    LetGo(Sender<(usize, Option<UsedAssertions>)>),
}

/// The queue into one shard; any thread may send.
pub type Inbox = ArrayQueue<Message>;

/// One shard's side of all the queues.
pub struct Mailbox {
    /// This shard's number.
    pub(super) own: usize,
    pub(super) inboxes: Vec<Arc<Inbox>>,
    /// One bit a shard: something was put into its queue since its bell was last rung.
    rung: Vec<bool>,
    /// Which shards have no connection left and take no more; only written while they drain.
    done: Arc<[AtomicCell<bool>]>,
}

impl Mailbox {
    /// The mailboxes of all the shards whose inboxes these are, in their order.
    pub fn all(inboxes: &[Arc<Inbox>]) -> Vec<Mailbox> {
        let done: Arc<[AtomicCell<bool>]> = inboxes.iter().map(|_| AtomicCell::new(false)).collect();
        let mailbox =
            |own| Mailbox { own, inboxes: inboxes.to_vec(), rung: vec![false; inboxes.len()], done: done.clone() };
        (0..inboxes.len()).map(mailbox).collect()
    }

    /// Has this shard look at its queue again soon.
    pub(super) fn ring_own(&mut self) {
        self.rung[self.own] = true;
    }

    /// Puts a message into the queue of shard `to`; gives it back when that is full.
    pub(super) fn send(&mut self, to: usize, message: Message) -> Result<(), Message> {
        self.inboxes[to].push(message)?;
        self.rung[to] = true;
        Ok(())
    }

    /// Notes whether this shard is done, and says whether all are: as long as one is not, it may still ask any other.
    pub(super) fn all_done(&self, own_done: bool) -> bool {
        self.done[self.own].store(own_done);
        self.done.iter().all(|done| done.load())
    }

    pub(super) fn others_done(&self) -> bool {
        self.done.iter().enumerate().all(|(shard, done)| shard == self.own || done.load())
    }

    pub(super) fn poll_bell(&mut self) -> Option<usize> {
        let shard = self.rung.iter().position(|rung| *rung)?;
        self.rung[shard] = false;
        Some(shard)
    }
}
