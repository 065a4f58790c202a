//! Events of one poll, collected per watcher and turned into responses.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message;
use quorate_proto::{
    etcdserverpb::{ResponseHeader, WatchResponse},
    mvccpb::{Event, event::EventType},
};

use super::{CATCH_UP_REVISIONS_MAX, History, WatchLimits, watcher::Watcher};
use crate::{ReadError, RevisionEvents};

/// A header with nothing but a revision.
pub(super) fn header(revision: i64) -> ResponseHeader {
    ResponseHeader { revision, ..ResponseHeader::default() }
}

/// Events of one watcher that go into one response.
#[derive(Debug, Default)]
struct Batch {
    events: Vec<Event>,
    bytes: usize,
    revisions: usize,
    last_revision: i64,
}

impl Batch {
    /// Whether a further revision must wait for the next response.
    fn is_full(&self, limits: &WatchLimits) -> bool {
        self.revisions >= CATCH_UP_REVISIONS_MAX || self.bytes >= limits.response_bytes_max
    }
}

/// Responses in the making.
#[derive(Debug)]
pub(super) struct Responses<'a, H: ?Sized> {
    history: &'a H,
    limits: WatchLimits,
    open: BTreeMap<i64, Batch>,
    done: Vec<WatchResponse>,
    /// Rough size of all events taken in.
    pub(super) bytes: usize,
}

impl<'a, H: History + ?Sized> Responses<'a, H> {
    /// Starts with answers that go out first.
    pub(super) fn new(
        history: &'a H,
        limits: WatchLimits,
        answers: impl IntoIterator<Item = WatchResponse>,
    ) -> Self {
        Self {
            history,
            limits,
            open: BTreeMap::new(),
            done: answers.into_iter().collect(),
            bytes: 0,
        }
    }

    /// Adds what `watcher` gets of one revision; `matching` are positions in its events.
    ///
    /// # Errors
    /// The history's, while reading previous values.
    pub(super) fn add(
        &mut self,
        id: i64,
        watcher: &mut Watcher,
        revision: &Arc<RevisionEvents>,
        matching: &[usize],
    ) -> Result<(), ReadError> {
        let wanted = matching
            .iter()
            .filter_map(|at| revision.events.get(*at))
            .filter(|event| watcher.wants(event));
        let mut events: Vec<Event> = wanted.cloned().collect();
        if events.is_empty() {
            return Ok(());
        }
        if watcher.prev_kv {
            events.iter_mut().try_for_each(|event| self.fill_prev_kv(event))?;
        }
        if self.open.get(&id).is_some_and(|batch| batch.is_full(&self.limits)) {
            self.close(id, watcher.fragment);
        }
        let bytes: usize = events.iter().map(Message::encoded_len).sum();
        self.bytes += bytes;
        watcher.quiet = false;
        let batch = self.open.entry(id).or_default();
        batch.events.append(&mut events);
        batch.bytes += bytes;
        batch.revisions += 1;
        batch.last_revision = revision.revision;
        Ok(())
    }

    /// Adds a finished response behind everything added so far, events of all watchers included.
    pub(super) fn push(&mut self, response: WatchResponse, watchers: &BTreeMap<i64, Watcher>) {
        self.close_all(watchers);
        self.done.push(response);
    }

    /// Ends every open batch.
    pub(super) fn close_all(&mut self, watchers: &BTreeMap<i64, Watcher>) {
        while let Some((id, batch)) = self.open.pop_first() {
            let fragment = watchers.get(&id).is_some_and(|watcher| watcher.fragment);
            self.finish(id, batch, fragment);
        }
    }

    /// All responses, in order.
    pub(super) fn into_vec(mut self, watchers: &BTreeMap<i64, Watcher>) -> Vec<WatchResponse> {
        self.close_all(watchers);
        self.done
    }

    fn close(&mut self, id: i64, fragment: bool) {
        if let Some(batch) = self.open.remove(&id) {
            self.finish(id, batch, fragment);
        }
    }

    fn finish(&mut self, watch_id: i64, batch: Batch, fragment: bool) {
        let whole = WatchResponse {
            header: Some(header(batch.last_revision)),
            watch_id,
            events: batch.events,
            ..WatchResponse::default()
        };
        if fragment && whole.encoded_len() >= self.limits.fragment_bytes {
            self.done.extend(fragments(whole, self.limits.fragment_bytes));
        } else {
            self.done.push(whole);
        }
    }

    /// Reads the value an event replaced, unless it created its key. The history may no longer have it.
    fn fill_prev_kv(&self, event: &mut Event) -> Result<(), ReadError> {
        let Some(kv) = event.kv.as_ref() else { return Ok(()) };
        let is_put = event.r#type != i32::from(EventType::Delete);
        if is_put && kv.create_revision == kv.mod_revision {
            return Ok(());
        }
        event.prev_kv = self.history.key_before(&kv.key, kv.mod_revision)?;
        Ok(())
    }
}

/// Divides a response into pieces below `bytes_max` (a single event may be above), all but the last marked.
fn fragments(whole: WatchResponse, bytes_max: usize) -> Vec<WatchResponse> {
    let empty = WatchResponse { events: Vec::new(), fragment: true, ..whole.clone() };
    let base = empty.encoded_len();
    let mut pieces = Vec::new();
    let mut piece = empty.clone();
    let mut bytes = base;
    for event in whole.events {
        let length = event.encoded_len();
        let framed = length + 1 + prost::length_delimiter_len(length);
        if !piece.events.is_empty() && bytes + framed >= bytes_max {
            pieces.push(std::mem::replace(&mut piece, empty.clone()));
            bytes = base;
        }
        bytes += framed;
        piece.events.push(event);
    }
    piece.fragment = false;
    pieces.push(piece);
    pieces
}
