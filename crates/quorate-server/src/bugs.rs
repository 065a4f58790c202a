//! Mistakes that were made, here or elsewhere, each behind a switch of one line: so that the judges of simulated servers can be
//! judged. Without the feature `breakable` no switch can be on.

use crate::{ServerConfig, shared::Shared};

/// A mistake in what happens between the core and the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A compaction's hash that fails since a snapshot replaced the state ends the member. Ours.
    StaleHashEnds,
    /// A run's last revision is not told to watches.
    EventsForgotten,
    /// What a deposed leader believes of a lease's end reaches the log. Source: etcd issue 15247.
    RevocationUnbound,
    /// The log is cut behind a state that is not durable.
    CheckpointUnsynced,
    /// Leases are not read again from a snapshot that was installed.
    LeasesNotReloaded,
    /// A request is refused at once while there is no leader. Ours, after two election timeouts.
    RefusedWithoutLeader,
    /// The Raft side stands still while a batch is written. Ours: one thread did both.
    RaftWaitsForDisk,
    /// The Raft side stands still while the state machine becomes a snapshot. Ours.
    DeafWhileInstalling,
    /// A member that believes to lead answers linearizable reads without asking anybody.
    ReadUnconfirmed,
    /// After a crash in an install, the log's end is compared with the new state's by index alone. Ours.
    InstallByIndex,
    /// Of leases that are renewed together only the first is, and all are told so.
    RenewalsShort,
    /// A proposal whose answer is still open takes up no room: a client that takes its requests back has any number in flight.
    RoomGivenBackEarly,
    /// The room that a proposal takes up is never given back.
    RoomKept,
    /// A call of the leader whose client went away is kept for ever. Ours.
    CallsKept,
    /// A snapshot that nobody wants stays on the disk until the next one. Ours.
    UnwantedKept,
    /// A renewal is acknowledged while the log still says how little time the lease had before.
    CheckpointNotTakenBack,
    /// A state that a snapshot replaces is closed while clients still read it.
    ReplacedStateCloses,
    /// Clients are served from the start on, whatever state there is.
    ServesAtOnce,
    /// A leader ends leases by the clock of a leadership that it had before.
    LessorOfAnyTerm,
    /// A member that comes back from another data directory is talked to as if it were the old one. Ours.
    WipedReadmitted,
    /// Nobody tells the group which directories the members speak from.
    DirectoriesUntold,
    /// A message raises the core's term however far: its own switch 60.
    TermUnbounded,
    /// What is appended is not looked at.
    CommandsUnexamined,
    /// A snapshot is what its sender says it is.
    SnapshotUnchecked,
    /// A client keeps an old state, whatever space it takes. Ours, and etcd's.
    ViewsKept,
    /// Whoever brings an acknowledgement of a snapshot's chunks reads the next ones. Ours.
    ChunksReadAtOnce,
    /// The Raft side reads old entries itself. Ours.
    RaftReadsLog,
}

impl Shared {
    /// Whether this mistake is made: never, but in a build that judges the judges.
    pub(crate) fn makes(&self, bug: Bug) -> bool {
        self.config.makes(bug)
    }
}

impl ServerConfig {
    /// Whether this mistake is made: never, but in a build that judges the judges.
    #[cfg(not(feature = "breakable"))]
    #[allow(clippy::unused_self, reason = "the same call as in a build that makes mistakes")]
    pub(crate) const fn makes(&self, _: Bug) -> bool {
        false
    }

    /// Whether this mistake is made.
    #[cfg(feature = "breakable")]
    pub(crate) fn makes(&self, bug: Bug) -> bool {
        self.breaks.bug == Some(bug)
    }
}
