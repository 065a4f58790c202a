//! Watch streams.

use std::time::Duration;

use quorate_etcd::Settings;
use quorate_kv::{Command, watch::WatchLimits};
use quorate_proto::{
    etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest,
        WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        request_op::Request as Op, watch_create_request::FilterType, watch_request::RequestUnion,
    },
    grpc::{kv_client::KvClient, watch_client::WatchClient},
    mvccpb::event::EventType,
};
use tokio::sync::mpsc::Sender;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use crate::server::{Home, IDENTITY, TERM, assert_refused};

/// One watch stream, from the client's side.
struct Stream {
    requests: Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Stream {
    async fn open(home: &Home) -> Self {
        Self::open_with(home, false).await.unwrap()
    }

    async fn open_with(home: &Home, needs_leader: bool) -> Result<Self, Status> {
        let (requests, receiver) = tokio::sync::mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(receiver));
        if needs_leader {
            request.metadata_mut().insert("hasleader", "true".parse().unwrap());
        }
        let mut client = WatchClient::new(home.channel().await);
        let responses = client.watch(request).await?.into_inner();
        Ok(Self { requests, responses })
    }

    async fn send(&self, request: RequestUnion) {
        self.requests.send(WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    async fn next(&mut self) -> WatchResponse {
        self.responses.message().await.unwrap().unwrap()
    }

    /// Creates a watch and takes its `created`.
    async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.send(RequestUnion::CreateRequest(request)).await;
        let created = self.next().await;
        assert!(created.created && created.events.is_empty(), "{created:?}");
        created
    }
}

fn prefix_a() -> WatchCreateRequest {
    WatchCreateRequest { key: "a".into(), range_end: "b".into(), ..WatchCreateRequest::default() }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    }
}

async fn kv(home: &Home) -> KvClient<Channel> {
    KvClient::new(home.channel().await)
}

/// Revision, kind, key and previous value of each event.
fn events(response: &WatchResponse) -> Vec<(i64, EventType, String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let tell = |event: &quorate_proto::mvccpb::Event| {
        let kv = event.kv.as_ref().unwrap();
        let before = event.prev_kv.as_ref().map(|kv| text(&kv.value));
        (kv.mod_revision, event.r#type(), text(&kv.key), before)
    };
    response.events.iter().map(tell).collect()
}

#[tokio::test]
async fn events_follow_created_in_order_and_with_what_was_before() {
    let home = Home::open();
    let mut kv = kv(&home).await;
    kv.put(put("a1", "old")).await.unwrap();
    let mut stream = Stream::open(&home).await;
    let created = stream.create(WatchCreateRequest { prev_kv: true, ..prefix_a() }).await;
    let header = created.header.unwrap();
    assert_eq!((created.watch_id, header.revision), (0, 2));
    assert_eq!((header.cluster_id, header.raft_term), (IDENTITY.cluster_id, TERM));
    kv.put(put("c", "unwatched")).await.unwrap();
    kv.put(put("a1", "new")).await.unwrap();
    let delete = DeleteRangeRequest { key: "a1".into(), ..DeleteRangeRequest::default() };
    kv.delete_range(delete).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(events(&stream.next().await));
    }
    let expected = [
        (4, EventType::Put, "a1".to_owned(), Some("old".to_owned())),
        (5, EventType::Delete, "a1".to_owned(), Some("new".to_owned())),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn history_is_told_first_and_a_cancel_is_answered_once() {
    let home = Home::open();
    let mut kv = kv(&home).await;
    for value in ["1", "2", "3"] {
        kv.put(put("a", value)).await.unwrap();
    }
    let mut stream = Stream::open(&home).await;
    let from_3 = WatchCreateRequest { start_revision: 3, watch_id: 7, ..prefix_a() };
    assert_eq!(stream.create(from_3.clone()).await.watch_id, 7);
    let told = events(&stream.next().await);
    assert_eq!(told.iter().map(|event| event.0).collect::<Vec<_>>(), [3, 4]);
    let twice = stream.create(from_3).await;
    assert_eq!((twice.canceled, twice.watch_id), (true, -1));
    assert_eq!(twice.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    for watch_id in [99, 7] {
        stream.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })).await;
    }
    let canceled = stream.next().await;
    assert_eq!((canceled.watch_id, canceled.canceled, canceled.created), (7, true, false));
}

#[tokio::test]
async fn a_compacted_start_is_created_and_then_canceled() {
    let home = Home::open();
    let mut kv = kv(&home).await;
    for value in ["1", "2", "3"] {
        kv.put(put("a", value)).await.unwrap();
    }
    kv.compact(CompactionRequest { revision: 4, physical: false }).await.unwrap();
    let mut stream = Stream::open(&home).await;
    let created = stream.create(WatchCreateRequest { start_revision: 2, ..prefix_a() }).await;
    assert!(!created.canceled && created.compact_revision == 0);
    let ended = stream.next().await;
    assert_eq!((ended.canceled, ended.compact_revision, ended.watch_id), (true, 4, 0));
    let header = ended.header.unwrap();
    assert_eq!((header.revision, header.member_id), (0, IDENTITY.member_id));
    assert_eq!(ended.cancel_reason, "");
    let negative = stream.create(WatchCreateRequest { start_revision: -1, ..prefix_a() }).await;
    assert_eq!((negative.canceled, negative.watch_id), (true, -1));
    let reason = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(negative.cancel_reason, reason);
    let empty = WatchCreateRequest { key: "b".into(), range_end: "a".into(), ..prefix_a() };
    assert_eq!(stream.create(empty).await.cancel_reason, "mvcc: watcher range is empty");
}

#[tokio::test]
async fn progress_comes_on_request_and_after_the_events() {
    let home = Home::open();
    let mut kv = kv(&home).await;
    let mut stream = Stream::open(&home).await;
    stream.create(prefix_a()).await;
    kv.put(put("a", "1")).await.unwrap();
    kv.put(put("c", "unwatched")).await.unwrap();
    stream.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    let told = stream.next().await;
    assert_eq!(told.events.len(), 1);
    let progress = stream.next().await;
    assert_eq!((progress.watch_id, progress.events.len()), (-1, 0));
    assert_eq!(progress.header.unwrap().revision, 3);
}

#[tokio::test]
async fn an_idle_watch_that_asked_for_it_is_told_how_far_it_is() {
    let interval = Duration::from_millis(100);
    let settings = Settings { watch_progress_notify_interval: interval, ..Settings::default() };
    let home = Home::with(settings, WatchLimits::default());
    let mut kv = kv(&home).await;
    let mut stream = Stream::open(&home).await;
    stream.create(prefix_a()).await;
    let asked = stream.create(WatchCreateRequest { progress_notify: true, ..prefix_a() }).await;
    kv.put(put("c", "unwatched")).await.unwrap();
    for _ in 0..2 {
        let progress = stream.next().await;
        assert_eq!((progress.watch_id, progress.events.len()), (asked.watch_id, 0));
        assert_eq!(progress.header.unwrap().revision, 2);
    }
}

#[tokio::test]
async fn a_large_revision_is_divided_only_for_who_asked() {
    let limits = WatchLimits { fragment_bytes: 4096, ..WatchLimits::default() };
    let home = Home::with(Settings::default(), limits);
    let mut kv = kv(&home).await;
    let mut whole = Stream::open(&home).await;
    whole.create(prefix_a()).await;
    let mut divided = Stream::open(&home).await;
    divided.create(WatchCreateRequest { fragment: true, ..prefix_a() }).await;
    let value = "v".repeat(1000);
    let op = |number: usize| RequestOp {
        request: Some(Op::RequestPut(put(&format!("a{number:02}"), &value))),
    };
    let txn = TxnRequest { success: (0..20).map(op).collect(), ..TxnRequest::default() };
    kv.txn(txn).await.unwrap();
    let at_once = whole.next().await;
    assert_eq!((at_once.events.len(), at_once.fragment), (20, false));
    let mut parts = vec![divided.next().await];
    while parts.last().unwrap().fragment {
        parts.push(divided.next().await);
    }
    assert!(parts.len() >= 5, "{} parts", parts.len());
    let joined: Vec<_> = parts.into_iter().flat_map(|part| part.events).collect();
    assert_eq!(joined, at_once.events);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_and_misses_nothing() {
    let limits = WatchLimits { ring_bytes_max: 256 * 1024, ..WatchLimits::default() };
    let home = Home::with(Settings::default(), limits);
    let mut kv = kv(&home).await;
    let mut slow = Stream::open(&home).await;
    slow.create(prefix_a()).await;
    let mut quick = Stream::open(&home).await;
    quick.create(prefix_a()).await;
    let value = "v".repeat(64 * 1024);
    let last = 101;
    for _ in 2..=last {
        kv.put(put("a", &value)).await.unwrap();
    }
    for stream in [&mut quick, &mut slow] {
        let mut expected = 2;
        while expected <= last {
            for (revision, ..) in events(&stream.next().await) {
                assert_eq!(revision, expected);
                expected += 1;
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_has_no_more_requests_keeps_its_watches() {
    let home = Home::open();
    let mut kv = kv(&home).await;
    let mut stream = Stream::open(&home).await;
    stream.create(prefix_a()).await;
    let Stream { requests, mut responses } = stream;
    drop(requests);
    kv.put(put("a", "1")).await.unwrap();
    let told = responses.message().await.unwrap().unwrap();
    assert_eq!(events(&told)[0].0, 2);
}

#[tokio::test]
async fn a_stream_that_wants_a_leader_ends_without_one() {
    let settings = Settings { election_timeout: Duration::from_millis(20), ..Settings::default() };
    let home = Home::with(settings, WatchLimits::default());
    let mut wants = Stream::open_with(&home, true).await.unwrap();
    wants.create(prefix_a()).await;
    let mut patient = Stream::open(&home).await;
    patient.create(prefix_a()).await;
    home.server.set_leader(false);
    let no_leader = "etcdserver: no leader";
    assert_refused(wants.responses.message().await, Code::Unavailable, no_leader);
    assert_refused(Stream::open_with(&home, true).await.map(|_| ()), Code::Unavailable, no_leader);
    home.server.set_leader(true);
    kv(&home).await.put(put("a", "1")).await.unwrap();
    assert_eq!(patient.next().await.events.len(), 1);
}

#[tokio::test]
async fn a_stream_that_is_gone_is_forgotten() {
    let home = Home::open();
    let stats = || quorate_etcd::backend::Backend::watches(&home.server).stats();
    let mut stream = Stream::open(&home).await;
    stream.create(prefix_a()).await;
    assert_eq!((stats().streams, stats().watchers), (1, 1));
    drop(stream);
    // The server hears of it when the connection's reset arrives; another call on the way waits for nothing else.
    while stats().streams > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stats().watchers, 0);
}

#[tokio::test]
async fn many_watches_see_every_change_of_many_writers_once() {
    let home = Home::open();
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = Stream::open(&home).await;
        stream.create(prefix_a()).await;
        streams.push(stream);
    }
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..4 {
        let mut kv = kv(&home).await;
        writers.spawn(async move {
            for _ in 0..200 {
                kv.put(put(&format!("a{number}"), "v")).await.unwrap();
            }
        });
    }
    for stream in &mut streams {
        let mut expected = 2;
        while expected < 802 {
            for (revision, ..) in events(&stream.next().await) {
                assert_eq!(revision, expected);
                expected += 1;
            }
        }
    }
    writers.join_all().await;
}

#[tokio::test]
async fn an_open_watch_does_not_keep_the_server_from_stopping() {
    let home = Home::open();
    let mut stream = Stream::open(&home).await;
    stream.create(prefix_a()).await;
    let Home { server, running, .. } = home;
    tokio::task::spawn_blocking(|| running.stop()).await.unwrap();
    assert!(stream.responses.message().await.is_err());
    let stats = quorate_etcd::backend::Backend::watches(&server).stats();
    assert_eq!((stats.streams, stats.watchers), (0, 0));
}

/// A change lands between the pull and the end of a poll that has nothing to say: its wake-up must not be forgotten, since the hub
/// names a stream only once until it pulls.
#[tokio::test]
async fn a_change_in_the_middle_of_a_fruitless_poll_is_told() {
    let home = Home::open();
    let put = PutRequest { key: "k".into(), value: "1".into(), ..PutRequest::default() };
    home.server.apply(&Command::Put(put.clone())).unwrap();
    let mut stream = Stream::open(&home).await;
    let no_puts = vec![FilterType::Noput.into()];
    let request =
        WatchCreateRequest { key: "k".into(), filters: no_puts, ..WatchCreateRequest::default() };
    stream.create(request).await;
    let delete = DeleteRangeRequest { key: "k".into(), ..DeleteRangeRequest::default() };
    home.server.apply_after_next_read(Command::DeleteRange(delete));
    home.server.apply(&Command::Put(put)).unwrap();
    let told = tokio::time::timeout(Duration::from_secs(10), stream.next()).await;
    let events = told.expect("the watch is silent").events;
    assert_eq!(events[0].r#type(), EventType::Delete);
}
