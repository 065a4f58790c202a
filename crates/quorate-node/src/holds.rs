//! What of the log must stay for members that are being sent a snapshot.
//!
//! A snapshot is of use only if the log goes on where it ends: when it arrives, over a slow link, the entries behind it must still
//! be there, or another snapshot is due, and another one. So from the order of a snapshot on until its receiver lags no more
//! than anybody may, the log is not cut behind what it will need, as long as that is no more than a bound of bytes.

use std::collections::BTreeMap;

use quorate_raft::{Index, NodeId};

/// What an entry costs beside its content, in bytes: so that very many small ones count too.
pub(crate) const ENTRY_BYTES: u64 = 64;

/// By receiver: the last position that it will not need.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds(BTreeMap<NodeId, Index>);

impl Holds {
    /// A snapshot is about to be made, of the state at `applied` or later.
    pub(crate) fn begin(&mut self, to: NodeId, applied: Index) {
        self.0.insert(to, applied);
    }

    /// It was sent whole and ends at `last`; `None`: it was not sent.
    pub(crate) fn sent(&mut self, to: NodeId, last: Option<Index>) {
        match (last, self.0.get_mut(&to)) {
            (Some(last), Some(held)) => *held = last.max(*held),
            (None, _) => drop(self.0.remove(&to)),
            (Some(_), None) => {}
        }
    }

    /// How far a receiver's log is known to be; from `enough` on it needs nothing special.
    pub(crate) fn matched(&mut self, node: NodeId, index: Index, enough: Index) {
        let Some(held) = self.0.get_mut(&node) else { return };
        *held = index.max(*held);
        if index >= enough {
            self.0.remove(&node);
        }
    }

    /// How far the log may be cut; `None`: as far as you like.
    pub(crate) fn limit(&self) -> Option<Index> {
        self.0.values().min().copied()
    }

    /// Who holds the log back most is given up: it costs too much.
    pub(crate) fn give_up_first(&mut self) {
        let limit = self.limit();
        self.0.retain(|_, held| Some(*held) != limit);
    }

    /// This node leads no more.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether nobody is held for.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: NodeId = NodeId(2);
    const SLOWER: NodeId = NodeId(3);

    #[test]
    fn the_log_stays_from_the_order_until_the_receiver_has_caught_up() {
        let mut holds = Holds::default();
        holds.begin(SLOW, Index(10));
        assert_eq!(holds.limit(), Some(Index(10)));
        holds.sent(SLOW, Some(Index(12)));
        holds.matched(SLOW, Index(4), Index(90));
        assert_eq!(holds.limit(), Some(Index(12)));
        holds.matched(SLOW, Index(60), Index(90));
        assert_eq!(holds.limit(), Some(Index(60)));
        holds.matched(SLOW, Index(95), Index(95));
        assert!(holds.is_empty());
    }

    #[test]
    fn who_failed_or_costs_too_much_holds_nothing() {
        let mut holds = Holds::default();
        holds.begin(SLOW, Index(20));
        holds.begin(SLOWER, Index(10));
        holds.give_up_first();
        assert_eq!(holds.limit(), Some(Index(20)));
        holds.sent(SLOW, None);
        assert_eq!(holds.limit(), None);
    }
}
