//! Transports on loopback.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use bytes::Bytes;
use quorate_net::{
    Config, Lane, Limits, PeerEvent, SendError, Transport,
    frame::{HEADER_BYTES, header},
    handshake::{Hello, PROTOCOL_VERSION, Verdict, Welcome},
};
use quorate_node::{Admission, DirectoryId, MemberCard, PeerMessage};
use quorate_raft::NodeId;

const CLUSTER: u64 = 0xc1a5;
const CARD: MemberCard = MemberCard { directory: DirectoryId(7), command_version: 1 };
const OTHER: MemberCard = MemberCard { directory: DirectoryId(8), command_version: 1 };
const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
/// No test waits longer for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Member {
    transport: Transport,
    inbox: Receiver<(NodeId, PeerEvent)>,
}

fn limits() -> Limits {
    Limits { redial_wait_max: Duration::from_millis(50), ..Limits::default() }
}

fn start(me: NodeId, listener: TcpListener, peer: (NodeId, SocketAddr), limits: Limits) -> Member {
    start_in(CLUSTER, me, listener, peer, limits)
}

fn start_in(
    cluster_id: u64,
    me: NodeId,
    listener: TcpListener,
    (peer, address): (NodeId, SocketAddr),
    limits: Limits,
) -> Member {
    let (sender, inbox) = channel();
    let peers = BTreeMap::from([(peer, address.to_string())]);
    let config = Config { me, cluster_id, card: CARD, listen: Vec::new(), peers, limits };
    let door = |_, card| {
        if card == CARD { Admission::Admitted } else { Admission::OtherDirectory }
    };
    let transport = Transport::start_on(vec![listener], config, door, move |from, event| {
        // After a test is over, nobody listens.
        let _ = sender.send((from, event));
    })
    .unwrap();
    Member { transport, inbox }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn pair() -> (Member, Member) {
    let ((first, at_first), (second, at_second)) = (listener(), listener());
    let one = start(ONE, first, (TWO, at_second), limits());
    let two = start(TWO, second, (ONE, at_first), limits());
    (one, two)
}

impl Member {
    /// The next event that `wanted` takes; others before it are let pass.
    fn wait<T>(&self, wanted: impl Fn(PeerEvent) -> Option<T>) -> T {
        loop {
            let (_, event) = self.inbox.recv_timeout(PATIENCE).expect("what was waited for came");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    fn connected(&self) {
        while !self.transport.stats().iter().all(|peer| peer.active) {
            self.wait(|event| matches!(event, PeerEvent::Connected(_)).then_some(()));
        }
    }

    fn message(&self) -> PeerMessage {
        self.wait(|event| match event {
            PeerEvent::Message(message) => Some(message),
            PeerEvent::Connected(_)
            | PeerEvent::Disconnected(_)
            | PeerEvent::KnowsOtherDirectory => None,
        })
    }
}

fn urgent(id: u64) -> PeerMessage {
    PeerMessage::ServiceRequest { id, body: Bytes::from(vec![1; 10]) }
}

fn bulk(number: u64, bytes: usize) -> PeerMessage {
    PeerMessage::SnapshotChunk {
        group: quorate_raft::GroupId(0),
        term: quorate_raft::Term(1),
        transfer: 1,
        snapshot: quorate_raft::SnapshotMeta::default(),
        number,
        last: false,
        data: Bytes::from(vec![2; bytes]),
    }
}

#[test]
fn messages_of_both_lanes_arrive_in_order() {
    let (one, two) = pair();
    one.connected();
    for number in 0..500 {
        one.transport.send(TWO, urgent(number)).unwrap();
        one.transport.send(TWO, bulk(number, 2000)).unwrap();
    }
    let (mut requests, mut chunks) = (0, 0);
    while requests + chunks < 1000 {
        match two.message() {
            message if message == urgent(requests) => requests += 1,
            message => {
                assert_eq!(message, bulk(chunks, 2000));
                chunks += 1;
            }
        }
    }
    let sent = one.transport.stats().remove(0);
    assert_eq!((sent.sent_messages, sent.send_failures), (1000, 0));
    let received = two.transport.stats().remove(0);
    assert_eq!(received.received_messages, 1000);
    assert!(received.received_bytes > 1_000_000 && sent.sent_bytes > 1_000_000);
}

#[test]
fn a_peer_that_comes_back_is_reached_again() {
    let ((first, at_first), (second, at_second)) = (listener(), listener());
    let one = start(ONE, first, (TWO, at_second), limits());
    let two = start(TWO, second, (ONE, at_first), limits());
    one.connected();
    drop(two);
    one.wait(|event| matches!(event, PeerEvent::Disconnected(_)).then_some(()));
    let again = TcpListener::bind(at_second).unwrap();
    let two = start(TWO, again, (ONE, at_first), limits());
    one.connected();
    one.transport.send(TWO, urgent(7)).unwrap();
    assert_eq!(two.message(), urgent(7));
}

#[test]
fn without_a_connection_a_message_is_refused_at_once() {
    let ((first, _), (second, at_second)) = (listener(), listener());
    drop(second);
    let one = start(ONE, first, (TWO, at_second), limits());
    assert_eq!(one.transport.send(TWO, urgent(1)), Err(SendError::Disconnected));
    assert_eq!(one.transport.send(NodeId(9), urgent(1)), Err(SendError::UnknownPeer));
    assert_eq!(one.transport.stats().remove(0).send_failures, 1);
}

/// Says hello by hand.
fn dial(address: SocketAddr, hello: Hello) -> (TcpStream, Welcome) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = hello.encode();
    let header = header([&body[..]].into_iter(), 1000).unwrap();
    stream.write_all(&[&header[..], &body].concat()).unwrap();
    let mut answer = [0; HEADER_BYTES + 36];
    stream.read_exact(&mut answer).unwrap();
    let welcome = Welcome::decode(&answer[HEADER_BYTES..]).unwrap();
    (stream, welcome)
}

fn hello() -> Hello {
    let version = PROTOCOL_VERSION;
    Hello { version, cluster_id: CLUSTER, from: TWO, card: CARD, to: ONE, lane: Lane::Urgent }
}

/// The other side has closed: nothing more comes.
fn assert_closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // A reset is a closed connection too.
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, [], "something more came");
}

#[test]
fn whoever_does_not_belong_is_told_why_and_closed() {
    let (first, at_first) = listener();
    let _one = start(ONE, first, (TWO, at_first), limits());
    for (stranger, verdict) in [
        (Hello { cluster_id: 5, ..hello() }, Verdict::WrongCluster),
        (Hello { to: NodeId(5), ..hello() }, Verdict::WrongTarget),
        (Hello { from: NodeId(5), ..hello() }, Verdict::UnknownSender),
        (Hello { version: 5, ..hello() }, Verdict::WrongVersion),
        (Hello { card: OTHER, ..hello() }, Verdict::OtherDirectory),
    ] {
        let (stream, welcome) = dial(at_first, stranger);
        assert_eq!((welcome.verdict, welcome.cluster_id, welcome.from), (verdict, CLUSTER, ONE));
        assert_closed(stream);
    }
}

#[test]
fn members_of_different_clusters_never_connect() {
    let ((first, at_first), (second, at_second)) = (listener(), listener());
    let one = start_in(1, ONE, first, (TWO, at_second), limits());
    let two = start_in(2, TWO, second, (ONE, at_first), limits());
    let (_, welcome) = dial(at_first, Hello { cluster_id: 2, ..hello() });
    assert_eq!(welcome.verdict, Verdict::WrongCluster);
    assert_eq!(one.transport.send(TWO, urgent(1)), Err(SendError::Disconnected));
    assert_eq!(two.transport.send(ONE, urgent(1)), Err(SendError::Disconnected));
}

#[test]
fn garbage_costs_its_sender_the_connection_and_nobody_else_anything() {
    let (one, two) = pair();
    one.connected();
    let address = one.transport.addresses()[0];
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 64], b"PRI * HTTP/2.0\r\n"] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(garbage).unwrap();
        assert_closed(stream);
    }
    let (mut stream, welcome) = dial(address, hello());
    assert_eq!(welcome.verdict, Verdict::Accepted);
    stream.write_all(&[0xaa; 100]).unwrap();
    assert_closed(stream);
    one.transport.send(TWO, urgent(3)).unwrap();
    assert_eq!(two.message(), urgent(3));
}

#[test]
fn a_peer_that_reads_nothing_costs_a_bounded_amount() {
    let ((first, _), (second, at_second)) = (listener(), listener());
    let limits = Limits { queue_messages_max: 50, queue_bytes_max: 4 << 20, ..limits() };
    let one = start(ONE, first, (TWO, at_second), limits);
    // A peer that welcomes both lanes and then reads no more.
    let lanes: Vec<TcpStream> = (0..2).map(|_| welcome(&second, CARD)).collect();
    one.connected();
    let refused = (0..10_000)
        .find(|number| one.transport.send(TWO, bulk(*number, 1 << 20)) == Err(SendError::Full));
    assert!(refused.is_some_and(|count| count < 5_000), "the queue grew to {refused:?} MiB");
    // The urgent lane does not stand behind it.
    one.transport.send(TWO, urgent(1)).unwrap();
    drop(lanes);
}

/// Takes one connection and accepts whoever it is.
fn welcome(listener: &TcpListener, card: MemberCard) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; HEADER_BYTES + 44]).unwrap();
    let (version, verdict) = (PROTOCOL_VERSION, Verdict::Accepted);
    let body = Welcome { version, cluster_id: CLUSTER, from: TWO, card, verdict }.encode();
    let header = header([&body[..]].into_iter(), 1000).unwrap();
    stream.write_all(&[&header[..], &body].concat()).unwrap();
    stream
}

/// The accepter refuses the directory of the dialler, and the dialler hears of it; the dialler refuses that of the accepter.
#[test]
fn a_member_from_another_directory_is_met_in_neither_direction() {
    let ((first, at_first), (second, at_second)) = (listener(), listener());
    let one = start(ONE, first, (TWO, at_second), limits());
    let stream = welcome(&second, OTHER);
    assert_closed(stream);
    assert_eq!(one.transport.send(TWO, urgent(1)), Err(SendError::Disconnected));
    let (sender, inbox) = channel();
    let config = Config {
        me: TWO,
        cluster_id: CLUSTER,
        card: OTHER,
        listen: Vec::new(),
        peers: BTreeMap::from([(ONE, at_first.to_string())]),
        limits: limits(),
    };
    let two = Transport::start_on(
        vec![second],
        config,
        |_, _| Admission::Admitted,
        move |_, event| {
            let _ = sender.send(event);
        },
    );
    assert_eq!(inbox.recv_timeout(PATIENCE), Ok(PeerEvent::KnowsOtherDirectory));
    assert_eq!(two.unwrap().send(ONE, urgent(1)), Err(SendError::Disconnected));
}

/// The limit is for the whole handshake: whoever drips bytes is closed when it is over, and holds no slot.
#[test]
fn a_stranger_that_drips_bytes_has_no_more_time_than_one_that_is_silent() {
    let (first, at_first) = listener();
    let limits = Limits { handshake_wait: Duration::from_millis(300), ..limits() };
    let one = start(ONE, first, (TWO, at_first), limits);
    let mut stream = TcpStream::connect(at_first).unwrap();
    let body = hello().encode();
    let header = header([&body[..]].into_iter(), 1000).unwrap();
    // The whole of it would take far longer than anybody waits; the socket says when it is over.
    let mut sent = 0;
    for byte in header.iter().chain(&body) {
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        if stream.write_all(&[*byte]).is_err() || matches!(stream.read(&mut [0]), Ok(0)) {
            break;
        }
        sent += 1;
    }
    assert!(sent < 40, "{sent} bytes were dripped");
    while one.transport.strangers() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn more_strangers_than_there_is_room_for_keep_no_member_out() {
    let ((first, at_first), (second, at_second)) = (listener(), listener());
    let limits = Limits { handshake_wait: PATIENCE, strangers_max: 8, ..limits() };
    let one = start(ONE, first, (TWO, at_second), limits.clone());
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(at_first).unwrap()).collect();
    let two = start(TWO, second, (ONE, at_first), limits);
    two.connected();
    two.transport.send(ONE, urgent(1)).unwrap();
    assert_eq!(one.message(), urgent(1));
    assert!(one.transport.strangers() <= 8);
    drop(silent);
}

/// A peer that dials again has given its older connection up: it is closed and not left to time out.
#[test]
fn of_each_lane_of_a_peer_there_is_one_connection() {
    let (first, at_first) = listener();
    let _one = start(ONE, first, (TWO, at_first), limits());
    let (older, welcome) = dial(at_first, hello());
    assert_eq!(welcome.verdict, Verdict::Accepted);
    let (mut newer, _) = dial(at_first, hello());
    assert_closed(older);
    newer.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(
        newer.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    );
}

#[test]
fn pings_measure_the_round_trip() {
    let ((first, at_first), (second, at_second)) = (listener(), listener());
    let limits = Limits { ping_interval: Duration::from_millis(5), ..limits() };
    let one = start(ONE, first, (TWO, at_second), limits.clone());
    let two = start(TWO, second, (ONE, at_first), limits);
    one.connected();
    let mut number = 0;
    while one.transport.stats()[0].round_trip.is_none() {
        one.transport.send(TWO, urgent(number)).unwrap();
        assert_eq!(two.message(), urgent(number));
        number += 1;
    }
    assert!(one.transport.stats()[0].round_trip.is_some_and(|wait| wait < PATIENCE));
}
