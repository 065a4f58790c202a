//! The single writer of the key space.

use std::sync::Arc;

use bytes::Buf;
use quorate_engine::{Batch, Durability, Engine, SizeBytes, View};

use crate::{
    Applied, ApplyOutput, Committed, Error, Reader,
    alarm::Raised,
    cache::StampCache,
    purge,
    run::{Finished, Run},
    schema::{self, META, SCHEMA_KEY, SCHEMA_VERSION, STATE_KEY, State},
};

/// The key space over an engine.
///
/// Memory is a bounded cache and what one run writes; nothing grows with the number of keys.
#[derive(Debug)]
pub struct Store {
    engine: Box<dyn Engine>,
    view: Arc<dyn View>,
    state: State,
    raised: Raised,
    cache: StampCache,
    /// Whether the schema version stands in the engine.
    has_schema: bool,
}

impl Store {
    /// Opens the key space in `engine`, empty or not. Reads a few records, never the world.
    ///
    /// # Errors
    /// [`Error::SchemaVersion`] for data of a later version, [`Error::Engine`], [`Error::Malformed`].
    pub fn open(engine: Box<dyn Engine>) -> Result<Self, Error> {
        let view = engine.view()?;
        let has_schema = check_schema(&*view)?;
        let state = match view.get(META, STATE_KEY)? {
            Some(bytes) => State::decode(&bytes)?,
            None => State::default(),
        };
        let raised = Raised::load(&*view)?;
        Ok(Self { engine, view, state, raised, cache: StampCache::new(), has_schema })
    }

    /// The last applied entry. The next one that [`Store::apply`] takes is the one after it.
    pub fn applied(&self) -> Applied {
        self.state.applied
    }

    /// The state after the last call that changed it.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.view), self.state, self.raised)
    }

    /// Applies a run of entries as one engine commit that holds the applied entry as well.
    ///
    /// Replies may be given to clients, and events to watchers, when it returns; with [`Durability::Relaxed`] the log
    /// must still hold the run until a later durable commit.
    ///
    /// # Errors
    /// Any is fatal; the store must not be used any more. [`Error::Gap`] when an entry does not follow the applied one,
    /// [`Error::CommandVersion`] and [`Error::CommandMalformed`] for an entry that can't be read.
    pub fn apply(
        &mut self,
        run: &[Committed<'_>],
        durability: Durability,
    ) -> Result<ApplyOutput, Error> {
        let mut applying =
            Run::new(Arc::clone(&self.view), &mut self.cache, self.state, self.raised);
        for entry in run {
            applying.entry(entry)?;
        }
        let Finished { batch, state, raised, output } = applying.finish();
        self.commit(batch, durability)?;
        (self.state, self.raised) = (state, raised);
        Ok(output)
    }

    /// Removes what compaction made unreachable, looking at no more than `keys_max` changes. Says whether there is more.
    ///
    /// Local to this member: answers and hashes are the same before and after.
    ///
    /// # Errors
    /// [`Error::Engine`], [`Error::Malformed`].
    pub fn purge(&mut self, keys_max: usize) -> Result<bool, Error> {
        if !purge::is_due(&self.state) {
            return Ok(false);
        }
        let step = purge::step(&*self.view, &self.state, keys_max)?;
        self.commit(step.batch, Durability::Relaxed)?;
        self.state = step.state;
        Ok(step.more)
    }

    /// Makes everything applied so far durable. After it, the log up to [`Store::applied`] is not needed any more.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.put(META, STATE_KEY, self.state.encode());
        self.commit(batch, Durability::Durable)
    }

    /// How large the engine is.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn size(&self) -> Result<SizeBytes, Error> {
        Ok(self.engine.size_bytes()?)
    }

    /// Goes on with another engine, into which a snapshot was installed, and gives the old one back.
    ///
    /// Readers taken before still look at the old engine: whoever drops it while [`Engine::views_held`] says that there are
    /// some leaves them with errors.
    ///
    /// # Errors
    /// As [`Store::open`]; the old state stays then.
    pub fn restore(&mut self, engine: Box<dyn Engine>) -> Result<Box<dyn Engine>, Error> {
        let new = Self::open(engine)?;
        Ok(std::mem::replace(self, new).into_engine())
    }

    /// Gives the engine back. Views stay valid.
    pub fn into_engine(self) -> Box<dyn Engine> {
        self.engine
    }

    fn commit(&mut self, mut batch: Batch, durability: Durability) -> Result<(), Error> {
        if !self.has_schema {
            batch.put(META, SCHEMA_KEY, SCHEMA_VERSION.to_be_bytes().to_vec());
        }
        self.engine.commit(batch, durability)?;
        self.has_schema = true;
        self.view = self.engine.view()?;
        Ok(())
    }
}

/// Whether a schema version stands there; only the one known is accepted.
fn check_schema(view: &dyn View) -> Result<bool, Error> {
    let Some(bytes) = view.get(META, SCHEMA_KEY)? else { return Ok(false) };
    match (&bytes[..]).try_get_u64() {
        Ok(SCHEMA_VERSION) => Ok(true),
        Ok(found) => Err(Error::SchemaVersion { found, supported: SCHEMA_VERSION }),
        Err(_) => Err(schema::malformed(META, "schema version", SCHEMA_KEY)),
    }
}
