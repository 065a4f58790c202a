//! This node's own proposals, from their arrival until they are committed, answered, or provably dead.
//!
//! A proposal is *queued* until it is *sent*: appended here when this node leads, or forwarded to the leader. All sent ones are
//! meant for one term. One term's log holds them in the order in which they were sent, so the oldest is committed first.
//! They are dead when an entry of a later term is committed and they were not: logs never go back to an earlier term. Dead
//! ones go to the front of the queue and are sent again; until then nothing new is sent, which keeps the order of arrival
//! everywhere.
//!
//! Invariants
//! - `sent` and then `queue`, in this order, are sorted by arrival.
//! - `base <= acked <= transmitted <= base + sent.len()`, but for `acked` and `transmitted` below `base`, which mean `base`.
//! - the first `answered` of `sent` have their answer already and stay only because the leader may not have them: the
//!   numbering knows no holes.
//!
//! What is left out: anything that survives the process. Who was not answered must ask again.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_raft::{Mono, Term};

use crate::{Pace, Proposal, ProposeError, Scope};

#[derive(Clone, Debug)]
struct Waiting {
    proposal: Proposal,
    arrived: Mono,
    /// The leader does not append it. Answered; it keeps its place, since the numbering knows no holes.
    refused: bool,
}

impl Waiting {
    fn bytes(&self) -> u64 {
        self.proposal.payload.len() as u64
    }
}

/// The proposals of one group on this node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proposals {
    queue: VecDeque<Waiting>,
    sent: VecDeque<Waiting>,
    sent_term: Term,
    /// Number of the first of `sent`.
    base: u64,
    /// The leader has everything before this number.
    acked: u64,
    /// Everything before this number is on its way.
    transmitted: u64,
    /// Everything before this number has been, at least once.
    furthest: u64,
    /// The gap that was last filled, so that many complaints about one gap cause one resend.
    filled_gap: Option<u64>,
    answered: usize,
    bytes: u64,
    resend_at: Option<Mono>,
    /// How much is on its way at a time; `None` until something was.
    pace: Option<Pace>,
}

/// The content that is forwarded at a time, at first and at least, in bytes. Beyond it, acknowledgements let it grow.
const WINDOW_BYTES: (u64, u64) = (1 << 20, 64 << 10);

/// What did not get through, with the reason.
pub(crate) type OnAnswer<'a> = &'a mut dyn FnMut(u64, ProposeError);

impl Proposals {
    /// How many are here.
    pub(crate) fn len(&self) -> usize {
        self.queue.len() + self.sent.len()
    }

    /// How much content they have, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// One more.
    pub(crate) fn push(&mut self, proposal: Proposal, now: Mono) {
        let waiting = Waiting { proposal, arrived: now, refused: false };
        self.bytes += waiting.bytes();
        self.queue.push_back(waiting);
    }

    /// Whether new ones may be sent in `term`: none of an earlier term may still be committed.
    pub(crate) fn may_send_in(&self, term: Term) -> bool {
        self.sent.is_empty() || self.sent_term == term
    }

    /// What is queued, oldest first.
    pub(crate) fn queued(&self) -> impl Iterator<Item = &Bytes> {
        self.queue.iter().map(|waiting| &waiting.proposal.payload)
    }

    /// The first `count` queued ones are in this node's own log, in `term`.
    pub(crate) fn appended(&mut self, count: usize, term: Term) {
        self.move_to_sent(count, term);
        self.acked = self.end();
        self.transmitted = self.acked;
    }

    /// Moves queued ones to those to be forwarded in `term`, as long as fewer than `entries_max` and `bytes_max` are sent.
    pub(crate) fn admit(&mut self, term: Term, entries_max: usize, bytes_max: u64) {
        let mut bytes: u64 = self.sent.iter().map(Waiting::bytes).sum();
        let room = entries_max.saturating_sub(self.sent.len());
        let fitting = self.queue.iter().take(room).take_while(|waiting| {
            let fits = bytes < bytes_max;
            bytes += waiting.bytes();
            fits
        });
        let count = fitting.count();
        self.move_to_sent(count, term);
    }

    /// The next message of those to be forwarded: the first one's number, and as many as have `bytes_max` bytes. `None` while as
    /// much is on its way as the link is known to carry.
    pub(crate) fn transmit(
        &mut self,
        now: Mono,
        entries_max: usize,
        bytes_max: u64,
    ) -> Option<(u64, Vec<Bytes>)> {
        let number = self.transmitted.max(self.base);
        let window = self.pace.as_ref().map_or(u64::MAX, Pace::window);
        if self.bytes_on_the_way(number) >= window {
            return None;
        }
        let skip = usize::try_from(number - self.base).ok()?;
        let mut bytes = 0;
        let next = self.sent.iter().skip(skip).take(entries_max).enumerate();
        let fitting = next.take_while(|(nth, waiting)| {
            bytes += waiting.bytes();
            *nth == 0 || bytes <= bytes_max
        });
        let proposals: Vec<_> =
            fitting.map(|(_, waiting)| waiting.proposal.payload.clone()).collect();
        self.transmitted = number + proposals.len() as u64;
        if self.transmitted > self.furthest
            && let Some(pace) = &mut self.pace
        {
            pace.sent(now, self.transmitted);
            self.furthest = self.transmitted;
        }
        (!proposals.is_empty()).then_some((number, proposals))
    }

    /// Whether the leader may lack some that were forwarded.
    pub(crate) fn is_unacked(&self) -> bool {
        self.acked.max(self.base) < self.end()
    }

    /// When to forward again what is not acknowledged.
    pub(crate) fn resend_at(&self) -> Option<Mono> {
        self.resend_at.filter(|_| self.is_unacked())
    }

    /// From now on an acknowledgement is expected, for as long as the link is known to take, but at least `least_ns`.
    pub(crate) fn expect_ack(&mut self, now: Mono, least_ns: u64, window_bytes_max: u64) {
        let bounds = (WINDOW_BYTES.1.min(window_bytes_max), window_bytes_max);
        let first = WINDOW_BYTES.0.min(window_bytes_max);
        let pace = self.pace.get_or_insert_with(|| Pace::new(first, bounds, least_ns));
        self.resend_at = Some(now.after(pace.wait_ns()));
    }

    /// There was no acknowledgement: what is not acknowledged is sent again, less at a time.
    pub(crate) fn take_for_lost(&mut self, now: Mono) {
        self.rewind();
        if let Some(pace) = &mut self.pace {
            pace.lost();
            self.resend_at = Some(now.after(pace.wait_ns()));
        }
    }

    /// How much content before `end` is on its way and not acknowledged, in bytes.
    fn bytes_on_the_way(&self, end: u64) -> u64 {
        let place = |number: u64| usize::try_from(number.saturating_sub(self.base)).unwrap_or(0);
        let (from, to) = (place(self.acked), place(end).min(self.sent.len()));
        self.sent.range(from.min(to)..to).map(Waiting::bytes).sum()
    }

    /// What is not acknowledged is on its way no more.
    pub(crate) fn rewind(&mut self) {
        self.transmitted = self.acked;
        self.filled_gap = None;
    }

    /// The leader of `term` has everything before `next`. Says whether something must be forwarded again.
    pub(crate) fn ack(&mut self, now: Mono, term: Term, next: u64, gap: bool) -> bool {
        if term != self.sent_term || next > self.end() {
            return false;
        }
        let fill = gap && self.filled_gap != Some(next) && next >= self.acked;
        if next > self.acked
            && let Some(pace) = &mut self.pace
        {
            pace.acked(now, next);
            self.resend_at = Some(now.after(pace.wait_ns()));
        }
        self.acked = self.acked.max(next);
        if fill {
            self.transmitted = self.acked;
            self.filled_gap = Some(next);
        }
        self.trim();
        fill
    }

    /// The leader of `term` does not append the one with this number, now or later in its term.
    pub(crate) fn refused(&mut self, term: Term, number: u64, answer: OnAnswer<'_>) {
        let place = number.checked_sub(self.base).filter(|_| term == self.sent_term);
        let place = place.and_then(|place| usize::try_from(place).ok());
        let was_answered = place.is_none_or(|place| place < self.answered);
        let waiting = place.and_then(|place| self.sent.get_mut(place));
        if let Some(waiting) = waiting.filter(|waiting| !waiting.refused && !was_answered) {
            waiting.refused = true;
            answer(waiting.proposal.sequence, ProposeError::Refused);
        }
        self.trim();
    }

    /// An entry of this node's, of `term`, is committed: it will be answered by the state machine. Those sent before it were
    /// committed before it; they are still here only if a snapshot held them.
    pub(crate) fn committed(&mut self, term: Term, sequence: u64) {
        let is_it = |waiting: &Waiting| waiting.proposal.sequence == sequence;
        if term == self.sent_term
            && let Some(position) = self.sent.iter().position(is_it)
        {
            for _ in 0..=position {
                self.pop_sent();
            }
            self.trim();
        }
    }

    /// An entry of `term` is committed: all sent in an earlier one are dead.
    pub(crate) fn bury(&mut self, term: Term, answer: OnAnswer<'_>) {
        if term <= self.sent_term || self.sent.is_empty() {
            return;
        }
        while self.answered > 0 {
            self.pop_sent();
        }
        while let Some(waiting) = self.sent.pop_back() {
            if waiting.refused {
                self.bytes -= waiting.bytes();
                continue;
            }
            match waiting.proposal.scope {
                Scope::Anywhere => self.queue.push_front(waiting),
                Scope::LeaderOf(_) => {
                    self.bytes -= waiting.bytes();
                    answer(waiting.proposal.sequence, ProposeError::NotLeader);
                }
            }
        }
    }

    /// A snapshot up to an entry of `term` is the state now: whether those sent up to that term are in it is not known.
    pub(crate) fn supersede(&mut self, term: Term, answer: OnAnswer<'_>) {
        if term >= self.sent_term {
            let open = self.sent.range(self.answered.min(self.sent.len())..);
            for waiting in open.filter(|waiting| !waiting.refused) {
                answer(waiting.proposal.sequence, ProposeError::Superseded);
            }
            self.answered = self.sent.len();
            self.trim();
        }
    }

    /// This node leads `leads` now, or nothing: queued ones that are bound to another leadership end.
    pub(crate) fn unbind(&mut self, leads: Option<Term>, answer: OnAnswer<'_>) {
        let bytes = &mut self.bytes;
        self.queue.retain(|waiting| match waiting.proposal.scope {
            Scope::LeaderOf(term) if Some(term) != leads => {
                *bytes -= waiting.bytes();
                answer(waiting.proposal.sequence, ProposeError::NotLeader);
                false
            }
            Scope::LeaderOf(_) | Scope::Anywhere => true,
        });
    }

    /// Answers everything that is queued.
    pub(crate) fn refuse(&mut self, error: ProposeError, answer: OnAnswer<'_>) {
        for waiting in self.queue.drain(..) {
            self.bytes -= waiting.bytes();
            answer(waiting.proposal.sequence, error);
        }
    }

    /// Answers what arrived at or before `limit`; `leaderless` tells why.
    pub(crate) fn expire(&mut self, limit: Mono, leaderless: bool, answer: OnAnswer<'_>) {
        let (queued, sent) = if leaderless {
            (ProposeError::NoLeader, ProposeError::LeaderLost)
        } else {
            (ProposeError::Timeout, ProposeError::Timeout)
        };
        while let Some(waiting) = self.sent.get(self.answered).filter(|one| one.arrived <= limit) {
            if !waiting.refused {
                answer(waiting.proposal.sequence, sent);
            }
            self.answered += 1;
        }
        self.trim();
        while self.queue.front().is_some_and(|one| one.arrived <= limit) {
            let Some(waiting) = self.queue.pop_front() else { return };
            self.bytes -= waiting.bytes();
            answer(waiting.proposal.sequence, queued);
        }
    }

    /// When the oldest that has no answer arrived.
    pub(crate) fn oldest(&self) -> Option<Mono> {
        let oldest = self.sent.get(self.answered).or_else(|| self.queue.front());
        oldest.map(|waiting| waiting.arrived)
    }

    fn end(&self) -> u64 {
        self.base + self.sent.len() as u64
    }

    fn move_to_sent(&mut self, count: usize, term: Term) {
        if self.sent.is_empty() && self.sent_term != term {
            self.sent_term = term;
            self.forget_numbers();
        }
        self.sent.extend(self.queue.drain(..count.min(self.queue.len())));
    }

    fn forget_numbers(&mut self) {
        (self.base, self.acked, self.transmitted, self.furthest) = (0, 0, 0, 0);
        self.filled_gap = None;
        self.resend_at = None;
        self.pace = None;
    }

    fn pop_sent(&mut self) {
        if let Some(waiting) = self.sent.pop_front() {
            self.bytes -= waiting.bytes();
            self.base += 1;
            self.answered = self.answered.saturating_sub(1);
        }
    }

    /// Drops what is answered and acknowledged.
    fn trim(&mut self) {
        let is_over = |first: &Waiting, answered| answered > 0 || first.refused;
        while self.base < self.acked
            && self.sent.front().is_some_and(|first| is_over(first, self.answered))
        {
            self.pop_sent();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANYWHERE: Scope = Scope::Anywhere;
    const NOW: Mono = Mono(0);

    fn filled(sequences: std::ops::Range<u64>) -> Proposals {
        let mut proposals = Proposals::default();
        for sequence in sequences {
            push(&mut proposals, sequence, ANYWHERE);
        }
        proposals
    }

    fn push(proposals: &mut Proposals, sequence: u64, scope: Scope) {
        let payload = Bytes::from(vec![u8::try_from(sequence).unwrap()]);
        proposals.push(Proposal { sequence, payload, scope }, Mono(sequence * 10));
    }

    fn transmitted(proposals: &mut Proposals) -> Option<(u64, Vec<u8>)> {
        let (number, payloads) = proposals.transmit(NOW, 100, 100)?;
        Some((number, payloads.iter().map(|payload| payload[0]).collect()))
    }

    fn queued(proposals: &Proposals) -> Vec<u8> {
        proposals.queued().map(|payload| payload[0]).collect()
    }

    fn answers(act: impl FnOnce(OnAnswer<'_>)) -> Vec<(u64, ProposeError)> {
        let mut all = Vec::new();
        act(&mut |sequence, error| all.push((sequence, error)));
        all
    }

    #[test]
    fn forwards_each_once_until_a_gap_is_reported() {
        let mut proposals = filled(1..5);
        proposals.admit(Term(2), 3, 100);
        assert_eq!(transmitted(&mut proposals), Some((0, vec![1, 2, 3])));
        assert_eq!(transmitted(&mut proposals), None);
        proposals.ack(NOW, Term(2), 1, false);
        proposals.admit(Term(2), 100, 100);
        assert_eq!(transmitted(&mut proposals), Some((3, vec![4])));
        assert!(proposals.ack(NOW, Term(2), 1, true));
        assert!(!proposals.ack(NOW, Term(2), 1, true), "one gap is filled once");
        assert_eq!(transmitted(&mut proposals), Some((1, vec![2, 3, 4])));
        proposals.rewind();
        assert_eq!(transmitted(&mut proposals), Some((1, vec![2, 3, 4])));
        proposals.ack(NOW, Term(2), 4, false);
        assert!(!proposals.is_unacked());
    }

    #[test]
    fn what_a_slow_link_does_not_acknowledge_is_sent_again_later_and_less_at_a_time() {
        let mut proposals = Proposals::default();
        for sequence in 0..100 {
            let payload = Bytes::from(vec![7; 100 << 10]);
            proposals.push(Proposal { sequence, payload, scope: ANYWHERE }, NOW);
        }
        proposals.admit(Term(2), 1_000, 16 << 20);
        proposals.expect_ack(NOW, 200, 16 << 20);
        let sent = |proposals: &mut Proposals| {
            let messages = std::iter::from_fn(|| proposals.transmit(NOW, 1, 1 << 20));
            messages.count()
        };
        assert_eq!(sent(&mut proposals), 11, "a mebibyte at first, and not all ten");
        for (at, again, next) in [(200, 6, 600), (600, 3, 1_400), (1_400, 2, 3_000)] {
            assert_eq!(proposals.resend_at(), Some(Mono(at)));
            proposals.take_for_lost(Mono(at));
            assert_eq!((sent(&mut proposals), proposals.resend_at()), (again, Some(Mono(next))));
        }
        proposals.ack(Mono(2_000), Term(2), 2, false);
        assert_eq!(proposals.resend_at(), Some(Mono(3_600)));
        assert_eq!(sent(&mut proposals), 2);
    }

    #[test]
    fn acks_of_another_term_or_beyond_the_end_mean_nothing() {
        let mut proposals = filled(1..3);
        proposals.admit(Term(2), 100, 100);
        transmitted(&mut proposals);
        assert!(!proposals.ack(NOW, Term(3), 0, true));
        assert!(!proposals.ack(NOW, Term(2), 9, true));
        assert!(proposals.is_unacked());
    }

    #[test]
    fn committed_ones_leave_and_dead_ones_are_queued_first() {
        let mut proposals = filled(1..6);
        proposals.appended(4, Term(2));
        proposals.committed(Term(2), 1);
        proposals.committed(Term(2), 77);
        assert_eq!(answers(|answer| proposals.bury(Term(2), answer)), []);
        assert!(!proposals.may_send_in(Term(3)));
        assert_eq!(answers(|answer| proposals.bury(Term(3), answer)), []);
        assert!(proposals.may_send_in(Term(3)));
        assert_eq!(queued(&proposals), [2, 3, 4, 5]);
        assert_eq!((proposals.len(), proposals.bytes()), (4, 4));
        proposals.admit(Term(3), 100, 100);
        assert_eq!(transmitted(&mut proposals), Some((0, vec![2, 3, 4, 5])));
    }

    #[test]
    fn bound_ones_end_with_their_leadership() {
        let mut proposals = Proposals::default();
        push(&mut proposals, 1, Scope::LeaderOf(Term(2)));
        push(&mut proposals, 2, Scope::LeaderOf(Term(2)));
        push(&mut proposals, 3, ANYWHERE);
        assert_eq!(answers(|answer| proposals.unbind(Some(Term(2)), answer)), []);
        proposals.appended(1, Term(2));
        let unbound = answers(|answer| proposals.unbind(None, answer));
        assert_eq!(unbound, [(2, ProposeError::NotLeader)]);
        let dead = answers(|answer| proposals.bury(Term(3), answer));
        assert_eq!(dead, [(1, ProposeError::NotLeader)]);
        assert_eq!((queued(&proposals), proposals.bytes()), (vec![3], 1));
    }

    #[test]
    fn an_answered_one_stays_in_its_place_until_the_leader_has_it() {
        let mut proposals = filled(1..5);
        proposals.admit(Term(2), 2, 100);
        transmitted(&mut proposals);
        let expired = answers(|answer| proposals.expire(Mono(10), false, answer));
        assert_eq!(expired, [(1, ProposeError::Timeout)]);
        assert_eq!(proposals.oldest(), Some(Mono(20)));
        proposals.rewind();
        assert_eq!(transmitted(&mut proposals), Some((0, vec![1, 2])));
        proposals.ack(NOW, Term(2), 2, false);
        assert_eq!(proposals.len(), 3);
        let expired = answers(|answer| proposals.expire(Mono(30), true, answer));
        assert_eq!(expired, [(2, ProposeError::LeaderLost), (3, ProposeError::NoLeader)]);
        assert_eq!((proposals.len(), proposals.bytes()), (1, 1));
        proposals.admit(Term(2), 100, 100);
        assert_eq!(transmitted(&mut proposals), Some((2, vec![4])));
    }

    #[test]
    fn a_refused_one_is_answered_once_and_leaves_with_those_before_it() {
        let mut proposals = filled(1..4);
        proposals.admit(Term(2), 100, 100);
        transmitted(&mut proposals);
        proposals.ack(Mono(0), Term(2), 3, false);
        assert_eq!(answers(|answer| proposals.refused(Term(3), 1, answer)), []);
        let refused = answers(|answer| proposals.refused(Term(2), 1, answer));
        assert_eq!(refused, [(2, ProposeError::Refused)]);
        assert_eq!(answers(|answer| proposals.refused(Term(2), 1, answer)), []);
        assert_eq!(answers(|answer| proposals.refused(Term(2), 9, answer)), []);
        proposals.committed(Term(2), 1);
        assert_eq!((proposals.len(), proposals.bytes()), (1, 1), "only the last is left");
        answers(|answer| proposals.bury(Term(3), answer));
        assert_eq!(queued(&proposals), [3]);
    }

    #[test]
    fn a_refused_one_is_not_sent_to_the_next_leader() {
        let mut proposals = filled(1..4);
        proposals.admit(Term(2), 100, 100);
        answers(|answer| proposals.refused(Term(2), 0, answer));
        assert_eq!(answers(|answer| proposals.expire(Mono(10), true, answer)), []);
        answers(|answer| proposals.bury(Term(3), answer));
        assert_eq!((queued(&proposals), proposals.bytes()), (vec![2, 3], 2));
    }

    #[test]
    fn the_dead_do_not_rise_twice() {
        let mut proposals = filled(1..4);
        proposals.admit(Term(2), 100, 100);
        answers(|answer| proposals.expire(Mono(10), false, answer));
        answers(|answer| proposals.bury(Term(3), answer));
        assert_eq!(queued(&proposals), [2, 3]);
    }

    #[test]
    fn a_snapshot_leaves_the_outcome_open() {
        let mut proposals = filled(1..3);
        proposals.appended(1, Term(4));
        assert_eq!(answers(|answer| proposals.supersede(Term(3), answer)), []);
        let superseded = answers(|answer| proposals.supersede(Term(4), answer));
        assert_eq!(superseded, [(1, ProposeError::Superseded)]);
        assert_eq!(queued(&proposals), [2]);
    }

    #[test]
    fn one_that_a_snapshot_holds_does_not_stand_before_later_ones() {
        let mut proposals = filled(1..3);
        proposals.admit(Term(4), 1, 100);
        transmitted(&mut proposals);
        answers(|answer| proposals.supersede(Term(4), answer));
        proposals.admit(Term(4), 100, 100);
        assert_eq!(transmitted(&mut proposals), Some((1, vec![2])));
        proposals.committed(Term(4), 2);
        assert_eq!((proposals.len(), proposals.bytes()), (0, 0));
        answers(|answer| proposals.bury(Term(5), answer));
        assert_eq!(queued(&proposals), []);
    }
}
