//! The time of leases, as the leader keeps it.
//!
//! Which leases exist and which keys hang on them is replicated state, in the store. When a lease runs out is not: only
//! the leader counts, on its own monotonic clock, and what it decides becomes real by a revoke in the log. A [`Lessor`]
//! is that count, and nothing else: it hears of every applied [`LeaseChange`], and while it is *primary* it says which
//! leases to revoke and which to checkpoint. Time is an argument, in nanoseconds of any monotonic clock.
//!
//! ## Why no lease ends early
//! - A lease's end is set when it is granted or renewed, or at [`Lessor::promote`]: now, plus what is left at the last
//!   checkpoint or the whole time to live, plus one election timeout. A renewal the former leader has acknowledged cannot
//!   have lasted longer: it was before the new leader's election. **The caller promotes only when everything of earlier
//!   terms is applied**: the former leader may have taken a checkpoint back in the last of them.
//! - What a checkpoint says is valid until the next renewal. So a renewal of a checkpointed lease first takes the
//!   checkpoint back through the log ([`Renewal::ResetCheckpointFirst`]); only then may it be acknowledged. The same holds
//!   while a checkpoint is on its way through the log: it would come behind the renewal and deny it. **The caller puts
//!   what [`Lessor::checkpoints`] named into the log before it lets anybody renew.**
//! - A checkpoint that is taken back begins the lease's time anew wherever time is kept, so that nothing depends on who
//!   asked for it.
//! - A lessor keeps time for one leadership, that of the term in which it was promoted. A leader that lost and won again
//!   must not end a lease by its former clock: others may have acknowledged renewals meanwhile. **The caller compares
//!   [`Lessor::primary_term`] with the term in which it leads, before it renews and before it ends a lease.**
//! - A leader without a quorum may still count. It can't revoke anything, as its revoke doesn't commit; and it must not
//!   acknowledge renewals: **the caller confirms leadership, as for a linearizable read, before it acknowledges one.**
//!
//! ## After an election
//! Every lease starts anew, so those that had drifted apart would end together. [`Lessor::promote`] moves them apart:
//! never more than [`PILE_UP_MAX`] end within one second, and none earlier than without that.
//!
//! Left out: forwarding renewals to the leader (the node's), picking ids (the front door's), and the keys (the store's).
//!
//! Sources: etcd `server/lease/lessor.go`; its issues 13294, 15247.

mod queue;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use self::queue::Queue;
use crate::{LEASE_TTL_MAX_SECONDS, LEASE_TTL_MIN_SECONDS, LeaseChange, LeaseRecord};

const SECOND_NS: u64 = 1_000_000_000;

/// Most leases that end within one second after a promotion: three quarters of what may be revoked in that time.
pub const PILE_UP_MAX: usize = 750;

/// Most leases to revoke in one go, each 500 ms.
pub const REVOKE_BATCH_MAX: usize = 500;

/// Most checkpoints in one log entry.
pub const CHECKPOINT_BATCH_MAX: usize = 1000;

/// How long after it was named an expired lease is named again, if it is still there.
const REVOKE_RETRY_NS: u64 = 3 * SECOND_NS;

/// How often a lease that has longer is checkpointed, in seconds, if nobody says otherwise. Shorter leases never are.
///
/// Source: etcd `server/lease/lessor.go` (`defaultLeaseCheckpointInterval`).
pub const CHECKPOINT_INTERVAL_SECONDS: u32 = 300;

/// The shortest time to live in seconds that makes sense with an election timeout: one and a half of it, in whole
/// seconds upwards, and not below [`LEASE_TTL_MIN_SECONDS`]. Shorter requests are raised to it (etcd point 40).
pub fn ttl_min_seconds(election_timeout_ms: u64) -> i64 {
    let seconds = (election_timeout_ms.saturating_mul(3) / 2).div_ceil(1000);
    i64::try_from(seconds)
        .unwrap_or(LEASE_TTL_MAX_SECONDS)
        .clamp(LEASE_TTL_MIN_SECONDS, LEASE_TTL_MAX_SECONDS)
}

/// The answer to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease now lasts its whole time to live, in seconds.
    Renewed {
        /// Seconds, as granted.
        ttl: i64,
    },
    /// First a checkpoint with remaining time 0 must be applied, then ask again. It must come behind every checkpoint in the
    /// log that was named before; until it is applied, none is named. Propose it in this leadership and no other.
    ResetCheckpointFirst,
    /// The time is over and the revoke under way. Answer as for an unknown lease, best once it is gone.
    Expiring,
    /// No lease has this id.
    Unknown,
    /// This lessor does not count time; the leader does.
    NotPrimary,
}

/// One lease, and where it stands in the queues.
#[derive(Clone, Copy, Debug)]
struct Lease {
    record: LeaseRecord,
    /// End of its time; `None` while nobody counts.
    expires_at_ns: Option<u64>,
    /// A checkpoint was named in this leadership and none was applied since.
    is_checkpointing: bool,
    /// How many checkpoints of remaining time 0 were asked for in this leadership and not applied: one named meanwhile would
    /// come behind them, and undo what they allow to acknowledge. One that never comes keeps the lease from being
    /// checkpointed until the leadership ends.
    resets_under_way: u32,
}

impl Lease {
    /// One whose time nobody counts.
    fn uncounted(record: LeaseRecord) -> Self {
        Self { record, expires_at_ns: None, is_checkpointing: false, resets_under_way: 0 }
    }

    /// Seconds a new leader gives it.
    fn seconds_left(&self) -> i64 {
        if self.record.remaining_ttl > 0 { self.record.remaining_ttl } else { self.record.ttl }
    }
}

/// Keeps the time of all leases; see the [module](self).
///
/// Invariant: only a primary has ends of time and filled queues, and then each lease has one and is in `revokes`.
#[derive(Debug)]
pub struct Lessor {
    leases: BTreeMap<i64, Lease>,
    /// The term of the leadership for which it keeps time.
    primary_term: Option<u64>,
    revokes: Queue,
    checkpoints: Queue,
    checkpoint_interval_seconds: u32,
}

impl Default for Lessor {
    fn default() -> Self {
        Self {
            leases: BTreeMap::new(),
            primary_term: None,
            revokes: Queue::default(),
            checkpoints: Queue::default(),
            checkpoint_interval_seconds: CHECKPOINT_INTERVAL_SECONDS,
        }
    }
}

impl Lessor {
    /// A lessor that does not count yet, over the leases of a store. A leader notes the time that is left of its leases
    /// once in `checkpoint_interval_seconds`, at least 1; see [`CHECKPOINT_INTERVAL_SECONDS`].
    pub fn new(
        leases: impl IntoIterator<Item = (i64, LeaseRecord)>,
        checkpoint_interval_seconds: u32,
    ) -> Self {
        let checkpoint_interval_seconds = checkpoint_interval_seconds.max(1);
        let mut lessor = Self { checkpoint_interval_seconds, ..Self::default() };
        lessor.load(leases);
        lessor
    }

    /// Replaces all leases, after the store was replaced by a snapshot, and stops counting.
    pub fn load(&mut self, leases: impl IntoIterator<Item = (i64, LeaseRecord)>) {
        self.demote();
        let leases = leases.into_iter();
        self.leases = leases.map(|(id, record)| (id, Lease::uncounted(record))).collect();
    }

    /// Takes in an applied change.
    pub fn apply(&mut self, now_ns: u64, change: &LeaseChange) {
        match *change {
            LeaseChange::Granted { id, ttl } => {
                let record = LeaseRecord { ttl, remaining_ttl: 0 };
                self.leases.insert(id, Lease::uncounted(record));
                if self.is_primary() {
                    self.start(id, now_ns, 0);
                }
            }
            LeaseChange::Revoked { id } => {
                self.leases.remove(&id);
                self.revokes.remove(id);
                self.checkpoints.remove(id);
            }
            LeaseChange::Checkpointed { id, remaining_ttl } => {
                if let Some(lease) = self.leases.get_mut(&id) {
                    lease.record.remaining_ttl = remaining_ttl;
                    lease.is_checkpointing = false;
                    lease.resets_under_way -=
                        u32::from(remaining_ttl == 0).min(lease.resets_under_way);
                    self.take_back(id, now_ns, remaining_ttl);
                }
            }
        }
    }

    /// Starts counting, for the leadership of `term` and when everything of earlier terms is applied. `extend_ns` is one
    /// election timeout.
    pub fn promote(&mut self, now_ns: u64, extend_ns: u64, term: u64) {
        self.demote();
        self.primary_term = Some(term);
        let ends: Vec<(u64, i64)> = self
            .leases
            .iter()
            .map(|(id, lease)| {
                (after_seconds(now_ns, lease.seconds_left()).saturating_add(extend_ns), *id)
            })
            .collect();
        for (end, id) in move_apart(ends) {
            self.set_end(id, now_ns, end);
        }
    }

    /// Stops counting, at the end of a leadership.
    pub fn demote(&mut self) {
        self.primary_term = None;
        self.revokes.clear();
        self.checkpoints.clear();
        self.leases.values_mut().for_each(|lease| *lease = Lease::uncounted(lease.record));
    }

    /// Stops counting, unless it counts for the leadership of `term`. Whether it goes on.
    pub fn demote_unless(&mut self, term: Option<u64>) -> bool {
        let goes_on = term.is_some() && self.primary_term == term;
        if !goes_on {
            self.demote();
        }
        goes_on
    }

    /// Whether this lessor counts.
    pub fn is_primary(&self) -> bool {
        self.primary_term.is_some()
    }

    /// The term of the leadership for which this lessor counts, if it does.
    pub fn primary_term(&self) -> Option<u64> {
        self.primary_term
    }

    /// Gives a lease its whole time again. To be acknowledged only after leadership has been confirmed *since the
    /// request came in*.
    pub fn renew(&mut self, now_ns: u64, id: i64) -> Renewal {
        if !self.is_primary() {
            return Renewal::NotPrimary;
        }
        let Some(lease) = self.leases.get_mut(&id) else { return Renewal::Unknown };
        if lease.expires_at_ns.is_some_and(|end| end <= now_ns) {
            return Renewal::Expiring;
        }
        if lease.record.remaining_ttl > 0 || lease.is_checkpointing {
            lease.resets_under_way = lease.resets_under_way.saturating_add(1);
            return Renewal::ResetCheckpointFirst;
        }
        let ttl = lease.record.ttl;
        self.start(id, now_ns, 0);
        Renewal::Renewed { ttl }
    }

    /// Leases whose time is over, the longest overdue first, to be revoked. Each is named once, and again only if it is
    /// still there some seconds later.
    pub fn expired(&mut self, now_ns: u64, leases_max: usize) -> Vec<i64> {
        let mut ids = Vec::new();
        while ids.len() < leases_max {
            let Some(id) = self.revokes.pop_due(now_ns) else { break };
            self.revokes.set(id, now_ns.saturating_add(REVOKE_RETRY_NS));
            ids.push(id);
        }
        ids
    }

    /// Leases whose checkpoint is due, with the seconds left, upwards; to be proposed in one log entry of at most
    /// [`CHECKPOINT_BATCH_MAX`]. Each comes again after the interval, as long as it has more than that left.
    pub fn checkpoints(&mut self, now_ns: u64) -> Vec<(i64, i64)> {
        let interval = i64::from(self.checkpoint_interval_seconds);
        let mut due = Vec::new();
        while due.len() < CHECKPOINT_BATCH_MAX {
            let Some(id) = self.checkpoints.pop_due(now_ns) else { break };
            let Some(lease) = self.leases.get_mut(&id) else { continue };
            let Some(left_ns) = lease.expires_at_ns.and_then(|end| end.checked_sub(now_ns)) else {
                continue;
            };
            let left = i64::try_from(left_ns.div_ceil(SECOND_NS)).unwrap_or(i64::MAX);
            if left > 0 && left < lease.record.ttl && lease.resets_under_way == 0 {
                lease.is_checkpointing = true;
                due.push((id, left));
            }
            if left > interval {
                self.checkpoints.set(id, after_seconds(now_ns, interval));
            }
        }
        due
    }

    /// Whole seconds a lease has left, 0 when its time is over. `None` for an unknown lease and while nobody counts.
    pub fn remaining(&self, now_ns: u64, id: i64) -> Option<i64> {
        let end = self.leases.get(&id)?.expires_at_ns?;
        i64::try_from(end.saturating_sub(now_ns) / SECOND_NS).ok()
    }

    /// The next time at which [`expired`](Self::expired) or [`checkpoints`](Self::checkpoints) has something.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        [self.revokes.first(), self.checkpoints.first()].into_iter().flatten().min()
    }

    /// Number of leases.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// A checkpoint that is taken back gives a lease its whole time, if it had less and is not over.
    fn take_back(&mut self, id: i64, now_ns: u64, remaining_ttl: i64) {
        let Some(lease) = self.leases.get(&id).filter(|_| remaining_ttl == 0) else { return };
        let whole = after_seconds(now_ns, lease.record.ttl);
        if lease.expires_at_ns.is_some_and(|end| end > now_ns && end < whole) {
            self.set_end(id, now_ns, whole);
        }
    }

    /// Gives a lease its time from now on.
    fn start(&mut self, id: i64, now_ns: u64, extend_ns: u64) {
        if let Some(lease) = self.leases.get(&id) {
            let end = after_seconds(now_ns, lease.seconds_left()).saturating_add(extend_ns);
            self.set_end(id, now_ns, end);
        }
    }

    /// Sets the end of a lease, and its first checkpoint if it is long and has none planned.
    fn set_end(&mut self, id: i64, now_ns: u64, end: u64) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        lease.expires_at_ns = Some(end);
        self.revokes.set(id, end);
        let interval = i64::from(self.checkpoint_interval_seconds);
        if lease.seconds_left() > interval && !self.checkpoints.contains(id) {
            self.checkpoints.set(id, after_seconds(now_ns, interval));
        }
    }
}

/// The time some seconds from now; the end of time if that is beyond it.
fn after_seconds(now_ns: u64, seconds: i64) -> u64 {
    now_ns.saturating_add(u64::try_from(seconds).unwrap_or(0).saturating_mul(SECOND_NS))
}

/// Moves ends back so that no more than [`PILE_UP_MAX`] lie within a second, keeping their order.
fn move_apart(mut ends: Vec<(u64, i64)>) -> Vec<(u64, i64)> {
    ends.sort_unstable();
    let mut window: VecDeque<u64> = VecDeque::with_capacity(PILE_UP_MAX);
    for (end, _) in &mut ends {
        if window.len() == PILE_UP_MAX {
            let earliest = window.pop_front().unwrap_or(0).saturating_add(SECOND_NS);
            *end = earliest.max(*end);
        }
        window.push_back(*end);
    }
    ends
}
