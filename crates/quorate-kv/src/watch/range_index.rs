//! Which subscribers care about a key: an index over single keys and key ranges.
//!
//! Single keys sit in an ordered map, so a million of them cost one lookup. Ranges that are prefixes, which nearly all
//! are, sit in a second map that is asked once for each prefix *length* in use. What remains, ranges with arbitrary
//! ends, sits in an interval tree: its cost grows with the number of ranges that hold the key, and the logarithm of all.
//!
//! Equal ranges of many subscribers share one entry; a subscriber may hold the same range several times.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::interval_tree::{Bounds, IntervalTree};

/// The keys somebody watches, in etcd's convention for `key` and `range_end`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeySet {
    /// One key.
    Single(Bytes),
    /// Every key that begins with these bytes; none of them means every key.
    Prefix(Bytes),
    /// Keys from `start` up to but not including `end`; no `end` means no upper bound.
    Span {
        /// Smallest key inside.
        start: Bytes,
        /// Smallest key above.
        end: Option<Bytes>,
    },
}

impl KeySet {
    /// Reads a request's bounds: no `range_end` is one key, `"\0"` is no upper bound. `None` if nothing lies inside.
    ///
    /// An empty `key` means the smallest key, as etcd has it for watches.
    pub(super) fn from_request(key: &Bytes, range_end: &Bytes) -> Option<Self> {
        let start = if key.is_empty() { Bytes::from_static(b"\0") } else { key.clone() };
        if range_end.is_empty() {
            return Some(Self::Single(start));
        }
        if range_end.as_ref() == b"\0" {
            let everything = start.as_ref() == b"\0";
            let open = Self::Span { start, end: None };
            return Some(if everything { Self::Prefix(Bytes::new()) } else { open });
        }
        if start >= *range_end {
            return None;
        }
        if is_successor(&start, range_end) {
            return Some(Self::Prefix(start));
        }
        Some(Self::Span { start, end: Some(range_end.clone()) })
    }
}

/// Whether `end` is the smallest byte string above everything that begins with `prefix`.
fn is_successor(prefix: &[u8], end: &[u8]) -> bool {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX);
    let Some((last, head)) = kept.and_then(|at| prefix.get(..=at)).and_then(<[u8]>::split_last)
    else {
        return false;
    };
    end.split_last().is_some_and(|(end_last, end_head)| end_head == head && *end_last == last + 1)
}

/// How often each subscriber holds one key set.
type Holders<T> = BTreeMap<T, usize>;

/// Subscribers by the keys they care about.
///
/// Invariant: no entry is empty, and `prefix_lengths` counts the keys of `prefixes` by their length.
#[derive(Debug)]
pub(super) struct RangeIndex<T> {
    singles: BTreeMap<Bytes, Holders<T>>,
    prefixes: BTreeMap<Bytes, Holders<T>>,
    prefix_lengths: BTreeMap<usize, usize>,
    spans: IntervalTree<Holders<T>>,
}

impl<T> Default for RangeIndex<T> {
    fn default() -> Self {
        Self {
            singles: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            prefix_lengths: BTreeMap::new(),
            spans: IntervalTree::default(),
        }
    }
}

impl<T: Ord + Copy> RangeIndex<T> {
    /// Adds one holding of `keys` by `subscriber`.
    pub(super) fn insert(&mut self, keys: &KeySet, subscriber: T) {
        let holders = match keys {
            KeySet::Single(key) => Some(self.singles.entry(key.clone()).or_default()),
            KeySet::Prefix(prefix) => {
                if !self.prefixes.contains_key(prefix) {
                    *self.prefix_lengths.entry(prefix.len()).or_default() += 1;
                }
                Some(self.prefixes.entry(prefix.clone()).or_default())
            }
            KeySet::Span { start, end } => {
                self.spans.get_or_insert(&(start.clone(), end.clone()), Holders::default)
            }
        };
        if let Some(holders) = holders {
            *holders.entry(subscriber).or_default() += 1;
        }
    }

    /// Takes back one holding. Unknown holdings are ignored.
    pub(super) fn remove(&mut self, keys: &KeySet, subscriber: T) {
        match keys {
            KeySet::Single(key) => {
                drop_holding(&mut self.singles, key, subscriber);
            }
            KeySet::Span { start, end } => {
                self.drop_span(&(start.clone(), end.clone()), subscriber);
            }
            KeySet::Prefix(prefix) => {
                let gone = drop_holding(&mut self.prefixes, prefix, subscriber);
                if gone {
                    drop_holding_count(&mut self.prefix_lengths, &prefix.len());
                }
            }
        }
    }

    fn drop_span(&mut self, bounds: &Bounds, subscriber: T) {
        let Some(holders) = self.spans.get_mut(bounds) else { return };
        drop_holding_count(holders, &subscriber);
        if holders.is_empty() {
            self.spans.remove(bounds);
        }
    }

    /// Calls `found` for each subscriber of `key`; one that holds it through several ranges is named several times.
    pub(super) fn visit(&self, key: &[u8], mut found: impl FnMut(T)) {
        let mut all =
            |holders: &Holders<T>| holders.keys().for_each(|subscriber| found(*subscriber));
        if let Some(holders) = self.singles.get(key) {
            all(holders);
        }
        for length in self.prefix_lengths.range(..=key.len()).map(|(length, _)| *length) {
            if let Some(holders) = key.get(..length).and_then(|prefix| self.prefixes.get(prefix)) {
                all(holders);
            }
        }
        self.spans.visit(key, &mut all);
    }
}

/// Counts one holding down; `true` if the whole entry is gone with it.
fn drop_holding<K: Ord, T: Ord + Copy>(
    map: &mut BTreeMap<K, Holders<T>>,
    keys: &K,
    subscriber: T,
) -> bool {
    let Some(holders) = map.get_mut(keys) else { return false };
    drop_holding_count(holders, &subscriber);
    if !holders.is_empty() {
        return false;
    }
    map.remove(keys);
    true
}

/// Counts `key` down by one and forgets it at zero.
fn drop_holding_count<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn keys(key: &[u8], end: &[u8]) -> Option<KeySet> {
        KeySet::from_request(&Bytes::copy_from_slice(key), &Bytes::copy_from_slice(end))
    }

    #[test]
    fn bounds_are_read_as_etcd_reads_them() {
        let bytes = |text: &'static [u8]| Bytes::from_static(text);
        assert_eq!(keys(b"a", b""), Some(KeySet::Single(bytes(b"a"))));
        assert_eq!(keys(b"", b""), Some(KeySet::Single(bytes(b"\0"))));
        assert_eq!(keys(b"", b"\0"), Some(KeySet::Prefix(Bytes::new())));
        assert_eq!(keys(b"a", b"b"), Some(KeySet::Prefix(bytes(b"a"))));
        assert_eq!(keys(b"a\xff", b"b"), Some(KeySet::Prefix(bytes(b"a\xff"))));
        assert_eq!(
            keys(b"a", b"c"),
            Some(KeySet::Span { start: bytes(b"a"), end: Some(bytes(b"c")) })
        );
        assert_eq!(keys(b"a", b"\0"), Some(KeySet::Span { start: bytes(b"a"), end: None }));
        assert_eq!(keys(b"b", b"a"), None);
        assert_eq!(keys(b"a", b"a"), None);
    }

    #[test]
    fn every_subscriber_of_a_key_is_found_and_forgotten() {
        let sets = [
            (&b"ab"[..], &b""[..]),
            (b"a", b"b"),
            (b"", b"\0"),
            (b"a", b"abc"),
            (b"ab", b"\0"),
            (b"b", b"c"),
        ];
        let mut index = RangeIndex::default();
        let parsed: Vec<KeySet> = sets.iter().filter_map(|(key, end)| keys(key, end)).collect();
        parsed.iter().zip(0..).for_each(|(set, subscriber)| index.insert(set, subscriber));
        let found = |index: &RangeIndex<i32>, key: &[u8]| {
            let mut found = BTreeSet::new();
            index.visit(key, |subscriber| found.extend([subscriber]));
            found
        };
        assert_eq!(found(&index, b"ab"), BTreeSet::from([0, 1, 2, 3, 4]));
        assert_eq!(found(&index, b"abc"), BTreeSet::from([1, 2, 4]));
        assert_eq!(found(&index, b"b"), BTreeSet::from([2, 4, 5]));
        assert_eq!(found(&index, b"0"), BTreeSet::from([2]));
        parsed.iter().zip(0..).for_each(|(set, subscriber)| index.remove(set, subscriber));
        assert!(found(&index, b"ab").is_empty() && index.prefix_lengths.is_empty());
    }

    #[test]
    fn a_range_held_twice_stays_until_both_are_gone() {
        let mut index = RangeIndex::default();
        let set = KeySet::Prefix(Bytes::from_static(b"a"));
        index.insert(&set, 1);
        index.insert(&set, 1);
        index.remove(&set, 1);
        let mut hits = 0;
        index.visit(b"ax", |_| hits += 1);
        assert_eq!(hits, 1);
    }
}
