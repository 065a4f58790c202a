//! Clients that take nothing of what they asked for, or take it back: nobody else waits for them.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    task::{Context, Poll, Waker},
};

use prost::Message;
use quorate_etcd::{
    Front, Limits, Load, Settings,
    backend::ServerError,
    handle::{kv, watch::WatchSession},
};
use quorate_kv::{Command, watch::WatchLimits};
use quorate_proto::etcdserverpb::{
    PutRequest, RangeRequest, WatchCancelRequest, WatchCreateRequest, WatchRequest,
    watch_request::RequestUnion,
};
use tokio_stream::Stream;

use crate::{
    raw::{Connection, DATA, END_HEADERS, END_STREAM, End, HEADERS, call, frame, message},
    server::{Home, Memory},
};

/// A watch needs three turns to read so many revisions.
const KEYS: u32 = 3000;

/// A hundred steps a slice, and one at a time.
fn settings() -> Settings {
    let limits = Limits { slice_steps: 100, slices_at_once: 1, ..Limits::default() };
    Settings { limits, ..Settings::default() }
}

fn fill(server: &Memory) {
    for number in 0..KEYS {
        let key = format!("k{number:04}").into();
        server.apply(&Command::Put(PutRequest { key, ..PutRequest::default() })).unwrap();
    }
}

/// A request that takes many slices.
fn count() -> RangeRequest {
    RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        count_only: true,
        ..RangeRequest::default()
    }
}

fn watch_from_the_start() -> WatchRequest {
    let create =
        WatchCreateRequest { key: "k0000".into(), start_revision: 1, ..Default::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

/// Sends a call with one message, which is the last if `flags` say so.
fn ask(connection: &mut Connection, path: &str, flags: u8, request: &[u8]) {
    let head = frame(HEADERS, END_HEADERS, 1, &call(path, "x", &[]));
    connection.send(&[head, frame(DATA, flags, 1, &message(0, request))].concat());
}

/// Another client's count ends while a client has no room for any of its answer.
fn assert_others_go_on(address: SocketAddr, path: &str, flags: u8, request: &[u8]) {
    let mut stalled = Connection::with_room(address, 0);
    ask(&mut stalled, path, flags, request);
    stalled.head();
    let mut other = Connection::open(address);
    ask(&mut other, "/etcdserverpb.KV/Range", END_STREAM, &count().encode_to_vec());
    assert!(matches!(other.end_of(1), End::Bytes(1..)), "{path}");
    drop(stalled);
}

#[test]
fn a_streamed_range_whose_client_takes_nothing_keeps_no_turn() {
    let home = Home::with(settings(), WatchLimits::default());
    fill(&home.server);
    let three =
        RangeRequest { key: "k0000".into(), range_end: "k0003".into(), ..RangeRequest::default() };
    let stream = "/etcdserverpb.KV/RangeStream";
    assert_others_go_on(home.address, stream, END_STREAM, &three.encode_to_vec());
}

#[test]
fn a_watch_whose_client_takes_nothing_keeps_no_turn() {
    let home = Home::with(settings(), WatchLimits::default());
    fill(&home.server);
    let watch = watch_from_the_start().encode_to_vec();
    assert_others_go_on(home.address, "/etcdserverpb.Watch/Watch", 0, &watch);
}

/// Requests as the test sends them.
struct Requests(Receiver<WatchRequest>);

impl Stream for Requests {
    type Item = Result<WatchRequest, ServerError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.try_recv().map_or(Poll::Pending, |request| Poll::Ready(Some(Ok(request))))
    }
}

fn slices(front: &Front<Memory>) -> Load {
    front.loads().into_iter().find(|(name, _)| *name == "slices").unwrap().1
}

/// Polled by hand, so that the watch is canceled while it waits.
#[test]
fn a_watch_that_is_canceled_waits_for_no_turn() {
    let server = Memory::new(WatchLimits::default());
    fill(&server);
    let front = Arc::new(Front::new(server, settings(), Arc::default()));
    let cx = &mut Context::from_waker(Waker::noop());
    let mut one = Box::pin(kv::range(&front, count()));
    assert!(one.as_mut().poll(cx).is_pending());
    let (requests, received) = channel();
    let mut session = WatchSession::new(&front, Requests(received));
    requests.send(watch_from_the_start()).unwrap();
    assert!(Pin::new(&mut session).poll_next(cx).is_pending());
    assert_eq!(slices(&front), Load { used: 1, waiting: 1 });
    let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 });
    requests.send(WatchRequest { request_union: Some(cancel) }).unwrap();
    for expected in [(true, false), (false, true)] {
        let Poll::Ready(Some(response)) = Pin::new(&mut session).poll_next(cx) else {
            panic!("no answer")
        };
        let response = response.unwrap();
        assert_eq!((response.created, response.canceled), expected);
    }
    assert_eq!(slices(&front), Load { used: 1, waiting: 0 });
    drop(one);
    assert_eq!(slices(&front), Load::default());
}
