//! gRPC over HTTP/2, as little of it as a server needs.
//!
//! A call is a path, a body of length-prefixed messages, an answer of the same kind, and trailers with a status. Doing
//! that by hand instead of through a generated service saves several allocations and a boxed future for each call, gives
//! too-large messages and unknown methods the very texts that Go's server gives them, and lets one match name every
//! method. Status, codes and their encoding are tonic's.
//!
//! Left out: compressed answers, and `grpc-timeout`: a client that gives up resets its stream, which drops the call.
//!
//! Source: grpc `doc/PROTOCOL-HTTP2.md`.

pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod deframe;
pub(crate) mod encoding;
pub(crate) mod leader;
pub(crate) mod method;
pub(crate) mod reply;
mod segments;
