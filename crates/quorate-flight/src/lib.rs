//! A flight recorder for Raft cores: what they were told, kept in a bounded ring, and played again.
//!
//! A [`Core`](quorate_raft::Core) is a function of its state and its events. A [`Recorder`] keeps an image of the core and the
//! events behind it, and forgets the oldest as new ones come; it is cheap enough to be on always. What it keeps is one file
//! ([`Recorder::recording`], `docs/formats/flight.md`), from which [`replay`] makes the same core take the same steps again, on
//! any machine, holds every step against the invariants, and sees whether it gives out what the live run gave out.
//!
//! A recording holds positions, terms, sizes, times and the ids of members. The content of entries never crosses a core, so
//! no client's data is in it.
//!
//! ```
//! use quorate_flight::{Recorder, Recording, replay};
//! use quorate_raft::*;
//!
//! let membership = Membership::of_voters([NodeId(1)]);
//! let base = SnapshotMeta { last: EntryId::default(), membership };
//! let config = Config { id: NodeId(1), ..Config::default() };
//! let mut core = Core::recover(config, Recovered { base, ..Recovered::default() }, Mono(0), 7)?;
//! let mut recorder = Recorder::new(quorate_flight::RING_BYTES_DEFAULT);
//! let mut effects = Effects::default();
//! for event in [Event::Wake, Event::Propose { sizes: &[5, 5] }] {
//!     effects.clear();
//!     recorder.before(Mono(0), &core, event);
//!     let verdict = core.step(Mono(0), event, &mut effects);
//!     recorder.after(&core, verdict, &effects)?;
//! }
//! let file = recorder.recording(GroupId(0));
//! let outcome = replay(&Recording::read(&file)?, |_| {});
//! assert_eq!((outcome.images, outcome.steps, outcome.violations.len()), (1, 2, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Left out: everything above the core (what was queued, batched, forwarded, applied), and writing files.

mod file;
mod recorder;
mod replay;
mod words;

pub use file::{FlightError, Recording, SegmentView, VERSION};
pub use recorder::{RING_BYTES_DEFAULT, RING_BYTES_MIN, Recorder, SEGMENTS_MAX};
pub use replay::{Outcome, Problem, Scene, Standing, Step, VIOLATIONS_MAX, Violation, replay};
