//! One member of a cluster behind its sockets: everything a server does, but for threads, sockets and the system's clock.
//!
//! A server has four sides, each with a queue in front, and each to be driven by somebody:
//!
//! | Side | Owns | Turns |
//! |---|---|---|
//! | [`RaftLoop`] | the node | what peers, clients, the disk and time bring into messages, records and answers |
//! | [`LogLoop`] | the log, while it writes | records into durable ones |
//! | [`ApplyLoop`] | the state machine | committed entries into state, watch events and answers |
//! | [`Keeper`] | the clock's work of a leader | time into ends of leases and compactions |
//!
//! A write goes client → raft → (log and peers at once) → apply → client: three hand-overs, each of which takes along all
//! that gathered. A linearizable read goes client → raft → client. A serializable one stays where it is.
//!
//! The binary gives the sides threads that wait and take turns. The simulator gives them none: it calls
//! [`RaftLoop::round`] and its like one after another in an order that a seed decides, moves the [`Clock`] by hand, carries
//! [`Peers`]' messages itself and runs [`Jobs`] when it likes. Both run the same code. Clients are served by
//! [`Handle`], which is the backend of `quorate-etcd`.
//!
//! What the core was told of late is kept in a flight recorder, and goes to a file when something is wrong: `flight`.
//!
//! Left out: sockets of clients (`quorate-etcd`) and of peers (`quorate-net`), signals and flags (`quorate`).

mod apply_loop;
mod backend;
mod beside;
#[cfg(feature = "breakable")]
mod breaks;
mod bugs;
mod clock;
mod config;
mod counts;
mod directory;
mod door;
mod flight;
mod hashes;
mod held;
mod identity;
mod inbox;
mod inspect;
#[cfg(test)]
mod install_crashes;
mod keeper;
mod log_loop;
mod log_writer;
mod lower;
mod peers;
mod pending;
mod ports;
#[cfg(test)]
mod power_cuts;
mod publication;
mod raft_loop;
mod readiness;
mod receiving;
mod sending;
mod services;
mod shared;
mod slot;
mod snapshots;
mod start;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod troubles;

pub use apply_loop::ApplyLoop;
pub use backend::Handle;
#[cfg(feature = "breakable")]
pub use breaks::Breaks;
pub use bugs::Bug;
pub use clock::{Clock, nanoseconds};
pub use config::{AutoCompaction, QUOTA_BYTES_DEFAULT, ServerConfig};
pub use held::Held;
pub use identity::{Identity, MemberConfig};
pub use keeper::{Keeper, TICK};
pub use log_loop::LogLoop;
pub use lower::LowerLimits;
pub use ports::{Job, Jobs, Outside, Peers, Turns, Unbroken};
pub use raft_loop::RaftLoop;
pub use start::{Started, start};
