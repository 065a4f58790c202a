//! A naive key space and a hub over it, for the tests of watches.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use quorate_proto::{
    etcdserverpb::{WatchCreateRequest, WatchResponse},
    mvccpb::{Event, KeyValue, event::EventType},
};

use super::super::{History, StreamId, WatchHub, WatchLimits, WatchStream};
use crate::{ReadError, RequestError, RevisionEvents};

/// Every revision ever made, in a list.
#[derive(Debug, Default)]
pub(super) struct Past {
    revisions: Vec<Arc<RevisionEvents>>,
    compact_revision: i64,
    /// The most that one read gave, in bytes.
    pub(super) most_read_bytes: Cell<usize>,
}

impl Past {
    /// Events from `from` on, one by one.
    pub(super) fn since(&self, from: i64) -> impl Iterator<Item = &Event> {
        self.revisions
            .iter()
            .filter(move |entry| entry.revision >= from)
            .flat_map(|entry| &entry.events)
    }

    /// The newest event on a key before a revision, whatever was compacted.
    pub(super) fn newest(&self, key: &[u8], before: i64) -> Option<KeyValue> {
        let kvs = self
            .revisions
            .iter()
            .rev()
            .filter(|entry| entry.revision < before)
            .flat_map(|entry| &entry.events);
        let mut of_key = kvs.filter(|event| event.kv.as_ref().unwrap().key == key);
        of_key.next().filter(|event| event.r#type == 0).and_then(|event| event.kv.clone())
    }
}

impl History for Past {
    fn revision(&self) -> i64 {
        self.revisions.last().map_or(1, |last| last.revision)
    }

    fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    fn events(
        &self,
        from: i64,
        revisions_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, ReadError> {
        if from < self.compact_revision {
            return Err(RequestError::Compacted.into());
        }
        let mut bytes = 0;
        let within = |entry: &&Arc<RevisionEvents>| {
            let fits = bytes <= bytes_max;
            bytes += super::super::ring::size_bytes(entry);
            fits
        };
        let later = self.revisions.iter().filter(|entry| entry.revision >= from);
        let run: Vec<_> = later.take(revisions_max).take_while(within).cloned().collect();
        let run_bytes = run.iter().map(|entry| super::super::ring::size_bytes(entry)).sum();
        self.most_read_bytes.set(self.most_read_bytes.get().max(run_bytes));
        Ok(run)
    }

    fn key_before(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, ReadError> {
        Ok(if revision - 1 < self.compact_revision { None } else { self.newest(key, revision) })
    }
}

/// A key space and its hub.
#[derive(Debug)]
pub(super) struct World {
    pub(super) past: Past,
    pub(super) hub: WatchHub,
    pub(super) woken: Vec<StreamId>,
    /// Applied, visible to readers, and not published yet.
    held: Vec<Arc<RevisionEvents>>,
    keys: BTreeMap<Bytes, KeyValue>,
}

impl World {
    pub(super) fn new(limits: WatchLimits) -> Self {
        let hub = WatchHub::new(1, limits);
        let past = Past { compact_revision: -1, ..Past::default() };
        Self { past, hub, woken: Vec::new(), held: Vec::new(), keys: BTreeMap::new() }
    }

    /// One transaction: `Some` puts, `None` deletes. Nothing happens if it changes nothing.
    pub(super) fn write(&mut self, changes: &[(&str, Option<&str>)]) -> i64 {
        let revision = self.apply(changes);
        self.publish();
        revision
    }

    /// Publishes what was applied.
    pub(super) fn publish(&mut self) {
        self.woken.extend(self.hub.publish(&std::mem::take(&mut self.held)));
    }

    /// A transaction that is not published yet.
    pub(super) fn apply(&mut self, changes: &[(&str, Option<&str>)]) -> i64 {
        let revision = self.past.revision() + 1;
        let events: Vec<Event> =
            changes.iter().filter_map(|(key, value)| self.change(revision, key, *value)).collect();
        if !events.is_empty() {
            let entry = Arc::new(RevisionEvents { revision, events });
            self.past.revisions.push(Arc::clone(&entry));
            self.held.push(entry);
        }
        self.past.revision()
    }

    fn change(&mut self, revision: i64, key: &str, value: Option<&str>) -> Option<Event> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let old = self.keys.remove(&key);
        let Some(value) = value else {
            old?;
            let kv = KeyValue { key, mod_revision: revision, ..KeyValue::default() };
            return Some(Event { r#type: EventType::Delete.into(), kv: Some(kv), prev_kv: None });
        };
        let kv = KeyValue {
            key: key.clone(),
            create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(0, |old| old.version) + 1,
            value: Bytes::copy_from_slice(value.as_bytes()),
            lease: 0,
        };
        self.keys.insert(key, kv.clone());
        Some(Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None })
    }

    pub(super) fn put(&mut self, key: &str, value: &str) -> i64 {
        self.write(&[(key, Some(value))])
    }

    /// Puts the same key some times.
    pub(super) fn puts(&mut self, key: &str, times: usize) {
        for _ in 0..times {
            self.put(key, "x");
        }
    }

    pub(super) fn delete(&mut self, key: &str) -> i64 {
        self.write(&[(key, None)])
    }

    pub(super) fn compact(&mut self, revision: i64) {
        self.past.compact_revision = revision;
    }

    /// Pulls and polls once.
    pub(super) fn poll_once(
        &mut self,
        stream: &mut WatchStream,
        budget_bytes: usize,
    ) -> Vec<WatchResponse> {
        stream.pull(&mut self.hub);
        stream.poll(&self.past, budget_bytes).unwrap()
    }

    /// Pulls and polls until nothing is left.
    pub(super) fn drain(&mut self, stream: &mut WatchStream) -> Vec<WatchResponse> {
        let mut all = self.poll_once(stream, usize::MAX);
        while stream.has_more() {
            all.extend(self.poll_once(stream, usize::MAX));
        }
        all
    }

    /// Creates a watcher and gives what came at once.
    pub(super) fn watch(
        &mut self,
        stream: &mut WatchStream,
        request: &WatchCreateRequest,
    ) -> Vec<WatchResponse> {
        stream.create(&mut self.hub, request);
        self.drain(stream)
    }
}

/// A create request for a key or, if `end` is not empty, a range.
pub(super) fn on(key: &str, end: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(end.as_bytes()),
        start_revision,
        ..WatchCreateRequest::default()
    }
}

/// A response in one word: `created 0`, `canceled 0`, `progress -1 @5`, `events 0 @5: +a +b -c`, with `...` for a
/// fragment.
pub(super) fn short(response: &WatchResponse) -> String {
    let id = response.watch_id;
    let revision = response.header.unwrap().revision;
    let event = |event: &Event| {
        let sign = if event.r#type == 0 { '+' } else { '-' };
        format!(" {sign}{}", String::from_utf8_lossy(&event.kv.as_ref().unwrap().key))
    };
    match (response.created, response.canceled) {
        (true, true) => format!("refused {id} {}", response.cancel_reason),
        (true, false) => format!("created {id} @{revision}"),
        (false, true) if response.compact_revision != 0 => {
            format!("compacted {id} @{revision}: {}", response.compact_revision)
        }
        (false, true) => format!("canceled {id} @{revision}"),
        (false, false) if response.events.is_empty() => format!("progress {id} @{revision}"),
        (false, false) => {
            let events: String = response.events.iter().map(event).collect();
            format!(
                "events {id} @{revision}:{events}{}",
                if response.fragment { " ..." } else { "" }
            )
        }
    }
}

/// All responses in short.
pub(super) fn story(responses: &[WatchResponse]) -> Vec<String> {
    responses.iter().map(short).collect()
}
