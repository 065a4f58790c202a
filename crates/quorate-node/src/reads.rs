//! Linearizable reads on their way: waiting, asked about, granted.
//!
//! All reads that wait when a question leaves share it, and one question is under way at a time; so the busier the node,
//! the more reads share one round. An answer counts only for the newest question: a question that was lost is asked again
//! under a new number, and a late answer to the old one is ignored.

use std::collections::VecDeque;

use quorate_raft::{Index, Mono, ReadContext};

/// One read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    id: u64,
    arrived: Mono,
}

/// A question under way.
#[derive(Clone, Debug)]
struct Asked {
    context: ReadContext,
    reads: Vec<Read>,
    again_at: Mono,
}

/// The reads of one group. Each list is in order of arrival.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    waiting: VecDeque<Read>,
    asked: Option<Asked>,
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
        let overdue = self.asked.as_ref().is_some_and(|asked| now >= asked.again_at);
        let free = self.asked.is_none() && !self.waiting.is_empty();
        (overdue || free) && now >= self.not_before
    }

    /// A question leaves for everything that waits; repeated at `again_at`.
    pub(crate) fn ask(&mut self, again_at: Mono) -> ReadContext {
        self.contexts += 1;
        let context = ReadContext(self.contexts);
        let mut reads = self.asked.take().map(|asked| asked.reads).unwrap_or_default();
        reads.extend(self.waiting.drain(..));
        self.asked = Some(Asked { context, reads, again_at });
        context
    }

    /// The question was refused; everything waits again, for a while.
    pub(crate) fn refuse(&mut self, context: ReadContext, not_before: Mono) {
        if let Some(asked) = self.asked.take_if(|asked| asked.context == context) {
            for read in asked.reads.into_iter().rev() {
                self.waiting.push_front(read);
            }
            self.not_before = not_before;
        }
    }

    /// Somebody else leads now, perhaps: ask at once.
    pub(crate) fn hurry(&mut self) {
        self.not_before = Mono(0);
        if let Some(asked) = &mut self.asked {
            asked.again_at = Mono(0);
        }
    }

    /// The question is answered: its reads may be served at `index`.
    pub(crate) fn grant(&mut self, context: ReadContext, index: Index) {
        if let Some(asked) = self.asked.take_if(|asked| asked.context == context) {
            self.granted.push_back((index, asked.reads));
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
        if let Some(asked) = &mut self.asked {
            asked.reads.retain(&mut drop);
        }
        self.waiting.retain(&mut drop);
        self.granted.retain(|(_, reads)| !reads.is_empty());
        self.asked.take_if(|asked| asked.reads.is_empty());
    }

    /// When the oldest arrived.
    pub(crate) fn oldest(&self) -> Option<Mono> {
        let granted = self.granted.front().and_then(|(_, reads)| reads.first());
        let asked = self.asked.as_ref().and_then(|asked| asked.reads.first());
        let all = [granted, asked, self.waiting.front()];
        all.into_iter().flatten().map(|read| read.arrived).min()
    }

    /// When to come back to ask.
    pub(crate) fn next_question(&self) -> Option<Mono> {
        match &self.asked {
            Some(asked) => Some(asked.again_at.max(self.not_before)),
            None => (!self.waiting.is_empty()).then_some(self.not_before),
        }
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
    fn a_lost_question_is_asked_again_and_its_late_answer_ignored() {
        let mut reads = Reads::default();
        reads.push(1, Mono(10));
        let lost = reads.ask(Mono(100));
        reads.push(2, Mono(20));
        assert!(reads.wants_to_ask(Mono(100)));
        let again = reads.ask(Mono(200));
        reads.grant(lost, Index(1));
        assert_eq!(released(&mut reads, 9), []);
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
