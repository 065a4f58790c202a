//! Drives Raft groups deterministically: proposals, log, apply, reads.
//!
//! The Raft core decides about positions and terms and never sees an entry's content. This crate owns the content: it joins
//! the core's effects with the bytes, keeps recent entries in memory, builds the log's records, holds messages back until
//! the disk has what they promise, hands committed entries to the state machine, forwards proposals to the leader, and lets
//! many reads share one question. [`Node`] is a function of its events; its log is the port [`LogStore`], its network the
//! type [`PeerMessage`].
//!
//! What a proposal can count on:
//! - it is in the log at most once, whatever is lost, repeated or resent: forwarded ones are numbered, and are proposed again
//!   only when an entry of a later term proves them dead;
//! - it is answered: by the state machine of its own node when it is applied there, or by an [`Answer`].
//!
//! What this crate does not know: what commands mean, clocks, files, sockets, threads. Membership is fixed when a group is
//! made, in this version.

mod admission;
mod cache;
mod carry;
mod config;
mod envelope;
mod group;
mod holds;
mod inbox;
mod log_store;
mod memory_log;
mod node;
mod node_effects;
mod node_event;
mod pace;
mod peer_message;
mod proposals;
mod reads;
mod roster;
mod start;
mod throttle;

pub use admission::CommandPort;
pub use config::NodeConfig;
pub use envelope::{ENVELOPE_BYTES, ENVELOPE_VERSION, Envelope, EnvelopeError};
pub use log_store::{Entry, LogError, LogRecord, LogStore};
pub use memory_log::{GroupLog, MemoryLogStore};
pub use node::{Node, Progress};
pub use node_effects::{
    Answer, Apply, NodeEffects, NodeIo, ProposeError, ReadAnswer, Refused, RoleChange,
    SnapshotOrder, Unreadable,
};
pub use node_event::{NodeEvent, Proposal, Scope};
pub use pace::Pace;
pub use peer_message::{PeerMessage, SnapshotProgress};
pub use roster::{Acquaintance, Admission, DirectoryId, MemberCard, Roster};
pub use start::{GroupStart, StateApart};
pub use throttle::Throttle;
