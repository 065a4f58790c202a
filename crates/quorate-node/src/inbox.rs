//! Proposals that other nodes forwarded to this leader.
//!
//! Each sender numbers its proposals within one (incarnation, term) from 0 without gaps. The leader takes number `next` and
//! nothing else: a repeated one is skipped, one from behind a gap is left for the resend (go-back-N). Everything is
//! forgotten with the term, since a proposal may be appended in the term it was sent for and in no other.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_raft::{NodeId, Term};

/// How many runs of other processes a leader remembers in one term. Beyond it, proposals of new runs are not taken.
const SENDERS_MAX: usize = 4_096;

/// What a leader took in and has not appended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inbox {
    term: Term,
    expected: BTreeMap<(NodeId, u64), u64>,
    queue: VecDeque<Bytes>,
    /// The content of the queue.
    bytes: u64,
}

/// How much a leader holds before it takes no more; one proposal of any size is taken when there is no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) proposals: usize,
    pub(crate) bytes: u64,
}

/// What to tell the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) next: u64,
    pub(crate) gap: bool,
}

impl Inbox {
    /// This node leads `term`, and no other: what came for another one is gone.
    pub(crate) fn enter(&mut self, term: Term) {
        if self.term != term {
            *self = Self { term, ..Self::default() };
        }
    }

    /// Takes what is new, as far as there is room. `None` stands for one that is refused: it is
    /// counted and goes nowhere.
    pub(crate) fn take(
        &mut self,
        sender: (NodeId, u64),
        number: u64,
        proposals: Vec<Option<Bytes>>,
        room: Room,
    ) -> Taken {
        let known = self.expected.contains_key(&sender);
        if !known && self.expected.len() >= SENDERS_MAX {
            return Taken { next: 0, gap: false };
        }
        let next = self.expected.entry(sender).or_insert(0);
        if number > *next {
            return Taken { next: *next, gap: true };
        }
        let skip = usize::try_from(*next - number).unwrap_or(usize::MAX);
        for proposal in proposals.into_iter().skip(skip) {
            let bytes =
                self.bytes.saturating_add(proposal.as_ref().map_or(0, |one| one.len() as u64));
            let is_full = self.queue.len() >= room.proposals || bytes > room.bytes;
            if is_full && !self.queue.is_empty() {
                break;
            }
            self.bytes = bytes;
            self.queue.extend(proposal);
            *next += 1;
        }
        Taken { next: *next, gap: false }
    }

    /// What waits, oldest first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Bytes> {
        self.queue.iter()
    }

    /// The first `count` are appended.
    pub(crate) fn appended(&mut self, count: usize) {
        let gone = self.queue.drain(..count.min(self.queue.len()));
        self.bytes -= gone.map(|one| one.len() as u64).sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: (NodeId, u64) = (NodeId(2), 77);
    const ROOM: Room = Room { proposals: 100, bytes: 1 << 20 };

    /// A dot is one that is refused.
    fn proposals(names: &str) -> Vec<Option<Bytes>> {
        let proposal = |name| (name != b'.').then(|| Bytes::copy_from_slice(&[name]));
        names.bytes().map(proposal).collect()
    }

    fn held(inbox: &Inbox) -> String {
        inbox.waiting().map(|proposal| char::from(proposal[0])).collect()
    }

    #[test]
    fn takes_each_number_once_and_in_order() {
        let mut inbox = Inbox::default();
        inbox.enter(Term(3));
        let check = |inbox: &mut Inbox, number, names, next, gap| {
            let taken = inbox.take(SENDER, number, proposals(names), ROOM);
            assert_eq!(taken, Taken { next, gap }, "number {number}");
        };
        check(&mut inbox, 0, "ab", 2, false);
        check(&mut inbox, 3, "d", 2, true);
        check(&mut inbox, 0, "ab", 2, false);
        check(&mut inbox, 1, "bcd", 4, false);
        assert_eq!(held(&inbox), "abcd");
        inbox.appended(3);
        check(&mut inbox, 0, "abcd", 4, false);
        assert_eq!(held(&inbox), "d");
    }

    #[test]
    fn a_refused_one_is_counted_and_not_held() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.take(SENDER, 0, proposals("a.b"), ROOM), Taken { next: 3, gap: false });
        assert_eq!(inbox.take(SENDER, 2, proposals("b."), ROOM), Taken { next: 4, gap: false });
        assert_eq!(held(&inbox), "ab");
    }

    #[test]
    fn stops_where_it_is_full_and_goes_on_later() {
        for room in [Room { proposals: 2, ..ROOM }, Room { bytes: 2, ..ROOM }] {
            let mut inbox = Inbox::default();
            assert_eq!(
                inbox.take(SENDER, 0, proposals("abc"), room),
                Taken { next: 2, gap: false }
            );
            inbox.appended(2);
            assert_eq!(inbox.take(SENDER, 2, proposals("c"), room), Taken { next: 3, gap: false });
            assert_eq!(held(&inbox), "c");
        }
    }

    /// A peer once filled a leader's memory with 16,384 proposals of the largest size.
    #[test]
    fn one_larger_than_all_room_is_taken_alone() {
        let mut inbox = Inbox::default();
        let large = || Some(Bytes::from_static(b"larger"));
        let room = Room { bytes: 2, ..ROOM };
        let taken = inbox.take(SENDER, 0, vec![large(), large()], room);
        assert_eq!(taken, Taken { next: 1, gap: false });
    }

    #[test]
    fn a_new_term_and_a_new_incarnation_begin_at_zero() {
        let mut inbox = Inbox::default();
        inbox.enter(Term(3));
        inbox.take(SENDER, 0, proposals("ab"), ROOM);
        inbox.take((NodeId(2), 78), 0, proposals("x"), ROOM);
        assert_eq!(held(&inbox), "abx");
        inbox.enter(Term(4));
        assert_eq!(held(&inbox), "");
        assert_eq!(inbox.take(SENDER, 2, proposals("c"), ROOM), Taken { next: 0, gap: true });
    }
}
