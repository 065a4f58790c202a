//! Keeps every set of injected disk faults recoverable, and says when one is not.
//!
//! Raft survives members that stop for ever, as long as a majority is left. It does not survive a voter that goes on, under the
//! same id, without something that it has acknowledged: of three, one such voter is enough to elect a leader that lacks a committed
//! entry, or two leaders of one term. Changes of membership, which could bring it back as somebody else, do not exist yet. So:
//!
//! - A disk may be *ruined* (damaged, wiped, or made to lie) only at a member outside the quorum that will be healed at the
//!   end of the run. Then a majority keeps an intact copy of everything that was committed or promised.
//! - Whoever lost something that it acknowledged does not start again: it is gone for good. But for one case: two majorities of
//!   an even number of voters share two members at least, so one forgetful voter of four may come back.
//!
//! What is asked for beyond that is refused, and counted. With the atlas off nothing is refused, and the world must be convicted: the
//! judges see what the atlas is for. Idea: `TigerBeetle`'s simulator.

use super::id_of;

/// What may be ruined, and who is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Atlas {
    /// How many voters there are; they sit first.
    pub voters: usize,
    /// Whose disks may be ruined. Bits, by seat.
    pub spare: u8,
    /// Nothing is refused.
    pub off: bool,
    /// How many faults were refused.
    pub refused: u64,
    /// Who lost what it acknowledged. Bits, by seat.
    lost: u8,
}

impl Atlas {
    /// For a group of so many voters; no disk may be ruined.
    pub fn of(voters: usize) -> Self {
        Self { voters, ..Self::default() }
    }

    /// Whether what the disk at a seat acknowledged may be lost; counts a refusal.
    pub fn may_lose(&mut self, seat: usize) -> bool {
        let may = self.off || self.is_spare(seat);
        self.refused += u64::from(!may);
        may
    }

    /// Whether the member at a seat may be stopped for good; counts a refusal. Without a quorum there is no progress to judge, so
    /// this holds also with the atlas off.
    pub fn may_stop(&mut self, seat: usize) -> bool {
        let may = self.is_spare(seat);
        self.refused += u64::from(!may);
        may
    }

    fn is_spare(&self, seat: usize) -> bool {
        self.spare >> seat & 1 == 1
    }

    /// The member at a seat lost what it acknowledged. Says whether it may start again.
    pub fn lose(&mut self, seat: usize) -> bool {
        self.lost |= 1 << seat;
        self.off || self.is_survivable()
    }

    /// Whether any two majorities share a voter that forgot nothing.
    pub fn is_survivable(&self) -> bool {
        let voters = (0..self.voters).fold(0_u8, |set, seat| set | 1 << seat);
        let shared = if self.voters.is_multiple_of(2) { 2 } else { 1 };
        (self.lost & voters).count_ones() < shared
    }

    /// Why this set of faults can't be survived, if it can't.
    pub fn verdict(&self) -> Option<String> {
        if !self.off || self.is_survivable() {
            return None;
        }
        let lost = (0..self.voters).filter(|seat| self.lost >> seat & 1 == 1);
        let ids: Vec<String> = lost.map(|seat| id_of(seat).to_string()).collect();
        Some(format!(
            "beyond what Raft survives: of {} voters, {} came back without what they had acknowledged",
            self.voters,
            ids.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_four_may_forget_and_none_of_three() {
        let atlas = |voters, off| Atlas { voters, spare: 0b1000, off, ..Atlas::default() };
        assert!(atlas(4, false).lose(3));
        assert!(!atlas(3, false).lose(2));
        assert!(!atlas(5, false).lose(4));
        let mut twice = atlas(4, false);
        assert!(twice.lose(3) && !twice.lose(2));
    }

    #[test]
    fn what_is_refused_is_counted_and_what_is_not_is_told() {
        let mut atlas = Atlas { voters: 3, spare: 0b100, ..Atlas::default() };
        assert!(atlas.may_lose(2) && !atlas.may_stop(0));
        assert_eq!((atlas.refused, atlas.verdict()), (1, None));
        let mut off = Atlas { voters: 3, off: true, ..Atlas::default() };
        assert!(off.may_lose(0) && !off.may_stop(0) && off.lose(0));
        assert!(off.verdict().unwrap().contains("3 voters, 1 came back"));
    }
}
