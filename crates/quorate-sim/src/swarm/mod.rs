//! Runs of a world of cores, each decided by one seed.
//!
//! | Files | What |
//! |---|---|
//! | `plan`, `mishap`, `draft` | what a seed stands for; what can go wrong; a plan as a short text, made simpler |
//! | `run`, `calls`, `misfortune`, `mend` | one run on one line of time: the calls to the world, faults and their ends, and the healing |
//! | `network`, `clock`, `hash` | what messages and clocks do; the fingerprint of a run |
//! | `tape`, `script`, `stage` | the calls of a run, as a text, and played again |
//! | `shrink`, `story` | cutting a failing plan and its calls down |
//! | `record`, `words` | a run as a trace for a chart, in words |
//!
//! Left out: changes of membership, and clients that do more than propose and read; those are the full world's.

mod calls;
mod clock;
mod draft;
mod hash;
mod mend;
mod misfortune;
mod mishap;
mod network;
mod plan;
mod record;
mod run;
mod script;
mod shrink;
mod stage;
mod story;
mod tape;
mod words;

pub(crate) use hash::Rolling;
pub use plan::Options;
pub use run::{Outcome, chart_seed, run_seed};
pub(crate) use shrink::minimise;
pub use shrink::{Shrunk, shrink_best, shrink_seed, tell};
pub use story::Told;
