//! One client stream's watchers, and its requests.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use quorate_proto::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};

use super::{
    NO_WATCH_ID, StreamId, WatchHub, WatchLimits,
    batch::header,
    range_index::{KeySet, RangeIndex},
    watcher::{Position, Watcher},
};
use crate::RevisionEvents;

/// Cancel reason for a negative start revision.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// Cancel reason for a range that holds no key.
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
/// Cancel reason for an id the stream already uses.
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// Cancel reason beyond [`WatchLimits::stream_watchers_max`]; etcd has no such limit.
const TOO_MANY_WATCHERS: &str = "etcdserver: too many watchers on the watch stream";

/// The watchers of one client stream; see the [module](super) for how it is driven.
///
/// Invariants:
/// - every watcher in step has been handed all it wants below `pulled`, except what lies in `feed`;
/// - `behind` holds exactly the watchers that are `Position::Behind`, by their cursor;
/// - a watcher that is not `Position::Ended` is in `matching` and registered with the hub.
#[derive(Debug)]
pub struct WatchStream {
    id: StreamId,
    pub(super) limits: WatchLimits,
    pub(super) watchers: BTreeMap<i64, Watcher>,
    pub(super) matching: RangeIndex<i64>,
    next_watch_id: i64,
    /// The hub's revision at the last pull.
    pub(super) current: i64,
    /// First revision not yet taken from the hub.
    pub(super) pulled: i64,
    /// Taken from the hub, for watchers in step.
    pub(super) feed: VecDeque<Arc<RevisionEvents>>,
    /// Taken from the ring, for watchers behind.
    pub(super) recent: Vec<Arc<RevisionEvents>>,
    pub(super) behind: BTreeSet<(i64, i64)>,
    /// A watcher that has read history below this revision is in step.
    pub(super) in_step_from: i64,
    pub(super) answers: VecDeque<WatchResponse>,
    pub(super) progress_requested: bool,
    /// Watchers that are due for a periodic report.
    pub(super) reports_due: BTreeSet<i64>,
    /// Key sets the hub still has to forget.
    retired: Vec<KeySet>,
}

impl WatchStream {
    /// An empty stream, registered with a hub that stands at `current`.
    pub(super) fn new(id: StreamId, limits: WatchLimits, current: i64) -> Self {
        Self {
            id,
            limits,
            watchers: BTreeMap::new(),
            matching: RangeIndex::default(),
            next_watch_id: 0,
            current,
            pulled: current + 1,
            feed: VecDeque::new(),
            recent: Vec::new(),
            behind: BTreeSet::new(),
            in_step_from: current + 1,
            answers: VecDeque::new(),
            progress_requested: false,
            reports_due: BTreeSet::new(),
            retired: Vec::new(),
        }
    }

    /// The name under which the hub wakes this stream.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Number of watchers, those ended by compaction included.
    pub fn watchers(&self) -> usize {
        self.watchers.len()
    }

    /// Whether so many answers wait to be sent that no further request may be read.
    pub fn is_congested(&self) -> bool {
        self.answers.len() >= self.limits.stream_answers_max
    }

    /// Takes one request. Its answer comes with the next [`poll`](Self::poll). A message without content is ignored.
    pub fn handle(&mut self, hub: &mut WatchHub, request: &WatchRequest) {
        match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(hub, create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(hub, cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.request_progress(hub),
            None => {}
        }
    }

    /// Adds a watcher, or answers why not: a negative start, an empty range, an id in use.
    pub fn create(&mut self, hub: &mut WatchHub, request: &WatchCreateRequest) {
        match self.admit(hub, request) {
            Ok(id) => self.answers.push_back(created(hub, id)),
            Err(reason) => self.refuse(hub, reason),
        }
    }

    /// Answers a create request with a refusal, such as of a caller without permission. The stream lives on.
    pub fn refuse(&mut self, hub: &WatchHub, reason: &str) {
        let refusal = WatchResponse {
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..created(hub, NO_WATCH_ID)
        };
        self.answers.push_back(refusal);
    }

    /// Ends a watcher at the client's wish. An unknown id gets no answer.
    pub fn cancel(&mut self, hub: &mut WatchHub, watch_id: i64) {
        let Some(watcher) = self.watchers.remove(&watch_id) else { return };
        self.retire(watch_id, &watcher);
        self.unregister(hub);
        let canceled = WatchResponse { created: false, canceled: true, ..created(hub, watch_id) };
        self.answers.push_back(canceled);
    }

    /// Asks for a progress answer for the whole stream. Silently refused while a watcher is behind, starts in the future,
    /// or if there is none.
    pub fn request_progress(&mut self, hub: &WatchHub) {
        self.progress_requested |= self.may_report_all(hub.revision());
    }

    /// To be called at each interval of periodic progress: every watcher that asked for reports and had no event since
    /// the last call gets one with the next [`poll`](Self::poll), if it is in step.
    pub fn interval_elapsed(&mut self) {
        for (id, watcher) in self.watchers.iter_mut().filter(|(_, watcher)| watcher.progress_notify)
        {
            if watcher.quiet {
                self.reports_due.insert(*id);
            }
            watcher.quiet = true;
        }
    }

    /// Whether every living watcher may be told that it has everything up to `revision`, and there is one.
    pub(super) fn may_report_all(&self, revision: i64) -> bool {
        let mut living =
            self.watchers.values().filter(|watcher| watcher.position != Position::Ended).peekable();
        living.peek().is_some() && living.all(|watcher| watcher.may_report(revision))
    }

    /// Registers a watcher and picks its id.
    fn admit(
        &mut self,
        hub: &mut WatchHub,
        request: &WatchCreateRequest,
    ) -> Result<i64, &'static str> {
        if request.start_revision < 0 {
            return Err(COMPACTED);
        }
        let watcher = Watcher::new(request, hub.revision()).ok_or(EMPTY_RANGE)?;
        if self.watchers.len() >= self.limits.stream_watchers_max {
            return Err(TOO_MANY_WATCHERS);
        }
        let id = self.pick_id(request.watch_id).ok_or(DUPLICATE_ID)?;
        hub.register(&watcher.keys, self.id);
        self.matching.insert(&watcher.keys, id);
        self.in_step_from = self.in_step_from.max(hub.revision() + 1);
        if watcher.position == Position::Behind {
            self.behind.insert((watcher.next, id));
        }
        self.watchers.insert(id, watcher);
        Ok(id)
    }

    /// The requested id, or the next free one for 0. `None` if it is taken.
    fn pick_id(&mut self, requested: i64) -> Option<i64> {
        if requested != 0 {
            return (!self.watchers.contains_key(&requested)).then_some(requested);
        }
        while self.watchers.contains_key(&self.next_watch_id) {
            self.next_watch_id += 1;
        }
        self.next_watch_id += 1;
        Some(self.next_watch_id - 1)
    }

    /// Takes a watcher out of everything but `watchers`. The hub forgets it with the next [`unregister`](Self::unregister).
    pub(super) fn retire(&mut self, id: i64, watcher: &Watcher) {
        self.behind.remove(&(watcher.next, id));
        self.reports_due.remove(&id);
        if watcher.position != Position::Ended {
            self.matching.remove(&watcher.keys, id);
            self.retired.push(watcher.keys.clone());
        }
    }

    /// Takes all watchers out.
    pub(super) fn retire_all(&mut self) {
        while let Some((id, watcher)) = self.watchers.pop_first() {
            self.retire(id, &watcher);
        }
    }

    /// Lets the hub forget what was retired.
    pub(super) fn unregister(&mut self, hub: &mut WatchHub) {
        self.retired.drain(..).for_each(|keys| hub.unregister(&keys, self.id));
    }
}

/// The answer to a create request that was granted.
fn created(hub: &WatchHub, watch_id: i64) -> WatchResponse {
    WatchResponse {
        header: Some(header(hub.revision())),
        watch_id,
        created: true,
        ..WatchResponse::default()
    }
}
