//! Many watch streams whose clients are slow: what they share, what they hold, and that they lose nothing. Polled by hand.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use quorate_etcd::{Front, Load, Settings, backend::ServerError, handle::watch::WatchSession};
use quorate_kv::Command;
use quorate_proto::etcdserverpb::{
    PutRequest, WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use tokio_stream::{Stream, iter};

use crate::server::Memory;

const VALUE_BYTES: usize = 10_000;
const STREAMS: usize = 50;

type Requests = tokio_stream::Iter<std::vec::IntoIter<Result<WatchRequest, ServerError>>>;
type Session = WatchSession<Memory, Requests>;

fn put(server: &Memory, number: u8) {
    let value = Bytes::from(vec![number; VALUE_BYTES]);
    let put = PutRequest { key: "k".into(), value, ..PutRequest::default() };
    server.apply(&Command::Put(put)).unwrap();
}

fn session(front: &Front<Memory>, request: &WatchRequest) -> Session {
    WatchSession::new(&Arc::new(front.for_client()), iter(vec![Ok(request.clone())]))
}

/// Clients with a watch each, that has been created.
fn sessions(front: &Arc<Front<Memory>>) -> Vec<Session> {
    let create = WatchCreateRequest { key: "k".into(), prev_kv: true, ..Default::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let mut sessions: Vec<_> = (0..STREAMS).map(|_| session(front, &request)).collect();
    for session in &mut sessions {
        assert!(take(session).unwrap().created);
    }
    sessions
}

/// The next response, if there is one.
fn take(session: &mut Session) -> Option<WatchResponse> {
    let cx = &mut Context::from_waker(Waker::noop());
    // A stream that gives way is to be asked again.
    (0..10).find_map(|_| match Pin::new(&mut *session).poll_next(cx) {
        Poll::Ready(response) => Some(response.unwrap().unwrap()),
        Poll::Pending => None,
    })
}

fn load(front: &Front<Memory>, limit: &str) -> Load {
    front.loads().into_iter().find(|(name, _)| *name == limit).unwrap().1
}

#[test]
fn a_value_and_the_one_before_are_in_memory_once_for_all_watches() {
    let server = Memory::holding(1 << 20, 1 << 20);
    put(&server, 1);
    let front = Arc::new(Front::new(server.clone(), Settings::default(), Arc::default()));
    let mut sessions = sessions(&front);
    put(&server, 2);
    let mut copies = BTreeMap::new();
    for session in &mut sessions {
        let event = take(session).unwrap().events.remove(0);
        for value in [event.kv.unwrap().value, event.prev_kv.unwrap().value] {
            assert_eq!(value.len(), VALUE_BYTES);
            copies.insert(value.as_ptr(), value);
        }
    }
    assert_eq!(copies.len(), 2);
}

/// A client with 64 watchers of a large key that takes nothing once put the watches of all others into small steps.
#[test]
fn a_client_that_holds_much_slows_nobody_else() {
    const PUTS: usize = 20;
    let server = Memory::holding(1 << 20, 1 << 20);
    put(&server, 1);
    let front = Front::new(server.clone(), Settings::default(), Arc::default());
    let (greedy, modest) = (Arc::new(front.for_client()), Arc::new(front.for_client()));
    let watches = |key: &'static str, count: usize| {
        let create = WatchCreateRequest { key: key.into(), ..Default::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        iter((0..count).map(|_| Ok(request.clone())).collect::<Vec<_>>())
    };
    let mut stalled = WatchSession::new(&greedy, watches("k", 128));
    (0..128).for_each(|_| assert!(take(&mut stalled).unwrap().created));
    let mut session = WatchSession::new(&modest, watches("small", 1));
    assert!(take(&mut session).unwrap().created);
    put(&server, 2);
    assert!(!take(&mut stalled).unwrap().created);
    assert!(load(&front, "watch_bytes").used > 1 << 20);
    for _ in 0..PUTS {
        let put = PutRequest { key: "small".into(), ..PutRequest::default() };
        server.apply(&Command::Put(put)).unwrap();
    }
    assert_eq!(take(&mut session).unwrap().events.len(), PUTS);
    drop((stalled, session));
    assert_eq!(load(&front, "watch_bytes"), Load::default());
}

/// Every client takes one response and then nothing, while the key goes on changing; in the end they take all.
#[test]
fn slow_streams_hold_a_bounded_amount_together_and_lose_nothing() {
    const HELD_MAX: u64 = 20 * VALUE_BYTES as u64;
    const PUTS: u8 = 60;
    let server = Memory::holding(5 * VALUE_BYTES, HELD_MAX);
    put(&server, 0);
    let front = Arc::new(Front::new(server.clone(), Settings::default(), Arc::default()));
    let mut sessions = sessions(&front);
    let mut seen = vec![Vec::new(); STREAMS];
    let mut most = 0;
    for number in 1..=PUTS {
        put(&server, number);
        for (session, seen) in sessions.iter_mut().zip(&mut seen) {
            if number.is_multiple_of(20) {
                seen.extend(take(session));
            }
            most = most.max(load(&front, "watch_bytes").used);
        }
    }
    let revision = 2 * VALUE_BYTES as u64 + 200;
    assert!(most > HELD_MAX, "the bound was reached: {most}");
    let batch = 64 * 1024 + 2 * revision + (1 << 20);
    assert!(most < HELD_MAX + batch + STREAMS as u64 * revision, "{most}");
    for (session, seen) in sessions.iter_mut().zip(&mut seen) {
        while let Some(response) = take(session) {
            seen.push(response);
        }
        let events = seen.iter().flat_map(|response| &response.events);
        let values: Vec<u8> = events.map(|event| event.kv.as_ref().unwrap().value[0]).collect();
        assert!(values.iter().copied().eq(1..=PUTS), "{values:?}");
    }
    assert_eq!(load(&front, "watch_bytes"), Load::default());
    assert_eq!(load(&front, "watch_streams").used, STREAMS as u64);
    drop(sessions);
    assert_eq!(load(&front, "watch_streams"), Load::default());
}
