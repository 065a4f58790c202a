//! What clients do with HTTP/2 that its libraries do not expect.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use prost::Message;
use quorate_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, RangeRequest};

use crate::{
    raw::{Connection, DATA, END_HEADERS, END_STREAM, End, HEADERS, call, frame, message},
    server::Home,
};

const RANGE: &str = "/etcdserverpb.KV/Range";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

fn range() -> Vec<u8> {
    RangeRequest { key: "a".into(), ..RangeRequest::default() }.encode_to_vec()
}

/// Sends one call with one message and tells how it ended.
fn unary(home: &Home, headers: &[u8], message: &[u8]) -> End {
    let mut connection = Connection::open(home.address);
    connection.send(&frame(HEADERS, END_HEADERS, 1, headers));
    connection.send(&frame(DATA, END_STREAM, 1, message));
    connection.end_of(1)
}

#[test]
fn nobody_looks_at_the_authority() {
    let home = Home::open();
    let asked = message(0, &range());
    for authority in ["localhost", "#initially=[db:2379]", "unix:/run/x.sock", "%2Frun%2Fx.sock"] {
        let end = unary(&home, &call(RANGE, authority, &[]), &asked);
        assert!(matches!(end, End::Bytes(1..)), "{authority}: {end:?}");
    }
}

#[test]
fn a_compressed_request_is_answered() {
    let home = Home::open();
    let mut compressed = GzEncoder::new(Vec::new(), Compression::default());
    compressed.write_all(&range()).unwrap();
    let compressed = message(1, &compressed.finish().unwrap());
    let gzip = call(RANGE, "x", &[("grpc-encoding", "gzip")]);
    assert!(matches!(unary(&home, &gzip, &compressed), End::Bytes(1..)));
    // A client that names an encoding need not use it.
    assert!(matches!(unary(&home, &gzip, &message(0, &range())), End::Bytes(1..)));
    let snappy = call(RANGE, "x", &[("grpc-encoding", "snappy")]);
    assert_eq!(unary(&home, &snappy, &compressed), End::Bytes(0));
}

/// A client with 20,000 leases writes as many small frames at once, here on two calls in turn: a library that counts the
/// unread ones must not take it for an attacker.
#[test]
fn renewals_in_very_many_frames_are_all_answered() {
    const CALLS: [u32; 2] = [1, 3];
    const RENEWALS: usize = 20_000;
    let home = Home::open();
    let mut connection = Connection::open(home.address);
    let renewal = message(0, &LeaseKeepAliveRequest { id: i64::MAX }.encode_to_vec());
    let headers = call(KEEP_ALIVE, "x", &[]);
    let mut sent: Vec<u8> =
        CALLS.iter().flat_map(|id| frame(HEADERS, END_HEADERS, *id, &headers)).collect();
    for _ in 0..RENEWALS {
        sent.extend(CALLS.iter().flat_map(|id| frame(DATA, 0, *id, &renewal)));
        sent.extend(CALLS.iter().flat_map(|id| frame(DATA, 0, *id, &[])));
    }
    sent.extend(CALLS.iter().flat_map(|id| frame(DATA, END_STREAM, *id, &[])));
    connection.send(&sent);
    let header = Some(quorate_proto::etcdserverpb::ResponseHeader {
        cluster_id: crate::server::IDENTITY.cluster_id,
        member_id: crate::server::IDENTITY.member_id,
        revision: 1,
        raft_term: crate::server::TERM,
    });
    let answer = LeaseKeepAliveResponse { header, id: i64::MAX, ttl: 0 };
    let bytes = RENEWALS * message(0, &answer.encode_to_vec()).len();
    assert_eq!(connection.end_of(1), End::Bytes(bytes));
}
