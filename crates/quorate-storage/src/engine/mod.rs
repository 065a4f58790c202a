//! The engine on disk: redb over checksummed blocks.
//!
//! One writer, any number of readers. A commit is one redb transaction: *relaxed* ones stay in redb's bounded write buffer
//! and are lost by a crash, a *durable* one makes itself and everything before it durable, and records what redb needs to
//! open without a walk over the file ("quick repair"). After a crash the store is exactly what the last durable commit
//! made it.
//!
//! Source of the two kinds of commit: redb `docs/design.md`, "Non-durable commits" and "Quick-repair"; the measurements
//! behind the choice are in `docs/performance.md`.
//!
//! Left out: compaction of the file (freed pages are used again; a file that shrank much is rebuilt by a snapshot).

mod error;
mod redb_engine;
mod state_dir;
#[cfg(test)]
mod tests;
mod view;

pub use self::{
    redb_engine::{EngineConfig, RedbEngine},
    state_dir::StateDir,
};
