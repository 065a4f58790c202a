//! What an applied run is to show, one thing after another.
//!
//! The state machine commits a run at once. Others see it in an order that is a promise: first the new state, then the
//! events for watches, then the leases, then the answers of this node's clients, and last the Raft side hears how far
//! the state is, which lets linearizable reads go. So whoever has an answer, or a read let go, reads its effect; and a
//! watch never tells of a revision that its client can't read yet.
//!
//! A busy member's other threads look between any two of these. A world without threads does it through
//! [`Turns`](crate::Turns): the apply side's round may end after each publication, and the next round goes on there.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use quorate_engine::SizeBytes;
use quorate_kv::{ApplyOutput, LeaseChange, LeaseRecord, Reader, RevisionEvents};
use quorate_raft::Term;

use crate::{
    bugs::Bug,
    clock::nanoseconds,
    pending::Outcome,
    shared::{RaftInput, Shared},
    slot::WakeBatch,
};

/// One thing that becomes visible at once.
#[derive(Debug)]
pub(crate) enum Publication {
    /// Reads see this state, which is this large.
    State(Box<Reader>, SizeBytes),
    /// Watches hear of these revisions.
    Events(Vec<Arc<RevisionEvents>>),
    /// Watches go on in a state that came as a snapshot and stands at this revision.
    Restored(i64),
    /// Leases began, were checkpointed, ended.
    Leases(Vec<LeaseChange>),
    /// These are all leases: the state came as a snapshot.
    AllLeases(Vec<(i64, LeaseRecord)>),
    /// This node leads, and everything of earlier terms is in the lessor: from now on it keeps time, in this term.
    Promotion(Term),
    /// Clients of this node get their answers.
    Answers(Vec<(u64, Outcome)>),
    /// The Raft side hears that this index is applied.
    Applied(u64),
}

/// What is applied and not visible yet, in its order.
#[derive(Debug, Default)]
pub(crate) struct Publications(VecDeque<Publication>);

impl Publications {
    /// Whether everything is visible.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more, behind the others.
    pub(crate) fn push(&mut self, publication: Publication) {
        self.0.push_back(publication);
    }

    /// What a run did, but for the state that it left. `mine` has, for each reply, the sequence under which somebody of
    /// this process waits for it; `index` is that of its last entry.
    pub(crate) fn push_run(
        &mut self,
        output: ApplyOutput,
        mine: Vec<Option<u64>>,
        promotion: Option<Term>,
        index: u64,
    ) {
        let ApplyOutput { replies, revisions, leases, .. } = output;
        let answers = mine.into_iter().zip(replies).filter_map(|(sequence, reply)| {
            let outcome: Outcome = reply.map_err(Into::into);
            Some((sequence?, outcome))
        });
        let answers: Vec<_> = answers.collect();
        if !revisions.is_empty() {
            self.push(Publication::Events(revisions));
        }
        if !leases.is_empty() {
            self.push(Publication::Leases(leases));
        }
        if let Some(term) = promotion {
            self.push(Publication::Promotion(term));
        }
        if !answers.is_empty() {
            self.push(Publication::Answers(answers));
        }
        self.push(Publication::Applied(index));
    }

    /// Makes everything visible, or as much as the world's turns allow. Whether everything is.
    pub(crate) fn publish(&mut self, shared: &Shared) -> bool {
        while let Some(publication) = self.0.pop_front() {
            publication.publish(shared);
            if !self.0.is_empty() && shared.turns.ends_round() {
                return false;
            }
        }
        true
    }
}

impl Publication {
    fn publish(self, shared: &Shared) {
        match self {
            Self::State(reader, size) => {
                shared.reader.store(Arc::from(reader));
                shared.sizes.total.store(size.total, Relaxed);
                shared.sizes.live.store(size.in_use, Relaxed);
            }
            Self::Events(revisions) => shared.watches.publish(told(shared, &revisions)),
            Self::Restored(revision) => shared.watches.restored(revision),
            Self::Leases(changes) => {
                let (now, mut lessor) = (shared.clock.now(), shared.lessor.lock());
                for change in &changes {
                    lessor.apply(now.0, change);
                }
            }
            Self::AllLeases(leases) => shared.lessor.lock().load(leases),
            Self::Promotion(term) => {
                let extend_ns = nanoseconds(shared.config.election_timeout);
                shared.lessor.lock().promote(shared.clock.now().0, extend_ns, term.0);
            }
            Self::Answers(answers) => {
                shared.pending.close_all(answers, &mut WakeBatch::default());
            }
            Self::Applied(index) => {
                if shared.standing.set_applied(index) {
                    shared.raft.put(RaftInput::Applied);
                }
            }
        }
    }
}

/// The revisions that watches are told of: all of them.
fn told<'a>(shared: &Shared, revisions: &'a [Arc<RevisionEvents>]) -> &'a [Arc<RevisionEvents>] {
    match revisions.split_last() {
        Some((_, told)) if shared.makes(Bug::EventsForgotten) => told,
        Some(_) | None => revisions,
    }
}
