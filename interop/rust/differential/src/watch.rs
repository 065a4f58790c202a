//! Watch streams on one server: what each watcher got, in a form that two servers must agree on.
//!
//! How events are cut into responses is the server's business and is put aside; that a revision is never cut, that
//! revisions ascend and that the header is not behind the events is checked here, on each server by itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use quorate_proto::{etcdserverpb as pb, grpc::watch_client::WatchClient, mvccpb};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

/// One thing that happened to a watcher.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Created { revision: i64 },
    Refused { revision: i64, reason: String },
    Event(mvccpb::Event),
    Progress { revision: i64 },
    Canceled { revision: i64, compact_revision: i64, reason: String },
    Broken(String),
}

/// The lane of progress answers for a whole stream: etcd does not order them with refusals, which have id -1 too.
const PROGRESS_LANE: i64 = i64::MIN;

/// What happened on a stream.
#[derive(Debug, Default)]
pub struct Lanes {
    /// By watch id.
    pub by_id: BTreeMap<i64, Lane>,
    /// Answers to create and cancel requests.
    pub answers: u64,
}

impl Lanes {
    fn lane(&mut self, id: i64) -> &mut Lane {
        self.by_id.entry(id).or_default()
    }

    fn take(&mut self, response: pb::WatchResponse) {
        let answers_request =
            response.created || response.canceled && response.compact_revision == 0;
        self.answers += u64::from(answers_request);
        let is_progress = response.watch_id == -1 && !response.created && !response.canceled;
        self.lane(if is_progress { PROGRESS_LANE } else { response.watch_id }).take(response);
    }

    fn broken(&mut self, what: String) {
        self.lane(-1).items.push(Item::Broken(what));
    }
}

/// What happened to one watcher since the last comparison.
#[derive(Debug, Default)]
pub struct Lane {
    pub items: Vec<Item>,
    last_revision: i64,
    in_fragment: bool,
}

impl Lane {
    fn broken(&mut self, what: &str, response: &pb::WatchResponse) {
        let revisions: Vec<i64> = response
            .events
            .iter()
            .filter_map(|event| event.kv.as_ref())
            .map(|kv| kv.mod_revision)
            .collect();
        let header = response.header.as_ref().map(|header| header.revision);
        let last = self.last_revision;
        self.items.push(Item::Broken(format!(
            "{what}: header {header:?}, events {revisions:?}, before {last}"
        )));
    }

    /// Notes a response, and what is wrong with it.
    fn take(&mut self, response: pb::WatchResponse) {
        let revision = response.header.as_ref().map_or(-1, |header| header.revision);
        let mod_revision =
            |event: &mvccpb::Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        if let Some((first, last)) = response.events.first().zip(response.events.last()) {
            if mod_revision(first) < self.last_revision + i64::from(!self.in_fragment) {
                self.broken("a revision comes twice or too late", &response);
            }
            if mod_revision(last) > revision {
                self.broken("the header is behind the events", &response);
            }
            if !response.events.is_sorted_by_key(mod_revision) {
                self.broken("out of order", &response);
            }
            self.last_revision = mod_revision(last);
            self.in_fragment = response.fragment;
        }
        let empty = response.events.is_empty();
        self.items.extend(response.events.into_iter().map(Item::Event));
        match (response.created, response.canceled) {
            (true, true) => {
                self.items.push(Item::Refused { revision, reason: response.cancel_reason })
            }
            (true, false) => {
                self.last_revision = 0;
                self.items.push(Item::Created { revision });
            }
            (false, true) => self.items.push(Item::Canceled {
                revision,
                compact_revision: response.compact_revision,
                reason: response.cancel_reason,
            }),
            (false, false) if empty => self.items.push(Item::Progress { revision }),
            (false, false) => {}
        }
    }
}

/// One watch stream.
#[derive(Debug)]
pub struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    lanes: Arc<Mutex<Lanes>>,
    reading: JoinHandle<()>,
}

impl Stream {
    /// Opens a stream on one member. etcd answers nothing, headers included, before the first request.
    pub fn open(channel: &Channel) -> Self {
        let (requests, outgoing) = mpsc::channel(64);
        let lanes = Arc::new(Mutex::new(Lanes::default()));
        let reading = tokio::spawn(read(channel.clone(), outgoing, Arc::clone(&lanes)));
        Self { requests, lanes, reading }
    }

    /// Sends a request.
    pub async fn send(&self, request: pb::watch_request::RequestUnion) -> Result<()> {
        let request = pb::WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.context("the watch stream has ended")
    }

    /// Looks at what has happened.
    pub fn look<T>(&self, with: impl FnOnce(&mut Lanes) -> T) -> T {
        with(&mut self.lanes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Takes in everything that comes, until the stream ends, which it should not.
async fn read(
    channel: Channel,
    outgoing: mpsc::Receiver<pb::WatchRequest>,
    lanes: Arc<Mutex<Lanes>>,
) {
    let lanes = || lanes.lock().unwrap_or_else(PoisonError::into_inner);
    let broken =
        |status: Status| format!("the stream broke: {:?} {:?}", status.code(), status.message());
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut responses = match client.watch(ReceiverStream::new(outgoing)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return lanes().broken(broken(status)),
    };
    loop {
        match responses.message().await {
            Ok(Some(response)) => lanes().take(response),
            Ok(None) => return lanes().broken("the stream ended".to_owned()),
            Err(status) => return lanes().broken(broken(status)),
        }
    }
}
