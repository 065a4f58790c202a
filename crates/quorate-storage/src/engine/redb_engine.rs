//! The single writer.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use quorate_engine::{Batch, Durability, Engine, Error, SizeBytes, Table, View, Write};
use redb::{Database, ReadableDatabase, TableDefinition, WriteTransaction};

use super::{error::translate, view::RedbView};
use crate::{
    blocks::{BlockFile, Report, Start},
    vfs::{Open, Vfs, VfsLock},
};

/// How many tables an engine may have. Views keep a slot for each.
pub(super) const TABLES_MAX: usize = 16;
/// The engine's own table; no [`Table`] may have its name.
const OWN_TABLE: &str = "quorate.engine";
/// Key in [`OWN_TABLE`]: bytes of all keys and values, as a little-endian `u64`. Right at every durable commit.
const LIVE_BYTES_KEY: &[u8] = b"live-bytes";

type Pairs = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// What a [`RedbEngine`] may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Memory for cached pages, in bytes; at most half of it for pages that are not written yet. Sums of the blocks in
    /// use come on top: a thousandth of the file, at most 16 MiB.
    pub cache_bytes: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20 }
    }
}

/// An [`Engine`] on disk. Dropping it makes relaxed commits durable if it can; views that outlive it answer errors.
#[derive(Debug)]
pub struct RedbEngine {
    database: Database,
    report: Arc<Report>,
    /// Bytes of all keys and values.
    live_bytes: u64,
    /// Whether anything was committed since the last durable commit.
    relaxed: bool,
    /// An error is final.
    failed: bool,
    /// Held while the file is open.
    lock: Option<Box<dyn VfsLock>>,
}

impl RedbEngine {
    /// Opens the file at `path`, which is made if it does not exist; `path` with `.lock` behind it is its lock file.
    ///
    /// Crash-safe only for a file that exists: a file whose making was interrupted is refused. [`StateDir`] hides that.
    ///
    ///
    /// # Errors
    /// [`Error::Io`] when another process has it open or the system refuses, [`Error::Corrupt`] when what redb needs to open
    /// fails its checks.
    pub fn open(vfs: &dyn Vfs, path: &Path, config: EngineConfig) -> Result<Self, Error> {
        let io = |what: &str| {
            let (location, what) = (path.display().to_string(), what.to_owned());
            move |source| Error::Io { location, what, source }
        };
        let lock = vfs.lock(&lock_path(path)).map_err(io("lock"))?;
        let mut engine = match vfs.open(path, Open::Existing) {
            Ok(file) => Self::start(file, path, Start::Existing, config)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Self::create(vfs, path, config)?
            }
            Err(error) => return Err(io("open")(error)),
        };
        engine.lock = Some(lock);
        Ok(engine)
    }

    /// Makes the file at `path`, which must not exist, durably but for its name. The caller sees to the lock.
    pub(crate) fn create(vfs: &dyn Vfs, path: &Path, config: EngineConfig) -> Result<Self, Error> {
        let location = path.display().to_string();
        let file = vfs.open(path, Open::CreateNew).map_err(|source| Error::Io {
            location,
            what: "create".into(),
            source,
        })?;
        let mut engine = Self::start(file, path, Start::New, config)?;
        // redb's first commit has no quick-repair record yet; this one does.
        engine.commit(Batch::new(), Durability::Durable)?;
        Ok(engine)
    }

    /// Opens the file at `path`, which exists. The caller sees to the lock.
    pub(crate) fn open_existing(
        vfs: &dyn Vfs,
        path: &Path,
        config: EngineConfig,
    ) -> Result<Self, Error> {
        let location = path.display().to_string();
        let file = vfs.open(path, Open::Existing).map_err(|source| Error::Io {
            location,
            what: "open".into(),
            source,
        })?;
        Self::start(file, path, Start::Existing, config)
    }

    fn start(
        file: Box<dyn crate::vfs::VfsFile>,
        path: &Path,
        start: Start,
        config: EngineConfig,
    ) -> Result<Self, Error> {
        let report = Arc::new(Report::new(path.display().to_string()));
        let blocks = BlockFile::open(file, start, report.clone())
            .map_err(|error| translate(redb::Error::Io(error), &report))?;
        let database = Database::builder()
            .set_cache_size(config.cache_bytes)
            .create_with_backend(blocks)
            .map_err(|error| translate(error, &report))?;
        let mut engine =
            Self { database, report, live_bytes: 0, relaxed: false, failed: false, lock: None };
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
            Some(Err(_)) => Err(Error::Corrupt {
                location: self.report.location().to_owned(),
                offset: 0,
                what: "the record of live bytes is not eight bytes long".into(),
            }),
        }
    }

    fn fail(&self, error: impl Into<redb::Error>) -> Error {
        translate(error, &self.report)
    }

    fn refuse(&self, what: &str) -> Error {
        Error::Backend { location: self.report.location().to_owned(), what: what.into() }
    }

    fn write(&mut self, batch: Batch, durability: Durability) -> Result<(), Error> {
        let mut transaction = self.database.begin_write().map_err(|error| self.fail(error))?;
        match durability {
            Durability::Relaxed => transaction
                .set_durability(redb::Durability::None)
                .map_err(|error| self.fail(error))?,
            Durability::Durable => transaction.set_quick_repair(true),
        }
        let mut live = self.live_bytes;
        for (table, writes) in arrange(batch) {
            live = live.wrapping_add_signed(self.write_table(&transaction, table, writes)?);
        }
        if durability == Durability::Durable {
            let bytes = live.to_le_bytes();
            let record = vec![(Bytes::from_static(LIVE_BYTES_KEY), Some(bytes.to_vec().into()))];
            self.write_table(&transaction, Table(OWN_TABLE), record)?;
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
        table: Table,
        writes: Vec<(Bytes, Option<Bytes>)>,
    ) -> Result<i64, Error> {
        let mut open =
            transaction.open_table(Pairs::new(table.0)).map_err(|error| self.fail(error))?;
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

/// The lock file of `path`.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// The last write to each key (`None` deletes), in key order: neighbours share redb's pages.
fn arrange(batch: Batch) -> BTreeMap<Table, Vec<(Bytes, Option<Bytes>)>> {
    let mut tables: BTreeMap<Table, Vec<(Bytes, Option<Bytes>)>> = BTreeMap::new();
    for write in batch.into_writes() {
        match write {
            Write::Put { table, key, value } => {
                tables.entry(table).or_default().push((key, Some(value)));
            }
            Write::Delete { table, key } => tables.entry(table).or_default().push((key, None)),
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
        let done = self.write(batch, durability);
        self.failed = done.is_err();
        done
    }

    fn view(&self) -> Result<Arc<dyn View>, Error> {
        let transaction = self.database.begin_read().map_err(|error| self.fail(error))?;
        Ok(Arc::new(RedbView::new(transaction, self.report.clone())))
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
            let _ = self.write(Batch::new(), Durability::Durable);
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
        assert_eq!(arranged[&table], expected);
        assert_eq!(arranged.keys().collect::<Vec<_>>(), [&Table("s"), &table]);
    }
}
