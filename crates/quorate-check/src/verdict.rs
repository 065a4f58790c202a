//! What a judge says: the history keeps the promise, breaks it (and where), or is too hard to decide within the limits.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The promise that a history breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rule {
    /// No order of the operations on one key explains all replies.
    Linearizable,
    /// Order by revision contradicts real time.
    RealTime,
    /// Two writes were answered with one revision.
    RevisionUnique,
    /// A revision that nobody wrote, or that is not what its writer asked for.
    RevisionContent,
    /// A revision is missing between two known ones, and no unknown write can have taken it.
    RevisionGap,
    /// A reply differs from the state at its revision.
    ReadContent,
    /// Watch: an event of a lower revision comes after one of a higher.
    WatchOrdered,
    /// Watch: an event comes twice.
    WatchUnique,
    /// Watch: one revision is split over responses.
    WatchAtomic,
    /// Watch: an event between two delivered ones is missing.
    WatchReliable,
    /// Watch: the first event is not the first one from the asked revision on.
    WatchResumable,
    /// Watch: a progress notice came before an event that it covers.
    WatchBookmarkable,
    /// Watch: the previous pair is wrong, missing, or was not asked for.
    WatchPrevKv,
    /// Watch: an event that the range or the filters leave out.
    WatchFilter,
    /// Watch: creation and change are mixed up.
    WatchIsCreate,
    /// Watch: an event that never happened.
    WatchContent,
    /// A key vanished before its lease could run out.
    LeaseEarly,
    /// A key outlived its lease.
    LeaseLate,
    /// Two clients held a lock at one time.
    LockExclusive,
    /// A later holder has no higher fencing token.
    LockFencing,
    /// The guarded resource took a write with a token lower than one it had seen.
    LockStaleWrite,
    /// A transaction saw what an aborted one wrote.
    G1a,
    /// A transaction saw the middle of another one.
    G1b,
    /// A cycle of write dependencies.
    G0,
    /// A cycle of write and read dependencies.
    G1c,
    /// A cycle with exactly one anti-dependency.
    GSingle,
    /// A cycle with two or more anti-dependencies.
    G2,
    /// A cycle that only real time closes: serializable, but not strictly.
    GRealTime,
    /// Two reads of one list of which neither continues the other, or an element twice.
    ListOrder,
    /// A transaction contradicts its own earlier steps.
    Internal,
}

/// One breach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The promise.
    pub rule: Rule,
    /// What was seen, and what should have been.
    pub detail: String,
    /// The operations that show it, by their place in the history: the failing window.
    pub operations: Vec<usize>,
    /// Where the window starts, in nanoseconds; 0 where the judge knows no time.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
}

impl Finding {
    pub(crate) fn new(rule: Rule, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into(), operations: Vec::new(), from: 0, to: 0 }
    }

    pub(crate) fn of(mut self, operations: impl IntoIterator<Item = usize>) -> Self {
        self.operations = operations.into_iter().collect();
        self
    }

    pub(crate) fn within(mut self, from: u64, to: u64) -> Self {
        (self.from, self.to) = (from, to);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.detail)?;
        if !self.operations.is_empty() {
            write!(f, " (operations {:?}, {} to {} ns)", self.operations, self.from, self.to)?;
        }
        Ok(())
    }
}

/// What a judge says of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every promise is kept.
    Holds,
    /// At least one is broken. Never empty.
    Broken(Vec<Finding>),
    /// The limits of the judge are too small for this history: neither proof nor refutation.
    Undecided(String),
}

impl Verdict {
    pub(crate) fn of(findings: Vec<Finding>) -> Self {
        if findings.is_empty() { Self::Holds } else { Self::Broken(findings) }
    }

    /// Whether every promise is kept for sure.
    pub fn holds(&self) -> bool {
        *self == Self::Holds
    }

    /// What is broken; empty unless [`Verdict::Broken`].
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Broken(findings) => findings,
            Self::Holds | Self::Undecided(_) => &[],
        }
    }

    /// Whether `rule` is among what is broken.
    pub fn breaks(&self, rule: Rule) -> bool {
        self.findings().iter().any(|finding| finding.rule == rule)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => f.write_str("holds"),
            Self::Undecided(why) => write!(f, "undecided: {why}"),
            Self::Broken(findings) => {
                findings.iter().try_for_each(|finding| writeln!(f, "broken: {finding}"))
            }
        }
    }
}
