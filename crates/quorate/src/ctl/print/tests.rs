//! What etcdctl 3.7.1 printed for the same answers of etcd 3.7.2.

use quorate_proto::{
    etcdserverpb::{
        DeleteRangeResponse, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
        LeaseStatus, PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse,
        WatchResponse, response_op::Response,
    },
    mvccpb::{Event, KeyValue},
};

use super::{Answer, Format, Table, render};
use crate::Failure;

fn header(revision: i64) -> ResponseHeader {
    ResponseHeader {
        cluster_id: 14_841_639_068_965_178_418,
        member_id: 10_276_657_743_932_975_437,
        revision,
        raft_term: 2,
    }
}

fn pair(key: &'static [u8], value: &'static [u8]) -> KeyValue {
    let (create_revision, mod_revision) = (2, 12);
    let (key, value) = (key.into(), value.into());
    KeyValue { key, value, create_revision, mod_revision, version: 4, lease: 0 }
}

fn written(format: Format, hex: bool, answer: &impl Answer) -> String {
    match render(format, hex, answer) {
        Ok(lines) => String::from_utf8(lines.bytes).unwrap(),
        Err(failure) => panic!("{failure:?}"),
    }
}

fn check(answer: &impl Answer, simple: &str, json: &str, fields: &str) {
    assert_eq!(written(Format::Simple, false, answer), simple);
    assert_eq!(written(Format::Json, false, answer), format!("{json}\n"));
    assert_eq!(written(Format::Fields, false, answer), fields);
}

/// The fields of a header.
fn head(revision: i64) -> String {
    format!(
        "\"ClusterID\" : 14841639068965178418\n\"MemberID\" : 10276657743932975437\n\
         \"Revision\" : {revision}\n\"RaftTerm\" : 2\n"
    )
}

const HEAD: &str = r#""cluster_id":14841639068965178418,"member_id":10276657743932975437"#;

#[test]
fn a_put_with_the_pair_of_before() {
    let answer = PutResponse { header: Some(header(12)), prev_kv: Some(pair(b"a", b"1")) };
    check(
        &answer,
        "OK\na\n1\n",
        &format!(
            r#"{{"header":{{{HEAD},"revision":12,"raft_term":2}},"prev_kv":{{"key":"YQ==","create_revision":2,"mod_revision":12,"version":4,"value":"MQ=="}}}}"#
        ),
        &(head(12)
            + "\"PrevKey\" : \"a\"\n\"PrevCreateRevision\" : 2\n\"PrevModRevision\" : 12\n\
               \"PrevVersion\" : 4\n\"PrevValue\" : \"1\"\n\"PrevLease\" : 0\n"),
    );
}

#[test]
fn a_range_of_one_and_of_none() {
    let kvs = vec![pair(b"b", b"x\ty\x01")];
    let answer = RangeResponse { header: Some(header(13)), kvs, more: false, count: 1 };
    check(
        &answer,
        "b\nx\ty\x01\n",
        &format!(
            r#"{{"header":{{{HEAD},"revision":13,"raft_term":2}},"kvs":[{{"key":"Yg==","create_revision":2,"mod_revision":12,"version":4,"value":"eAl5AQ=="}}],"count":1}}"#
        ),
        &(head(13)
            + "\"Key\" : \"b\"\n\"CreateRevision\" : 2\n\"ModRevision\" : 12\n\"Version\" : 4\n\
               \"Value\" : \"x\\ty\\x01\"\n\"Lease\" : 0\n\"More\" : false\n\"Count\" : 1\n"),
    );
    let none = RangeResponse { header: Some(header(13)), ..RangeResponse::default() };
    let json = format!(r#"{{"header":{{{HEAD},"revision":13,"raft_term":2}}}}"#);
    check(&none, "", &json, &(head(13) + "\"More\" : false\n\"Count\" : 0\n"));
}

#[test]
fn hexadecimal_concerns_bytes_in_simple_and_ids_in_fields() {
    let answer = DeleteRangeResponse {
        header: Some(header(14)),
        deleted: 1,
        prev_kvs: vec![pair(b"a", b"1")],
    };
    assert_eq!(written(Format::Simple, true, &answer), "1\n\\x61\n\\x31\n");
    let fields = written(Format::Fields, true, &answer);
    assert!(fields.starts_with("\"ClusterID\" : cdf818194e3a8c32\n"), "{fields}");
    assert!(fields.ends_with("\"PrevLease\" : 0000000000000000\n"), "{fields}");
    assert!(fields.contains("\"PrevKey\" : \"a\"\n"), "{fields}");
}

#[test]
fn a_transaction_shows_each_answer() {
    let inner = |revision| Some(ResponseHeader { revision, ..ResponseHeader::default() });
    let op = |response| ResponseOp { response: Some(response) };
    let answer = TxnResponse {
        header: Some(header(18)),
        succeeded: true,
        responses: vec![
            op(Response::ResponsePut(PutResponse { header: inner(18), prev_kv: None })),
            op(Response::ResponseRange(RangeResponse {
                header: inner(18),
                kvs: vec![pair(b"c", b"3")],
                more: false,
                count: 1,
            })),
            op(Response::ResponseDeleteRange(DeleteRangeResponse {
                header: inner(18),
                ..DeleteRangeResponse::default()
            })),
        ],
    };
    let none = "\"ClusterID\" : 0\n\"MemberID\" : 0\n\"Revision\" : 18\n\"RaftTerm\" : 0\n";
    check(
        &answer,
        "SUCCESS\n\nOK\n\nc\n3\n\n0\n",
        &format!(
            r#"{{"header":{{{HEAD},"revision":18,"raft_term":2}},"succeeded":true,"responses":[{{"Response":{{"response_put":{{"header":{{"revision":18}}}}}}}},{{"Response":{{"response_range":{{"header":{{"revision":18}},"kvs":[{{"key":"Yw==","create_revision":2,"mod_revision":12,"version":4,"value":"Mw=="}}],"count":1}}}}}},{{"Response":{{"response_delete_range":{{"header":{{"revision":18}}}}}}}}]}}"#
        ),
        &(head(18)
            + "\"Succeeded\" : true\n"
            + none
            + none
            + "\"Key\" : \"c\"\n\"CreateRevision\" : 2\n\"ModRevision\" : 12\n\"Version\" : 4\n\
               \"Value\" : \"3\"\n\"Lease\" : 0\n\"More\" : false\n\"Count\" : 1\n"
            + none
            + "\"Deleted\" : 0\n"),
    );
}

#[test]
fn leases_put_the_header_among_their_own_fields() {
    let (id, ttl) = (7_587_899_133_937_357_582, 100);
    let granted = LeaseGrantResponse { header: Some(header(14)), id, ttl, error: String::new() };
    check(
        &granted,
        "lease 694da20f55d4930e granted with TTL(100s)\n",
        &format!(
            r#"{{{HEAD},"revision":14,"raft_term":2,"ID":7587899133937357582,"TTL":100,"Error":""}}"#
        ),
        &(head(14) + "\"ID\" : 7587899133937357582\n\"TTL\" : 100\n"),
    );
    let kept = LeaseKeepAliveResponse { header: Some(header(16)), id, ttl };
    check(
        &kept,
        "lease 694da20f55d4930e keepalived with TTL(100)\n",
        &format!(r#"{{{HEAD},"revision":16,"raft_term":2,"ID":7587899133937357582,"TTL":100}}"#),
        &(head(16) + "\"ID\" : 7587899133937357582\n\"TTL\" : 100\n"),
    );
    let all = LeaseLeasesResponse { header: Some(header(16)), leases: vec![LeaseStatus { id }] };
    check(
        &all,
        "found 1 leases\n694da20f55d4930e\n",
        &format!(
            r#"{{{HEAD},"revision":16,"raft_term":2,"leases":[{{"id":7587899133937357582}}]}}"#
        ),
        &(head(16) + "\"ID\" : 7587899133937357582\n"),
    );
}

#[test]
fn changes_show_what_was_before() {
    let kv = KeyValue { key: "w".into(), mod_revision: 42, ..KeyValue::default() };
    let event = Event { r#type: 1, kv: Some(kv), prev_kv: Some(pair(b"w", b"2")) };
    let answer =
        WatchResponse { header: Some(header(42)), events: vec![event], ..WatchResponse::default() };
    check(
        &answer,
        "DELETE\nw\n2\nw\n\n",
        &format!(
            r#"{{"Header":{{{HEAD},"revision":42,"raft_term":2}},"Events":[{{"type":1,"kv":{{"key":"dw==","mod_revision":42}},"prev_kv":{{"key":"dw==","create_revision":2,"mod_revision":12,"version":4,"value":"Mg=="}}}}],"CompactRevision":0,"Canceled":false,"Created":false,"CancelReason":""}}"#
        ),
        &(head(42)
            + "\"Type\" : DELETE\n\"PrevKey\" : \"w\"\n\"PrevCreateRevision\" : 2\n\
               \"PrevModRevision\" : 12\n\"PrevVersion\" : 4\n\"PrevValue\" : \"2\"\n\
               \"PrevLease\" : 0\n\"Key\" : \"w\"\n\"CreateRevision\" : 0\n\
               \"ModRevision\" : 42\n\"Version\" : 0\n\"Value\" : \"\"\n\"Lease\" : 0\n"),
    );
}

#[test]
fn tables_are_drawn_with_their_cells_to_the_right() {
    let row = |endpoint: &str, health: &str| vec![endpoint.to_owned(), health.to_owned()];
    let rows = [row("127.0.0.1:33001", "true"), row("127.0.0.1:1", "false")];
    let table = Table::new(&["ENDPOINT", "HEALTH"], rows);
    let drawn = "\
┌─────────────────┬────────┐
│    ENDPOINT     │ HEALTH │
├─────────────────┼────────┤
│ 127.0.0.1:33001 │   true │
│     127.0.0.1:1 │  false │
└─────────────────┴────────┘";
    assert_eq!(table.to_string(), drawn);
    let none = render(Format::Table, false, &PutResponse::default());
    assert!(matches!(none, Err(Failure::Coded(4, _))), "{none:?}");
}
