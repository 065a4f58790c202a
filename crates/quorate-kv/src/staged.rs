//! Writes of one apply run, over the view that they will change.

use std::{
    collections::{BTreeMap, btree_map},
    ops::{Bound, ControlFlow},
    sync::Arc,
};

use bytes::Bytes;
use quorate_engine::{Batch, Direction, Error, KeyRange, Table, View, Visitor};

/// The key is set (`Some`) or removed (`None`).
type Writes = BTreeMap<Bytes, Option<Bytes>>;

/// A view with uncommitted writes laid over it: later commands of a run see what earlier ones did.
#[derive(Debug)]
pub(crate) struct Staged {
    base: Arc<dyn View>,
    tables: BTreeMap<Table, Writes>,
}

impl Staged {
    pub(crate) fn new(base: Arc<dyn View>) -> Self {
        Self { base, tables: BTreeMap::new() }
    }

    pub(crate) fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.tables.entry(table).or_default().insert(key.into(), Some(value.into()));
    }

    pub(crate) fn delete(&mut self, table: Table, key: impl Into<Bytes>) {
        self.tables.entry(table).or_default().insert(key.into(), None);
    }

    /// The writes as one change, in key order.
    pub(crate) fn into_batch(self) -> Batch {
        let mut batch = Batch::new();
        for (table, writes) in self.tables {
            for (key, value) in writes {
                match value {
                    Some(value) => batch.put(table, key, value),
                    None => batch.delete(table, key),
                }
            }
        }
        batch
    }
}

impl View for Staged {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.tables.get(&table).and_then(|writes| writes.get(key)) {
            Some(staged) => Ok(staged.clone()),
            None => self.base.get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        direction: Direction,
        visit: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        if is_inverted(range) {
            return Ok(());
        }
        let Some(writes) = self.tables.get(&table) else {
            return self.base.scan(table, range, direction, visit);
        };
        let mut merge = Merge::new(writes.range::<[u8], _>(range), direction, visit);
        self.base.scan(table, range, direction, &mut |key, value| merge.base(key, value))?;
        merge.rest();
        Ok(())
    }
}

/// Walks base and staged pairs side by side; a staged one hides the base's.
struct Merge<'w, 'v, 'c> {
    staged: btree_map::Range<'w, Bytes, Option<Bytes>>,
    direction: Direction,
    pending: Option<(&'w Bytes, &'w Option<Bytes>)>,
    visit: &'v mut Visitor<'c>,
    flow: ControlFlow<()>,
}

impl<'w, 'v, 'c> Merge<'w, 'v, 'c> {
    fn new(
        staged: btree_map::Range<'w, Bytes, Option<Bytes>>,
        direction: Direction,
        visit: &'v mut Visitor<'c>,
    ) -> Self {
        let mut merge =
            Self { staged, direction, pending: None, visit, flow: ControlFlow::Continue(()) };
        merge.advance();
        merge
    }

    fn advance(&mut self) {
        self.pending = match self.direction {
            Direction::Forward => self.staged.next(),
            Direction::Reverse => self.staged.next_back(),
        };
    }

    fn emit(&mut self, key: &[u8], value: &[u8]) -> ControlFlow<()> {
        self.flow = (self.visit)(key, value);
        self.flow
    }

    /// Emits the pending staged pair, unless it is a removal, and goes to the next.
    fn emit_pending(&mut self) -> ControlFlow<()> {
        let pending = self.pending;
        self.advance();
        match pending {
            Some((key, Some(value))) => self.emit(key, value),
            Some((_, None)) | None => ControlFlow::Continue(()),
        }
    }

    /// Takes the next pair of the base: what is staged before it comes first.
    fn base(&mut self, key: &[u8], value: &[u8]) -> ControlFlow<()> {
        while let Some((staged, _)) = self.pending {
            let order = match self.direction {
                Direction::Forward => staged[..].cmp(key),
                Direction::Reverse => key.cmp(&staged[..]),
            };
            if order.is_gt() {
                break;
            }
            self.emit_pending()?;
            if order.is_eq() {
                return ControlFlow::Continue(());
            }
        }
        self.emit(key, value)
    }

    /// What is staged behind the last pair of the base.
    fn rest(&mut self) {
        while self.flow.is_continue() && self.pending.is_some() {
            let _ = self.emit_pending();
        }
    }
}

/// Bounds between which nothing can lie, and on which a map's `range` would panic.
fn is_inverted(range: KeyRange<'_>) -> bool {
    match range {
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high))
        | (Bound::Included(low), Bound::Excluded(high)) => low > high,
        (Bound::Excluded(low), Bound::Excluded(high)) => low >= high,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

#[cfg(test)]
mod tests {
    use Bound::{Excluded, Included, Unbounded};
    use quorate_engine::{Durability, Engine, MemoryEngine};

    use super::*;

    const T: Table = Table("t");

    /// Base holds b, d, f; staged are a and d anew, f removed, g.
    fn staged() -> Staged {
        let mut engine = MemoryEngine::new();
        let mut batch = Batch::new();
        for key in ["b", "d", "f"] {
            batch.put(T, key, "old");
        }
        engine.commit(batch, Durability::Relaxed).unwrap();
        let mut staged = Staged::new(engine.view().unwrap());
        for key in ["a", "d", "g"] {
            staged.put(T, key, "new");
        }
        staged.delete(T, "f");
        staged
    }

    fn keys(range: KeyRange<'_>, direction: Direction, max: usize) -> String {
        let mut found = String::new();
        staged()
            .scan(T, range, direction, &mut |key, value| {
                found.push_str(std::str::from_utf8(key).unwrap());
                found.push(if value == b"new" { '+' } else { ' ' });
                if found.len() >= 2 * max {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .unwrap();
        found
    }

    #[test]
    fn scans_merge_staged_writes() {
        assert_eq!(keys((Unbounded, Unbounded), Direction::Forward, 9), "a+b d+g+");
        assert_eq!(keys((Unbounded, Unbounded), Direction::Reverse, 9), "g+d+b a+");
        assert_eq!(keys((Included(b"b"), Excluded(b"g")), Direction::Forward, 9), "b d+");
        assert_eq!(keys((Included(b"c"), Included(b"a")), Direction::Forward, 9), "");
    }

    #[test]
    fn a_break_ends_the_scan_on_either_side() {
        for (max, expected) in [(1, "a+"), (2, "a+b "), (3, "a+b d+")] {
            assert_eq!(keys((Unbounded, Unbounded), Direction::Forward, max), expected);
        }
    }

    #[test]
    fn gets_see_staged_writes_first() {
        let staged = staged();
        assert_eq!(staged.get(T, b"d").unwrap(), Some(Bytes::from("new")));
        assert_eq!(staged.get(T, b"f").unwrap(), None);
        assert_eq!(staged.get(T, b"b").unwrap(), Some(Bytes::from("old")));
    }

    #[test]
    fn the_batch_holds_every_write_in_key_order() {
        let batch = staged().into_batch();
        assert_eq!(batch.len(), 4);
    }
}
