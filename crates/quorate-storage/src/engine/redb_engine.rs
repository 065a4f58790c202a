//! The single writer.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::{Buf, Bytes};
use quorate_engine::{Batch, Durability, Engine, Error, SizeBytes, Table, View, Write};
use redb::{Database, ReadableDatabase, TableDefinition, WriteTransaction};

use super::{StateDir, error::translate, view::RedbView};
use crate::{
    blocks::{BlockFile, Report, Start},
    snapshot::SnapshotHead,
    vfs::{Open, Vfs, VfsFile, VfsLock},
};

/// How many tables an engine may have. Views keep a slot for each.
pub(super) const TABLES_MAX: usize = 16;
/// The engine's own table; no [`Table`] may have its name.
const OWN_TABLE: &str = "quorate.engine";
/// Key in [`OWN_TABLE`]: bytes of all keys and values, as a little-endian `u64`. Right at every durable commit.
const LIVE_BYTES_KEY: &[u8] = b"live-bytes";
/// Key in [`OWN_TABLE`]: index and term of the snapshot the state began with, two little-endian `u64`, and its header.
const INSTALLED_KEY: &[u8] = b"installed-snapshot";

type Pairs<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;
/// Writes to one table in key order; `None` deletes.
type Writes = Vec<(Bytes, Option<Bytes>)>;

/// What a [`RedbEngine`] may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Memory for cached pages, in bytes; at most half of it for pages that are not written yet. Sums of the blocks in
    /// use come on top: a thousandth of the file, at most 16 MiB.
    pub cache_bytes: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { cache_bytes: 16 << 20 }
    }
}

/// An [`Engine`] on disk. Dropping it makes relaxed commits durable if it can; views that outlive it answer errors.
#[derive(Debug)]
pub struct RedbEngine {
    database: Database,
    report: Arc<Report>,
    /// Shared with every view.
    views: Arc<()>,
    /// Bytes of all keys and values.
    live_bytes: u64,
    /// Whether anything was committed since the last durable commit.
    relaxed: bool,
    /// An error is final.
    failed: bool,
    /// Held while the file is open.
    _lock: Arc<dyn VfsLock>,
}

impl RedbEngine {
    /// Opens the engine in the directory `dir`; for one that never takes a snapshot, see [`StateDir::open`] for others.
    ///
    /// # Errors
    /// As [`StateDir::open`].
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path, config: EngineConfig) -> Result<Self, Error> {
        StateDir::open(vfs, dir, config).map(|(_, engine)| engine)
    }

    /// Makes the file at `path`, which must not exist, durably but for its name.
    pub(super) fn create(
        vfs: &dyn Vfs,
        path: &Path,
        config: EngineConfig,
        lock: Arc<dyn VfsLock>,
    ) -> Result<Self, Error> {
        let location = path.display().to_string();
        let file = vfs.open(path, Open::CreateNew).map_err(|source| Error::Io {
            location,
            what: "create".into(),
            source,
        })?;
        let salt = vfs.random().map_err(|source| Error::Io {
            location: path.display().to_string(),
            what: "draw a salt".into(),
            source,
        })?;
        let mut engine = Self::start(file, path, Start::New(salt), config, lock)?;
        // redb's first commit has no quick-repair record yet; this one does.
        engine.commit(Batch::new(), Durability::Durable)?;
        Ok(engine)
    }

    /// Opens the file at `path`, which exists.
    pub(super) fn open_file(
        vfs: &dyn Vfs,
        path: &Path,
        config: EngineConfig,
        lock: Arc<dyn VfsLock>,
    ) -> Result<Self, Error> {
        let location = path.display().to_string();
        let file = vfs.open(path, Open::Existing).map_err(|source| Error::Io {
            location,
            what: "open".into(),
            source,
        })?;
        Self::start(file, path, Start::Existing, config, lock)
    }

    /// What the last installed snapshot was of, if the state began with one. The log may not know of it yet when a
    /// crash came right after the installation.
    ///
    /// # Errors
    /// Those of a read.
    pub fn installed_snapshot(&self) -> Result<Option<SnapshotHead>, Error> {
        let stored = self.view()?.get(Table(OWN_TABLE), INSTALLED_KEY)?;
        stored.map(|bytes| self.decode_head(bytes)).transpose()
    }

    /// Notes, with the next durable commit, that the content came from a snapshot.
    pub(super) fn note_installed(&mut self, head: &SnapshotHead) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(16 + head.header.len());
        bytes.extend_from_slice(&head.index.to_le_bytes());
        bytes.extend_from_slice(&head.term.to_le_bytes());
        bytes.extend_from_slice(&head.header);
        let record = (Bytes::from_static(INSTALLED_KEY), Some(bytes.into()));
        let size = self.live_bytes;
        self.write_all([(OWN_TABLE, vec![record])], Durability::Relaxed)?;
        self.live_bytes = size;
        Ok(())
    }

    fn decode_head(&self, mut bytes: Bytes) -> Result<SnapshotHead, Error> {
        if bytes.len() < 16 {
            return Err(self.bad_record("the installed snapshot"));
        }
        let (index, term) = (bytes.get_u64_le(), bytes.get_u64_le());
        Ok(SnapshotHead { index, term, header: bytes })
    }

    /// Puts pairs of one table, in key order, of which none is there yet.
    pub(super) fn load(&mut self, table: &str, pairs: Vec<(Bytes, Bytes)>) -> Result<(), Error> {
        if pairs.is_empty() {
            return Ok(());
        }
        if table == OWN_TABLE {
            return Err(self.refuse("a snapshot may not hold the engine's own table"));
        }
        let writes = pairs.into_iter().map(|(key, value)| (key, Some(value))).collect();
        self.write_all([(table, writes)], Durability::Relaxed)
    }

    fn start(
        file: Box<dyn VfsFile>,
        path: &Path,
        start: Start,
        config: EngineConfig,
        lock: Arc<dyn VfsLock>,
    ) -> Result<Self, Error> {
        let report = Arc::new(Report::new(path.display().to_string()));
        let blocks = BlockFile::open(file, start, report.clone())
            .map_err(|error| translate(redb::Error::Io(error), &report))?;
        let database = Database::builder()
            .set_cache_size(config.cache_bytes)
            .create_with_backend(blocks)
            .map_err(|error| translate(error, &report))?;
        let mut engine = Self {
            database,
            report,
            views: Arc::new(()),
            live_bytes: 0,
            relaxed: false,
            failed: false,
            _lock: lock,
        };
        engine.live_bytes = engine.stored_live_bytes()?;
        Ok(engine)
    }

    fn stored_live_bytes(&self) -> Result<u64, Error> {
        let view = self.view()?;
        let stored = view.get(Table(OWN_TABLE), LIVE_BYTES_KEY)?;
        let number = stored.as_deref().map(<[u8; 8]>::try_from);
        match number {
            None => Ok(0),
            Some(Ok(bytes)) => Ok(u64::from_le_bytes(bytes)),
            Some(Err(_)) => Err(self.bad_record("the size")),
        }
    }

    fn fail(&self, error: impl Into<redb::Error>) -> Error {
        translate(error, &self.report)
    }

    fn refuse(&self, what: &str) -> Error {
        Error::Backend { location: self.report.location().to_owned(), what: what.into() }
    }

    fn bad_record(&self, of: &str) -> Error {
        let (location, what) = (self.report.location().to_owned(), format!("bad record of {of}"));
        Error::Corrupt { location, offset: 0, what }
    }

    fn write_all<'a>(
        &mut self,
        tables: impl IntoIterator<Item = (&'a str, Writes)>,
        durability: Durability,
    ) -> Result<(), Error> {
        let mut transaction = self.database.begin_write().map_err(|error| self.fail(error))?;
        match durability {
            Durability::Relaxed => transaction
                .set_durability(redb::Durability::None)
                .map_err(|error| self.fail(error))?,
            Durability::Durable => transaction.set_quick_repair(true),
        }
        let mut live = self.live_bytes;
        for (table, writes) in tables {
            live = live.wrapping_add_signed(self.write_table(&transaction, table, writes)?);
        }
        if durability == Durability::Durable {
            let bytes = live.to_le_bytes();
            let record = vec![(Bytes::from_static(LIVE_BYTES_KEY), Some(bytes.to_vec().into()))];
            self.write_table(&transaction, OWN_TABLE, record)?;
        }
        transaction.commit().map_err(|error| self.fail(error))?;
        self.live_bytes = live;
        self.relaxed = durability == Durability::Relaxed;
        Ok(())
    }

    /// Writes to one table; answers by how many bytes its content grew.
    fn write_table(
        &self,
        transaction: &WriteTransaction,
        table: &str,
        writes: Writes,
    ) -> Result<i64, Error> {
        let mut open =
            transaction.open_table(Pairs::new(table)).map_err(|error| self.fail(error))?;
        let mut grown = 0;
        for (key, value) in writes {
            let old = match &value {
                Some(value) => open.insert(&*key, &**value),
                None => open.remove(&*key),
            };
            let old = old.map_err(|error| self.fail(error))?;
            grown += value.map_or(0, |value| signed(key.len() + value.len()));
            grown -= old.map_or(0, |old| signed(key.len() + old.value().len()));
        }
        Ok(grown)
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The last write to each key, in key order: neighbours share redb's pages.
fn arrange(batch: Batch) -> BTreeMap<&'static str, Writes> {
    let mut tables: BTreeMap<&'static str, Writes> = BTreeMap::new();
    for write in batch.into_writes() {
        match write {
            Write::Put { table, key, value } => {
                tables.entry(table.0).or_default().push((key, Some(value)));
            }
            Write::Delete { table, key } => tables.entry(table.0).or_default().push((key, None)),
        }
    }
    for writes in tables.values_mut() {
        // Stable: of writes to one key, the last of the batch stays last.
        writes.sort_by(|(one, _), (other, _)| one.cmp(other));
        writes.reverse();
        writes.dedup_by(|(earlier, _), (later, _)| earlier == later);
        writes.reverse();
    }
    tables
}

impl Engine for RedbEngine {
    fn commit(&mut self, batch: Batch, durability: Durability) -> Result<(), Error> {
        if self.failed {
            let earlier = self.report.first().map(|fault| fault.to_error());
            return Err(earlier.unwrap_or_else(|| self.refuse("an earlier commit failed")));
        }
        let tables = arrange(batch);
        let done = if tables.contains_key(OWN_TABLE) {
            Err(self.refuse("the engine's own table was written to"))
        } else {
            self.write_all(tables, durability)
        };
        self.failed = done.is_err();
        done
    }

    fn view(&self) -> Result<Arc<dyn View>, Error> {
        let transaction = self.database.begin_read().map_err(|error| self.fail(error))?;
        Ok(Arc::new(RedbView::new(transaction, self.report.clone(), Arc::clone(&self.views))))
    }

    fn views_held(&self) -> usize {
        Arc::strong_count(&self.views).saturating_sub(1)
    }

    /// `total` is the size of the file; `in_use` the bytes of all keys and values, without what redb adds to them.
    fn size_bytes(&self) -> Result<SizeBytes, Error> {
        Ok(SizeBytes { total: self.report.file_bytes(), in_use: self.live_bytes })
    }
}

impl Drop for RedbEngine {
    fn drop(&mut self) {
        if self.relaxed && !self.failed {
            // Nobody is left to tell; what could not be made durable is what a crash would have lost.
            let _ = self.write_all([], Durability::Durable);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_writes_to_one_key_the_last_one_counts() {
        let table = Table("t");
        let mut batch = Batch::new();
        for (key, value) in [("b", "1"), ("a", "1"), ("b", "2")] {
            batch.put(table, key, value);
        }
        batch.delete(table, "a");
        batch.put(Table("s"), "z", "9");
        let arranged = arrange(batch);
        let expected = [(Bytes::from("a"), None), (Bytes::from("b"), Some(Bytes::from("2")))];
        assert_eq!(arranged["t"], expected);
        assert_eq!(arranged.keys().collect::<Vec<_>>(), [&"s", &"t"]);
    }
}
