//! History as many watches read it: once for all of them.
//!
//! A thousand watches of one key get the same events, the same value before them, and, when they have fallen behind
//! together, the same stretch of history. What one of them has read of storage is kept for the others for a while, within
//! a bound of bytes, so that all point to one copy.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use quorate_kv::{ReadError, Reader, RevisionEvents, watch::History};
use quorate_proto::mvccpb::KeyValue;

type Run = Vec<Arc<RevisionEvents>>;

/// What was read last.
#[derive(Debug)]
pub(crate) struct HistoryCache {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    bytes: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The pair that an event at this revision replaced.
    Before(KeyValue, i64),
    /// The revisions from this one on, as they were read with these limits.
    Run(i64, (usize, usize), Run),
}

impl HistoryCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::default() }
    }

    fn find<T>(&self, pick: impl Fn(&What) -> Option<T>) -> Option<T> {
        self.kept.lock().entries.iter().rev().find_map(|entry| pick(&entry.what))
    }

    /// Keeps one more, and as many of the others as there is room for. One that is too large by itself is not kept, and
    /// neither is nothing.
    fn keep(&self, bytes: usize, what: What) {
        if bytes == 0 || bytes > self.bytes_max {
            return;
        }
        let mut kept = self.kept.lock();
        kept.bytes += bytes;
        kept.entries.push_back(Entry { bytes, what });
        while kept.bytes > self.bytes_max {
            let Some(oldest) = kept.entries.pop_front() else { break };
            kept.bytes -= oldest.bytes;
        }
    }

    /// Forgets everything: the state was replaced.
    pub(crate) fn clear(&self) {
        *self.kept.lock() = Kept::default();
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }
}

/// What is kept beside the bytes of a pair, roughly.
const OVERHEAD_BYTES: usize = 160;

/// A reader's history, through the cache.
#[derive(Debug)]
pub(crate) struct CachedHistory<'a> {
    pub(crate) reader: &'a Reader,
    pub(crate) cache: &'a HistoryCache,
}

impl History for CachedHistory<'_> {
    fn revision(&self) -> i64 {
        self.reader.revision()
    }

    fn compact_revision(&self) -> i64 {
        self.reader.compact_revision()
    }

    fn events(
        &self,
        from_revision: i64,
        revisions_max: usize,
        bytes_max: usize,
    ) -> Result<Run, ReadError> {
        let limits = (revisions_max, bytes_max);
        let known = self.cache.find(|what| match what {
            What::Run(from, with, run) if (*from, *with) == (from_revision, limits) => {
                Some(run.clone())
            }
            What::Run(..) | What::Before(..) => None,
        });
        // A run that goes beyond this reader would tell of a state that its caller does not see yet; one that is compacted
        // meanwhile must be refused.
        let known = known.filter(|run| {
            run.last().is_some_and(|last| last.revision <= self.reader.revision())
                && from_revision >= self.reader.compact_revision()
        });
        if let Some(run) = known {
            return Ok(run);
        }
        let run = self.reader.events(from_revision, revisions_max, bytes_max)?;
        let pairs = run.iter().flat_map(|revision| &revision.events);
        let pairs = pairs.filter_map(|event| event.kv.as_ref());
        let bytes = pairs.map(|kv| kv.key.len() + kv.value.len() + OVERHEAD_BYTES).sum();
        self.cache.keep(bytes, What::Run(from_revision, limits, run.clone()));
        Ok(run)
    }

    fn key_before(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, ReadError> {
        let known = self.cache.find(|what| match what {
            What::Before(kv, before) if *before == revision && kv.key == key => Some(kv.clone()),
            What::Before(..) | What::Run(..) => None,
        });
        if known.is_some() && revision > self.reader.compact_revision() {
            return Ok(known);
        }
        let found = self.reader.key_before(key, revision)?;
        if let Some(kv) = &found {
            let bytes = kv.key.len() + kv.value.len() + OVERHEAD_BYTES;
            self.cache.keep(bytes, What::Before(kv.clone(), revision));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_engine::{Durability, MemoryEngine};
    use quorate_kv::{Command, Committed, Store};
    use quorate_proto::etcdserverpb::{CompactionRequest, PutRequest};

    use super::*;

    const VALUE_BYTES: usize = 1000;

    fn apply(store: &mut Store, command: &Command) {
        let index = store.applied().index + 1;
        let bytes = command.encode();
        let entry = Committed { index, term: 1, command: Some(&bytes) };
        store.apply(&[entry], Durability::Relaxed).unwrap();
    }

    fn store(puts: u8) -> Store {
        let mut store = Store::open(Box::new(MemoryEngine::new())).unwrap();
        for number in 0..puts {
            let value = Bytes::from(vec![number; VALUE_BYTES]);
            apply(
                &mut store,
                &Command::Put(PutRequest { key: "a".into(), value, ..Default::default() }),
            );
        }
        store
    }

    #[test]
    fn what_one_has_read_all_the_others_share() {
        let (reader, cache) = (store(5).reader(), HistoryCache::new(1 << 20));
        let history = CachedHistory { reader: &reader, cache: &cache };
        let before = |revision| history.key_before(b"a", revision).unwrap().unwrap().value;
        assert_eq!(before(4).as_ptr(), before(4).as_ptr());
        assert_eq!((before(4)[0], before(5)[0]), (1, 2));
        let run = |from| history.events(from, 10, 1 << 20).unwrap();
        assert!(Arc::ptr_eq(&run(3)[0], &run(3)[0]));
        assert_eq!((run(3).len(), run(4).len()), (4, 3));
        assert_eq!(history.events(3, 2, 1 << 20).unwrap().len(), 2);
    }

    #[test]
    fn it_keeps_no_more_than_its_bytes() {
        let (reader, cache) = (store(20).reader(), HistoryCache::new(5 * VALUE_BYTES));
        let history = CachedHistory { reader: &reader, cache: &cache };
        for revision in 3..=20 {
            history.key_before(b"a", revision).unwrap();
            assert!(cache.bytes() <= 5 * VALUE_BYTES);
        }
        assert!(cache.bytes() > 3 * VALUE_BYTES);
        history.events(2, 100, 1 << 20).unwrap();
        assert!(cache.bytes() <= 5 * VALUE_BYTES, "too large to be kept");
        cache.clear();
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn what_is_compacted_is_gone_for_all() {
        let (mut store, cache) = (store(5), HistoryCache::new(1 << 20));
        let reader = store.reader();
        let history = CachedHistory { reader: &reader, cache: &cache };
        history.key_before(b"a", 4).unwrap().unwrap();
        history.events(3, 10, 1 << 20).unwrap();
        apply(&mut store, &Command::Compaction(CompactionRequest { revision: 4, physical: false }));
        let reader = store.reader();
        let history = CachedHistory { reader: &reader, cache: &cache };
        assert_eq!(history.key_before(b"a", 4).unwrap(), None);
        assert!(history.events(3, 10, 1 << 20).is_err());
    }

    #[test]
    fn a_reader_sees_nothing_that_is_newer() {
        let (mut store, cache) = (store(3), HistoryCache::new(1 << 20));
        let old = store.reader();
        apply(&mut store, &Command::Put(PutRequest { key: "b".into(), ..Default::default() }));
        let new = store.reader();
        CachedHistory { reader: &new, cache: &cache }.events(2, 10, 1 << 20).unwrap();
        let seen = CachedHistory { reader: &old, cache: &cache }.events(2, 10, 1 << 20).unwrap();
        assert_eq!(seen.len(), 3);
        let seen = CachedHistory { reader: &new, cache: &cache }.events(5, 10, 1 << 20).unwrap();
        assert_eq!((seen.len(), seen[0].revision), (1, 5));
    }
}
