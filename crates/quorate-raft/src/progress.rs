//! What a leader knows of one peer's log, and how it talks to it (names as in etcd raft's `tracker`).
//!
//! - *Probe*: not known where the logs agree; one append at a time, from `next_index`.
//! - *Replicate*: known; appends are sent ahead of their answers, within the window.
//! - *Snapshot*: what the peer lacks is no longer in the log; nothing is sent but signs of life.
//!
//! Invariants: `match_index < next_index`; `match_index` never falls in a term; the window is empty outside *Replicate*.

use crate::flow::Inflights;
use crate::{EntryId, Index, NodeId};

/// How a leader talks to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// Looking for the point where the logs agree.
    Probe,
    /// Streaming.
    Replicate,
    /// Waiting for a snapshot to be sent and installed.
    Snapshot,
}

/// One peer, as its leader sees it.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) node: NodeId,
    pub(crate) state: ProgressState,
    /// The greatest position known to be durable at the peer and equal to ours.
    pub(crate) match_index: Index,
    /// The next position to send.
    pub(crate) next_index: Index,
    /// *Probe* only: an append is under way, the next waits for its answer or for a sign of life.
    pub(crate) paused: bool,
    /// An append was under way when the last heartbeat left, and none was answered since: the next sign of life asks again.
    pub(crate) nudge: bool,
    pub(crate) inflights: Inflights,
    /// Heard from since the last quorum check.
    pub(crate) recent_active: bool,
    /// The greatest commit index the peer was told.
    pub(crate) commit_sent: Index,
    /// The greatest read round the peer answered.
    pub(crate) round_acked: u64,
}

impl Progress {
    /// A peer of which a new leader, whose own log ends just before `next_index`, knows nothing.
    pub(crate) fn new(node: NodeId, next_index: Index) -> Self {
        Self {
            node,
            state: ProgressState::Probe,
            match_index: Index(0),
            next_index,
            paused: false,
            nudge: false,
            inflights: Inflights::default(),
            recent_active: false,
            commit_sent: Index(0),
            round_acked: 0,
        }
    }

    /// The peer answered something that was sent in this read round, or later.
    pub(crate) fn heard(&mut self, round: u64) {
        self.recent_active = true;
        self.round_acked = self.round_acked.max(round);
    }

    /// The peer says that its log matches and is durable up to `index`. `base` is the start of our log.
    pub(crate) fn matched(&mut self, index: Index, base: Index) {
        if index < self.match_index {
            return;
        }
        self.match_index = index;
        self.nudge = false;
        match self.state {
            ProgressState::Replicate => self.inflights.free_to(index),
            ProgressState::Probe => self.become_replicate(),
            ProgressState::Snapshot if index >= base => self.become_replicate(),
            ProgressState::Snapshot => {}
        }
        self.next_index = self.next_index.max(index.next());
    }

    /// The peer refused an append at `prev`. `resume` finds where in our log to go on. Says whether that is news.
    pub(crate) fn rejected(&mut self, prev: Index, resume: impl FnOnce() -> Index) -> bool {
        let stale = match self.state {
            ProgressState::Snapshot => true,
            ProgressState::Probe => prev.next() != self.next_index || prev <= self.match_index,
            ProgressState::Replicate => prev <= self.match_index || prev >= self.next_index,
        };
        if stale {
            return false;
        }
        self.become_probe();
        self.next_index = resume().min(prev).max(self.match_index.next());
        true
    }

    /// Messages may have been lost: start again from what is known.
    pub(crate) fn become_probe(&mut self) {
        self.state = ProgressState::Probe;
        self.commit_sent = self.commit_sent.min(self.match_index);
        self.inflights.clear();
        self.paused = false;
        self.nudge = false;
        self.next_index = self.match_index.next();
    }

    /// A snapshot that ends at `last` was sent (`None`: was not). Its answer, or a sign of life, lets us go on.
    pub(crate) fn snapshot_sent(&mut self, last: Option<EntryId>) {
        self.become_probe();
        self.paused = true;
        if let Some(last) = last {
            self.next_index = self.next_index.max(last.index.next());
        }
    }

    /// What the peer lacks is not in the log any more.
    pub(crate) fn become_snapshot(&mut self) {
        self.become_probe();
        self.state = ProgressState::Snapshot;
    }

    fn become_replicate(&mut self) {
        self.state = ProgressState::Replicate;
        self.inflights.clear();
        self.paused = false;
        self.nudge = false;
        self.next_index = self.match_index.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicating(matched: u64, next: u64) -> Progress {
        let mut progress = Progress::new(NodeId(2), Index(matched + 1));
        progress.matched(Index(matched), Index(0));
        for index in matched + 1..next {
            progress.inflights.add(Index(index), 1);
            progress.next_index = Index(index + 1);
        }
        progress
    }

    /// etcd-io/raft#149: an old refusal must not rewind below what is known.
    #[test]
    fn stale_refusal_does_not_rewind() {
        let mut progress = replicating(5, 9);
        assert!(!progress.rejected(Index(5), || Index(1)));
        assert!(!progress.rejected(Index(9), || Index(1)));
        assert_eq!((progress.state, progress.next_index), (ProgressState::Replicate, Index(9)));
    }

    #[test]
    fn refusal_never_goes_back_to_what_matches() {
        let mut progress = replicating(5, 9);
        assert!(progress.rejected(Index(8), || Index(2)));
        assert_eq!((progress.state, progress.next_index), (ProgressState::Probe, Index(6)));
    }

    #[test]
    fn refusal_always_goes_back() {
        let mut progress = Progress::new(NodeId(2), Index(9));
        assert!(progress.rejected(Index(8), || Index(100)));
        assert_eq!(progress.next_index, Index(8));
    }

    #[test]
    fn old_answer_does_not_lower_match() {
        let mut progress = replicating(5, 9);
        progress.matched(Index(7), Index(0));
        progress.matched(Index(6), Index(0));
        assert_eq!((progress.match_index, progress.next_index), (Index(7), Index(9)));
        assert_eq!(progress.inflights.len(), 1);
    }

    #[test]
    fn snapshot_ends_only_when_the_peer_reached_the_log() {
        let mut progress = replicating(5, 9);
        progress.become_snapshot();
        progress.matched(Index(6), Index(10));
        assert_eq!(progress.state, ProgressState::Snapshot);
        progress.matched(Index(10), Index(10));
        assert_eq!((progress.state, progress.next_index), (ProgressState::Replicate, Index(11)));
    }
}
