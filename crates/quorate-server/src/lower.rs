//! Limits without a flag, lowered to where they are hit: the usual ones take hours, or gigabytes. For simulated worlds.

use quorate_kv::watch::WatchLimits;
use quorate_node::NodeConfig;

/// Lower limits than the usual ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowerLimits {
    /// The most entries in one append.
    pub append_entries_max: u64,
    /// The most content of one append, in bytes.
    pub append_bytes_max: u64,
    /// The most appends under way to one follower.
    pub inflight_appends_max: usize,
    /// The most entries that a leader holds and nobody has committed.
    pub uncommitted_entries_max: u64,
    /// The most proposals that wait or are under way.
    pub proposals_max: usize,
    /// The most reads that wait.
    pub reads_max: usize,
    /// The most proposals of one round.
    pub batch_entries_max: usize,
    /// The most forwarded proposals that wait for a round.
    pub inbox_max: usize,
    /// The most content of entries in memory that are applied, in bytes.
    pub cache_bytes_max: u64,
    /// The most revisions that watches find in memory.
    pub watch_revisions_max: usize,
    /// The most that a watch takes in one go, in bytes.
    pub watch_pull_bytes_max: usize,
    /// The size of a chunk of a snapshot between members, in bytes.
    pub snapshot_chunk_bytes: usize,
}

impl LowerLimits {
    /// Lowers those of the node and of its core.
    pub(crate) fn lower_node(&self, config: &mut NodeConfig) {
        config.raft.append_entries_max = self.append_entries_max;
        config.raft.append_bytes_max = self.append_bytes_max;
        config.raft.inflight_appends_max = self.inflight_appends_max;
        config.raft.uncommitted_entries_max = self.uncommitted_entries_max;
        config.raft.reads_max = self.reads_max;
        config.proposals_max = self.proposals_max;
        config.reads_max = self.reads_max;
        config.batch_entries_max = self.batch_entries_max;
        config.inbox_max = self.inbox_max;
        config.cache_bytes_max = self.cache_bytes_max;
    }

    /// Lowers those of watches.
    pub(crate) fn lower_watches(&self, limits: &mut WatchLimits) {
        limits.ring_revisions_max = self.watch_revisions_max;
        limits.pull_bytes_max = self.watch_pull_bytes_max;
    }
}
