//! The explorer: every state that three real cores can reach within a bound, and whether all promises hold in each.
//!
//! A *world* is three members (core, durable disk, writes on their way, messages that wait for them), the network as a set of
//! messages, the past that judges remember, and budgets for what nobody forces: timeouts, proposals, crashes, drops, duplicates,
//! reads (`bound`). From each world everything possible is tried: any message, any timer of any member, a write done, a crash
//! that keeps any part of the unfinished writes.
//!
//! How it gets far (`search`, `universe`, `visited`, `hash`):
//! - The code explored is [`quorate_raft::Core`] itself. It runs once for each pair of a member and an input; worlds share.
//! - Worlds seen are kept as 128-bit fingerprints and two bytes that lead back to the first world; only the worlds not yet
//!   looked into are kept whole, as a few numbers each.
//! - Worlds that differ only in who is who count once.
//!
//! Time: the core takes it as an argument. No timer runs here; each may be due at any moment. So nothing rests on how clocks of
//! members relate, and any skew between them is in every bound.
//!
//! Left out: membership changes, transfers that a client asks for, disk faults other than lost writes, more than
//! three members, and everything beyond the bound.

mod bound;
mod chart;
mod frontier;
mod golden;
mod hash;
mod judge;
mod level;
mod member;
mod parcel;
mod past;
mod replay;
mod search;
mod spec;
mod universe;
mod visited;
mod walk;
mod world;

pub use bound::{BOUNDS, Bound, Bug, SPEND_MAX};
pub use replay::{Replay, replay};
pub use search::{Limits, Report, Search, Story};
pub use walk::{stroll, walk};

/// How many members a world has.
const MEMBERS: usize = 3;
