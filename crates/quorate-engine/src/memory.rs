//! An engine in memory, for tests and simulation.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use bytes::Bytes;

use crate::{
    Batch, Direction, Durability, Engine, Error, KeyRange, SizeBytes, Table, View, Visitor, Write,
};

type Tables = BTreeMap<Table, Arc<BTreeMap<Bytes, Bytes>>>;

/// Ordered maps in memory. A commit copies a table only when a view still holds it.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    tables: Tables,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Engine for MemoryEngine {
    fn commit(&mut self, batch: Batch, _durability: Durability) -> Result<(), Error> {
        for write in batch.into_writes() {
            match write {
                Write::Put { table, key, value } => {
                    Arc::make_mut(self.tables.entry(table).or_default()).insert(key, value);
                }
                Write::Delete { table, key } => {
                    Arc::make_mut(self.tables.entry(table).or_default()).remove(&key);
                }
            }
        }
        Ok(())
    }

    fn view(&self) -> Result<Arc<dyn View>, Error> {
        Ok(Arc::new(MemoryView { tables: self.tables.clone() }))
    }

    /// None of them needs the engine.
    fn views_held(&self) -> usize {
        0
    }

    fn size_bytes(&self) -> Result<SizeBytes, Error> {
        let pair = |(key, value): (&Bytes, &Bytes)| (key.len() + value.len()) as u64;
        let total = self.tables.values().flat_map(|table| table.iter().map(pair)).sum();
        Ok(SizeBytes { total, in_use: total })
    }
}

/// A picture of a [`MemoryEngine`].
#[derive(Debug)]
struct MemoryView {
    tables: Tables,
}

impl View for MemoryView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.tables.get(&table).and_then(|pairs| pairs.get(key)).cloned())
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        direction: Direction,
        visit: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        let Some(pairs) = self.tables.get(&table).filter(|_| !is_empty_range(range)) else {
            return Ok(());
        };
        let mut found = pairs.range::<[u8], _>(range);
        let mut next = || match direction {
            Direction::Forward => found.next(),
            Direction::Reverse => found.next_back(),
        };
        while let Some((key, value)) = next() {
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

/// Whether no key can lie in `range` (`BTreeMap::range` panics on inverted bounds).
fn is_empty_range((low, high): KeyRange<'_>) -> bool {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    match (low, high) {
        (Unbounded, _) | (_, Unbounded) => false,
        (Included(low), Included(high)) => low > high,
        (Included(low) | Excluded(low), Excluded(high)) | (Excluded(low), Included(high)) => {
            low >= high
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound::{Excluded, Included, Unbounded};

    use super::*;

    const T: Table = Table("t");

    fn keys(view: &dyn View, range: KeyRange<'_>, direction: Direction) -> Vec<Bytes> {
        let mut keys = Vec::new();
        view.scan(T, range, direction, &mut |key, _| {
            keys.push(Bytes::copy_from_slice(key));
            ControlFlow::Continue(())
        })
        .unwrap();
        keys
    }

    fn filled() -> MemoryEngine {
        let mut engine = MemoryEngine::new();
        let mut batch = Batch::new();
        for key in ["a", "b", "c"] {
            batch.put(T, key, "1");
        }
        engine.commit(batch, Durability::Relaxed).unwrap();
        engine
    }

    #[test]
    fn views_do_not_change() {
        let mut engine = filled();
        let before = engine.view().unwrap();
        let mut batch = Batch::new();
        batch.delete(T, "a");
        batch.put(T, "b", "2");
        engine.commit(batch, Durability::Durable).unwrap();
        assert_eq!(before.get(T, b"a").unwrap(), Some(Bytes::from("1")));
        let after = engine.view().unwrap();
        assert_eq!(after.get(T, b"a").unwrap(), None);
        assert_eq!(after.get(T, b"b").unwrap(), Some(Bytes::from("2")));
    }

    #[test]
    fn scans_follow_bounds_and_direction() {
        let view = filled().view().unwrap();
        let range: KeyRange<'_> = (Included(b"a"), Excluded(b"c"));
        assert_eq!(keys(&*view, range, Direction::Forward), ["a", "b"]);
        assert_eq!(keys(&*view, range, Direction::Reverse), ["b", "a"]);
        assert_eq!(keys(&*view, (Unbounded, Unbounded), Direction::Reverse), ["c", "b", "a"]);
    }

    #[test]
    fn an_inverted_range_is_empty() {
        let view = filled().view().unwrap();
        assert!(keys(&*view, (Included(b"c"), Excluded(b"a")), Direction::Forward).is_empty());
        assert!(keys(&*view, (Excluded(b"b"), Excluded(b"b")), Direction::Forward).is_empty());
    }
}
