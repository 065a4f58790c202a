//! Messages as Go's JSON shows them: in the order of their fields, what is zero left out, bytes in base64.

use quorate_proto::{
    etcdserverpb::ResponseHeader,
    mvccpb::{Event, KeyValue},
};
use serde::Serialize;

use super::go;

/// Whether a value is the one that Go leaves out.
pub(super) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A response's header.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Header {
    #[serde(skip_serializing_if = "is_zero")]
    cluster_id: Id,
    #[serde(skip_serializing_if = "is_zero")]
    member_id: Id,
    #[serde(skip_serializing_if = "is_zero")]
    revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    raft_term: u64,
}

/// The id of a cluster or member; in hexadecimal in the one answer where `--hex` concerns JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Id {
    Number(u64),
    Hex(String),
}

impl Id {
    /// An id in this form.
    pub(super) fn new(id: u64, hex: bool) -> Self {
        if hex { Self::Hex(format!("{id:x}")) } else { Self::Number(id) }
    }
}

impl Default for Id {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// The header of a response.
pub(super) fn header(header: Option<&ResponseHeader>) -> Option<Header> {
    header_in(header, false)
}

/// The header of a response, its ids in hexadecimal if asked for.
pub(super) fn header_in(header: Option<&ResponseHeader>, hex: bool) -> Option<Header> {
    header.map(|header| Header {
        cluster_id: Id::new(header.cluster_id, hex),
        member_id: Id::new(header.member_id, hex),
        revision: header.revision,
        raft_term: header.raft_term,
    })
}

/// A key with its value.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Pair {
    #[serde(skip_serializing_if = "String::is_empty")]
    key: String,
    #[serde(skip_serializing_if = "is_zero")]
    create_revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    mod_revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    version: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    #[serde(skip_serializing_if = "is_zero")]
    lease: i64,
}

/// A key with its value.
pub(super) fn pair(kv: &KeyValue) -> Pair {
    Pair {
        key: go::base64(&kv.key),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: go::base64(&kv.value),
        lease: kv.lease,
    }
}

/// Keys with their values.
pub(super) fn pairs(kvs: &[KeyValue]) -> Vec<Pair> {
    kvs.iter().map(pair).collect()
}

/// One change of a key.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Change {
    #[serde(rename = "type", skip_serializing_if = "is_zero")]
    kind: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv: Option<Pair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<Pair>,
}

/// One change of a key.
pub(super) fn change(event: &Event) -> Change {
    Change {
        kind: event.r#type,
        kv: event.kv.as_ref().map(pair),
        prev_kv: event.prev_kv.as_ref().map(pair),
    }
}
