//! The recorder, over real cores in a small world: what it wrote down is played again and agrees; what is not whole is refused.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by a panic"
)]

#[cfg(test)]
mod damage;
#[cfg(test)]
mod events;
#[cfg(test)]
mod ring;
#[cfg(test)]
mod world;
