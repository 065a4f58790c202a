//! etcd's key space as a pure, replicated state machine: revisions, transactions, compaction, leases, watches.
//!
//! A [`Store`] takes committed [`Command`]s in log order and answers each with a [`Reply`] that is the same on every
//! replica. A [`Reader`] is one applied state, for any number of threads. What this crate deliberately does not know:
//! gRPC, Raft, disks, clocks, randomness. The data lies in an engine behind the port of `quorate-engine`; the format is
//! in `src/schema.rs` and `docs/formats/kv.md`.
//!
//! Invariants:
//! - one command is one atomic change, checked whole before anything is written;
//! - the applied index is committed with the data, so replaying a log from [`Store::applied`] is exact;
//! - an error of a request is a [`Reply`]'s `Err`; an [`Error`] is fatal and stops the node;
//! - purging compacted versions never changes an answer.

pub mod check;

mod alarm;
mod budget;
mod cache;
mod change;
mod command;
mod compare;
mod cost;
mod error;
mod hash;
mod history;
mod index;
mod lease;
pub mod lessor;
mod long_read;
mod member;
mod output;
mod picture;
mod purge;
mod range;
mod reader;
mod run;
mod schema;
mod span;
mod staged;
mod store;
mod stream;
mod txn;
pub mod watch;

pub use budget::Budget;
pub use command::{COMMAND_VERSION, COMMAND_VERSION_FIRST, Command};
pub use cost::{LongCost, looks_at_many};
pub use error::{Error, ReadError, RequestError};
pub use lessor::Lessor;
pub use long_read::{LongHash, LongRange, LongTxn};
pub use member::{MemberDirectories, MemberDirectory};
pub use output::{
    Applied, ApplyOutput, Committed, HashKv, LeaseChange, LeaseRecord, Reply, RevisionEvents,
};
pub use reader::Reader;
pub use schema::TABLES;
pub use span::Span;
pub use store::Store;
pub use stream::{RangeStream, StreamStep};
pub use watch::{WatchHub, WatchStream};

/// Longest time to live of a lease, in seconds. Source: etcd `server/lease/lessor.go`.
pub const LEASE_TTL_MAX_SECONDS: i64 = 9_000_000_000;

/// Shortest time to live of a lease, in seconds: shorter ones are raised to it, also 0 and negative ones (etcd point
/// 40). It is etcd's minimum for the default election timeout of 1 s; a front door with a longer one raises the request
/// before it proposes.
pub const LEASE_TTL_MIN_SECONDS: i64 = 2;
