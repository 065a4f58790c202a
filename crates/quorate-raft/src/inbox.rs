//! The gate for messages: who may say what, what contradicts itself or what this member knows, and whose term counts.
//!
//! Nothing changes before a message has passed. Peers are other processes and may be broken: whatever they send is either taken
//! in or refused by name. A message of a lower term is out of date; those a leader sends are answered, so that a leader that
//! was replaced learns it (figure 2). One of a higher term makes this member follow in that term first; one too far ahead
//! only raises its term by as much as a single message may.

use crate::append::Batch;
use crate::config::{INDEX_MAX, TERM_MAX};
use crate::election::{Answer, Request, State};
use crate::machine::{Core, Turn};
use crate::recover::membership_problem;
use crate::{
    AppendOutcome, EntryId, EntryKind, EntryMeta, Message, NodeId, Reject, SnapshotMeta, Term,
    Verdict,
};

type Incoming<'a> = Message<&'a [EntryMeta]>;

impl Core {
    pub(crate) fn on_message(
        &mut self,
        from: NodeId,
        message: &Incoming<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<Verdict, Reject> {
        self.check_sender(from, message)?;
        check_shape(message)?;
        if let Message::RequestVote { term, pre_vote, last, transfer } = *message {
            return self.on_request_vote(from, Request { term, pre_vote, last, transfer }, turn);
        }
        if let Message::Vote { term, pre_vote, granted } = *message {
            return Ok(self.on_vote(from, Answer { term, pre_vote, granted }, turn));
        }
        let late_answer = matches!(message, Message::Appended { .. }) && self.config.bug(45);
        if message.term() < self.term && !self.config.bug(44) && !late_answer {
            self.answer_outdated(from, message, turn);
            return Ok(Verdict::Stale);
        }
        self.check_knowledge(from, message)?;
        let deaf = matches!(self.state, State::Leader(_)) && self.config.bug(29);
        if message.term() > self.term && !deaf {
            let leader = is_of_leader(message).then_some(from);
            if !self.follow_term(from, message.term(), leader, turn) {
                return Ok(Verdict::Ok);
            }
        }
        Ok(self.take_message(from, message, turn))
    }

    /// A message of this very term.
    fn take_message(
        &mut self,
        from: NodeId,
        message: &Incoming<'_>,
        turn: &mut Turn<'_>,
    ) -> Verdict {
        match *message {
            Message::AppendEntries { prev, entries, commit, round, .. } => {
                self.on_append_entries(from, Batch { prev, entries, commit, round }, turn)
            }
            Message::Appended { round, outcome, .. } => {
                self.on_appended(from, round, outcome, turn)
            }
            Message::Heartbeat { commit, round, .. } => {
                self.on_heartbeat(from, commit, round, turn)
            }
            Message::HeartbeatReply { round, .. } => self.on_heartbeat_reply(from, round, turn),
            Message::InstallSnapshot { ref snapshot, .. } => {
                self.on_install_snapshot(from, snapshot, turn)
            }
            Message::ReadIndex { context, .. } => self.on_read_index(from, context, turn),
            Message::ReadIndexReply { context, index, .. } => {
                self.on_read_index_reply(context, index, turn)
            }
            Message::TimeoutNow { .. } => self.on_timeout_now(from, turn),
            Message::RequestVote { .. } | Message::Vote { .. } => Verdict::Stale,
        }
    }

    /// A leader of a lower term learns from the answer that it is one no more.
    fn answer_outdated(&self, from: NodeId, message: &Incoming<'_>, turn: &mut Turn<'_>) {
        if is_of_leader(message) {
            self.send(from, Message::HeartbeatReply { term: self.term, round: 0 }, turn);
        }
    }

    fn check_sender(&self, from: NodeId, message: &Incoming<'_>) -> Result<(), Reject> {
        let known = if is_of_any_member(message) {
            self.membership.contains(from)
        } else {
            self.membership.is_voter(from)
        };
        if known && from != self.config.id { Ok(()) } else { Err(Reject::UnknownPeer(from)) }
    }

    /// What contradicts this member's own knowledge, in a message of its term or a later one.
    fn check_knowledge(&self, from: NodeId, message: &Incoming<'_>) -> Result<(), Reject> {
        if is_of_leader(message) {
            self.check_leader(from, message.term())?;
        }
        if let Message::AppendEntries { prev, entries, .. } = *message {
            self.check_append(prev, entries)?;
        }
        if matches!(message, Message::TimeoutNow { .. }) && self.fault.is_some() {
            return Err(Reject::Faulted);
        }
        if let Message::Appended { round, outcome, .. } = *message {
            self.check_answer(message.term(), round, Some(outcome))?;
        }
        if let Message::HeartbeatReply { round, .. } = *message {
            self.check_answer(message.term(), round, None)?;
        }
        Ok(())
    }

    /// Election safety: a term has at most one leader.
    fn check_leader(&self, from: NodeId, term: Term) -> Result<(), Reject> {
        let other = self.leader.is_some_and(|leader| leader != from);
        if term == self.term && other {
            return Err(Reject::Malformed("a second leader in one term"));
        }
        Ok(())
    }

    /// Leader completeness: every leader's log holds what is committed here.
    fn check_append(&self, prev: EntryId, entries: &[EntryMeta]) -> Result<(), Reject> {
        if self.refuses_entries() {
            return Err(Reject::Faulted);
        }
        let ids = std::iter::once(prev.term).chain(entries.iter().map(|entry| entry.term));
        let committed = (prev.index.0..=self.commit.0).map(crate::Index).zip(ids);
        let mut conflicts = committed.into_iter().filter_map(|(index, offered)| {
            let committed = self.log.term_at(index).filter(|own| *own != offered)?;
            Some(Reject::Conflict { index, committed, offered })
        });
        conflicts.next().map_or(Ok(()), Err)
    }

    /// An answer speaks only of what this leader sent.
    fn check_answer(
        &self,
        term: Term,
        round: u64,
        outcome: Option<AppendOutcome>,
    ) -> Result<(), Reject> {
        if term != self.term || !matches!(self.state, State::Leader(_)) {
            return Ok(());
        }
        if round > self.reads.asked() {
            return Err(Reject::Malformed("an answer to a round that was never begun"));
        }
        match outcome {
            Some(AppendOutcome::Matched(index)) if index > self.log.last().index => {
                Err(Reject::Malformed("a match beyond the leader's log"))
            }
            _ => Ok(()),
        }
    }

    /// The gate for a snapshot that has arrived.
    pub(crate) fn check_snapshot(
        &self,
        from: NodeId,
        term: Term,
        snapshot: &SnapshotMeta,
    ) -> Result<(), Reject> {
        if from == self.config.id || !self.membership.is_voter(from) {
            return Err(Reject::UnknownPeer(from));
        }
        check_term(term)?;
        check_snapshot_shape(term, snapshot)?;
        if self.refuses_entries() {
            return Err(Reject::Faulted);
        }
        if term < self.term { Ok(()) } else { self.check_leader(from, term) }
    }
}

/// Whether a learner may send it too.
fn is_of_any_member<E>(message: &Message<E>) -> bool {
    matches!(
        message,
        Message::Appended { .. } | Message::HeartbeatReply { .. } | Message::ReadIndex { .. }
    )
}

/// Whether only the leader of its term sends it.
fn is_of_leader<E>(message: &Message<E>) -> bool {
    match message {
        Message::AppendEntries { .. }
        | Message::Heartbeat { .. }
        | Message::InstallSnapshot { .. }
        | Message::ReadIndexReply { index: Some(_), .. }
        | Message::TimeoutNow { .. } => true,
        Message::RequestVote { .. }
        | Message::Vote { .. }
        | Message::Appended { .. }
        | Message::HeartbeatReply { .. }
        | Message::ReadIndex { .. }
        | Message::ReadIndexReply { index: None, .. } => false,
    }
}

/// What contradicts itself.
fn check_shape(message: &Incoming<'_>) -> Result<(), Reject> {
    if !matches!(message, Message::Vote { granted: false, .. }) || message.term().0 > TERM_MAX {
        check_term(message.term())?;
    }
    if let Message::RequestVote { term, last, .. } = message
        && (last.term >= *term || last.index.0 > INDEX_MAX)
    {
        return Err(Reject::Malformed("a candidate's log ends in its own term or a later one"));
    }
    if let Message::AppendEntries { term, prev, entries, .. } = message {
        check_entries(*term, *prev, entries)?;
    }
    if let Message::InstallSnapshot { term, snapshot } = message {
        check_snapshot_shape(*term, snapshot)?;
    }
    Ok(())
}

fn check_term(term: Term) -> Result<(), Reject> {
    if (1..=TERM_MAX).contains(&term.0) {
        Ok(())
    } else {
        Err(Reject::Malformed("a term out of range"))
    }
}

fn check_entries(term: Term, prev: EntryId, entries: &[EntryMeta]) -> Result<(), Reject> {
    if prev.index.0.saturating_add(entries.len() as u64) > INDEX_MAX {
        return Err(Reject::Malformed("an append beyond the greatest position"));
    }
    let mut before = prev.term;
    for entry in entries {
        if entry.term < before || entry.term.0 == 0 {
            return Err(Reject::Malformed("terms fall inside an append"));
        }
        if entry.kind == EntryKind::Membership {
            return Err(Reject::Malformed("membership can't change in this version"));
        }
        before = entry.term;
    }
    if before > term {
        Err(Reject::Malformed("an append holds a later term than its leader's"))
    } else {
        Ok(())
    }
}

fn check_snapshot_shape(term: Term, snapshot: &SnapshotMeta) -> Result<(), Reject> {
    let last = snapshot.last;
    let bounded = last.term <= term && last.term.0 > 0 && (1..=INDEX_MAX).contains(&last.index.0);
    if !bounded {
        return Err(Reject::Malformed("a snapshot's end is out of range"));
    }
    membership_problem(&snapshot.membership)
        .map_or(Ok(()), |problem| Err(Reject::Malformed(problem)))
}
