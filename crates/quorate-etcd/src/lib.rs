//! etcd's API: gRPC services, HTTP endpoints, error codes and texts.
//!
//! The front door of a server: it reads requests, checks them, asks the [`Backend`](backend::Backend) behind it, and
//! answers as etcd does, to the letter of its error texts. It does not know Raft, disks or peers.
//!
//! - [`handle`]: what each request does, message to message;
//! - `grpc` and `http`: how requests come in and answers go out;
//! - [`serve`]: sockets and threads;
//! - [`Limits`], `fair` and `long_work`: how much clients may take, and in which order;
//! - [`open_views`]: streams that a server can end when they cost it too much;
//! - [`errors`]: the one table of codes and texts; [`metrics`]: what is counted; [`watches`]: the shared hub.
//!
//! Left out so far: TLS, authentication, membership changes, the JSON gateway, locks and elections.

pub mod backend;
pub mod errors;
mod fair;
mod front;
mod grpc;
pub mod handle;
mod http;
mod limits;
mod long_work;
pub mod metrics;
pub mod open_views;
pub mod serve;
mod watch_history;
mod watch_shares;
pub mod watches;

pub use fair::Load;
pub use front::{Front, MESSAGE_OVERHEAD_BYTES, Settings};
pub use limits::{Limits, PROPOSAL_BYTES};
