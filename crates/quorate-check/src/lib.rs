//! Judges of histories: given what clients saw, was every promise kept?
//!
//! Each judge takes a history as plain values and gives a [`Verdict`]; [`timeline_html`] draws what it convicts.
//!
//! | Judge | Promise | Cost |
//! |---|---|---|
//! | [`linear`] | each key is a linearizable register, whatever the store is | n log n, exponential in open compare-and-sets a key |
//! | [`revision`] | etcd's key space is strict serializable, transactions and old reads included | n log n |
//! | [`watch`] | etcd's watch guarantees | n log n |
//! | [`lease`] | no key of a lease goes early or stays late | n log n |
//! | [`lock`] | one holder at a time, rising fencing tokens | n log n |
//! | [`cycles`] | list-append transactions are strict serializable | n log n, but for explaining what is broken |
//!
//! What this crate does not know: any other crate of this workspace, so that a mistake in the store cannot be repeated in its
//! judge; how histories are gathered; clocks.

pub mod cycles;
pub mod etcd;
pub mod history;
pub mod lease;
pub mod linear;
pub mod lock;
pub mod register;
pub mod revision;
mod timeline;
mod verdict;
pub mod watch;

pub use history::{Error, Operation, Outcome, read_lines, write_lines};
pub use timeline::{Shown, timeline_html};
pub use verdict::{Finding, Rule, Verdict};
