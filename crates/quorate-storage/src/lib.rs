//! Disks: the write-ahead log, snapshots, and the on-disk engine over checksummed blocks.

pub mod vfs;
