//! etcd's errors: one table from every error to its gRPC code and exact text.
//!
//! Go clients find out what went wrong by looking the *text* up, and then by code; Kubernetes compares both. So neither
//! may differ by a letter. A few codes are etcd's own accidents, kept because clients have learnt them: the errors marked
//! "wire quirk" leave etcd as `Unknown`, since its server maps them to values meant for the client side.
//!
//! A failure of the server itself is `Internal`, where etcd says `Unknown`: etcd's own Go client takes up a watch again after
//! `Internal` or `Unavailable`, and gives it up for good after anything else.
//!
//! Left out: errors of the lock and election services, which come with those services.
//!
//! Source: etcd `api/v3rpc/rpctypes/error.go` for the texts, `server/etcdserver/api/v3rpc/util.go` for the mapping.

use quorate_kv::RequestError;
use tonic::{Code, Status};

use crate::backend::ServerError;

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident, $code:ident, $text:literal;)*) => {
        /// An error that etcd has a name for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum EtcdError {
            $($(#[$doc])* #[doc = concat!("`", $text, "`")] $name,)*
        }

        impl EtcdError {
            /// All of them, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code it has on the wire.
            pub const fn code(self) -> Code {
                match self {
                    $(Self::$name => Code::$code,)*
                }
            }

            /// Its exact text.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

table! {
    EmptyKey, InvalidArgument, "etcdserver: key is not provided";
    KeyNotFound, InvalidArgument, "etcdserver: key not found";
    ValueProvided, InvalidArgument, "etcdserver: value is provided";
    LeaseProvided, InvalidArgument, "etcdserver: lease is provided";
    TooManyOps, InvalidArgument, "etcdserver: too many operations in txn request";
    DuplicateKey, InvalidArgument, "etcdserver: duplicate key given in txn request";
    InvalidClientApiVersion, InvalidArgument, "etcdserver: invalid client api version";
    InvalidSortOption, InvalidArgument, "etcdserver: invalid sort option";
    Compacted, OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    FutureRevision, OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    NoSpace, ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    LeaseNotFound, NotFound, "etcdserver: requested lease not found";
    LeaseExists, FailedPrecondition, "etcdserver: lease already exists";
    LeaseTtlTooLarge, OutOfRange, "etcdserver: too large lease TTL";
    WatchCanceled, Cancelled, "etcdserver: watch canceled";
    MemberExists, FailedPrecondition, "etcdserver: member ID already exist";
    PeerUrlExists, FailedPrecondition, "etcdserver: Peer URLs already exists";
    /// Wire quirk.
    MemberNotEnoughStarted, Unknown, "etcdserver: re-configuration failed due to not enough started members";
    MemberBadUrls, InvalidArgument, "etcdserver: given member URLs are invalid";
    MemberNotFound, NotFound, "etcdserver: member not found";
    MemberNotLearner, FailedPrecondition, "etcdserver: can only promote a learner member";
    LearnerNotReady, FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader";
    TooManyLearners, FailedPrecondition, "etcdserver: too many learner members in cluster";
    ClusterIdMismatch, FailedPrecondition, "etcdserver: cluster ID mismatch";
    RequestTooLarge, InvalidArgument, "etcdserver: request is too large";
    /// Wire quirk.
    TooManyRequests, Unknown, "etcdserver: too many requests";
    RootUserNotExist, FailedPrecondition, "etcdserver: root user does not exist";
    RootRoleNotExist, FailedPrecondition, "etcdserver: root user does not have root role";
    UserAlreadyExists, FailedPrecondition, "etcdserver: user name already exists";
    UserEmpty, InvalidArgument, "etcdserver: user name is empty";
    UserNotFound, FailedPrecondition, "etcdserver: user name not found";
    RoleAlreadyExists, FailedPrecondition, "etcdserver: role name already exists";
    RoleNotFound, FailedPrecondition, "etcdserver: role name not found";
    RoleEmpty, InvalidArgument, "etcdserver: role name is empty";
    AuthFailed, InvalidArgument, "etcdserver: authentication failed, invalid user ID or password";
    PermissionNotGiven, InvalidArgument, "etcdserver: permission not given";
    PermissionDenied, PermissionDenied, "etcdserver: permission denied";
    RoleNotGranted, FailedPrecondition, "etcdserver: role is not granted to the user";
    PermissionNotGranted, FailedPrecondition, "etcdserver: permission is not granted to the role";
    AuthNotEnabled, FailedPrecondition, "etcdserver: authentication is not enabled";
    InvalidAuthToken, Unauthenticated, "etcdserver: invalid auth token";
    InvalidAuthManagement, InvalidArgument, "etcdserver: invalid auth management";
    AuthOldRevision, InvalidArgument, "etcdserver: revision of auth store is old";
    NoLeader, Unavailable, "etcdserver: no leader";
    NotLeader, FailedPrecondition, "etcdserver: not leader";
    LeaderChanged, Unavailable, "etcdserver: leader changed";
    NotCapable, FailedPrecondition, "etcdserver: not capable";
    Stopped, Unavailable, "etcdserver: server stopped";
    Timeout, Unavailable, "etcdserver: request timed out";
    TimeoutDueToLeaderFail, Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    TimeoutDueToConnectionLost, Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    TimeoutWaitAppliedIndex, Unavailable, "etcdserver: request timed out, waiting for the applied index took too long";
    Unhealthy, Unavailable, "etcdserver: unhealthy cluster";
    Corrupt, DataLoss, "etcdserver: corrupt cluster";
    NotSupportedForLearner, FailedPrecondition, "etcdserver: rpc not supported for learner";
    BadLeaderTransferee, FailedPrecondition, "etcdserver: bad leader transferee";
    WrongDowngradeVersionFormat, InvalidArgument, "etcdserver: wrong downgrade target version format";
    InvalidDowngradeTargetVersion, InvalidArgument, "etcdserver: invalid downgrade target version";
    ClusterVersionUnavailable, FailedPrecondition, "etcdserver: cluster version not found during downgrade";
    DowngradeInProcess, FailedPrecondition, "etcdserver: cluster has a downgrade job in progress";
    NoInflightDowngrade, FailedPrecondition, "etcdserver: no inflight downgrade job";
    Canceled, Cancelled, "etcdserver: request canceled";
    DeadlineExceeded, DeadlineExceeded, "etcdserver: context deadline exceeded";
    RangeStreamSorted, Unimplemented, "RangeStream does not support custom sort orders";
    RangeStreamFiltered, Unimplemented, "RangeStream does not support revision filters";
}

impl From<EtcdError> for Status {
    fn from(error: EtcdError) -> Self {
        Self::new(error.code(), error.text())
    }
}

impl From<ServerError> for Status {
    fn from(error: ServerError) -> Self {
        status_of(&error)
    }
}

/// What a client is told about `error`.
pub fn status_of(error: &ServerError) -> Status {
    let unnamed =
        |text: &dyn std::fmt::Display| Status::new(Code::Internal, format!("etcdserver: {text}"));
    let named = match error {
        ServerError::Request(request) => match named_request(*request) {
            Some(named) => named,
            None => return unnamed(request),
        },
        ServerError::NoLeader => EtcdError::NoLeader,
        ServerError::LeaderChanged => EtcdError::LeaderChanged,
        ServerError::Timeout => EtcdError::Timeout,
        ServerError::TimeoutDueToLeaderFail => EtcdError::TimeoutDueToLeaderFail,
        ServerError::TooManyRequests => EtcdError::TooManyRequests,
        ServerError::Stopped => EtcdError::Stopped,
        ServerError::RequestTooLarge => EtcdError::RequestTooLarge,
        ServerError::NotLeader => EtcdError::NotLeader,
        ServerError::BadLeaderTransferee => EtcdError::BadLeaderTransferee,
        // etcd has no gRPC error of its own for it either.
        ServerError::TransferTimeout => return unnamed(error),
        ServerError::NotSupportedForLearner => EtcdError::NotSupportedForLearner,
        ServerError::MemberNotFound => EtcdError::MemberNotFound,
        ServerError::TxnTooHeavy(_) => {
            return Status::new(Code::ResourceExhausted, format!("etcdserver: {error}"));
        }
        // Clients of etcd ask again after `Unavailable`.
        ServerError::ViewTakenBack => {
            return Status::new(Code::Unavailable, format!("etcdserver: {error}"));
        }
        ServerError::Unimplemented(what) => return Status::new(Code::Unimplemented, *what),
        ServerError::Internal(text) => return unnamed(text),
    };
    named.into()
}

/// The table's row for a refusal by the key space; `None` for one that no client can cause.
fn named_request(error: RequestError) -> Option<EtcdError> {
    Some(match error {
        RequestError::Compacted => EtcdError::Compacted,
        RequestError::FutureRevision => EtcdError::FutureRevision,
        RequestError::KeyNotFound => EtcdError::KeyNotFound,
        RequestError::LeaseNotFound => EtcdError::LeaseNotFound,
        RequestError::LeaseExists => EtcdError::LeaseExists,
        RequestError::LeaseTtlTooLarge => EtcdError::LeaseTtlTooLarge,
        RequestError::EmptyKey => EtcdError::EmptyKey,
        RequestError::ValueProvided => EtcdError::ValueProvided,
        RequestError::LeaseProvided => EtcdError::LeaseProvided,
        RequestError::TooManyOps => EtcdError::TooManyOps,
        RequestError::DuplicateKey => EtcdError::DuplicateKey,
        RequestError::InvalidSortOption => EtcdError::InvalidSortOption,
        RequestError::NoSpace => EtcdError::NoSpace,
        RequestError::Corrupt => EtcdError::Corrupt,
        RequestError::StreamUnsupported => EtcdError::RangeStreamSorted,
        RequestError::NotReadOnly | _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code number and text of every row, as etcd 3.7.1 sends them.
    const WIRE: &str = include_str!("../tests/etcd_errors.txt");

    #[test]
    fn every_row_is_what_etcd_sends() {
        let table: Vec<String> = EtcdError::ALL
            .iter()
            .map(|row| format!("{} {}", row.code() as i32, row.text()))
            .collect();
        let expected: Vec<&str> = WIRE.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(table, expected);
    }

    #[test]
    fn a_text_names_one_error() {
        let mut texts: Vec<&str> = EtcdError::ALL.iter().map(|row| row.text()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), EtcdError::ALL.len());
    }

    #[test]
    fn what_etcd_has_no_name_for_is_internal() {
        let status = status_of(&ServerError::Internal("disk on fire".into()));
        assert_eq!((status.code(), status.message()), (Code::Internal, "etcdserver: disk on fire"));
        let status = status_of(&ServerError::Unimplemented("not yet"));
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, "not yet"));
    }
}
