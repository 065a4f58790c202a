//! Linearizable reads on their way: waiting, asked about, granted.
//!
//! All reads that wait when a question leaves share it. While an answer is awaited no other question leaves, so that the busier
//! the node, the more reads share one round; but a question whose answer takes long is repeated under a new number, for its
//! reads and for those that came since.
//!
//! An answer counts for every read that came before its question left. So a repetition takes nothing away from answers that are
//! under way, however slow the link: a read ends with the first answer to any question that it was part of.

use std::collections::VecDeque;

use quorate_raft::{Index, Mono, ReadContext};

/// One read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    id: u64,
    arrived: Mono,
}

/// The reads of one group. Each list is in order of arrival.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    waiting: VecDeque<Read>,
    /// Reads that were asked about, each with the first question that it was part of.
    asked: VecDeque<(ReadContext, Read)>,
    /// When to ask again about them.
    again_at: Mono,
    granted: VecDeque<(Index, Vec<Read>)>,
    contexts: u64,
    /// After a refusal, no question leaves before.
    not_before: Mono,
    len: usize,
}

impl Reads {
    /// How many are not answered.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One more.
    pub(crate) fn push(&mut self, id: u64, now: Mono) {
        self.waiting.push_back(Read { id, arrived: now });
        self.len += 1;
    }

    /// Whether a question should be asked now.
    pub(crate) fn wants_to_ask(&self, now: Mono) -> bool {
        self.next_question().is_some_and(|at| at <= now)
    }

    /// A question leaves for everything that waits and everything without an answer; repeated at `again_at`.
    pub(crate) fn ask(&mut self, again_at: Mono) -> ReadContext {
        self.contexts += 1;
        let context = ReadContext(self.contexts);
        self.asked.extend(self.waiting.drain(..).map(|read| (context, read)));
        self.again_at = again_at;
        context
    }

    /// A question was refused. If it was the newest one, its reads ask again, but not before; else the newer one answers.
    pub(crate) fn refuse(&mut self, context: ReadContext, not_before: Mono) {
        if context.0 == self.contexts && !self.asked.is_empty() {
            self.again_at = not_before;
            self.not_before = not_before;
        }
    }

    /// Somebody else leads now, perhaps: ask at once.
    pub(crate) fn hurry(&mut self) {
        self.not_before = Mono(0);
        self.again_at = Mono(0);
    }

    /// A question is answered: the reads that came before it may be served at `index`.
    pub(crate) fn grant(&mut self, context: ReadContext, index: Index) {
        let count = self.asked.partition_point(|(first, _)| first.0 <= context.0);
        if count > 0 {
            let reads = self.asked.drain(..count).map(|(_, read)| read).collect();
            self.granted.push_back((index, reads));
        }
    }

    /// Takes what may be served by a state machine that has applied `applied`.
    pub(crate) fn release(&mut self, applied: Index, mut served: impl FnMut(u64)) {
        while self.granted.front().is_some_and(|(index, _)| *index <= applied) {
            for read in self.granted.pop_front().into_iter().flat_map(|(_, reads)| reads) {
                self.len -= 1;
                served(read.id);
            }
        }
    }

    /// Takes what has waited too long: arrived at or before `limit`. Granted ones too, so that a state machine that stands
    /// still keeps nobody waiting.
    pub(crate) fn expire(&mut self, limit: Mono, mut expired: impl FnMut(u64)) {
        let mut drop = |read: &Read| {
            let late = read.arrived <= limit;
            if late {
                self.len -= 1;
                expired(read.id);
            }
            !late
        };
        for (_, reads) in &mut self.granted {
            reads.retain(&mut drop);
        }
        self.asked.retain(|(_, read)| drop(read));
        self.waiting.retain(&mut drop);
        self.granted.retain(|(_, reads)| !reads.is_empty());
    }

    /// When the oldest arrived.
    pub(crate) fn oldest(&self) -> Option<Mono> {
        let granted = self.granted.front().and_then(|(_, reads)| reads.first());
        let asked = self.asked.front().map(|(_, read)| read);
        let all = [granted, asked, self.waiting.front()];
        all.into_iter().flatten().map(|read| read.arrived).min()
    }

    /// When to come back to ask.
    pub(crate) fn next_question(&self) -> Option<Mono> {
        let pause = if self.asked.is_empty() { self.not_before } else { self.again_at };
        (!self.asked.is_empty() || !self.waiting.is_empty()).then_some(pause.max(self.not_before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(reads: &mut Reads, applied: u64) -> Vec<u64> {
        let mut ids = Vec::new();
        reads.release(Index(applied), |id| ids.push(id));
        ids
    }

    fn expired(reads: &mut Reads, limit: u64) -> Vec<u64> {
        let mut ids = Vec::new();
        reads.expire(Mono(limit), |id| ids.push(id));
        ids
    }

    #[test]
    fn reads_that_wait_share_a_question_and_later_ones_wait_for_the_next() {
        let mut reads = Reads::default();
        reads.push(1, Mono(10));
        reads.push(2, Mono(11));
        assert!(reads.wants_to_ask(Mono(11)));
        let first = reads.ask(Mono(100));
        reads.push(3, Mono(12));
        assert!(!reads.wants_to_ask(Mono(99)));
        reads.grant(first, Index(5));
        assert_eq!(released(&mut reads, 4), []);
        assert_eq!(released(&mut reads, 5), [1, 2]);
        assert!(reads.wants_to_ask(Mono(12)));
        assert_eq!(reads.len(), 1);
    }

    #[test]
    fn an_answer_counts_for_all_that_came_before_its_question_and_for_nothing_else() {
        let mut reads = Reads::default();
        reads.push(1, Mono(10));
        let first = reads.ask(Mono(100));
        reads.push(2, Mono(20));
        assert!(reads.wants_to_ask(Mono(100)));
        let second = reads.ask(Mono(200));
        reads.grant(first, Index(1));
        assert_eq!(released(&mut reads, 9), [1]);
        reads.grant(first, Index(1));
        assert_eq!(released(&mut reads, 9), []);
        reads.grant(second, Index(3));
        assert_eq!(released(&mut reads, 9), [2]);
    }

    #[test]
    fn a_later_answer_serves_the_reads_of_a_question_that_was_lost() {
        let mut reads = Reads::default();
        reads.push(1, Mono(10));
        let lost = reads.ask(Mono(100));
        reads.push(2, Mono(20));
        let again = reads.ask(Mono(200));
        reads.refuse(lost, Mono(900));
        assert_eq!(reads.next_question(), Some(Mono(200)), "the newer one is under way");
        reads.grant(again, Index(3));
        assert_eq!(released(&mut reads, 9), [1, 2]);
    }

    #[test]
    fn a_refused_question_pauses() {
        let mut reads = Reads::default();
        reads.push(1, Mono(10));
        let refused = reads.ask(Mono(100));
        reads.refuse(refused, Mono(50));
        assert!(!reads.wants_to_ask(Mono(49)));
        assert_eq!(reads.next_question(), Some(Mono(50)));
        assert!(reads.wants_to_ask(Mono(50)));
        reads.hurry();
        assert!(reads.wants_to_ask(Mono(11)));
    }

    #[test]
    fn expires_in_every_state() {
        let mut reads = Reads::default();
        reads.push(1, Mono(10));
        let first = reads.ask(Mono(100));
        reads.grant(first, Index(9));
        reads.push(2, Mono(20));
        reads.ask(Mono(100));
        reads.push(3, Mono(30));
        reads.push(4, Mono(40));
        assert_eq!(reads.oldest(), Some(Mono(10)));
        assert_eq!(expired(&mut reads, 30), [1, 2, 3]);
        assert_eq!((reads.len(), reads.oldest()), (1, Some(Mono(40))));
        assert_eq!(expired(&mut reads, 40), [4]);
        assert_eq!((reads.len(), reads.oldest(), reads.next_question()), (0, None, None));
    }
}
