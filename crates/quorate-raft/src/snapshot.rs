//! Snapshots (Raft paper 7): what the core decides about them. Making, sending, checking and storing them is the driver's.
//!
//! A leader names a peer whose next entry the log holds no more; the driver sends a snapshot beside the core's messages, of
//! which `InstallSnapshot` is the announcement, and reports how it went. A receiver's driver asks by giving that message: the
//! answer `Stale` says not to bother. When all has arrived, the core decides whether it becomes the state.
//!
//! Order of durability: the snapshot is durable beside the state before the core hears of it; the switch, with term and vote,
//! is one atomic write; "I match up to its end" leaves only after that.

use crate::machine::{Core, Turn};
use crate::progress::ProgressState;
use crate::quorum::Quorum;
use crate::{Index, NodeId, Reject, SnapshotMeta, Term, Verdict};

impl Core {
    /// The announcement: a sign of life, and the question whether the snapshot would be of use.
    pub(crate) fn on_install_snapshot(
        &mut self,
        from: NodeId,
        snapshot: &SnapshotMeta,
        turn: &mut Turn<'_>,
    ) -> Verdict {
        self.follow(from, turn);
        if snapshot.last.index > self.commit || self.config.bug(26) {
            return Verdict::Ok;
        }
        self.send_matched(from, self.released, 0, turn);
        Verdict::Stale
    }

    /// `InstallSnapshot`, receiver side (figure 13, rules 1 and 6 to 8).
    pub(crate) fn on_snapshot_received(
        &mut self,
        from: NodeId,
        term: Term,
        snapshot: &SnapshotMeta,
        turn: &mut Turn<'_>,
    ) -> Result<Verdict, Reject> {
        self.check_snapshot(from, term, snapshot)?;
        if term < self.term {
            return Ok(Verdict::Stale);
        }
        if term > self.term && !self.follow_term(from, term, Some(from), turn) {
            return Ok(Verdict::Ok);
        }
        let verdict = self.on_install_snapshot(from, snapshot, turn);
        if verdict == Verdict::Stale {
            return Ok(verdict);
        }
        let own = self.log.term_at(snapshot.last.index);
        if own == Some(snapshot.last.term) || (own.is_some() && self.config.bug(24)) {
            self.follow_commit(snapshot.last.index);
        } else {
            self.install(snapshot, turn);
        }
        if self.config.bug(25) {
            let outcome = crate::AppendOutcome::Matched(snapshot.last.index);
            turn.send(from, None, crate::Message::Appended { term: self.term, round: 0, outcome });
            return Ok(Verdict::Ok);
        }
        self.send_matched(from, snapshot.last.index, 0, turn);
        Ok(Verdict::Ok)
    }

    /// The log did not hold the snapshot's end: nothing of it stays.
    fn install(&mut self, snapshot: &SnapshotMeta, turn: &mut Turn<'_>) {
        let last = snapshot.last;
        self.log.restore(last);
        self.durability.forget_from(Index(1));
        self.durability.stage_entries(turn.now, last.index);
        self.durability.stage_hard_state(turn.now);
        self.commit = last.index;
        self.released = last.index;
        self.quorum = Quorum::of(&snapshot.membership);
        self.membership = snapshot.membership.clone();
        self.staged.install = Some(snapshot.clone());
    }

    /// A snapshot was sent whole, or failed: the peer's next answer, or a sign of life after the next heartbeat, goes on.
    pub(crate) fn on_snapshot_sent(
        &mut self,
        to: NodeId,
        snapshot: Option<&SnapshotMeta>,
    ) -> Result<Verdict, Reject> {
        if snapshot.is_some_and(|snapshot| snapshot.last.index > self.log.last().index) {
            return Err(Reject::Malformed("a snapshot of what the log does not reach was sent"));
        }
        let Some((lead, line)) = self.leading() else { return Ok(Verdict::Stale) };
        let peer = lead.peer_mut(to).ok_or(Reject::UnknownPeer(to))?;
        let lost = snapshot.is_none() && line.config.bug(35);
        if peer.state != ProgressState::Snapshot || lost {
            return Ok(Verdict::Stale);
        }
        peer.snapshot_sent(snapshot.map(|snapshot| snapshot.last));
        Ok(Verdict::Ok)
    }
}
