//! What the Raft side wants written: gathered, cut into batches, and lent to the log side together with the log.
//!
//! Invariants
//! - the log is here, or in the one batch under way; whoever asks to read it meanwhile hears that it is busy.
//! - records reach the log in the order in which they were staged, and none behind the record of an install before the state
//!   machine is that snapshot.

use std::collections::VecDeque;

use anyhow::Context;
use quorate_node::{Entry, LogError, LogRecord, LogStore, NodeIo};
use quorate_raft::{EntryRange, GroupId, IoToken};
use quorate_storage::Wal;

use crate::log_loop::{LogJob, Written};

/// The log as the Raft side has it.
#[derive(Debug)]
pub(crate) struct LogWriter {
    /// `None` while it is being written.
    log: Option<Box<Wal>>,
    staged: VecDeque<NodeIo>,
    /// Installs that the state machine is done with and that are not in a batch yet.
    installed: usize,
    /// How many records were staged, and how many of them are durable.
    counts: (u64, u64),
}

impl LogWriter {
    pub(crate) fn new(log: Wal) -> Self {
        Self { log: Some(Box::new(log)), staged: VecDeque::new(), installed: 0, counts: (0, 0) }
    }

    /// Takes records that are to be written, in this order.
    pub(crate) fn stage(&mut self, io: &mut Vec<NodeIo>) {
        self.counts.0 += io.len() as u64;
        self.staged.extend(io.drain(..));
    }

    /// The state machine is the next snapshot that it was told to install.
    pub(crate) fn installed(&mut self) {
        self.installed += 1;
    }

    /// Whether an install waits for the state machine.
    pub(crate) fn is_installing(&self) -> bool {
        let installs = |io: &&NodeIo| matches!(io, NodeIo::Install { .. });
        self.staged.iter().filter(installs).count() > self.installed
    }

    /// How many records were staged so far, and how many of them are durable.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.counts
    }

    /// Whether everything is durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.log.is_some() && self.staged.is_empty()
    }

    /// The next batch, with the log; `None` while one is under way, or nothing may be written.
    pub(crate) fn next_job(&mut self) -> Option<LogJob> {
        let log = self.log.take_if(|_| !self.staged.is_empty())?;
        let mut io = Vec::with_capacity(self.staged.len());
        while let Some(next) = self.staged.pop_front() {
            if matches!(next, NodeIo::Install { .. }) {
                let Some(rest) = self.installed.checked_sub(1) else {
                    self.staged.push_front(next);
                    break;
                };
                self.installed = rest;
            }
            io.push(next);
        }
        if io.is_empty() {
            self.log = Some(log);
            return None;
        }
        Some(LogJob {
            log,
            io,
            #[cfg(feature = "breakable")]
            forget: None,
        })
    }

    /// The log comes back from a batch; its newest token for each group is done.
    ///
    /// # Errors
    /// The batch could not be written: final.
    pub(crate) fn take_back(
        &mut self,
        written: Written,
    ) -> anyhow::Result<Vec<(GroupId, IoToken)>> {
        let Written { job: LogJob { log, io, .. }, outcome } = written;
        self.log = Some(log);
        outcome.context("the log can't be written")?;
        self.counts.1 += io.len() as u64;
        Ok(NodeIo::newest_tokens(&io))
    }
}

/// Reading, as the node does; only the log side writes.
impl LogStore for LogWriter {
    fn append(&mut self, _: &[LogRecord<'_>]) -> Result<(), LogError> {
        Err(LogError::Busy)
    }

    fn sync(&mut self) -> Result<(), LogError> {
        Err(LogError::Busy)
    }

    fn read(
        &mut self,
        group: GroupId,
        range: EntryRange,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, LogError> {
        self.log.as_mut().ok_or(LogError::Busy)?.read(group, range, bytes_max)
    }
}
