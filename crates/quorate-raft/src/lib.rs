//! The Raft protocol as a pure function: events in, effects out.

mod append;
mod commit;
mod config;
mod durability;
mod effects;
mod election;
mod event;
mod fault;
mod flow;
mod ids;
mod inbox;
mod invariants;
mod log;
mod machine;
mod membership;
mod message;
mod progress;
mod quorum;
mod random;
mod read;
mod recover;
mod replication;
mod snapshot;
mod timing;
mod transfer;
mod view;

pub use config::{Config, ELECTION_TIMEOUT_NS_MAX, INDEX_MAX, TERM_MAX, VOTERS_MAX};
pub use effects::{Append, Effects, Io, Notice, Origin, ReadGrant, Role, Send};
pub use event::{Event, Fault, Reject, Verdict};
pub use ids::{
    EntryId, EntryKind, EntryMeta, EntryRange, GroupId, Index, IoToken, Mono, NodeId, ReadContext,
    Term,
};
pub use invariants::{Broken, Past};
pub use machine::Core;
pub use membership::{Membership, SnapshotMeta};
pub use message::{AppendOutcome, HardState, Message};
pub use progress::ProgressState;
pub use recover::{RecoverError, Recovered};
pub use view::{PeerView, View};
