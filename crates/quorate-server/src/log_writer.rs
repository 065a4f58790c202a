//! What the Raft side wants written, and what it wants read: gathered, and lent to the log side together with the log, a batch of
//! records or some ranges of entries at a time, in turn.
//!
//! Nothing here uses the disk. Who asks for entries hears that the log is busy, and that they are noted; the log side reads them,
//! and they are here in the round in which the log comes back. Who still wants them asks again in that round, and all of them
//! are forgotten at its end: what a later record replaces is never given, since whatever is not durable yet is in the node's
//! memory, and the log is not written while it is read.
//!
//! Invariants
//! - the log is here, or in the one job under way.
//! - records reach the log in the order in which they were staged, and none behind the record of an install before the state
//!   machine is that snapshot.

use std::collections::VecDeque;

use anyhow::Context;
use quorate_node::{Entry, LogError, LogRecord, LogStore, NodeIo};
use quorate_raft::{EntryRange, GroupId, IoToken};
use quorate_storage::Wal;

use crate::log_loop::{Fetched, LogJob, Wanted, Work, Written};

/// The most ranges that are read in one go. The node asks for one piece for the state machine, and one message for each peer.
const WANTED_MAX: usize = 64;

/// The log as the Raft side has it.
#[derive(Debug)]
pub(crate) struct LogWriter {
    /// `None` while the log side has it.
    log: Option<Box<Wal>>,
    staged: VecDeque<NodeIo>,
    /// What was asked for in this round and is not here.
    wanted: Vec<Wanted>,
    /// What was read, for this round.
    fetched: Vec<Fetched>,
    /// What the job under way, or the last one, was.
    last: LastJob,
    /// Installs that the state machine is done with and that are not in a batch yet.
    installed: usize,
    /// How many records were staged, and how many of them are durable.
    counts: (u64, u64),
    /// Whether this build makes the mistake of reading where it is asked.
    reads_at_once: bool,
}

/// What the log side was given last: writing and reading take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastJob {
    Write,
    Read,
}

impl LogWriter {
    pub(crate) fn new(log: Wal, reads_at_once: bool) -> Self {
        Self {
            log: Some(Box::new(log)),
            staged: VecDeque::new(),
            wanted: Vec::new(),
            fetched: Vec::new(),
            last: LastJob::Read,
            installed: 0,
            counts: (0, 0),
            reads_at_once,
        }
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

    /// Whether something waits to be durable, and for nothing but the disk.
    pub(crate) fn is_writing(&self) -> bool {
        let installs = |io: &NodeIo| matches!(io, NodeIo::Install { .. });
        let may_be_written = |io: &NodeIo| !installs(io) || self.installed > 0;
        let is_under_way = self.log.is_none() && self.last == LastJob::Write;
        is_under_way || self.staged.front().is_some_and(may_be_written)
    }

    /// How many records were staged so far, and how many of them are durable.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.counts
    }

    /// Whether everything is durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.staged.is_empty() && (self.log.is_some() || self.last == LastJob::Read)
    }

    /// The next job, with the log; `None` while one is under way, or there is nothing to do. To be called at the end of each
    /// round.
    pub(crate) fn next_job(&mut self) -> Option<LogJob> {
        self.fetched.clear();
        let wanted = std::mem::take(&mut self.wanted);
        let log = self.log.take()?;
        let reads_first = self.last == LastJob::Write && !wanted.is_empty();
        let io = if reads_first { Vec::new() } else { self.next_batch() };
        let (last, work) = match (io.is_empty(), wanted.is_empty()) {
            (true, true) => {
                self.log = Some(log);
                return None;
            }
            (true, false) => (LastJob::Read, Work::Read(wanted)),
            (false, _) => (LastJob::Write, Work::Write(io)),
        };
        self.last = last;
        Some(LogJob {
            log,
            work,
            #[cfg(feature = "breakable")]
            forget: None,
        })
    }

    /// What may be written now.
    fn next_batch(&mut self) -> Vec<NodeIo> {
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
        io
    }

    /// The log comes back from a job. Its newest token for each group is done; what it read can be asked for in this round.
    ///
    /// # Errors
    /// The job could not be done: final.
    pub(crate) fn take_back(
        &mut self,
        written: Written,
    ) -> anyhow::Result<Vec<(GroupId, IoToken)>> {
        let Written { job: LogJob { log, work, .. }, outcome } = written;
        self.log = Some(log);
        match work {
            Work::Write(io) => {
                outcome.context("the log can't be written")?;
                self.counts.1 += io.len() as u64;
                Ok(NodeIo::newest_tokens(&io))
            }
            Work::Read(_) => {
                self.fetched = outcome.context("the log can't be read")?;
                Ok(Vec::new())
            }
        }
    }
}

/// Reading, as the node does: from what the log side has read.
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
        if let Some(log) = self.log.as_mut().filter(|_| self.reads_at_once) {
            return log.read(group, range, bytes_max);
        }
        let wanted = Wanted { group, range, bytes_max };
        if let Some(entries) = self.fetched.iter().find_map(|fetched| fetched.give(wanted)) {
            return Ok(entries);
        }
        if self.wanted.len() < WANTED_MAX && !self.wanted.contains(&wanted) {
            self.wanted.push(wanted);
        }
        Err(LogError::Busy)
    }
}
