//! A simulated world for the real code: one seed decides everything, and judges look at every step.
//!
//! It knows no clock, no thread, no file and no chance but [`Dice`].

pub mod chart;
pub mod dice;
pub mod explore;
pub mod mutants;
pub mod swarm;
pub mod world;

pub use dice::Dice;
