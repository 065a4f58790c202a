//! The directory that holds the state, and the switch to another state.
//!
//! | Name | What |
//! |---|---|
//! | `LOCK` | held by the process that has the directory open |
//! | `state` | the engine's file |
//! | `state.new` | an engine being built; removed at open |
//! | `snapshot.incoming` | a snapshot being received; removed at open |
//!
//! A new engine, empty or from a snapshot, is built as `state.new`, made durable, and renamed to `state`; then the
//! directory is synced. A crash before the rename is durable leaves the old state, a crash after it the new one;
//! there is no moment at which neither is whole.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use quorate_engine::{Batch, Durability, Engine, Error};

use super::{EngineConfig, RedbEngine};
use crate::{
    snapshot::{IncomingSnapshot, Record, SnapshotError, SnapshotHead, SnapshotReader},
    vfs::{Vfs, VfsLock},
};

const LOCK_NAME: &str = "LOCK";
const STATE_NAME: &str = "state";
const NEW_NAME: &str = "state.new";
const INCOMING_NAME: &str = "snapshot.incoming";
/// Pairs of a snapshot are put into the new engine in batches of about this size.
const LOAD_BYTES: usize = 4 << 20;

/// The directory of one node's state.
#[derive(Debug)]
pub struct StateDir {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    config: EngineConfig,
    /// Shared with the engine: the directory is held as long as either lives.
    lock: Arc<dyn VfsLock>,
}

impl StateDir {
    /// Opens `dir`, made if it does not exist, and the engine in it. Leftovers of a crash are removed.
    ///
    /// # Errors
    /// [`Error::Io`] of kind `WouldBlock` when somebody else has it open; the errors of opening an engine.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        config: EngineConfig,
    ) -> Result<(Self, RedbEngine), Error> {
        vfs.create_dir_all(dir).map_err(io_error(dir, "make the directory"))?;
        let lock_path = dir.join(LOCK_NAME);
        let lock = vfs.lock(&lock_path).map_err(io_error(&lock_path, "lock"))?;
        let state_dir = Self { vfs, dir: dir.to_owned(), config, lock: lock.into() };
        // A process that was killed may have renamed and not synced: what is found counts only if no power cut takes it back.
        state_dir.vfs.sync_dir(dir).map_err(io_error(dir, "sync"))?;
        let names = state_dir.vfs.list(dir).map_err(io_error(dir, "list"))?;
        for leftover in [NEW_NAME, INCOMING_NAME] {
            if names.iter().any(|name| name == leftover) {
                state_dir.remove(leftover)?;
            }
        }
        if !names.iter().any(|name| name == STATE_NAME) {
            drop(state_dir.build()?);
            state_dir.switch()?;
        }
        let engine = state_dir.open_engine()?;
        Ok((state_dir, engine))
    }

    /// Starts to receive a snapshot; an earlier one that was not installed is gone.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn receive(&self) -> Result<IncomingSnapshot, SnapshotError> {
        IncomingSnapshot::create(self.vfs.clone(), &self.dir.join(INCOMING_NAME))
    }

    /// Makes a complete snapshot the state, durably, and opens it. Every byte is checked once more on the way. The engine
    /// that was open before goes on with the old state until it is dropped, and what it then writes is lost.
    ///
    /// The durability order: the new file, then its name. The log's record of the installation comes after this
    /// returns; a crash between the two shows in [`RedbEngine::installed_snapshot`].
    ///
    /// # Errors
    /// [`SnapshotError::Incomplete`] when chunks are missing; [`SnapshotError::Corrupt`] when the file changed since it was
    /// received; those of the new engine. After an error the next [`StateDir::open`] finds the old state or the new one.
    pub fn install(&self, incoming: IncomingSnapshot) -> Result<RedbEngine, SnapshotError> {
        if !incoming.is_complete() {
            return Err(SnapshotError::Incomplete { expected: incoming.next_sequence() });
        }
        let path = incoming.path().to_owned();
        drop(incoming);
        self.remove_if_there(NEW_NAME)?;
        let mut engine = self.build()?;
        let mut reader = SnapshotReader::open(&*self.vfs, &path)?;
        load(&mut reader, &mut engine)?;
        drop(engine);
        self.switch()?;
        self.remove(INCOMING_NAME)?;
        Ok(self.open_engine()?)
    }

    /// An empty engine as `state.new`.
    fn build(&self) -> Result<RedbEngine, Error> {
        RedbEngine::create(&*self.vfs, &self.dir.join(NEW_NAME), self.config, self.lock.clone())
    }

    /// Makes `state.new`, which is durable, the state.
    fn switch(&self) -> Result<(), Error> {
        let (new, state) = (self.dir.join(NEW_NAME), self.dir.join(STATE_NAME));
        self.vfs.rename(&new, &state).map_err(io_error(&new, "rename"))?;
        self.vfs.sync_dir(&self.dir).map_err(io_error(&self.dir, "sync"))
    }

    fn open_engine(&self) -> Result<RedbEngine, Error> {
        RedbEngine::open_file(
            &*self.vfs,
            &self.dir.join(STATE_NAME),
            self.config,
            self.lock.clone(),
        )
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.dir.join(name);
        self.vfs.remove(&path).map_err(io_error(&path, "remove"))
    }

    fn remove_if_there(&self, name: &str) -> Result<(), Error> {
        let path = self.dir.join(name);
        match self.vfs.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&path, "remove")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Puts all of a snapshot into an empty engine, durably.
fn load(reader: &mut SnapshotReader, engine: &mut RedbEngine) -> Result<(), SnapshotError> {
    let (mut table, mut pairs, mut bytes) = (String::new(), Vec::new(), 0);
    let mut head = SnapshotHead::default();
    while let Some(record) = reader.next_record()? {
        match record {
            Record::Head(found) => head = found,
            Record::Table(name) => {
                engine.load(&table, std::mem::take(&mut pairs))?;
                (table, bytes) = (name, 0);
            }
            Record::Pair(key, value) => {
                bytes += key.len() + value.len();
                pairs.push((own(&key), own(&value)));
            }
            Record::End { .. } => {}
        }
        if bytes > LOAD_BYTES {
            engine.load(&table, std::mem::take(&mut pairs))?;
            bytes = 0;
        }
    }
    engine.load(&table, pairs)?;
    engine.note_installed(&head)?;
    Ok(engine.commit(Batch::new(), Durability::Durable)?)
}

/// A copy that does not hold on to the chunk.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn io_error<'a>(path: &'a Path, what: &'a str) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io { location: path.display().to_string(), what: what.to_owned(), source }
}
