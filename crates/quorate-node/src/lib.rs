//! Drives Raft groups deterministically: proposals, log, apply, reads.

mod envelope;
mod log_store;
mod memory_log;
mod node_effects;
mod node_event;
mod peer_message;

pub use envelope::{ENVELOPE_BYTES, ENVELOPE_VERSION, Envelope, EnvelopeError};
pub use log_store::{Entry, LogError, LogRecord, LogStore};
pub use memory_log::{GroupLog, MemoryLogStore};
pub use node_effects::{
    Answer, Apply, NodeEffects, NodeIo, ProposeError, ReadAnswer, RoleChange, SnapshotOrder,
};
pub use node_event::{NodeEvent, Proposal, Scope};
pub use peer_message::{PeerMessage, SnapshotProgress};
