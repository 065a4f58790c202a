//! A picture of one commit.

use std::{
    fmt,
    ops::{Bound, ControlFlow},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use quorate_engine::{Direction, Error, KeyRange, Table, View, Visitor};
use redb::{ReadOnlyTable, ReadTransaction, TableDefinition, TableError};

use super::{error::translate, redb_engine::TABLES_MAX};
use crate::blocks::Report;

type Pairs = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// One read transaction; each table is opened when it is first asked for and stays open.
pub(super) struct RedbView {
    transaction: ReadTransaction,
    /// Filled from the front, each once.
    tables: [OnceLock<Opened>; TABLES_MAX],
    report: Arc<Report>,
    /// Counts the views of an engine.
    _held: Arc<()>,
}

struct Opened {
    table: Table,
    /// `None` for a table that nothing was ever written to; redb's words when it could not be opened.
    pairs: Result<Option<Pairs>, String>,
}

impl fmt::Debug for RedbView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbView")
            .field("location", &self.report.location())
            .finish_non_exhaustive()
    }
}

impl RedbView {
    /// `held` is one more share of what counts the views of an engine.
    pub(super) fn new(transaction: ReadTransaction, report: Arc<Report>, held: Arc<()>) -> Self {
        let tables = [const { OnceLock::new() }; TABLES_MAX];
        Self { transaction, tables, report, _held: held }
    }

    fn table(&self, table: Table) -> Result<Option<&Pairs>, Error> {
        for slot in &self.tables {
            let opened = slot.get_or_init(|| self.open(table));
            if opened.table == table {
                return opened.pairs.as_ref().map(Option::as_ref).map_err(|what| self.told(what));
            }
        }
        Err(self.told(&format!("more than {TABLES_MAX} tables in one view")))
    }

    fn open(&self, table: Table) -> Opened {
        let pairs = match self.transaction.open_table(TableDefinition::new(table.0)) {
            Ok(pairs) => Ok(Some(pairs)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(format!("table {}: {error}", table.0)),
        };
        Opened { table, pairs }
    }

    /// The blocks' fault, which redb's words stand for, or else those words.
    fn told(&self, what: &str) -> Error {
        let location = self.report.location().to_owned();
        let unknown = || Error::Backend { location, what: what.to_owned() };
        self.report.first().map_or_else(unknown, |fault| fault.to_error())
    }

    fn fail(&self, error: redb::StorageError) -> Error {
        translate(error, &self.report)
    }
}

impl View for RedbView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let Some(pairs) = self.table(table)? else {
            return Ok(None);
        };
        let found = pairs.get(key).map_err(|error| self.fail(error))?;
        Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        direction: Direction,
        visit: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        let Some(pairs) = self.table(table)?.filter(|_| !is_empty_range(range)) else {
            return Ok(());
        };
        let mut found = pairs.range::<&[u8]>(range).map_err(|error| self.fail(error))?;
        loop {
            let next = match direction {
                Direction::Forward => found.next(),
                Direction::Reverse => found.next_back(),
            };
            let Some(pair) = next else {
                return Ok(());
            };
            let (key, value) = pair.map_err(|error| self.fail(error))?;
            if visit(key.value(), value.value()) == ControlFlow::Break(()) {
                return Ok(());
            }
        }
    }
}

/// Whether no key can lie in `range`.
fn is_empty_range((low, high): KeyRange<'_>) -> bool {
    use Bound::{Excluded, Included, Unbounded};
    match (low, high) {
        (Unbounded, _) | (_, Unbounded) => false,
        (Included(low), Included(high)) => low > high,
        (Included(low) | Excluded(low), Excluded(high)) | (Excluded(low), Included(high)) => {
            low >= high
        }
    }
}
