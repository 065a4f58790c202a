//! The numbers of the protocol, each a type of its own.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A member of the cluster. Zero is never a member.
    NodeId
}
number! {
    /// One Raft group among the many that share a node.
    GroupId
}
number! {
    /// An election period (Raft paper 5.1). Zero comes before the first election.
    Term
}
number! {
    /// A position in the log, from 1; 0 is the position before the first entry.
    Index
}
number! {
    /// Nanoseconds on a monotonic clock that the driver owns. Only differences mean anything.
    Mono
}
number! {
    /// Names one durable effect. Tokens of one core only grow, and a token that is done says that all earlier ones are.
    IoToken
}
number! {
    /// Names one linearizable read on its way through the core; the driver's own number.
    ReadContext
}

impl Term {
    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Index {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The position before this one; 0 stays 0.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Mono {
    /// The moment `wait_ns` nanoseconds later.
    #[must_use]
    pub fn after(self, wait_ns: u64) -> Self {
        Self(self.0.saturating_add(wait_ns))
    }

    /// Nanoseconds since `earlier`; 0 when `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What identifies an entry: two logs that hold the same id agree on everything up to it (Raft paper 5.3, log matching).
///
/// The order is the one of "up-to-date" (5.4.1): by term, then by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The term of the leader that made the entry.
    pub term: Term,
    /// Its position.
    pub index: Index,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term, self.index)
    }
}

/// Entries `first` to `last`, both included; empty when `last < first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryRange {
    /// The first position.
    pub first: Index,
    /// The last position, included.
    pub last: Index,
}

impl EntryRange {
    /// The range that starts at `first`, which is at least 1, and holds nothing.
    pub fn empty_at(first: Index) -> Self {
        Self { first, last: first.previous() }
    }

    /// How many entries it names.
    pub fn len(self) -> u64 {
        (self.last.0 + 1).saturating_sub(self.first.0)
    }

    /// Whether it names none.
    pub fn is_empty(self) -> bool {
        self.last < self.first
    }
}

impl fmt::Display for EntryRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}..{}]", self.first, self.last)
    }
}

/// What an entry is for. The core looks at nothing else of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// The state machine's.
    Normal,
    /// A leader's first entry of its term, without content (Raft paper 8).
    Noop,
    /// A change of membership.
    Membership,
}

/// All that the core knows of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryMeta {
    /// The term of the leader that made it.
    pub term: Term,
    /// What it is for.
    pub kind: EntryKind,
    /// Size of its content, as it counts against byte limits.
    pub bytes: u32,
}
