//! Snapshots: a view of the engine as a stream of checksummed chunks, and back into an engine.
//!
//! The sender makes chunks as the network asks for them ([`SnapshotWriter`]); memory is one chunk, whatever the size
//! of the store. The receiver appends them to a file ([`IncomingSnapshot`]) and refuses what is damaged, out of order,
//! or from another snapshot; a refused chunk changes nothing and is asked for again. A complete snapshot becomes the
//! state by [`StateDir::install`](crate::StateDir::install).
//!
//! Each chunk carries its own CRC32C and that of the chunk before it, so that chunks of two snapshots can't be mixed; the
//! last record carries the number of pairs, of bytes, and the CRC32C of the whole stream.
//!
//! The bytes are in `docs/formats/snapshot.md`. Left out: compression, and resuming after the receiver's restart (a
//! restarted receiver begins anew).

mod chunk;
mod error;
mod incoming;
mod reader;
mod record;
#[cfg(test)]
mod tests;
mod writer;

use bytes::Bytes;

pub use self::{
    chunk::Chunk,
    error::SnapshotError,
    incoming::{IncomingSnapshot, Progress},
    reader::SnapshotReader,
    record::Record,
    writer::SnapshotWriter,
};

/// Payload of a chunk unless the sender is told otherwise.
pub const CHUNK_BYTES: usize = 1 << 20;
/// The largest payload a receiver takes.
pub const CHUNK_BYTES_MAX: usize = 16 << 20;
/// The largest record (a pair, mostly) in a snapshot.
pub const RECORD_BYTES_MAX: usize = 256 << 20;

/// What a snapshot is a snapshot of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotHead {
    /// The last log index it covers.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// What the caller wants to travel along: the membership, for one. Opaque here.
    pub header: Bytes,
}
