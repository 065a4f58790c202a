//! Disks: the write-ahead log, snapshots, and the on-disk engine over checksummed blocks.

mod blocks;
mod engine;
pub mod vfs;
pub mod wal;

pub use engine::{EngineConfig, RedbEngine};
pub use wal::{Wal, WalConfig, WalStats};
