//! `AppendEntries` and heartbeats, leader side (Raft paper 5.3; pipelining as in thesis 10.2.1).
//!
//! Every peer has a [`Progress`]. To a peer in *Replicate* appends are sent ahead of their answers, as the window allows: one
//! message for all that was proposed together. They leave before the leader's own write is done (thesis 10.2.1). In *Probe* one
//! is sent at a time, until an answer tells where the logs agree.
//!
//! Heartbeats are messages of their own, which carry no entries and so never wait behind them. Their answers also mend what was
//! lost: a peer that had an append under way when the heartbeat left, and has answered none of them since, is asked again.
//!
//! A commit index travels with the next append. A peer that little is under way to might wait long for one, and its clients with
//! it, so it is told at once, by a heartbeat. A busy one is told at its next answer at the latest.

use crate::log::Log;
use crate::machine::{Core, Turn};
use crate::progress::{Progress, ProgressState};
use crate::{
    AppendOutcome, Config, EntryId, EntryRange, Index, IoToken, Message, NodeId, Origin, Reject,
    Term, Verdict,
};

/// With so many unanswered appends a peer is busy. One may well be the last for a while.
const BUSY_APPENDS: usize = 2;

/// What a leader needs at hand to talk to any peer.
pub(crate) struct Line<'a> {
    pub(crate) config: &'a Config,
    pub(crate) log: &'a Log,
    pub(crate) term: Term,
    pub(crate) commit: Index,
    pub(crate) round: u64,
    pub(crate) after: Option<IoToken>,
}

impl Line<'_> {
    /// Sends what the peer lacks and may be sent now.
    pub(crate) fn replicate(&self, peer: &mut Progress, turn: &mut Turn<'_>) {
        match peer.state {
            ProgressState::Snapshot => {}
            ProgressState::Probe if peer.paused => {}
            ProgressState::Probe => self.append(peer, turn),
            ProgressState::Replicate => {
                while peer.state == ProgressState::Replicate
                    && peer.next_index <= self.log.last().index
                    && !self.is_full(peer)
                {
                    self.append(peer, turn);
                }
            }
        }
    }

    fn is_full(&self, peer: &Progress) -> bool {
        peer.inflights.is_full(self.config.inflight_appends_max, self.config.inflight_bytes_max)
    }

    /// Sends one append from `next_index` on, with as much as one message may hold.
    fn append(&self, peer: &mut Progress, turn: &mut Turn<'_>) {
        let config = self.config;
        let (range, bytes) =
            self.log.cut(peer.next_index, config.append_entries_max, config.append_bytes_max);
        if !self.send_range(peer, range, turn) {
            return;
        }
        if peer.state == ProgressState::Probe {
            peer.paused = true;
        } else if !range.is_empty() {
            peer.inflights.add(range.last, bytes);
            peer.next_index = range.last.next();
        }
    }

    /// Sends an append of `range`. If the entry before it is not in the log any more, the peer needs a snapshot, and it is `false`.
    fn send_range(&self, peer: &mut Progress, range: EntryRange, turn: &mut Turn<'_>) -> bool {
        let Some(prev) = self.log.id_at(range.first.previous()) else {
            peer.become_snapshot();
            turn.out.snapshots.push(peer.node);
            return false;
        };
        let Self { term, commit, round, after, .. } = *self;
        peer.commit_sent = peer.commit_sent.max(commit.min(range.last));
        turn.send(
            peer.node,
            after,
            Message::AppendEntries { term, prev, entries: range, commit, round },
        );
        true
    }

    /// Gives a sign of life. What is committed is told only as far as the peer is known to hold it.
    pub(crate) fn heartbeat(&self, peer: &mut Progress, turn: &mut Turn<'_>) {
        let mut commit = self.commit.min(peer.match_index);
        if self.config.bug(12) {
            commit = self.commit;
        } else if self.config.bug(41) {
            commit = Index(0);
        }
        peer.commit_sent = peer.commit_sent.max(commit);
        turn.send(
            peer.node,
            self.after,
            Message::Heartbeat { term: self.term, commit, round: self.round },
        );
    }

    /// Tells the commit index to a peer that is not so busy that the next append will tell it soon.
    fn tell_commit(&self, peer: &mut Progress, turn: &mut Turn<'_>) {
        let idle = peer.state == ProgressState::Replicate && peer.inflights.len() < BUSY_APPENDS;
        if idle && self.commit.min(peer.match_index) > peer.commit_sent {
            self.heartbeat(peer, turn);
        }
    }

    /// The peer lives, but has answered no append since the last interval: asks again where it is.
    fn mend(&self, peer: &mut Progress, turn: &mut Turn<'_>) {
        if !std::mem::take(&mut peer.nudge) || self.config.bug(33) {
            return;
        }
        peer.paused = false;
        match peer.state {
            ProgressState::Snapshot => {}
            // Without entries: those of the append that was not answered may still be on their way over a slow link.
            ProgressState::Probe => {
                peer.paused = self.send_range(peer, EntryRange::empty_at(peer.next_index), turn);
            }
            ProgressState::Replicate => {
                self.send_range(peer, EntryRange::empty_at(peer.next_index), turn);
            }
        }
    }

    /// Where to go on after a peer refused and gave `hint`: behind the greatest entry that both may hold.
    fn resume(&self, hint: EntryId) -> Index {
        self.log.floor(hint).map_or(self.log.base().index, |id| id.index.next())
    }
}

impl Core {
    /// Appends entries at a leader and sends them.
    pub(crate) fn on_propose(
        &mut self,
        sizes: &[u32],
        turn: &mut Turn<'_>,
    ) -> Result<Verdict, Reject> {
        let (leader, last) = (self.leader, self.log.last().index);
        let Some((lead, _)) = self.leading() else { return Err(Reject::NotLeader { leader }) };
        if lead.transfer.is_some() {
            return Err(Reject::Transferring);
        }
        if sizes.is_empty() || last.0.saturating_add(sizes.len() as u64) > crate::config::INDEX_MAX
        {
            return Err(Reject::Malformed("a proposal has no entries, or too many"));
        }
        let uncommitted = lead.uncommitted_bytes;
        let bytes = self.check_window(sizes, uncommitted)?;
        let term = self.term;
        let range = self.log.append(term, sizes.iter().copied());
        self.stage_append(range, Origin::Proposed { term }, turn);
        if let Some((lead, _)) = self.leading() {
            lead.uncommitted_bytes += bytes;
        }
        self.replicate_all(turn);
        Ok(Verdict::Proposed { range, term })
    }

    pub(crate) fn replicate_all(&mut self, turn: &mut Turn<'_>) {
        let Some((lead, line)) = self.leading() else { return };
        for peer in &mut lead.peers {
            line.replicate(peer, turn);
        }
    }

    /// Counts durable copies again, and does what follows from a new commit index.
    pub(crate) fn settle(&mut self, turn: &mut Turn<'_>) {
        if !self.advance_commit() {
            return;
        }
        self.ask_round(turn);
        let Some((lead, line)) = self.leading() else { return };
        for peer in &mut lead.peers {
            line.tell_commit(peer, turn);
        }
    }

    pub(crate) fn on_appended(
        &mut self,
        from: NodeId,
        round: u64,
        outcome: AppendOutcome,
        turn: &mut Turn<'_>,
    ) -> Verdict {
        let Some((lead, line)) = self.leading() else { return Verdict::Stale };
        let Some(peer) = lead.peer_mut(from) else { return Verdict::Stale };
        peer.heard(round);
        match outcome {
            AppendOutcome::Matched(_) if line.config.bug(13) => {
                peer.matched(peer.next_index.previous(), line.log.base().index);
            }
            AppendOutcome::Matched(index) => peer.matched(index, line.log.base().index),
            AppendOutcome::Rejected { hint, .. } if line.config.bug(14) => {
                peer.matched(hint.index, line.log.base().index);
            }
            AppendOutcome::Rejected { prev, .. } if line.config.bug(15) => {
                peer.become_probe();
                peer.next_index = prev;
            }
            AppendOutcome::Rejected { prev, hint } => {
                peer.rejected(prev, || line.resume(hint));
            }
        }
        self.settle(turn);
        let Some((lead, line)) = self.leading() else { return Verdict::Ok };
        if let Some(peer) = lead.peer_mut(from) {
            line.replicate(peer, turn);
            line.tell_commit(peer, turn);
        }
        self.confirm_reads(turn);
        self.urge(from, turn);
        Verdict::Ok
    }

    pub(crate) fn on_heartbeat_reply(
        &mut self,
        from: NodeId,
        round: u64,
        turn: &mut Turn<'_>,
    ) -> Verdict {
        let Some((lead, line)) = self.leading() else { return Verdict::Stale };
        let Some(peer) = lead.peer_mut(from) else { return Verdict::Stale };
        peer.heard(if line.config.bug(21) { line.round } else { round });
        line.mend(peer, turn);
        line.replicate(peer, turn);
        self.confirm_reads(turn);
        self.urge(from, turn);
        Verdict::Ok
    }

    /// Gives a sign of life to every peer, if it is time.
    pub(crate) fn beat(&mut self, turn: &mut Turn<'_>) {
        let Some((lead, line)) = self.leading() else { return };
        if lead.heartbeat_due > turn.now {
            return;
        }
        lead.heartbeat_due = turn.now.after(line.config.heartbeat_interval_ns);
        for peer in &mut lead.peers {
            peer.nudge = match peer.state {
                ProgressState::Probe => peer.paused && !line.config.bug(34),
                ProgressState::Replicate => !peer.inflights.is_empty(),
                ProgressState::Snapshot => false,
            };
            line.heartbeat(peer, turn);
        }
    }

    /// Messages to a peer are being lost: what is under way to it is forgotten; its next answer, whichever, goes on.
    pub(crate) fn on_unreachable(&mut self, node: NodeId) -> Result<Verdict, Reject> {
        let Some((lead, _)) = self.leading() else { return Ok(Verdict::Stale) };
        let peer = lead.peer_mut(node).ok_or(Reject::UnknownPeer(node))?;
        if peer.state != ProgressState::Replicate {
            return Ok(Verdict::Stale);
        }
        peer.become_probe();
        peer.paused = true;
        Ok(Verdict::Ok)
    }
}
