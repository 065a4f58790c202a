//! What each request does: functions from a message to a message, or to a stream of them.
//!
//! They know the [`Backend`](crate::backend::Backend) and etcd's rules, and neither gRPC nor sockets. So the same code
//! answers gRPC today, and the JSON gateway and the simulator when they come.

pub mod cluster;
pub mod health;
pub mod inspect;
pub mod kv;
pub mod lease;
pub mod maintenance;
pub mod range_stream;
pub mod snapshot;
pub mod stall;
pub mod watch;
