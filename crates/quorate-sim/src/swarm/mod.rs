//! Runs of a world of cores, each decided by one seed.

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
pub use shrink::{Shrunk, shrink_best, shrink_seed, tell};
pub use story::Told;
