//! One atomic change to an engine.

use bytes::Bytes;

use crate::Table;

/// One write of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets `key` to `value`.
    Put {
        /// Where.
        table: Table,
        /// Which key.
        key: Bytes,
        /// To what.
        value: Bytes,
    },
    /// Removes `key`; nothing happens when it is not there.
    Delete {
        /// Where.
        table: Table,
        /// Which key.
        key: Bytes,
    },
}

/// Writes that become visible together. Later writes to a key win over earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    writes: Vec<Write>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put.
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.writes.push(Write::Put { table, key: key.into(), value: value.into() });
    }

    /// Adds a delete.
    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) {
        self.writes.push(Write::Delete { table, key: key.into() });
    }

    /// How many writes it holds.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The writes, in order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The writes, in order, by value.
    pub fn into_writes(self) -> Vec<Write> {
        self.writes
    }
}
