//! The single writer of the key space.

use quorate_engine::{Durability, Engine, SizeBytes, Table};

use crate::{Applied, ApplyOutput, Committed, Error, Reader};

/// Every table of the key space, as a snapshot must carry them.
pub const TABLES: [Table; 6] =
    [Table("meta"), Table("rev"), Table("idx"), Table("lease"), Table("lease_key"), Table("alarm")];

/// The key space over an engine.
#[derive(Debug)]
pub struct Store {
    engine: Box<dyn Engine>,
    reader: Reader,
}

impl Store {
    /// Opens the key space in `engine`, empty or not. Reads a few records, never the world.
    ///
    /// # Errors
    /// [`Error::SchemaVersion`] for data of a later version, [`Error::Engine`], [`Error::Malformed`].
    pub fn open(engine: Box<dyn Engine>) -> Result<Self, Error> {
        let _ = engine;
        todo!()
    }

    /// The last applied entry. The next one that [`Store::apply`] takes is the one after it.
    pub fn applied(&self) -> Applied {
        self.reader.applied()
    }

    /// The state after the last call that changed it.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Applies a run of entries as one engine commit that holds the applied index as well.
    ///
    /// Replies may be given to clients, and events to watchers, when it returns.
    ///
    /// # Errors
    /// Any is fatal; the store must not be used any more.
    pub fn apply(
        &mut self,
        run: &[Committed<'_>],
        durability: Durability,
    ) -> Result<ApplyOutput, Error> {
        let _ = (run, durability);
        todo!()
    }

    /// Removes what compaction made unreachable, looking at no more than `keys_max` changes. Says whether there is more.
    ///
    /// Local to this member: answers and hashes are the same before and after.
    ///
    /// # Errors
    /// [`Error::Engine`], [`Error::Malformed`].
    pub fn purge(&mut self, keys_max: usize) -> Result<bool, Error> {
        let _ = keys_max;
        todo!()
    }

    /// Makes everything applied so far durable. After it, the log up to [`Store::applied`] is not needed any more.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        todo!()
    }

    /// How large the engine is.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn size(&self) -> Result<SizeBytes, Error> {
        Ok(self.engine.size_bytes()?)
    }

    /// Goes on with another engine, into which a snapshot was installed.
    ///
    /// # Errors
    /// As [`Store::open`]; the old state stays then.
    pub fn restore(&mut self, engine: Box<dyn Engine>) -> Result<(), Error> {
        *self = Self::open(engine)?;
        Ok(())
    }
}
