//! A node's settings and limits, all named.

use crate::CommandPort;

/// The settings of one node; the same for all of its groups.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The Raft core's settings, with this node's id.
    pub raft: quorate_raft::Config,
    /// Which run of this node's process it is. Drawn at random at each start; forwarded proposals are numbered within it.
    pub incarnation: u64,
    /// What tells commands from garbage.
    pub commands: CommandPort,
    /// How long a proposal or a read may wait before it is answered with an error, in nanoseconds.
    pub request_timeout_ns: u64,
    /// How many proposals may wait or be under way.
    pub proposals_max: usize,
    /// How much content they may have, in bytes.
    pub proposal_bytes_max: u64,
    /// How many committed entries may wait for the state machine before new proposals are refused (etcd:
    /// `maxGapBetweenApplyAndCommitIndex`).
    pub apply_lag_max: u64,
    /// How many reads may wait.
    pub reads_max: usize,
    /// The most proposals of one round.
    pub batch_entries_max: usize,
    /// The most content of one round's proposals, or of one message of forwarded ones, in bytes.
    pub batch_bytes_max: u64,
    /// How many forwarded proposals a leader holds for the next rounds before it takes no more.
    pub inbox_max: usize,
    /// The same: the most content, in bytes; one of any size is taken when there is no other.
    pub inbox_bytes_max: u64,
    /// How long to wait for an answer to forwarded proposals or to a read's question before it is sent again.
    pub resend_ns: u64,
    /// How much content of recent entries stays in memory when the log and the state machine have it, in bytes.
    pub cache_bytes_max: u64,
    /// How much committed content may be at the state machine and not yet applied, in bytes. More waits in the log.
    pub apply_bytes_max: u64,
    /// How many entries pile up behind the log's start before the log is cut.
    pub snapshot_count: u64,
    /// How many entries stay before the state machine's durable index, for followers that lag a little.
    pub snapshot_catchup_entries: u64,
    /// How much of the log stays for members that are being sent a snapshot, in bytes of content and 64 for each entry.
    pub log_hold_bytes_max: u64,
    /// How much memory the flight recorder of each group takes, in bytes; 0: there is none, and nobody checks the core's
    /// invariants.
    pub flight_bytes_max: usize,
}

impl NodeConfig {
    /// The usual limits for these Raft settings; the request timeout is etcd's five seconds and two elections.
    pub fn new(raft: quorate_raft::Config, incarnation: u64) -> Self {
        Self {
            request_timeout_ns: 5_000_000_000 + 2 * raft.election_timeout_ns,
            resend_ns: 2 * raft.heartbeat_interval_ns,
            raft,
            incarnation,
            commands: CommandPort::default(),
            proposals_max: 1 << 16,
            proposal_bytes_max: 256 << 20,
            apply_lag_max: 5_000,
            reads_max: 1 << 16,
            batch_entries_max: 4_096,
            batch_bytes_max: 4 << 20,
            inbox_max: 1 << 14,
            inbox_bytes_max: 64 << 20,
            cache_bytes_max: 4 << 20,
            apply_bytes_max: 64 << 20,
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5_000,
            log_hold_bytes_max: 128 << 20,
            flight_bytes_max: quorate_flight::RING_BYTES_DEFAULT,
        }
    }

    /// How long reads wait after the core refused their question.
    pub(crate) fn refused_read_pause_ns(&self) -> u64 {
        (self.raft.heartbeat_interval_ns / 8).max(1)
    }
}
