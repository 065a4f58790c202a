//! Long work: in turns, in line, and to its end when its client goes. Handlers are asked directly and polled by hand, so
//! that nothing here depends on time.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use quorate_etcd::{
    Front, Limits, Load, Settings,
    backend::ServerError,
    handle::{kv, maintenance, range_stream, snapshot},
};
use quorate_kv::{Command, watch::WatchLimits};
use quorate_proto::etcdserverpb::{
    HashKvRequest, HashRequest, PutRequest, RangeRequest, RequestOp, SnapshotRequest, TxnRequest,
    request_op::Request,
};
use tokio_stream::Stream;

use crate::server::Memory;

const KEYS: u8 = 100;

type Asked<T> = Pin<Box<dyn Future<Output = Result<T, ServerError>>>>;

fn front(limits: Limits) -> Arc<Front<Memory>> {
    with_server(limits).0
}

fn with_server(limits: Limits) -> (Arc<Front<Memory>>, Memory) {
    let server = Memory::new(WatchLimits::default());
    for number in 0..KEYS {
        let key = format!("k{number:03}").into();
        server.apply(&Command::Put(PutRequest { key, ..PutRequest::default() })).unwrap();
    }
    let settings = Settings { limits, ..Settings::default() };
    (Arc::new(Front::new(server.clone(), settings, Arc::default())), server)
}

/// Ten keys a slice.
fn limits() -> Limits {
    Limits { slice_steps: 10, slices_at_once: 1, ..Limits::default() }
}

fn count() -> RangeRequest {
    RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        count_only: true,
        ..RangeRequest::default()
    }
}

fn ask<T, F>(front: &Arc<Front<Memory>>, call: impl FnOnce(Arc<Front<Memory>>) -> F) -> Asked<T>
where
    F: Future<Output = Result<T, ServerError>> + 'static,
{
    Box::pin(call(Arc::clone(front)))
}

fn poll<T>(asked: &mut Asked<T>) -> Option<Result<T, ServerError>> {
    match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

fn load(front: &Front<Memory>, limit: &str) -> Load {
    front.loads().into_iter().find(|(name, _)| *name == limit).unwrap().1
}

fn assert_idle(front: &Front<Memory>) {
    for (limit, load) in front.loads() {
        assert_eq!(load, Load::default(), "{limit}");
    }
}

#[test]
fn a_long_count_gives_way_between_slices_and_a_short_read_never_waits() {
    let front = front(limits());
    let mut long = ask(&front, async |front| kv::range(&front, count()).await);
    let mut turns = 0;
    let answer = loop {
        if let Some(answer) = poll(&mut long) {
            break answer.unwrap();
        }
        turns += 1;
        let one = RangeRequest { key: "k001".into(), ..RangeRequest::default() };
        let mut short = ask(&front, async |front| kv::range(&front, one).await);
        assert_eq!(poll(&mut short).unwrap().unwrap().count, 1);
    };
    assert_eq!(answer.count, i64::from(KEYS));
    assert!(turns >= KEYS / 10 - 2, "{turns}");
    assert_idle(&front);
}

#[test]
fn a_transaction_of_counts_gives_way_too() {
    let front = front(limits());
    let ops = (0..3).map(|_| RequestOp { request: Some(Request::RequestRange(count())) });
    let request = TxnRequest { success: ops.collect(), ..TxnRequest::default() };
    let mut long = ask(&front, async |front| kv::txn(&front, request).await);
    let mut turns = 0;
    while poll(&mut long).is_none() {
        turns += 1;
    }
    assert!(turns >= 3 * (KEYS / 10 - 1), "{turns}");
}

/// One client asks twenty times before another asks once.
#[test]
fn slices_go_round_the_clients_and_not_round_the_requests() {
    let front = front(limits());
    let (greedy, modest) = (Arc::new(front.for_client()), Arc::new(front.for_client()));
    let mut many: Vec<_> =
        (0..20).map(|_| ask(&greedy, async |front| kv::range(&front, count()).await)).collect();
    for one in &mut many {
        assert!(poll(one).is_none());
    }
    let mut one = ask(&modest, async |front| kv::range(&front, count()).await);
    while poll(&mut one).is_none() {
        many.retain_mut(|one| poll(one).is_none());
    }
    assert!(many.len() >= 18, "{} of the greedy client's were done before", 20 - many.len());
}

#[test]
fn of_long_reads_some_are_open_and_the_others_wait_without_a_state() {
    let limits = Limits { long_reads_max: 2, long_reads_waiting_max: 4, ..limits() };
    let front = front(limits);
    let clients: Vec<_> = (0..7).map(|_| Arc::new(front.for_client())).collect();
    let mut asked: Vec<_> = clients
        .iter()
        .map(|client| ask(client, async |front| kv::range(&front, count()).await))
        .collect();
    let refused = asked.iter_mut().filter_map(poll).collect::<Vec<_>>();
    assert!(matches!(refused[..], [Err(ServerError::TooManyRequests)]));
    assert_eq!(load(&front, "long_reads"), Load { used: 2, waiting: 4 });
    asked.pop();
    while !asked.is_empty() {
        asked.retain_mut(|one| match poll(one) {
            Some(answer) => {
                assert_eq!(answer.unwrap().count, i64::from(KEYS));
                false
            }
            None => true,
        });
    }
    assert_idle(&front);
}

#[test]
fn hashes_wait_in_line_and_end_with_their_clients() {
    let limits = Limits { hashes_max: 1, hashes_waiting_max: 4, ..limits() };
    let front = front(limits);
    let mut whole = ask(&front, async |front| maintenance::hash(&front, HashRequest {}).await);
    let request = HashKvRequest { revision: 0 };
    let mut kv = ask(&front, async move |front| maintenance::hash_kv(&front, request).await);
    assert!(poll(&mut whole).is_none() && poll(&mut kv).is_none());
    assert_eq!(load(&front, "hashes"), Load { used: 1, waiting: 1 });
    let mut more: Vec<_> = (0..3)
        .map(|_| ask(&front, async move |front| maintenance::hash_kv(&front, request).await))
        .collect();
    let refused = more.iter_mut().filter_map(poll).collect::<Vec<_>>();
    assert!(matches!(refused[..], [Err(ServerError::TooManyRequests), _]), "half is one client's");
    drop(whole);
    let answer = loop {
        if let Some(answer) = poll(&mut kv) {
            break answer.unwrap();
        }
    };
    assert_eq!(answer.hash_revision, 1 + i64::from(KEYS));
    drop((kv, more));
    assert_idle(&front);
}

#[test]
fn snapshots_and_streamed_ranges_are_read_as_their_clients_take_them() {
    let limits =
        Limits { snapshots_max: 1, range_streams_max: 1, range_streams_waiting_max: 2, ..limits() };
    let front = front(limits);
    let mut first = ask(&front, async |front| snapshot::snapshot(&front, SnapshotRequest {}).await);
    let mut pieces = poll(&mut first).unwrap().unwrap();
    let mut second =
        ask(&front, async |front| snapshot::snapshot(&front, SnapshotRequest {}).await);
    assert!(poll(&mut second).is_none());
    assert_eq!(load(&front, "snapshots"), Load { used: 1, waiting: 1 });
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut pieces).poll_next(cx).is_pending(), "a slice, then others");
    drop(pieces);
    assert!(poll(&mut second).unwrap().is_ok());

    let range = || RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    let mut first =
        ask(&front, async move |front| range_stream::range_stream(&front, range()).await);
    let chunks = poll(&mut first).unwrap().unwrap();
    let mut second =
        ask(&front, async move |front| range_stream::range_stream(&front, range()).await);
    assert!(poll(&mut second).is_none());
    drop(chunks);
    assert!(poll(&mut second).unwrap().is_ok());
    assert_idle(&front);
}

fn put() -> PutRequest {
    PutRequest { key: "p".into(), ..PutRequest::default() }
}

/// A client that takes its puts back has them in flight all the same, and another one has its share.
#[test]
fn a_proposal_counts_until_it_is_answered_and_each_client_has_its_share() {
    let limits = Limits {
        proposal_bytes_max: 100 << 10,
        proposal_bytes_of_client_max: 20 << 10,
        proposal_bytes_waiting_max: 80 << 10,
        ..limits()
    };
    let (front, server) = with_server(limits);
    server.keep_proposals(true);
    let (greedy, modest) = (Arc::new(front.for_client()), Arc::new(front.for_client()));
    let call = |client| ask(client, async |front| kv::put(&front, put()).await);
    for _ in 0..4 {
        assert!(poll(&mut call(&greedy)).is_none(), "and taken back");
    }
    let mut more: Vec<_> = (0..20).map(|_| call(&greedy)).collect();
    let refused = more.iter_mut().filter_map(poll).count();
    let held = load(&front, "proposals");
    assert_eq!((held.used >> 12, held.waiting >> 12, refused), (4, 9, 11));
    let mut other: Vec<_> = (0..4).map(|_| call(&modest)).collect();
    for one in &mut other {
        assert!(poll(one).is_none());
    }
    assert_eq!(load(&front, "proposals").used >> 12, 8);
    drop((more, other));
    assert_eq!(load(&front, "proposals").used >> 12, 8);
    server.keep_proposals(false);
    assert!(poll(&mut call(&greedy)).unwrap().is_ok());
    assert_idle(&front);
}

fn counts_and_a_put(times: usize) -> TxnRequest {
    let op = |request| RequestOp { request: Some(request) };
    let counts = (0..times).map(|_| op(Request::RequestRange(count())));
    let success = counts.chain([op(Request::RequestPut(put()))]).collect();
    TxnRequest { success, ..TxnRequest::default() }
}

#[test]
fn a_transaction_is_weighed_before_it_is_proposed() {
    let limits = Limits { txn_keys_max: 250, heavy_txn_keys: 150, ..limits() };
    let (front, server) = with_server(limits);
    let run =
        |times| ask(&front, async move |front| kv::txn(&front, counts_and_a_put(times)).await);
    let done = |mut asked: Asked<_>| loop {
        if let Some(answer) = poll(&mut asked) {
            break answer;
        }
    };
    assert_eq!(done(run(2)).unwrap().responses.len(), 3);
    assert!(matches!(done(run(3)), Err(ServerError::TxnTooHeavy(250))));
    server.keep_proposals(true);
    let mut heavy: Vec<_> = (0..2).map(|_| run(2)).collect();
    let mut light = run(1);
    for _ in 0..100 {
        for one in &mut heavy {
            assert!(poll(one).is_none());
        }
        assert!(poll(&mut light).is_none());
    }
    assert_eq!(load(&front, "heavy_txns"), Load { used: 1, waiting: 1 });
    assert_eq!(load(&front, "proposals").used >> 12, 2);
    server.keep_proposals(false);
    drop((heavy, light));
    assert_idle(&front);
}

/// Large answers are made one at a time, and no further than there is room.
#[test]
fn large_answers_wait_for_room() {
    let limits = Limits { answer_bytes_max: 300 << 10, ..limits() };
    let (front, server) = with_server(limits);
    for number in 0..5 {
        let (key, value) = (format!("large{number}").into(), vec![7; 100 << 10].into());
        server.apply(&Command::Put(PutRequest { key, value, ..PutRequest::default() })).unwrap();
    }
    let range = || RangeRequest {
        key: "large".into(),
        range_end: "largf".into(),
        ..RangeRequest::default()
    };
    let mut asked: Vec<_> =
        (0..4).map(|_| ask(&front, async move |front| kv::range(&front, range()).await)).collect();
    let mut most = 0;
    while !asked.is_empty() {
        asked.retain_mut(|one| match poll(one) {
            Some(answer) => {
                assert_eq!(answer.unwrap().kvs.len(), 5);
                false
            }
            None => true,
        });
        most = most.max(load(&front, "answer_bytes").used);
        assert!(load(&front, "large_answers").used <= 1);
    }
    assert!((300 << 10..=600 << 10).contains(&most), "{most}");
    assert_idle(&front);
}
