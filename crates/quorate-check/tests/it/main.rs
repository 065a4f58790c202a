//! The judges are judged: by brute force, by published histories, and by histories that were broken by hand.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod bank;
mod published;
mod small;
mod speed;
