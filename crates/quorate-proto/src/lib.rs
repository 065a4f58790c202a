//! etcd's protocol: messages as plain values, and behind the feature `grpc` the clients that send them. Beside it, in [`inspect`], the
//! one service of our own.
//!
//! The messages know no socket and no runtime, so the pure crates use them as they are; tonic comes in only with `grpc`.
//! Everything under `generated` is written by `xtask/codegen` from `proto/` and committed; a normal build needs no
//! protobuf compiler.

/// Users, roles and permissions.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod authpb {
    include!("generated/authpb.rs");
}

/// Requests and responses of etcd's API.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
}

/// Key-values and events.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod mvccpb {
    include!("generated/mvccpb.rs");
}

/// gRPC's health protocol.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod health {
    include!("generated/grpc.health.v1.rs");
}

/// What members tell of their Raft side.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod inspect {
    include!("generated/quorate.rs");
}

/// gRPC clients of etcd's API.
#[cfg(feature = "grpc")]
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod grpc {
    include!("generated/etcdserverpb.grpc.rs");
}

/// gRPC client of the health protocol.
#[cfg(feature = "grpc")]
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod grpc_health {
    include!("generated/grpc.health.v1.grpc.rs");
}

/// gRPC client of [`inspect`].
#[cfg(feature = "grpc")]
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod grpc_inspect {
    include!("generated/quorate.grpc.rs");
}
