//! Transactions.

use quorate_kv::{RequestError, check};
use quorate_proto::etcdserverpb::{
    self as pb,
    compare::{
        CompareResult::{Equal, Greater, Less, NotEqual},
        TargetUnion,
    },
    request_op::Request,
    response_op::Response,
};

use crate::world::{
    World, bytes, compare, get, list, op_delete, op_get, op_put, op_txn, put, refused, txn,
};

fn ranged(response: &pb::TxnResponse, at: usize) -> &pb::RangeResponse {
    match &response.responses[at].response {
        Some(Response::ResponseRange(range)) => range,
        other => panic!("{other:?}"),
    }
}

/// etcd point 9; the headers of etcd 3.7.2.
#[test]
fn replies_inside_a_txn_hold_the_revision_only_and_nested_ones_none() {
    let mut world = World::new();
    let inner = txn(vec![], vec![op_put("n", "1"), op_get(get("n"))], vec![]);
    let reply = world
        .txn(txn(vec![], vec![op_get(get("n")), op_txn(inner), op_delete("x", "")], vec![]))
        .unwrap();
    let header = |revision| Some(pb::ResponseHeader { revision, ..Default::default() });
    assert_eq!(reply.header, header(2));
    assert_eq!(ranged(&reply, 0).header, header(1));
    let Some(Response::ResponseTxn(inner)) = &reply.responses[1].response else { panic!() };
    assert_eq!((inner.header, ranged(inner, 1).header), (header(0), header(2)));
    let Some(Response::ResponseDeleteRange(last)) = &reply.responses[2].response else { panic!() };
    assert_eq!(last.header, header(2));
}

/// etcd point 20.
#[test]
fn a_list_longer_than_the_limit_is_refused_and_nested_ones_get_what_is_left() {
    let puts = |count: usize| (0..count).map(|n| op_put(&n.to_string(), "")).collect::<Vec<_>>();
    let compares = |count| vec![compare("a", Equal, TargetUnion::Version(0)); count];
    for branches in [
        txn(compares(3), vec![], vec![]),
        txn(vec![], puts(3), vec![]),
        txn(vec![], vec![], puts(3)),
        txn(vec![], vec![op_txn(txn(vec![], puts(2), vec![]))], vec![]),
    ] {
        assert_eq!(check::txn(&branches, 2), Err(RequestError::TooManyOps));
        assert_eq!(check::txn(&branches, 3), Ok(()));
    }
}

#[test]
fn nesting_is_bounded_so_that_a_command_can_always_be_read_back() {
    let mut world = World::new();
    let mut nested = |depth: usize| {
        let mut request = txn(
            vec![compare("a", Equal, TargetUnion::Version(0))],
            vec![op_put("a", "1"), op_get(get("a"))],
            vec![],
        );
        for _ in 1..depth {
            request = txn(vec![], vec![op_txn(request)], vec![]);
        }
        let checked = check::txn(&request, 128);
        let applied = world.txn(request).map(|reply| reply.succeeded);
        (checked, applied)
    };
    assert_eq!(nested(check::TXN_DEPTH_MAX), (Ok(()), Ok(true)));
    let refused = RequestError::TooManyOps;
    assert_eq!(nested(check::TXN_DEPTH_MAX + 1), (Err(refused), Err(refused)));
}

/// etcd point 21.
#[test]
fn a_key_is_written_once_at_most() {
    let nested = |success, failure| op_txn(txn(vec![], success, failure));
    let put_a = || op_put("a", "");
    let refused = [
        vec![put_a(), put_a()],
        vec![put_a(), op_delete("a", "")],
        vec![op_delete("\0", "b"), put_a()],
        vec![op_delete("a", "\0"), put_a()],
        vec![put_a(), nested(vec![put_a()], vec![])],
        vec![nested(vec![], vec![put_a()]), nested(vec![op_delete("a", "b")], vec![])],
        vec![nested(vec![put_a(), put_a()], vec![])],
    ];
    let accepted = [
        vec![put_a(), op_put("b", ""), op_delete("c", "")],
        vec![op_delete("a", "c"), op_delete("b", "d")],
        vec![nested(vec![put_a()], vec![put_a()])],
        vec![put_a(), op_delete("a\0", "b")],
        vec![put_a(), op_delete("b", "a")],
        vec![put_a(), op_get(get("a")), op_get(get("a"))],
    ];
    for (lists, expected) in [(&refused[..], Err(RequestError::DuplicateKey)), (&accepted, Ok(()))]
    {
        for list in lists {
            assert_eq!(check::txn(&txn(vec![], list.clone(), vec![]), 9), expected, "{list:?}");
            assert_eq!(check::txn(&txn(vec![], vec![], list.clone()), 9), expected, "{list:?}");
        }
    }
    assert_eq!(check::txn(&txn(vec![], vec![put_a()], vec![op_delete("a", "")]), 9), Ok(()));
}

/// etcd point 22.
#[test]
fn a_value_compared_with_nothing_is_never_true() {
    let mut world = World::new();
    world.put("there", "x");
    let mut succeeds = |key: &str, result, union| {
        world.txn(txn(vec![compare(key, result, union)], vec![], vec![])).unwrap().succeeded
    };
    for result in [Equal, NotEqual, Greater, Less] {
        assert!(!succeeds("none", result, TargetUnion::Value(bytes("x"))));
        assert!(!succeeds("none", result, TargetUnion::Value(bytes(""))));
    }
    assert!(succeeds("none", Equal, TargetUnion::Version(0)));
    assert!(succeeds("none", Less, TargetUnion::CreateRevision(1)));
    assert!(succeeds("none", NotEqual, TargetUnion::ModRevision(1)));
    assert!(succeeds("none", Equal, TargetUnion::Lease(0)));
    assert!(succeeds("there", Equal, TargetUnion::Value(bytes("x"))));
    assert!(succeeds("there", Greater, TargetUnion::Value(bytes("w"))));
    assert!(succeeds("there", Equal, TargetUnion::ModRevision(2)));
}

/// etcd point 23.
#[test]
fn a_range_compare_holds_if_it_holds_for_every_key() {
    let mut world = World::new();
    world.put("a", "x");
    world.put("b", "x");
    world.put("b", "x");
    let mut succeeds = |key: &str, end: &str, result, union| {
        let compare = pb::Compare { range_end: bytes(end), ..compare(key, result, union) };
        world.txn(txn(vec![compare], vec![], vec![])).unwrap().succeeded
    };
    assert!(succeeds("a", "c", Equal, TargetUnion::Value(bytes("x"))));
    assert!(!succeeds("a", "c", Equal, TargetUnion::Version(1)));
    assert!(succeeds("a", "\0", Greater, TargetUnion::Version(0)));
    assert!(succeeds("x", "z", Equal, TargetUnion::Version(0)));
    assert!(!succeeds("x", "z", Equal, TargetUnion::Value(bytes(""))));
}

/// etcd point 24.
#[test]
fn later_operations_see_earlier_ones_but_comparisons_see_none() {
    let mut world = World::new();
    world.put("b", "old");
    let absent = || vec![compare("a", Equal, TargetUnion::Version(0))];
    let inner = txn(absent(), vec![op_get(list("a", "z"))], vec![]);
    let reply = world
        .txn(txn(absent(), vec![op_put("a", "1"), op_delete("b", ""), op_txn(inner)], vec![]))
        .unwrap();
    let Some(Response::ResponseTxn(inner)) = &reply.responses[2].response else { panic!() };
    assert!(inner.succeeded);
    let seen = ranged(inner, 0);
    assert_eq!((seen.count, &seen.kvs[0].key[..], seen.kvs[0].mod_revision), (1, &b"a"[..], 3));
}

/// etcd point 25.
#[test]
fn a_txn_that_could_fail_writes_nothing() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("a", "2");
    world.compact(3).unwrap();
    let lease = pb::PutRequest { lease: 99, ..put("c", "") };
    let missing = pb::PutRequest { ignore_value: true, ..put("none", "") };
    let at = |revision| op_get(pb::RangeRequest { revision, ..get("a") });
    let bad = [
        (pb::RequestOp { request: Some(Request::RequestPut(lease)) }, RequestError::LeaseNotFound),
        (pb::RequestOp { request: Some(Request::RequestPut(missing)) }, RequestError::KeyNotFound),
        (at(2), RequestError::Compacted),
        (at(9), RequestError::FutureRevision),
        (at(4), RequestError::FutureRevision),
        (pb::RequestOp { request: None }, RequestError::KeyNotFound),
    ];
    for (op, error) in bad {
        let nested = op_txn(txn(vec![], vec![op.clone()], vec![]));
        for op in [op, nested] {
            let request = txn(vec![], vec![op_put("b", "1"), op], vec![]);
            assert_eq!(world.txn(request), Err(error));
            assert_eq!((world.revision(), world.get("b")), (3, None));
        }
    }
}

/// As etcd 3.7.2 answers: operations are checked in their order, and of a put the lease comes first.
#[test]
fn the_first_operation_that_would_fail_gives_the_error() {
    let mut world = World::new();
    let future = || op_get(pb::RangeRequest { revision: 9, ..get("a") });
    let missing = || {
        let put = pb::PutRequest { ignore_value: true, lease: 99, ..put("none", "") };
        pb::RequestOp { request: Some(Request::RequestPut(put)) }
    };
    let first = txn(vec![], vec![future(), missing()], vec![]);
    assert_eq!(world.txn(first), Err(RequestError::FutureRevision));
    let second = txn(vec![], vec![missing(), future()], vec![]);
    assert_eq!(world.txn(second), Err(RequestError::LeaseNotFound));
}

/// etcd point 26.
#[test]
fn a_txn_with_a_nested_one_is_never_read_only() {
    let read = || txn(vec![], vec![op_get(get("a"))], vec![]);
    assert!(check::is_read_only(&read()));
    assert!(!check::is_read_only(&txn(vec![], vec![op_txn(read())], vec![])));
    assert!(!check::is_read_only(&txn(vec![], vec![], vec![op_put("a", "")])));
    let world = World::new();
    let nested = txn(vec![], vec![op_txn(read())], vec![]);
    assert_eq!(refused(world.reader().txn(&nested)), Err(RequestError::NotReadOnly));
}

/// etcd point 27: stricter than etcd, on purpose.
#[test]
fn comparisons_alone_are_read_only_but_not_serializable() {
    let alone = txn(vec![compare("a", Equal, TargetUnion::Version(0))], vec![], vec![]);
    assert!(check::is_read_only(&alone) && !check::is_serializable(&alone));
    let serializable = op_get(pb::RangeRequest { serializable: true, ..get("a") });
    assert!(check::is_serializable(&txn(vec![], vec![serializable.clone()], vec![])));
    assert!(!check::is_serializable(&txn(vec![], vec![serializable], vec![op_get(get("a"))])));
}

/// etcd point 28.
#[test]
fn an_older_revision_in_a_txn_is_the_old_data_under_the_new_header() {
    let mut world = World::new();
    world.put("a", "1");
    let old = op_get(pb::RangeRequest { revision: 2, ..get("a") });
    let reply = world.txn(txn(vec![], vec![op_put("a", "2"), old], vec![])).unwrap();
    let seen = ranged(&reply, 1);
    assert_eq!((seen.header.unwrap().revision, &seen.kvs[0].value[..]), (3, &b"1"[..]));
}

/// As etcd 3.7.2 answers.
#[test]
fn a_negative_revision_in_a_txn_is_compacted() {
    let mut world = World::new();
    world.put("a", "1");
    let at =
        |revision| txn(vec![], vec![op_get(pb::RangeRequest { revision, ..get("a") })], vec![]);
    assert_eq!(world.txn(at(-3)), Err(RequestError::Compacted));
    assert_eq!(refused(world.reader().txn(&at(-3))), Err(RequestError::Compacted));
    assert!(world.txn(at(-1)).is_ok());
    world.compact(2).unwrap();
    assert_eq!(world.txn(at(-1)), Err(RequestError::Compacted));
}

#[test]
fn a_reader_answers_read_only_txns_as_the_log_does() {
    let mut world = World::new();
    world.put("a", "1");
    let compared = vec![compare("a", Equal, TargetUnion::Value(bytes("2")))];
    let request =
        txn(compared, vec![op_get(get("a"))], vec![op_get(list("a", "b")), op_get(get("x"))]);
    let read = world.reader().txn(&request).unwrap();
    assert!(!read.succeeded && read.responses.len() == 2);
    assert_eq!(world.txn(request).unwrap(), read);
}
