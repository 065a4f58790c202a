//! Real clients over loopback against the front door, with a server in memory behind it.
//!
//! The server applies at once what is proposed; everything in front of it is what ships: sockets, threads, gRPC, HTTP.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod crowd_of_watches;
mod fairness;
mod frames;
mod http;
mod kv;
mod lease;
mod limits;
mod maintenance;
mod raw;
mod server;
mod stalled;
mod watch;
