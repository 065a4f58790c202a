//! The Raft protocol as a pure function: events in, effects out.

mod effects;
mod event;
mod ids;
mod membership;
mod message;

pub use effects::{Append, Effects, Io, Notice, Origin, ReadGrant, Role, Send};
pub use event::{Event, Fault, Reject, Verdict};
pub use ids::{
    EntryId, EntryKind, EntryMeta, EntryRange, GroupId, Index, IoToken, Mono, NodeId, ReadContext,
    Term,
};
pub use membership::{Membership, SnapshotMeta};
pub use message::{AppendOutcome, HardState, Message};
