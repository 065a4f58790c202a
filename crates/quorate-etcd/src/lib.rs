//! etcd's API: gRPC services, HTTP endpoints, error codes and texts.

pub mod backend;
pub mod errors;
