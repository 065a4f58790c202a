//! One member's disk: what is durable, and behind it the writes that are not yet, one for each token.
//!
//! A sync covers the writes that were queued when it began, and makes them durable together. A crash keeps a prefix of what was
//! queued: a write is one checksummed record, so a torn one is as good as none, and records are written in order.

use std::collections::VecDeque;

use quorate_raft::{EntryId, HardState, Index, IoToken};

use super::entry::{Entry, Shelf};

/// A state machine at one position: its content is a hash over all that was applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry applied.
    pub last: EntryId,
    /// The hash over everything up to it.
    pub state: u64,
}

/// One write: an atomic record.
#[derive(Clone, Debug)]
pub struct Write {
    /// What `IoDone` reports.
    pub token: IoToken,
    /// Term, vote and commit hint, when they changed.
    pub hard_state: Option<HardState>,
    /// Entries that replace everything from a position on.
    pub append: Option<(Index, Vec<Entry>)>,
    /// A snapshot that becomes the state.
    pub install: Option<Snapshot>,
}

/// What survives a crash for sure.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Term, vote and commit hint.
    pub hard_state: HardState,
    /// The log.
    pub log: Shelf,
    /// The state machine.
    pub checkpoint: Snapshot,
}

impl Image {
    /// Takes a write in. Says whether it leaves no gap in the log.
    pub fn keep(&mut self, write: &Write) -> bool {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(snapshot) = write.install {
            self.log = Shelf::new(snapshot.last);
            self.checkpoint = snapshot;
        }
        write.append.as_ref().is_none_or(|(first, entries)| self.log.put(*first, entries))
    }
}

/// The image, the writes behind it, and the sync under way.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// What is durable.
    pub image: Image,
    /// What is not, oldest first.
    pub queue: VecDeque<Write>,
    /// How many of the oldest the sync under way covers; 0: there is none.
    pub syncing: usize,
    /// The newest durable token of this run of the process.
    pub done: IoToken,
}

impl Disk {
    /// Begins a sync of everything that waits for one. Says whether there was anything, and no sync under way.
    pub fn begin_sync(&mut self) -> bool {
        let begins = self.syncing == 0 && !self.queue.is_empty();
        if begins {
            self.syncing = self.queue.len();
        }
        begins
    }

    /// Power is lost: the process knows nothing of its tokens any more.
    pub fn power_off(&mut self) {
        self.queue.clear();
        self.syncing = 0;
        self.done = IoToken(0);
    }
}
