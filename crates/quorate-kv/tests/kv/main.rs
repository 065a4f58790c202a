//! The key space as its clients see it, over the engine in memory.
//!
//! Tests of etcd's numbered semantics name their point in the doc comment; the list is etcd's behaviour as read in its
//! tests and seen on the wire of etcd 3.7.2.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets something else than it expects should fail at once"
)]

mod alarms;
mod compaction;
mod fixture;
mod hash;
mod keys;
mod leases;
mod model;
mod props;
mod ranges;
mod slices;
mod streams;
mod txns;
mod world;
