//! Checksummed blocks under redb.
//!
//! redb keeps checksums of its pages but does not look at them when it reads: of 300 flipped bits in a live file, 280 came
//! back as wrong data. So it does not get a file but a [`BlockFile`]: 4 KiB blocks, each with a CRC32C kept in sum
//! blocks, verified on every read. A bad block is an error that names file and offset.
//!
//! The order of durability, at each sync:
//! 1. data blocks have been written in place since the last sync (the tenant only overwrites what its last durable
//!    commit does not need);
//! 2. the sums that changed go to the older slot of their sum block, the header to its older slot, twice;
//! 3. one sync of the file makes all of that durable; their order does not matter, since until the sync is done the
//!    other slots are valid and describe all that is needed.
//!
//! A longer file is made durable before the length is used; a shorter length is made durable before the file is cut.
//!
//! Assumed of the disk: what was synced stays; a write of a block damages nothing outside of it. Not assumed: that a
//! block is written whole, that writes keep their order, that bits stay as they are.
//!
//! Left out: repairing (a bad block is repaired by a snapshot from a peer), encryption, compression. The bytes are in
//! `docs/formats/state.md`.

mod fault;
mod file;
mod header;
mod layout;
mod sums;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    fault::Report,
    file::{BlockFile, Start},
};
