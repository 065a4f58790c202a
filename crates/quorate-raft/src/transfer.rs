//! Handing leadership over (thesis 3.10): bring the target up to date, then tell it to start an election at once.
//!
//! Proposals are refused meanwhile, or the target might never catch up. A transfer that takes longer than an election timeout
//! is given up. The target skips the rehearsal, and its requests say that a live leader does not stand in the way. Nothing of
//! this is needed for safety: the target wins, or does not, like any candidate.

use crate::election::State;
use crate::machine::{Core, Turn};
use crate::{Message, Mono, NodeId, Reject, Role, Verdict};

/// A transfer under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) to: NodeId,
    /// When it is given up.
    pub(crate) due: Mono,
}

impl Core {
    /// Begins to hand leadership to a voter; a transfer to somebody else that is under way is given up for it.
    pub(crate) fn on_transfer(
        &mut self,
        to: NodeId,
        turn: &mut Turn<'_>,
    ) -> Result<Verdict, Reject> {
        let due = turn.now.after(self.config.election_timeout_ns);
        let (own, known, leader) = (to == self.config.id, self.quorum.contains(to), self.leader);
        let Some((lead, _)) = self.leading() else { return Err(Reject::NotLeader { leader }) };
        if !known {
            return Err(Reject::UnknownPeer(to));
        }
        if own || lead.transfer.is_some_and(|transfer| transfer.to == to) {
            return Ok(Verdict::Stale);
        }
        lead.transfer = Some(Transfer { to, due });
        self.urge(to, turn);
        Ok(Verdict::Ok)
    }

    pub(crate) fn expire_transfer(&mut self, now: Mono) {
        if let Some((lead, line)) = self.leading()
            && !line.config.bug(42)
        {
            lead.transfer = lead.transfer.filter(|transfer| transfer.due > now);
        }
    }

    /// If `peer` is to lead next and has the whole log, tells it to begin. Repeated at each of its answers, as it may be lost.
    pub(crate) fn urge(&mut self, peer: NodeId, turn: &mut Turn<'_>) {
        let (last, term) = (self.log.last().index, self.term);
        let Some((lead, _)) = self.leading() else { return };
        let chosen = lead.transfer.is_some_and(|transfer| transfer.to == peer);
        if chosen && lead.match_of(peer) == last {
            self.send(peer, Message::TimeoutNow { term }, turn);
        }
    }

    /// A leader that must step down asks the voter that holds most to take over, so that nobody waits for a timeout.
    pub(crate) fn hand_over(&mut self, turn: &mut Turn<'_>) {
        let State::Leader(lead) = &self.state else { return };
        let voters = lead.peers.iter().filter(|peer| self.quorum.contains(peer.node));
        if let Some(best) = voters.max_by_key(|peer| (peer.recent_active, peer.match_index)) {
            self.send(best.node, Message::TimeoutNow { term: self.term }, turn);
        }
    }

    /// The leader wants this member to lead.
    pub(crate) fn on_timeout_now(&mut self, from: NodeId, turn: &mut Turn<'_>) -> Verdict {
        if !self.may_campaign() || self.is_stalled(turn.now) || self.state.role() == Role::Leader {
            return Verdict::Stale;
        }
        self.follow(from, turn);
        self.campaign(true, turn);
        Verdict::Ok
    }
}
