//! The Raft protocol as a pure function: events in, effects out.
//!
//! [`Core`] is one member of one group. It decides who leads, what is in the log, what is committed, and when a read may be
//! served; it does nothing itself. The driver gives it an [`Event`] and the time, and gets [`Effects`]: what to write, what to
//! send, what to apply. It knows no clock, disk, socket, thread or randomness of its own, so the same seed and the same events
//! give the same effects, in a server, in a test and in a simulation.
//!
//! It never sees the content of entries. It knows positions, terms and sizes, and names ranges ([`EntryRange`]); the driver
//! keeps the bytes, and uses the same ones for the disk, the wire and the state machine.
//!
//! # The driver's loop
//!
//! 1. [`Core::recover`] with what the disk gave back.
//! 2. [`Core::step`] for every message, proposal, read and completed write, and [`Event::Wake`] at [`Core::next_deadline`].
//! 3. The duties at [`Effects`], in their order. Above all: a message with a token in [`Send::after`] leaves only after that
//!    write is durable, and tokens are reported in order.
//!
//! One member alone, which needs no messages:
//!
//! ```
//! use quorate_raft::*;
//!
//! let membership = Membership::of_voters([NodeId(1)]);
//! let base = SnapshotMeta { last: EntryId::default(), membership };
//! let config = Config { id: NodeId(1), ..Config::default() };
//! let mut core = Core::recover(config, Recovered { base, ..Recovered::default() }, Mono(0), 7)?;
//!
//! let mut effects = Effects::default();
//! core.step(Mono(0), Event::Wake, &mut effects);
//! assert_eq!(core.view().role, Role::Leader);
//!
//! let verdict = core.step(Mono(1), Event::Propose { sizes: &[5, 5] }, &mut effects);
//! let range = EntryRange { first: Index(2), last: Index(3) };
//! assert_eq!(verdict, Verdict::Proposed { range, term: Term(1) });
//! assert_eq!(effects.commit, None, "nothing is durable yet");
//!
//! let token = effects.io[1].token();
//! effects.clear();
//! core.step(Mono(2), Event::IoDone { token }, &mut effects);
//! assert_eq!(effects.commit, Some(EntryRange { first: Index(1), last: Index(3) }));
//! # Ok::<(), RecoverError>(())
//! ```
//!
//! # Where what is decided
//!
//! | Topic | File | Source |
//! |---|---|---|
//! | which messages are taken in at all | `inbox` | figure 2, figure 3 |
//! | who leads | `election`, `timing` | paper 5.2, 5.4.1; thesis 4.2.3, 6.2, 9.6 |
//! | the log, at a leader and at a follower | `replication`, `progress`, `flow`; `append`, `log` | paper 5.3; thesis 10.2.1 |
//! | what is committed | `commit`, `quorum` | paper 5.4.2, 6 |
//! | what is durable | `durability` | figure 2 |
//! | linearizable reads | `read` | thesis 6.4 |
//! | snapshots, restart | `snapshot`, `recover` | paper 7 |
//! | handing leadership over, disk faults | `transfer`, `fault` | thesis 3.10 |
//! | what a recorder writes down of a member (feature `record`) | `record` | |
//! | what must always hold | `invariants` | figure 3 |
//!
//! "Paper" is Ongaro and Ousterhout, "In search of an understandable consensus algorithm", extended version, 2014; "thesis" is
//! Ongaro, "Consensus: bridging theory and practice", 2014.
//!
//! # Left out
//!
//! Changes of membership (quorums are joint already), read leases, witnesses, quiescence of idle groups.

mod append;
mod commit;
mod config;
mod durability;
mod effects;
mod election;
mod event;
#[cfg(feature = "explore")]
mod explore;
mod fault;
mod flow;
mod ids;
mod inbox;
mod invariants;
mod log;
mod machine;
mod membership;
mod message;
mod progress;
mod quorum;
mod random;
mod read;
#[cfg(feature = "record")]
mod record;
mod recover;
mod replication;
mod snapshot;
mod timing;
mod transfer;
mod view;

pub use config::{Config, ELECTION_TIMEOUT_NS_MAX, INDEX_MAX, TERM_JUMP_MAX, TERM_MAX, VOTERS_MAX};
pub use effects::{Append, Effects, Io, Notice, Origin, ReadGrant, Role, Send};
pub use event::{Event, Fault, Reject, Verdict};
#[cfg(feature = "explore")]
#[doc(hidden)]
pub use explore::{NOW, Timer};
pub use ids::{
    EntryId, EntryKind, EntryMeta, EntryRange, GroupId, Index, IoToken, Mono, NodeId, ReadContext,
    Term,
};
pub use invariants::{Broken, Past};
pub use machine::Core;
pub use membership::{Membership, SnapshotMeta};
pub use message::{AppendOutcome, HardState, Message};
pub use progress::ProgressState;
#[cfg(feature = "record")]
pub use record::event::RecordedEvent;
#[cfg(feature = "record")]
pub use record::{EVENT_ENTRIES_MAX, IMAGE_ENTRIES_MAX, RecordError, Sink};
pub use recover::{RecoverError, Recovered};
pub use view::{PeerView, View};
