//! Commands as protobuf's JSON of etcd's `InternalRaftRequest`: names in lower camel case, 64-bit numbers as text, bytes in base64,
//! enumerations by name, and nothing for what is not set.
//!
//! Source: protobuf's JSON mapping; etcd `api/etcdserverpb/raft_internal.proto`.

use quorate_kv::{Command, MemberDirectory};
use quorate_proto::etcdserverpb::{
    self as pb, alarm_request::AlarmAction, compare, range_request, request_op::Request,
};
use serde_json::{Map, Value};

use crate::ctl::base64;

/// The command as the one field that is set.
pub(super) fn request(command: &Command) -> Value {
    let (name, content) = match command {
        Command::Put(request) => ("put", put(request)),
        Command::DeleteRange(request) => ("deleteRange", delete_range(request)),
        Command::Txn(request) => ("txn", txn(request)),
        Command::Compaction(request) => (
            "compaction",
            Fields::default()
                .number("revision", request.revision)
                .flag("physical", request.physical),
        ),
        Command::LeaseGrant(request) => {
            ("leaseGrant", Fields::default().number("TTL", request.ttl).number("ID", request.id))
        }
        Command::LeaseRevoke(request) => {
            ("leaseRevoke", Fields::default().number("ID", request.id))
        }
        Command::LeaseCheckpoint(request) => (
            "leaseCheckpoint",
            Fields::default().list("checkpoints", &request.checkpoints, checkpoint),
        ),
        Command::Alarm(request) => ("alarm", alarm(request)),
        Command::MemberDirectories(known) => {
            ("memberDirectories", Fields::default().list("members", &known.members, directory))
        }
    };
    Fields::default().message(name, content).0.into()
}

/// An object under construction.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn set(mut self, name: &str, value: impl Into<Value>, is_default: bool) -> Self {
        if !is_default {
            self.0.insert(name.to_owned(), value.into());
        }
        self
    }

    fn bytes(self, name: &str, bytes: &[u8]) -> Self {
        self.set(name, base64(bytes), bytes.is_empty())
    }

    fn number(self, name: &str, number: i64) -> Self {
        self.set(name, number.to_string(), number == 0)
    }

    fn flag(self, name: &str, flag: bool) -> Self {
        self.set(name, flag, !flag)
    }

    /// The name of a value that is known, its number otherwise; nothing for 0.
    fn named(self, name: &str, number: i32, known: Option<&'static str>) -> Self {
        self.set(name, known.map_or_else(|| number.into(), Value::from), number == 0)
    }

    fn message(self, name: &str, content: Self) -> Self {
        self.set(name, content.0, false)
    }

    fn list<T>(self, name: &str, items: &[T], one: impl Fn(&T) -> Self) -> Self {
        let values: Vec<Value> = items.iter().map(|item| one(item).0.into()).collect();
        self.set(name, values, items.is_empty())
    }
}

fn put(request: &pb::PutRequest) -> Fields {
    Fields::default()
        .bytes("key", &request.key)
        .bytes("value", &request.value)
        .number("lease", request.lease)
        .flag("prevKv", request.prev_kv)
        .flag("ignoreValue", request.ignore_value)
        .flag("ignoreLease", request.ignore_lease)
}

fn delete_range(request: &pb::DeleteRangeRequest) -> Fields {
    Fields::default()
        .bytes("key", &request.key)
        .bytes("rangeEnd", &request.range_end)
        .flag("prevKv", request.prev_kv)
}

fn range(request: &pb::RangeRequest) -> Fields {
    let order = range_request::SortOrder::try_from(request.sort_order).ok();
    let target = range_request::SortTarget::try_from(request.sort_target).ok();
    Fields::default()
        .bytes("key", &request.key)
        .bytes("rangeEnd", &request.range_end)
        .number("limit", request.limit)
        .number("revision", request.revision)
        .named("sortOrder", request.sort_order, order.map(|order| order.as_str_name()))
        .named("sortTarget", request.sort_target, target.map(|target| target.as_str_name()))
        .flag("serializable", request.serializable)
        .flag("keysOnly", request.keys_only)
        .flag("countOnly", request.count_only)
        .number("minModRevision", request.min_mod_revision)
        .number("maxModRevision", request.max_mod_revision)
        .number("minCreateRevision", request.min_create_revision)
        .number("maxCreateRevision", request.max_create_revision)
}

fn txn(request: &pb::TxnRequest) -> Fields {
    Fields::default()
        .list("compare", &request.compare, comparison)
        .list("success", &request.success, operation)
        .list("failure", &request.failure, operation)
}

fn operation(operation: &pb::RequestOp) -> Fields {
    let fields = Fields::default();
    match &operation.request {
        Some(Request::RequestRange(request)) => fields.message("requestRange", range(request)),
        Some(Request::RequestPut(request)) => fields.message("requestPut", put(request)),
        Some(Request::RequestDeleteRange(request)) => {
            fields.message("requestDeleteRange", delete_range(request))
        }
        Some(Request::RequestTxn(request)) => fields.message("requestTxn", txn(request)),
        None => fields,
    }
}

fn comparison(compare: &pb::Compare) -> Fields {
    let result = compare::CompareResult::try_from(compare.result).ok();
    let target = compare::CompareTarget::try_from(compare.target).ok();
    let fields = Fields::default()
        .named("result", compare.result, result.map(|result| result.as_str_name()))
        .named("target", compare.target, target.map(|target| target.as_str_name()))
        .bytes("key", &compare.key)
        .bytes("rangeEnd", &compare.range_end);
    // A member of a choice is written also when it has its default value.
    let number = |name: &str, number: i64| (name.to_owned(), Value::from(number.to_string()));
    let (name, value) = match &compare.target_union {
        Some(compare::TargetUnion::Version(version)) => number("version", *version),
        Some(compare::TargetUnion::CreateRevision(revision)) => number("createRevision", *revision),
        Some(compare::TargetUnion::ModRevision(revision)) => number("modRevision", *revision),
        Some(compare::TargetUnion::Lease(lease)) => number("lease", *lease),
        Some(compare::TargetUnion::Value(value)) => ("value".to_owned(), base64(value).into()),
        None => return fields,
    };
    fields.set(&name, value, false)
}

fn checkpoint(checkpoint: &pb::LeaseCheckpoint) -> Fields {
    Fields::default().number("ID", checkpoint.id).number("remainingTTL", checkpoint.remaining_ttl)
}

fn alarm(request: &pb::AlarmRequest) -> Fields {
    let action = AlarmAction::try_from(request.action).ok();
    let kind = pb::AlarmType::try_from(request.alarm).ok();
    Fields::default()
        .named("action", request.action, action.map(|action| action.as_str_name()))
        .set("memberID", request.member_id.to_string(), request.member_id == 0)
        .named("alarm", request.alarm, kind.map(|kind| kind.as_str_name()))
}

fn directory(known: &MemberDirectory) -> Fields {
    Fields::default().set("memberID", known.member.to_string(), known.member == 0).set(
        "directory",
        known.directory.to_string(),
        known.directory == 0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_reads_as_etcds_would() {
        let compare = pb::Compare {
            target: compare::CompareTarget::Mod.into(),
            key: "k".into(),
            target_union: Some(compare::TargetUnion::ModRevision(0)),
            ..pb::Compare::default()
        };
        let put = pb::PutRequest {
            key: "k".into(),
            value: "v".into(),
            lease: 1 << 60,
            ..Default::default()
        };
        let success = vec![pb::RequestOp { request: Some(Request::RequestPut(put)) }];
        let txn = pb::TxnRequest { compare: vec![compare], success, failure: Vec::new() };
        let text = request(&Command::Txn(txn)).to_string();
        let expected = r#"{"txn":{"compare":[{"key":"aw==","modRevision":"0","target":"MOD"}],"success":[{"requestPut":{"key":"aw==","lease":"1152921504606846976","value":"dg=="}}]}}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn defaults_are_left_out_and_unknown_names_are_numbers() {
        let range = range(&pb::RangeRequest { sort_order: 9, ..Default::default() });
        assert_eq!(Value::from(range.0).to_string(), r#"{"sortOrder":9}"#);
    }
}
