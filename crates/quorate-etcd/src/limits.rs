//! How much of a member clients may take, all named. Each is listed in `docs/limits.md`.

use std::time::Duration;

use crate::fair::{FairSemaphore, Load};

/// The limits of everything that clients make a member hold or do. Tests lower them to reach them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How much a slice of a long read may do, in steps of [`Budget`](quorate_kv::Budget): 2,000 are less than a
    /// millisecond.
    pub slice_steps: usize,
    /// How many slices are done before the serving threads look at their sockets again.
    pub slices_at_once: u64,
    /// How many long reads (ranges, counts, transactions) are open at a time; more wait in line. Each holds one state.
    pub long_reads_max: u64,
    /// How many long reads may wait in line, half of them for one client.
    pub long_reads_waiting_max: u64,
    /// How many states are hashed at a time; more wait in line.
    pub hashes_max: u64,
    /// How many hashes may wait in line, half of them for one client.
    pub hashes_waiting_max: u64,
    /// How many snapshots are sent to clients at a time; more wait in line. Each holds one state.
    pub snapshots_max: u64,
    /// How many snapshots may wait in line, half of them for one client.
    pub snapshots_waiting_max: u64,
    /// How many streamed ranges are open at a time; more wait in line. Each holds one state.
    pub range_streams_max: u64,
    /// How many streamed ranges may wait in line, half of them for one client.
    pub range_streams_waiting_max: u64,
    /// How many bytes of large answers (over 256 KiB) to ranges may be made and not yet taken by their clients; more wait
    /// in line. The answer that is being made may go beyond.
    pub answer_bytes_max: u64,
    /// How many large answers may wait in line, half of them for one client.
    pub answers_waiting_max: u64,
    /// How many bytes of proposals may be on their way to be applied, [`PROPOSAL_BYTES`] for each and its content; more wait
    /// in line. A proposal counts until it is answered, also when its client has gone.
    pub proposal_bytes_max: u64,
    /// How many of those may be one client's while others propose, too.
    pub proposal_bytes_of_client_max: u64,
    /// How many bytes of proposals may wait in line, half of them of one client.
    pub proposal_bytes_waiting_max: u64,
    /// How many keys a transaction that changes something may look at by comparisons and ranges; one whose value is read
    /// counts eight times. Everybody waits while it does.
    pub txn_keys_max: u64,
    /// From how many keys on only one such transaction is on its way at a time; more wait in line.
    pub heavy_txn_keys: u64,
    /// How many of those may wait in line, half of them of one client.
    pub heavy_txns_waiting_max: u64,
    /// How long a client may take nothing of a snapshot, a streamed range or a large answer that is ready for it.
    pub stall_max: Duration,
}

/// What a proposal costs beside its content.
pub const PROPOSAL_BYTES: u64 = 4 << 10;

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            slice_steps: 2_000,
            slices_at_once: (cores as u64 / 2).max(1),
            long_reads_max: 64,
            long_reads_waiting_max: 16_384,
            hashes_max: 2,
            hashes_waiting_max: 256,
            snapshots_max: 16,
            snapshots_waiting_max: 256,
            range_streams_max: 1_024,
            range_streams_waiting_max: 4_096,
            answer_bytes_max: 64 << 20,
            answers_waiting_max: 4_096,
            proposal_bytes_max: 16 << 20,
            proposal_bytes_of_client_max: 1 << 20,
            proposal_bytes_waiting_max: 256 << 20,
            txn_keys_max: 1_000_000,
            heavy_txn_keys: 10_000,
            heavy_txns_waiting_max: 1_024,
            stall_max: Duration::from_secs(30),
        }
    }
}

/// Who may go on, of all the clients of a member.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    /// Slices of long work.
    pub(crate) slices: FairSemaphore,
    pub(crate) long_reads: FairSemaphore,
    pub(crate) hashes: FairSemaphore,
    pub(crate) snapshots: FairSemaphore,
    pub(crate) range_streams: FairSemaphore,
    /// The making of a large answer.
    pub(crate) large_answers: FairSemaphore,
    pub(crate) answer_bytes: FairSemaphore,
    pub(crate) proposals: FairSemaphore,
    pub(crate) heavy_txns: FairSemaphore,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            // Whoever may ask for slices has been admitted before.
            slices: FairSemaphore::new(limits.slices_at_once, u64::MAX),
            long_reads: FairSemaphore::new(limits.long_reads_max, limits.long_reads_waiting_max),
            hashes: FairSemaphore::new(limits.hashes_max, limits.hashes_waiting_max),
            snapshots: FairSemaphore::new(limits.snapshots_max, limits.snapshots_waiting_max),
            range_streams: FairSemaphore::new(
                limits.range_streams_max,
                limits.range_streams_waiting_max,
            ),
            large_answers: FairSemaphore::new(1, limits.answers_waiting_max),
            answer_bytes: FairSemaphore::new(limits.answer_bytes_max, u64::MAX),
            proposals: FairSemaphore::shared(
                limits.proposal_bytes_max,
                limits.proposal_bytes_of_client_max,
                limits.proposal_bytes_waiting_max,
            ),
            heavy_txns: FairSemaphore::new(1, limits.heavy_txns_waiting_max),
        }
    }

    /// What each holds, by its name.
    pub(crate) fn loads(&self) -> [(&'static str, Load); 9] {
        [
            ("slices", self.slices.load()),
            ("long_reads", self.long_reads.load()),
            ("hashes", self.hashes.load()),
            ("snapshots", self.snapshots.load()),
            ("range_streams", self.range_streams.load()),
            ("large_answers", self.large_answers.load()),
            ("answer_bytes", self.answer_bytes.load()),
            ("proposals", self.proposals.load()),
            ("heavy_txns", self.heavy_txns.load()),
        ]
    }
}
