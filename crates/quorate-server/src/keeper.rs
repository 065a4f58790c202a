//! What is done by the clock: a leader ends leases, notes how much of their time is left, drops old revisions; everybody sends
//! again what got lost of a snapshot, and a member that has just started looks whether it may serve clients.
//!
//! Everything it decides becomes real only through the log. Proposals are bound to the leadership in which they were made, so
//! that what a deposed leader believed of a lease never reaches the log.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use quorate_kv::{Command, lessor::REVOKE_BATCH_MAX};
use quorate_node::Scope;
use quorate_proto::etcdserverpb::{
    CompactionRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest,
};
use quorate_raft::{Mono, Term};

use crate::{
    AutoCompaction,
    bugs::Bug,
    clock::nanoseconds,
    pending::Waiter,
    readiness,
    shared::Shared,
    snapshots::Snapshots,
    troubles::{DiskWatch, LeaderWatch},
};

/// How often it looks.
pub const TICK: Duration = Duration::from_millis(200);
/// How often revisions are counted when only a number of them is kept (etcd: `revInterval`).
const REVISION_INTERVAL: Duration = Duration::from_secs(300);
/// The longest pause between compactions by age (etcd: `periodic.getCompactInterval`).
const PERIOD_MAX: Duration = Duration::from_secs(3600);
/// How many quotas the file of the state may take before clients lose the old states that keep space in it. What is live, and
/// what the engine puts around it, has room in it when no key or value is very small.
const STATE_FILE_QUOTAS_MAX: u64 = 2;
/// How many times in a period the revision is noted.
const SAMPLES_PER_PERIOD: u32 = 10;

/// The side that looks at the clock.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
    compactor: Compactor,
    leader_watch: LeaderWatch,
    disk_watch: DiskWatch,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let compactor = Compactor::new(shared.config.auto_compaction, shared.clock.now());
        let (leader_watch, disk_watch) = (LeaderWatch::default(), DiskWatch::default());
        Self { shared, compactor, leader_watch, disk_watch }
    }

    /// Looks once. Call it every [`TICK`].
    pub fn tick(&mut self) {
        self.disk_watch.look(&self.shared);
        self.leader_watch.look(&self.shared);
        Snapshots::tick(&self.shared);
        readiness::tick(&self.shared);
        self.bound_state_file();
        self.tell_directories();
        let leads = self.shared.standing.leads();
        if let Some(term) = leads {
            self.keep_leases(term);
        }
        let revision = self.shared.reader.load().revision();
        let due = self.compactor.due(self.shared.clock.now(), revision);
        if let (Some(term), Some(revision)) = (leads, due) {
            tracing::info!(revision, "auto compaction");
            let request = CompactionRequest { revision, physical: false };
            self.shared.propose(&Command::Compaction(request), Scope::LeaderOf(term), None);
        }
    }

    /// A file of the state that has grown past its bound takes back the states that clients held before it did: what was
    /// deleted since is free again with the next checkpoint.
    fn bound_state_file(&self) {
        let Shared { config, sizes, views, metrics, .. } = &*self.shared;
        let file_bytes = sizes.total.load(Relaxed);
        let bound_bytes = config.quota_bytes().saturating_mul(STATE_FILE_QUOTAS_MAX);
        if file_bytes <= bound_bytes || self.shared.makes(Bug::ViewsKept) {
            return;
        }
        let streams = views.take_back(file_bytes);
        if streams > 0 {
            metrics.views_taken_back.add(streams as u64);
            tracing::warn!(file_bytes, bound_bytes, streams, "old states of clients taken back");
        }
    }

    /// What this member knows of directories, the group must know: who was away learns it from the log before it can meet
    /// anybody who comes from another one.
    fn tell_directories(&self) {
        let shared = &self.shared;
        if shared.standing.leader().is_none() || shared.makes(Bug::DirectoriesUntold) {
            return;
        }
        if let Some(known) = shared.door.to_propose() {
            let server = Arc::clone(shared);
            let then = Waiter::Call(Box::new(move |_| server.door.proposed()));
            shared.propose(&Command::MemberDirectories(known), Scope::Anywhere, Some(then));
        }
    }

    /// Ends leases and notes what is left of others, for the leadership of `term`. The lessor may still be of another one:
    /// the apply side has not come so far then, and its clock means nothing.
    fn keep_leases(&self, term: Term) {
        let now = self.shared.clock.now().0;
        // Held until everything is on its way: a renewal must not come before a checkpoint of the time before it.
        let mut lessor = self.shared.lessor.lock();
        let is_current = lessor.primary_term() == Some(term.0);
        if !is_current && !self.shared.makes(Bug::LessorOfAnyTerm) {
            return;
        }
        let unbound = self.shared.makes(Bug::RevocationUnbound);
        let scope = if unbound { Scope::Anywhere } else { Scope::LeaderOf(term) };
        for id in lessor.expired(now, REVOKE_BATCH_MAX) {
            self.shared.metrics.leases_expired.increment();
            self.shared.propose(&Command::LeaseRevoke(LeaseRevokeRequest { id }), scope, None);
        }
        let due = lessor.checkpoints(now);
        if !due.is_empty() {
            let checkpoint = |(id, remaining_ttl)| LeaseCheckpoint { id, remaining_ttl };
            let checkpoints = due.into_iter().map(checkpoint).collect();
            let request = LeaseCheckpointRequest { checkpoints };
            self.shared.propose(&Command::LeaseCheckpoint(request), scope, None);
        }
        drop(lessor);
    }
}

/// Decides when old revisions go (etcd `server/etcdserver/api/v3compactor`).
#[derive(Debug)]
struct Compactor {
    mode: AutoCompaction,
    /// Revisions that were newest at these moments, oldest first.
    samples: VecDeque<(Mono, i64)>,
    next_look: Mono,
    compacted: i64,
    compacted_at: Mono,
}

impl Compactor {
    fn new(mode: AutoCompaction, now: Mono) -> Self {
        Self { mode, samples: VecDeque::new(), next_look: now, compacted: 0, compacted_at: now }
    }

    /// The revision to compact now, if any. Call it often; it looks only when it is time to.
    fn due(&mut self, now: Mono, revision: i64) -> Option<i64> {
        if now < self.next_look {
            return None;
        }
        let target = match self.mode {
            AutoCompaction::Off => None,
            AutoCompaction::Revision(kept) => {
                self.next_look = now.after(nanoseconds(REVISION_INTERVAL));
                Some(revision - kept)
            }
            AutoCompaction::Periodic(age) => self.aged(now, revision, age),
        };
        let target = target.filter(|target| *target > self.compacted.max(0))?;
        self.compacted = target;
        self.compacted_at = now;
        Some(target)
    }

    /// The newest revision that is older than `age`, once in a period.
    fn aged(&mut self, now: Mono, revision: i64, age: Duration) -> Option<i64> {
        let period = age.min(PERIOD_MAX);
        self.next_look = now.after(nanoseconds(period / SAMPLES_PER_PERIOD));
        self.samples.push_back((now, revision));
        let is_old = |sample: &&(Mono, i64)| now.since(sample.0) >= nanoseconds(age);
        let target = self.samples.iter().take_while(is_old).last().map(|sample| sample.1);
        while self.samples.get(1).is_some_and(|next| now.since(next.0) >= nanoseconds(age)) {
            self.samples.pop_front();
        }
        target.filter(|_| now.since(self.compacted_at) >= nanoseconds(period))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn by_age_it_keeps_what_is_younger() {
        let mode = AutoCompaction::Periodic(Duration::from_secs(100));
        let mut compactor = Compactor::new(mode, Mono(0));
        let due: Vec<_> = (0..=300)
            .filter_map(|second| {
                let revision =
                    compactor.due(Mono(second * SECOND), 1_000 + second.cast_signed())?;
                Some((second, revision))
            })
            .collect();
        assert_eq!(due, [(100, 1_000), (200, 1_100), (300, 1_200)]);
    }

    #[test]
    fn by_number_it_keeps_that_many() {
        let mut compactor = Compactor::new(AutoCompaction::Revision(100), Mono(0));
        assert_eq!(compactor.due(Mono(0), 50), None);
        assert_eq!(compactor.due(Mono(300 * SECOND), 150), Some(50));
        assert_eq!(compactor.due(Mono(301 * SECOND), 160), None);
        assert_eq!(compactor.due(Mono(600 * SECOND), 150), None);
        assert_eq!(compactor.due(Mono(900 * SECOND), 151), Some(51));
    }

    #[test]
    fn off_means_never() {
        let mut compactor = Compactor::new(AutoCompaction::Off, Mono(0));
        assert_eq!(compactor.due(Mono(900 * SECOND), 1_000_000), None);
    }
}
