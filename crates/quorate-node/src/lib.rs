//! Drives Raft groups deterministically: proposals, log, apply, reads.

mod log_store;
mod memory_log;

pub use log_store::{Entry, LogError, LogRecord, LogStore};
pub use memory_log::{GroupLog, MemoryLogStore};
