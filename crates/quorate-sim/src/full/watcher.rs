//! Clients that watch: each keeps one watch open, and resumes it elsewhere when its member is gone.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use quorate_check::{
    etcd::Range,
    watch::{Response, Told, Watch},
};
use quorate_etcd::{Front, backend::ServerError, handle::watch::WatchSession};
use quorate_proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    watch_create_request::FilterType, watch_request::RequestUnion,
};
use quorate_server::Handle;
use tokio_stream::Stream;

use super::{
    call::Alarm,
    plan::{MS, Plan, SECOND},
    wire,
};
use crate::{
    dice::Dice,
    world::{Conviction, Judge},
};

/// What the client says on its stream.
#[derive(Clone, Debug, Default)]
struct Requests(Arc<Mutex<VecDeque<WatchRequest>>>);

impl Requests {
    fn say(&self, union: RequestUnion) {
        let request = WatchRequest { request_union: Some(union) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
    }
}

impl Stream for Requests {
    type Item = Result<WatchRequest, ServerError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            Some(request) => Poll::Ready(Some(Ok(request))),
            // Whoever says something polls the stream.
            None => Poll::Pending,
        }
    }
}

/// One client.
#[derive(Debug)]
pub(super) struct Watcher {
    dice: Dice,
    members: usize,
    pub(super) member: usize,
    session: Option<(Requests, Box<WatchSession<Handle, Requests>>)>,
    pub(super) alarm: Arc<Alarm>,
    /// What this part of the watch asked for and was told.
    current: Watch,
    /// Whether the server has said that the watch is there.
    created: bool,
    /// The first revision that it has not been told everything of.
    pub(super) next_revision: i64,
    /// The newest revision that it was told something of, until a judge has looked.
    pub(super) told: Option<i64>,
    /// When it opens a stream again, or says something on it.
    pub(super) next_at: u64,
}

impl Watcher {
    pub(super) fn new(number: usize, plan: &Plan, mut dice: Dice) -> Self {
        let range = match dice.below(3) {
            0 => Range::all(),
            1 => Range { key: "k".into(), end: Some("l".into()) },
            _ => Range::one("r0"),
        };
        let current = Watch {
            range,
            start_revision: 1,
            // After a compaction the pair before may be gone, and then isn't told.
            prev_kv: !plan.load.compacts && dice.chance(300_000),
            no_put: dice.chance(100_000),
            no_delete: dice.chance(100_000),
            responses: Vec::new(),
            complete_to: None,
        };
        Self {
            dice,
            members: plan.members,
            member: number % plan.members.max(1),
            session: None,
            alarm: Arc::default(),
            current,
            created: false,
            next_revision: 1,
            told: None,
            next_at: 0,
        }
    }

    /// Whether its stream is open.
    pub(super) fn is_open(&self) -> bool {
        self.session.is_some()
    }

    /// Opens a stream at the member in front.
    pub(super) fn open(&mut self, front: &Arc<Front<Handle>>, now: u64) {
        let requests = Requests::default();
        requests.say(RequestUnion::CreateRequest(self.create_request()));
        self.session = Some((requests.clone(), Box::new(WatchSession::new(front, requests))));
        self.current.start_revision = self.next_revision;
        self.created = false;
        self.next_at = now + self.dice.within(SECOND, 5 * SECOND);
    }

    fn create_request(&self) -> WatchCreateRequest {
        let create = wire::range(&self.current.range, None, false);
        let filters = [
            (self.current.no_put, FilterType::Noput),
            (self.current.no_delete, FilterType::Nodelete),
        ];
        let filters = filters.into_iter().filter(|(wanted, _)| *wanted);
        WatchCreateRequest {
            key: create.key,
            range_end: create.range_end,
            start_revision: self.next_revision,
            prev_kv: self.current.prev_kv,
            filters: filters.map(|(_, filter)| filter.into()).collect(),
            ..Default::default()
        }
    }

    /// Asks how far the watch is.
    pub(super) fn ask_for_progress(&mut self, now: u64) {
        self.next_at = now + self.dice.within(SECOND, 5 * SECOND);
        if let Some((requests, _)) = &self.session {
            requests.say(RequestUnion::ProgressRequest(WatchProgressRequest::default()));
        }
    }

    /// The stream is broken off: what it told becomes a watch of its own, to be judged.
    pub(super) fn disconnect(&mut self, now: u64, watches: &mut Vec<Watch>) {
        if self.session.take().is_none() {
            return;
        }
        let next = Watch { responses: Vec::new(), complete_to: None, ..self.current.clone() };
        let told = std::mem::replace(&mut self.current, next);
        if self.created {
            watches.push(told);
        }
        self.member = self.dice.position(self.members);
        self.next_at = now + self.dice.within(MS, 500 * MS);
    }

    /// The run is over: the watch must have been told everything up to this revision.
    pub(super) fn end(&mut self, revision: i64, watches: &mut Vec<Watch>) {
        self.current.complete_to = self.created.then_some(revision);
        self.disconnect(0, watches);
    }

    /// A member whose disk was told to fail may end the stream.
    ///
    /// # Errors
    /// Nobody else may.
    pub(super) fn forgive(
        &mut self,
        polled: Result<(), Conviction>,
        excused: bool,
        watches: &mut Vec<Watch>,
    ) -> Result<(), Conviction> {
        if polled.is_err() && excused {
            self.disconnect(self.next_at, watches);
            return Ok(());
        }
        polled
    }

    /// Takes what the stream has to tell.
    ///
    /// # Errors
    /// The stream ended by itself, or told something that can't be.
    pub(super) fn poll(&mut self, now: u64, watches: &mut Vec<Watch>) -> Result<(), Conviction> {
        loop {
            let Some((_, session)) = &mut self.session else { return Ok(()) };
            let waker = Waker::from(Arc::clone(&self.alarm));
            let mut cx = Context::from_waker(&waker);
            match Pin::new(&mut **session).poll_next(&mut cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Ok(response))) => self.take(&response, now, watches),
                Poll::Ready(ended) => {
                    let ended = ended.map(|response| response.map(drop));
                    let detail = format!("a watch stream ended by itself: {ended:?}");
                    return Err(Conviction::new(Judge::Contract, detail));
                }
            }
        }
    }

    fn take(&mut self, response: &WatchResponse, now: u64, watches: &mut Vec<Watch>) {
        if response.canceled {
            // Its history is gone: what comes after the compaction is another watch.
            let compacted = response.compact_revision;
            self.disconnect(now, watches);
            self.next_revision = self.next_revision.max(compacted + 1);
            return;
        }
        if response.created {
            self.created = true;
            return;
        }
        let revision = response.header.map_or(0, |header| header.revision);
        let told = response.events.iter().map(|event| Told {
            event: wire::event(event),
            prev: event.prev_kv.as_ref().map(wire::pair),
        });
        let progress = response.events.is_empty();
        let last = response.events.last().and_then(|event| event.kv.as_ref());
        let known = last.map_or(revision, |pair| pair.mod_revision);
        self.next_revision = self.next_revision.max(known + 1);
        self.told = Some(known);
        self.current.responses.push(Response { revision, progress, events: told.collect() });
    }
}
