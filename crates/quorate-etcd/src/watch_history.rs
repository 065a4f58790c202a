//! History as many watches read it: once for all of them.
//!
//! A thousand watches of one key get the same events, the same value before them, and, when they have fallen behind
//! together, the same stretch of history. What one of them has read of storage is kept for the others for a while, within
//! a bound of bytes, so that all point to one copy.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
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

/// Invariant: `order` names each entry once, the oldest first, and `bytes` is the sum of theirs.
#[derive(Debug, Default)]
struct Kept {
    /// By revision and key, the pair that an event replaced.
    before: BTreeMap<i64, BTreeMap<Bytes, KeyValue>>,
    /// By first revision, and the limits that they were read with.
    runs: BTreeMap<Stretch, Run>,
    order: VecDeque<(usize, Name)>,
    bytes: usize,
}

/// The first revision, and how many revisions and bytes of them were asked for.
type Stretch = (i64, usize, usize);

/// What an entry is found by.
#[derive(Debug)]
enum Name {
    Before(i64, Bytes),
    Run(Stretch),
}

impl HistoryCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::default() }
    }

    fn run(&self, stretch: Stretch) -> Option<Run> {
        self.kept.lock().runs.get(&stretch).cloned()
    }

    fn before(&self, revision: i64, key: &[u8]) -> Option<KeyValue> {
        self.kept.lock().before.get(&revision)?.get(key).cloned()
    }

    /// Whether something of that size is kept at all: nothing is not, and neither is what is too large by itself.
    fn has_room(&self, bytes: usize) -> bool {
        bytes > 0 && bytes <= self.bytes_max
    }

    fn keep_run(&self, bytes: usize, stretch: Stretch, run: &Run) {
        if !self.has_room(bytes) {
            return;
        }
        let mut kept = self.kept.lock();
        // Another one may have read the same meanwhile.
        if kept.runs.insert(stretch, run.clone()).is_none() {
            kept.note(bytes, Name::Run(stretch), self.bytes_max);
        }
    }

    fn keep_before(&self, revision: i64, pair: &KeyValue) {
        let bytes = pair.key.len() + pair.value.len() + OVERHEAD_BYTES;
        if !self.has_room(bytes) {
            return;
        }
        let mut kept = self.kept.lock();
        let of_revision = kept.before.entry(revision).or_default();
        if of_revision.insert(pair.key.clone(), pair.clone()).is_none() {
            kept.note(bytes, Name::Before(revision, pair.key.clone()), self.bytes_max);
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

impl Kept {
    /// One more was put in: as many of the others stay as there is room for.
    fn note(&mut self, bytes: usize, name: Name, bytes_max: usize) {
        self.bytes += bytes;
        self.order.push_back((bytes, name));
        while self.bytes > bytes_max {
            let Some((bytes, oldest)) = self.order.pop_front() else { break };
            self.bytes -= bytes;
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, name: &Name) {
        match name {
            Name::Run(stretch) => drop(self.runs.remove(stretch)),
            Name::Before(revision, key) => {
                let Some(of_revision) = self.before.get_mut(revision) else { return };
                of_revision.remove(key);
                if of_revision.is_empty() {
                    self.before.remove(revision);
                }
            }
        }
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
        let stretch = (from_revision, revisions_max, bytes_max);
        // A run that goes beyond this reader would tell of a state that its caller does not see yet; one that is compacted
        // meanwhile must be refused.
        let known = self.cache.run(stretch).filter(|run| {
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
        self.cache.keep_run(bytes, stretch, &run);
        Ok(run)
    }

    fn key_before(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, ReadError> {
        let known = self.cache.before(revision, key);
        if known.is_some() && revision > self.reader.compact_revision() {
            return Ok(known);
        }
        let found = self.reader.key_before(key, revision)?;
        if let Some(kv) = &found {
            self.cache.keep_before(revision, kv);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
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

    /// Each was once looked for among all: 29,000 of them, under the lock that all watches wait for.
    #[test]
    fn what_is_kept_is_found_by_its_name() {
        let (reader, cache) = (store(20).reader(), HistoryCache::new(1 << 20));
        let history = CachedHistory { reader: &reader, cache: &cache };
        (3..=20).chain(3..=20).for_each(|revision| drop(history.key_before(b"a", revision)));
        assert_eq!(cache.bytes(), 18 * (VALUE_BYTES + 1 + OVERHEAD_BYTES), "each once");
        let kept = cache.kept.lock();
        assert_eq!((kept.order.len(), kept.before.len(), kept.before[&7].len()), (18, 18, 1));
        drop(kept);
        let small = HistoryCache::new(2 * (VALUE_BYTES + 1 + OVERHEAD_BYTES));
        let history = CachedHistory { reader: &reader, cache: &small };
        (3..=20).for_each(|revision| drop(history.key_before(b"a", revision)));
        let kept = small.kept.lock();
        assert_eq!(kept.before.keys().copied().collect::<Vec<_>>(), [19, 20]);
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
