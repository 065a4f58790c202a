//! Whole nodes in a small simulated world: virtual time, a network that loses, delays and cuts, disks that crash.
//!
//! The state machine is a list of numbers. What is checked is what a client can count on: see `promises.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by a panic"
)]

mod promises;
mod recordings;
mod scenarios;
mod world;
