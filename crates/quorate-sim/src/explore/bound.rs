//! How far an exploration goes, and which bug is planted in it.
//!
//! A and C have no faults but reordering and a disk that takes its time (C may crash); B has one of each fault; E has reads; F
//! drops the head of a log and sends snapshots, and begins with a leader, since all that comes late in a run. A is small enough to be seen whole; C and F are for deep runs. There is no D: it
//! is about changes of membership.
//!
//! A bound limits terms and logs (a step beyond is not taken), and how often each thing that nobody forces may happen. Delivery
//! of messages, in any order, and completion of writes are never limited.
//!
//! The network is a set: a message equal to one that is under way is lost. A message that is never delivered is as good as
//! lost, so every loss is in every bound; the budget of drops is for losses that the sender's driver *notices*.

use std::fmt;

/// What an exploration may spend. Each is a count of events in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spend {
    /// Election timeouts.
    Timeouts,
    /// Heartbeats that are due.
    Beats,
    /// Quorum checks of a leader, reads that expire, disks that stall.
    Checks,
    /// Proposed entries.
    Proposals,
    /// Crashes, each with any part of the unfinished writes kept.
    Crashes,
    /// Losses of messages that a leader's driver notices.
    Drops,
    /// Messages delivered twice.
    Duplicates,
    /// Linearizable reads.
    Reads,
    /// Heads of logs dropped, because the state machine has them.
    Compactions,
}

/// How many kinds of spending there are.
const SPENDS: usize = 9;
/// Bits for each of them.
const SPEND_BITS: u32 = 4;
/// The most of one kind.
pub const SPEND_MAX: u8 = (1 << SPEND_BITS) - 1;

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Its letter.
    pub name: &'static str,
    /// No member goes beyond this term.
    pub term_max: u64,
    /// No log goes beyond this many entries.
    pub log_max: usize,
    /// What has happened before the exploration begins, as commands of a golden script. It spends nothing.
    pub prelude: &'static [&'static str],
    budgets: [u8; SPENDS],
}

/// Member 1 leads, and 2 has its first entry, which is committed; 3 voted, but its entry is still under way.
const LED: [&str; 14] = [
    "due 1 election",
    "deliver 1 2 \"PreVote t1 last=0/0\"",
    "deliver 1 3 \"PreVote t1 last=0/0\"",
    "deliver 2 1 \"PreVote t1 granted\"",
    "sync 1 count=1",
    "deliver 1 2 \"RequestVote t1 last=0/0\"",
    "deliver 1 3 \"RequestVote t1 last=0/0\"",
    "sync 2 count=1",
    "sync 3 count=1",
    "deliver 2 1 \"Vote t1 granted\"",
    "sync 1 count=1",
    "deliver 1 2 \"AppendEntries t1 prev=0/0 terms=[1] commit=0 round=0\"",
    "sync 2 count=1",
    "deliver 2 1 \"Appended t1 matched=1 round=0\"",
];

/// The bounds that can be asked for.
pub const BOUNDS: [Bound; 6] = [
    // timeouts, beats, checks, proposals, crashes, drops, duplicates, reads, compactions
    Bound {
        name: "A",
        term_max: 2,
        log_max: 2,
        prelude: &[],
        budgets: [2, 0, 0, 1, 0, 0, 0, 0, 0],
    },
    Bound {
        name: "B",
        term_max: 2,
        log_max: 2,
        prelude: &[],
        budgets: [2, 0, 0, 1, 1, 1, 1, 0, 0],
    },
    Bound {
        name: "C",
        term_max: 3,
        log_max: 3,
        prelude: &[],
        budgets: [3, 0, 0, 1, 1, 0, 0, 0, 0],
    },
    Bound {
        name: "E",
        term_max: 2,
        log_max: 2,
        prelude: &[],
        budgets: [2, 0, 1, 0, 0, 0, 0, 2, 0],
    },
    Bound {
        name: "F",
        term_max: 2,
        log_max: 4,
        prelude: &LED,
        budgets: [1, 1, 0, 2, 0, 0, 0, 0, 1],
    },
    Bound {
        name: "small",
        term_max: 1,
        log_max: 1,
        prelude: &[],
        budgets: [2, 0, 0, 0, 1, 0, 0, 0, 0],
    },
];

impl Bound {
    /// The bound of that letter.
    pub fn named(name: &str) -> Option<Self> {
        BOUNDS.into_iter().find(|bound| bound.name.eq_ignore_ascii_case(name))
    }

    /// The same with other budgets, each at most [`SPEND_MAX`]: timeouts, beats, checks, proposals, crashes, drops, duplicates,
    /// reads, compactions.
    #[must_use]
    pub fn with_budgets(self, budgets: [u8; SPENDS]) -> Self {
        Self { budgets: budgets.map(|budget| budget.min(SPEND_MAX)), ..self }
    }

    /// All that may be spent, packed: four bits for each kind.
    pub(super) fn budgets(&self) -> u64 {
        let kinds = self.budgets.iter().rev();
        kinds.fold(0, |packed, budget| packed << SPEND_BITS | u64::from(*budget))
    }

    /// The same, but as many timeouts as a prelude may need.
    pub(super) fn prelude_budgets(&self) -> u64 {
        self.budgets() | u64::from(SPEND_MAX) << shift(Spend::Timeouts)
    }

    /// How many reads may be asked for in all.
    pub(super) fn reads(&self) -> u64 {
        left(self.budgets(), Spend::Reads)
    }
}

/// How much is left of one kind.
pub(super) fn left(budgets: u64, spend: Spend) -> u64 {
    budgets >> shift(spend) & u64::from(SPEND_MAX)
}

/// What is left after spending one.
pub(super) fn spent(budgets: u64, spend: Option<Spend>) -> u64 {
    budgets - spend.map_or(0, |spend| 1 << shift(spend))
}

fn shift(spend: Spend) -> u32 {
    SPEND_BITS * spend as u32
}

/// A bug planted in the driver, or in the core itself, so that the judges can be judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bug {
    /// The driver does its duties.
    #[default]
    None,
    /// A crash loses the vote.
    ForgetVote,
    /// Messages leave before the writes they wait for.
    AckBeforeDurable,
    /// A write is reported durable and is lost.
    LoseWrites,
    /// Reads are served at once, by whomever.
    ReadLocally,
    /// The core's historical bug of this number; without effect in a build without the feature `mutants`.
    Core(u16),
}

impl Bug {
    /// Those of the driver, by the names that the command line knows.
    pub const NAMED: [(&'static str, Self); 5] = [
        ("none", Self::None),
        ("forget-vote", Self::ForgetVote),
        ("ack-before-durable", Self::AckBeforeDurable),
        ("lose-writes", Self::LoseWrites),
        ("read-locally", Self::ReadLocally),
    ];

    /// The bug of that name; the core's are called by number: `core-8`.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(number) = name.strip_prefix("core-") {
            return number.parse().ok().map(Self::Core);
        }
        Self::NAMED.into_iter().find_map(|(known, bug)| (known == name).then_some(bug))
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Core(number) = self {
            return write!(out, "core-{number}");
        }
        let name = Self::NAMED.into_iter().find(|(_, bug)| bug == self);
        out.write_str(name.map_or("unnamed", |(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Terms of a log are packed into one word, four bits each.
    #[test]
    fn every_bound_can_be_packed() {
        assert!(BOUNDS.iter().all(|bound| bound.term_max <= 15 && bound.log_max < 15));
        assert!(BOUNDS.iter().flat_map(|bound| bound.budgets).all(|budget| budget <= SPEND_MAX));
    }

    #[test]
    fn spending_takes_one_of_its_kind() {
        let bound = Bound::named("b").expect("bound B");
        let budgets = spent(bound.budgets(), Some(Spend::Drops));
        assert_eq!(left(budgets, Spend::Drops) + 1, left(bound.budgets(), Spend::Drops));
        assert_eq!(left(budgets, Spend::Crashes), left(bound.budgets(), Spend::Crashes));
        assert_eq!(spent(budgets, None), budgets);
    }
}
