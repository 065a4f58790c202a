//! Disks: the write-ahead log, snapshots, and the on-disk engine over checksummed blocks.

mod blocks;
mod engine;
pub mod snapshot;
pub mod vfs;
pub mod wal;

pub use engine::{EngineConfig, RedbEngine, StateDir};
pub use wal::{Wal, WalConfig, WalStats};
