//! What is committed (Raft paper 5.3, 5.4.2), and what of it may be applied here.
//!
//! A leader counts copies that are *durable*, its own only when its own write is done, and commits by counting only entries of
//! its own term; everything before follows (figure 8). Followers are told. A commit index may run ahead of a member's own
//! disk; commits are given out only as far as both reach, so that no state machine is ever ahead of the log beneath it.

use crate::election::State;
use crate::machine::{Core, Turn};
use crate::{EntryRange, Index};

impl Core {
    /// A leader counts again. Says whether the commit index moved.
    pub(crate) fn advance_commit(&mut self) -> bool {
        let (id, durable) = (self.config.id, self.durability.durable());
        let State::Leader(lead) = &mut self.state else { return false };
        let durable = if self.config.bug(9) { self.log.last().index } else { durable };
        let held = |node| if node == id { durable } else { lead.match_of(node) };
        let mut reached = self.quorum.reached(held);
        if self.config.bug(16) {
            let best = lead.peers.iter().map(|peer| peer.match_index).max();
            reached = best.unwrap_or(durable).min(durable);
        }
        let foreign = self.log.term_at(reached) != Some(self.term) && !self.config.bug(8);
        if reached <= self.commit || foreign {
            return false;
        }
        let bytes = self.log.bytes_between(self.commit, reached);
        lead.uncommitted_bytes = lead.uncommitted_bytes.saturating_sub(bytes);
        self.commit = reached;
        true
    }

    /// A follower learns how far the log is committed; never beyond its own end.
    pub(crate) fn follow_commit(&mut self, told: Index) {
        self.commit = self.commit.max(told.min(self.log.last().index));
    }

    /// Gives out what is newly committed and durable.
    pub(crate) fn release(&mut self, turn: &mut Turn<'_>) {
        let durable = self.durability.durable();
        let upto = if self.config.bug(30) { self.commit } else { self.commit.min(durable) };
        if upto <= self.released {
            return;
        }
        let first = turn.out.commit.map_or(self.released.next(), |range| range.first);
        turn.out.commit = Some(EntryRange { first, last: upto });
        self.released = upto;
    }
}
