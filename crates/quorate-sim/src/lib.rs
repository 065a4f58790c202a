//! A simulated world for the real code: one seed decides everything, and judges look at every step.
//!
//! It knows no clock, no file and no chance but [`Dice`], and no thread but those that share the work of the explorer.

pub mod chart;
pub mod dice;
pub mod explore;
pub mod full;
pub mod mutants;
pub mod replay;
pub mod swarm;
pub mod world;

pub use dice::Dice;
