//! One member's disk: what is durable, and behind it the writes that are not yet, one for each token.
//!
//! A sync covers the writes that were queued when it began, and makes them durable together. A power cut keeps a prefix of what was
//! queued: a write is one checksummed record, so a torn one is as good as none, and records are written in order. A process that is
//! killed loses nothing: the system still writes what it was given.
//!
//! This is a model of what `quorate-storage` makes of a disk (`docs/formats/wal.md`, `state.md`, `snapshot.md`), and of what
//! the server does then:
//!
//! | Fault | What the real one does | Here |
//! |---|---|---|
//! | torn write, lost tail | cut off: it was never acknowledged | a power cut keeps a prefix of the queue |
//! | sync fails | final: the process ends | the core hears it, then the process dies |
//! | sync that lies | not seen before the power goes; then a witness (mark, or a later batch) shows that acknowledged batches are missing, and the member refuses to start. Without a witness nobody can tell | the cache is lost with the power; the member is gone, but for the case that the atlas knows |
//! | bit flip, misdirected write | a checksum, or a broken chain, when it is read: at the next start, or when a snapshot is sent. The process ends and says where | damage to a record, the hard state or the snapshot, found at the same moments; the member is gone |
//! | full disk | the write is refused, the process ends; it starts when there is room | the same, at whatever write comes next |
//! | slow, hung disk | the sync takes as long as it takes | the same; a hung one ends with the machine being switched off |
//! | wiped disk | a member without a log and with an id of old is a new voter who forgot its votes: it must not start | gone for good |
//!
//! Which members these may happen to is the [atlas](super::Atlas)'s business. Left out: damage that is repaired from a peer (a damaged member
//! stays down until membership changes exist), and one that hits only what was compacted away in the meantime.

use std::collections::VecDeque;

use quorate_raft::{EntryId, HardState, Index, IoToken, NodeId, Term};

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
    /// What is to be held against what it was.
    pub fn summary(&self) -> (HardState, EntryId, Snapshot) {
        (self.hard_state, self.log.last(), self.checkpoint)
    }

    /// A driver that takes a damaged record for the end of the log.
    pub(crate) fn cut_in_the_middle(&mut self) {
        for _ in 0..self.log.entries().count().div_ceil(2) {
            self.log.drop_last();
        }
    }

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

/// What of a disk is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A record of the log.
    Record,
    /// The state machine.
    Snapshot,
    /// Term, vote and commit hint.
    HardState,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Record, Self::Snapshot, Self::HardState];
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
    /// While the drive lies: what is left of the image when the power goes.
    pub platter: Option<Image>,
    /// What is damaged and was not read since.
    pub damage: Option<Part>,
    /// No write is taken.
    pub is_full: bool,
    /// What the image was before it was lost, each time. It was promised, and counts as promised.
    ghosts: Vec<Image>,
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

    /// The process is gone, and knows nothing of its tokens any more.
    pub fn forget(&mut self) {
        self.queue.clear();
        self.syncing = 0;
        self.done = IoToken(0);
    }

    /// Power is lost, and with it what the drive had only in its cache. Says whether that was anything.
    pub fn power_off(&mut self) -> bool {
        self.forget();
        let Some(platter) = self.platter.take() else { return false };
        let (held, left) = (self.image.summary(), platter.summary());
        if held != left {
            self.ghosts.push(std::mem::replace(&mut self.image, platter));
        }
        held != left
    }

    /// From now on syncs reach only the drive's cache.
    pub fn lie(&mut self) {
        if self.platter.is_none() {
            self.platter = Some(self.image.clone());
        }
    }

    /// The drive writes its cache down, and is honest again.
    pub fn own_up(&mut self) {
        self.platter = None;
    }

    /// Everything is gone.
    pub fn wipe(&mut self) {
        self.forget();
        self.platter = None;
        self.ghosts.push(std::mem::take(&mut self.image));
    }

    /// Whether this entry is durable here, or was promised before the disk was lost.
    pub fn vouches_for(&self, id: EntryId) -> bool {
        self.image.log.holds(id) || self.ghosts.iter().any(|ghost| ghost.log.holds(id))
    }

    /// Whether this member voted for `leader` in `term`, or moved on to a later one, in which that can't be told any more.
    pub fn voted(&self, term: Term, leader: NodeId) -> bool {
        let voted = |state: HardState| {
            state.term > term || (state.term == term && state.vote == Some(leader))
        };
        voted(self.image.hard_state) || self.ghosts.iter().any(|ghost| voted(ghost.hard_state))
    }
}
