//! `AppendEntries` and heartbeats, follower side (Raft paper 5.3, figure 2).
//!
//! What the log already holds is never touched: only from the first entry that differs on is the tail replaced, and never at or
//! below the commit index, since the gate before refuses a message that contradicts a committed entry. An entry at or below the
//! start of the log is committed and so matches, although its term may be forgotten.
//!
//! Order of durability: "my log matches up to here" leaves only after everything up to there is on disk.

use crate::machine::{Core, Turn};
use crate::{AppendOutcome, EntryId, EntryMeta, Index, Message, NodeId, Notice, Origin, Verdict};

/// `AppendEntries`' content, without the term.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) prev: EntryId,
    pub(crate) entries: &'a [EntryMeta],
    pub(crate) commit: Index,
    pub(crate) round: u64,
}

impl Batch<'_> {
    /// The position of its last entry.
    pub(crate) fn last_index(&self) -> Index {
        Index(self.prev.index.0.saturating_add(self.entries.len() as u64))
    }
}

impl Core {
    pub(crate) fn on_append_entries(
        &mut self,
        from: NodeId,
        batch: Batch<'_>,
        turn: &mut Turn<'_>,
    ) -> Verdict {
        self.follow(from, turn);
        let prev = batch.prev;
        if self.config.bug(22) && prev.index < self.log.base().index {
            self.log.restore(self.log.base());
        }
        let is_known = prev.index <= self.commit;
        let matches = is_known
            || self.log.term_at(prev.index) == Some(prev.term)
            || (self.config.bug(38) && prev.index <= self.log.last().index);
        if !matches {
            let hint = self.log.floor(prev).unwrap_or(self.log.base());
            let outcome = AppendOutcome::Rejected { prev: prev.index, hint };
            self.send(
                from,
                Message::Appended { term: self.term, round: batch.round, outcome },
                turn,
            );
            return Verdict::Ok;
        }
        let skip = self.held_of(batch);
        self.take_entries(batch, skip, turn);
        self.follow_commit(batch.commit.min(batch.last_index()));
        self.send_matched(from, batch.last_index(), batch.round, turn);
        Verdict::Ok
    }

    pub(crate) fn on_heartbeat(
        &mut self,
        from: NodeId,
        commit: Index,
        round: u64,
        turn: &mut Turn<'_>,
    ) -> Verdict {
        self.follow(from, turn);
        self.follow_commit(commit);
        self.send(from, Message::HeartbeatReply { term: self.term, round }, turn);
        Verdict::Ok
    }

    /// Answers "matches and is durable up to `index`", or further: what is committed here matches every later leader's log.
    pub(crate) fn send_matched(&self, to: NodeId, index: Index, round: u64, turn: &mut Turn<'_>) {
        let index = index.max(self.released);
        let outcome = AppendOutcome::Matched(index);
        let message = Message::Appended { term: self.term, round, outcome };
        let after = self.durability.after_entry(index).filter(|_| !self.config.bug(10));
        turn.send(to, after, message);
    }

    /// How many of the batch's entries, from its start, the log holds.
    fn held_of(&self, batch: Batch<'_>) -> usize {
        if batch.prev.index == self.log.last().index || self.config.bug(11) {
            return 0;
        }
        let indices = (batch.prev.index.0 + 1..).map(Index);
        let differs = |(index, entry): (Index, &EntryMeta)| {
            index > self.commit && self.log.term_at(index) != Some(entry.term)
        };
        indices.zip(batch.entries).position(differs).unwrap_or(batch.entries.len())
    }

    fn take_entries(&mut self, batch: Batch<'_>, skip: usize, turn: &mut Turn<'_>) {
        let fresh = batch.entries.get(skip..).unwrap_or_default();
        if fresh.is_empty() {
            return;
        }
        let first = Index(batch.prev.index.0 + 1 + skip as u64);
        if first <= self.log.last().index {
            self.log.truncate_from(first);
            if !self.config.bug(23) {
                self.durability.forget_from(first);
            }
            turn.notice(Notice::LogTruncated { first });
        }
        for run in fresh.chunk_by(|one, next| one.term == next.term) {
            let term = run.first().map_or(self.term, |entry| entry.term);
            self.log.append(term, run.iter().map(|entry| entry.bytes));
        }
        let range = crate::EntryRange { first, last: self.log.last().index };
        self.stage_append(range, Origin::Received { skip }, turn);
    }
}
