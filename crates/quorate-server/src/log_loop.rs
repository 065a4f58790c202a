//! The log side: writes what the Raft side decided, and makes it durable; reads what the Raft side has no longer in memory.
//!
//! It gets one batch, or some ranges to read, at a time, and with it the log itself, which goes back with the outcome: so neither
//! side ever waits for the other. While the disk takes its time, or hangs, the Raft side goes on: it hears its peers and clients,
//! keeps deadlines, and gives up leadership; what it decides meanwhile is the next batch.
//!
//! Whoever drives both sides may do so on one thread as long as the disk is quick: `docs/decisions/0002-disk-and-raft-share-a-thread.md`.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quorate_node::{Entry, LogError, LogRecord, LogStore, NodeIo};
use quorate_raft::{EntryRange, GroupId, Index};
use quorate_storage::Wal;

use crate::shared::{RaftInput, Shared};

/// No moment: nothing is under way.
const IDLE: u64 = u64::MAX;

/// The log side.
#[derive(Debug)]
pub struct LogLoop {
    shared: Arc<Shared>,
}

impl LogLoop {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Whether there is something to write, or to read.
    pub fn is_ready(&self) -> bool {
        self.shared.log.is_ready()
    }

    /// How long the job under way has taken; `None`: there is none.
    pub fn busy_for(&self) -> Option<Duration> {
        self.shared.log.busy_for(self.shared.clock.now().0)
    }

    /// Does what waits, if anything does, and tells the Raft side how it went. Blocks for as long as the disk does.
    pub fn round(&self) {
        let shared = &self.shared;
        let Some(mut job) = shared.log.take(shared.clock.now().0) else { return };
        let outcome = job.perform();
        if outcome.is_ok() {
            shared.metrics.wal_write_bytes.raise_to(job.log.stats().written_bytes);
        }
        shared.log.done();
        shared.raft.put(RaftInput::Written(Box::new(Written { job, outcome })));
    }
}

/// Something to do, with the log that it is done to.
pub(crate) struct LogJob {
    pub(crate) log: Box<Wal>,
    pub(crate) work: Work,
    /// The term of the log's last entry, and the commit index: for a build that forgets votes.
    #[cfg(feature = "breakable")]
    pub(crate) forget: Option<(crate::Breaks, quorate_raft::Term, Index)>,
}

/// What is done to the log.
#[derive(Debug)]
pub(crate) enum Work {
    /// A batch on its way to the disk.
    Write(Vec<NodeIo>),
    /// Ranges to be read.
    Read(Vec<Wanted>),
}

/// Entries that the Raft side lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) group: GroupId,
    pub(crate) range: EntryRange,
    /// How much of it, in bytes of content, but one entry at least.
    pub(crate) bytes_max: u64,
}

/// Entries that were read for the Raft side, the first of a range.
#[derive(Debug)]
pub(crate) struct Fetched {
    wanted: Wanted,
    entries: Vec<Entry>,
}

impl LogJob {
    fn perform(&mut self) -> Result<Vec<Fetched>, LogError> {
        match &self.work {
            Work::Write(_) => self.write().map(|()| Vec::new()),
            Work::Read(wanted) => wanted.iter().map(|one| one.read(&mut self.log)).collect(),
        }
    }

    /// One write and one sync for everything.
    fn write(&mut self) -> Result<(), LogError> {
        let Work::Write(io) = &self.work else { return Ok(()) };
        let records: Vec<LogRecord<'_>> = io.iter().map(NodeIo::record).collect();
        #[cfg(feature = "breakable")]
        let records = {
            let mut records = records;
            if let Some((breaks, last, commit)) = self.forget {
                breaks.forget(&mut records, last, commit);
            }
            records
        };
        self.log.append(&records)?;
        self.log.sync()
    }
}

impl Wanted {
    /// Reads as much as is wanted; one read of the log may be less.
    fn read(&self, log: &mut Wal) -> Result<Fetched, LogError> {
        let Self { group, range, bytes_max } = *self;
        let mut entries = log.read(group, range, bytes_max)?;
        let mut rest = behind(range, &entries);
        while !entries.is_empty() && !rest.is_empty() {
            let left = bytes_max.saturating_sub(content_bytes(&entries));
            let mut more = log.read(group, rest, left)?;
            if more.is_empty() || content_bytes(&more) > left {
                break;
            }
            rest = behind(rest, &more);
            entries.append(&mut more);
        }
        Ok(Fetched { wanted: *self, entries })
    }
}

impl Fetched {
    /// The entries of a range from its first on, as far as they are here and within its limit, but at least one. `None` if the
    /// first is not here.
    pub(crate) fn give(&self, wanted: Wanted) -> Option<Vec<Entry>> {
        let Wanted { group, range, bytes_max } = wanted;
        let skip = range.first.0.checked_sub(self.wanted.range.first.0)?;
        let is_here = group == self.wanted.group && skip < self.entries.len() as u64;
        let (skip, count) = (usize::try_from(skip).ok()?, usize::try_from(range.len()).ok()?);
        let mut bytes = 0;
        let fits = |(nth, entry): &(usize, &Entry)| {
            bytes += entry.payload.len() as u64;
            *nth == 0 || bytes <= bytes_max
        };
        let here = self.entries.iter().skip(skip).take(count).enumerate().take_while(fits);
        is_here.then(|| here.map(|(_, entry)| entry.clone()).collect())
    }
}

fn behind(range: EntryRange, entries: &[Entry]) -> EntryRange {
    EntryRange { first: Index(range.first.0 + entries.len() as u64), last: range.last }
}

fn content_bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.payload.len() as u64).sum()
}

impl fmt::Debug for LogJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogJob").field("work", &self.work).finish_non_exhaustive()
    }
}

/// A job that was done, or could not be, and what was read.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) job: LogJob,
    pub(crate) outcome: Result<Vec<Fetched>, LogError>,
}

/// Between the Raft side and the log side: room for one job.
#[derive(Debug)]
pub(crate) struct LogQueue {
    waiting: Mutex<Option<LogJob>>,
    /// When the job under way began, in nanoseconds of the server's clock.
    since: AtomicU64,
}

impl Default for LogQueue {
    fn default() -> Self {
        Self { waiting: Mutex::new(None), since: AtomicU64::new(IDLE) }
    }
}

impl LogQueue {
    /// Gives a job. There is none: its log is that of the last one.
    pub(crate) fn put(&self, job: LogJob) {
        *self.waiting.lock() = Some(job);
    }

    /// Whether a job waits.
    pub(crate) fn is_ready(&self) -> bool {
        self.waiting.lock().is_some()
    }

    pub(crate) fn take(&self, now: u64) -> Option<LogJob> {
        let job = self.waiting.lock().take()?;
        self.since.store(now, SeqCst);
        Some(job)
    }

    pub(crate) fn done(&self) {
        self.since.store(IDLE, SeqCst);
    }

    /// How long the job under way has taken; `None`: there is none.
    pub(crate) fn busy_for(&self, now: u64) -> Option<Duration> {
        let since = self.since.load(SeqCst);
        (since != IDLE).then(|| Duration::from_nanos(now.saturating_sub(since)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use quorate_etcd::backend::ServerError;
    use quorate_kv::Command;
    use quorate_node::Scope;
    use quorate_proto::etcdserverpb::PutRequest;
    use quorate_raft::Role;
    use quorate_storage::vfs::MemoryVfs;

    use super::*;
    use crate::{ServerConfig, Started, pending::Waiter, testing};

    const MS: u64 = 1_000_000;

    /// A member that leads, and whose writes are all done.
    fn leader(vfs: &Arc<MemoryVfs>, now: &Arc<AtomicU64>) -> Started {
        let mut server = testing::started(vfs, now, ServerConfig::default());
        while server.raft.view().is_none_or(|view| view.role != Role::Leader) {
            server.turn().unwrap();
            now.fetch_add(MS, SeqCst);
        }
        while server.log.is_ready() || server.raft.is_ready() {
            server.turn().unwrap();
            server.apply.round().unwrap();
        }
        server
    }

    type Answers = Arc<Mutex<Vec<Result<(), ServerError>>>>;

    fn noting<T: 'static>(answers: &Answers) -> Waiter<T> {
        let answers = Arc::clone(answers);
        Waiter::Call(Box::new(move |outcome: Result<T, _>| answers.lock().push(outcome.map(drop))))
    }

    /// The log side never comes back from its write: everybody is answered within the time of a request all the same.
    #[test]
    fn clients_are_answered_in_time_while_a_write_hangs() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let mut server = leader(&vfs, &now);
        let (puts, reads, inspections) =
            (Answers::default(), Answers::default(), Answers::default());
        let shared = Arc::clone(&server.handle.0);
        for key in 0..3_u8 {
            let put = PutRequest { key: vec![key].into(), ..PutRequest::default() };
            shared.propose(&Command::Put(put), Scope::Anywhere, Some(noting(&puts)));
            server.raft.round().unwrap();
        }
        shared.inspect(noting(&inspections));
        server.raft.round().unwrap();
        assert!(server.log.is_ready(), "one batch waits, and the log side does not come");
        shared.read(noting(&reads));
        server.raft.round().unwrap();
        assert!(matches!(reads.lock().as_slice(), [Ok(())]), "what is committed can be read");
        now.fetch_add(6_900 * MS, SeqCst);
        server.raft.round().unwrap();
        assert_eq!((puts.lock().len(), inspections.lock().len()), (0, 0));
        now.fetch_add(200 * MS, SeqCst);
        assert!(server.raft.is_ready(), "it is time");
        server.raft.round().unwrap();
        assert_eq!(puts.lock().len(), 3);
        assert!(puts.lock().iter().all(|put| matches!(put, Err(ServerError::Timeout))));
        assert!(matches!(inspections.lock().as_slice(), [Err(ServerError::Timeout)]));
    }

    /// What is committed waits for a state machine that does not come: its clients are answered in time as well.
    #[test]
    fn clients_are_answered_in_time_while_the_state_machine_hangs() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let mut server = leader(&vfs, &now);
        let puts = Answers::default();
        let put = PutRequest { key: "k".into(), ..PutRequest::default() };
        server.handle.0.propose(&Command::Put(put), Scope::Anywhere, Some(noting(&puts)));
        while server.log.is_ready() || server.raft.is_ready() {
            server.turn().unwrap();
        }
        assert_eq!((server.handle.0.standing.commit(), puts.lock().len()), (2, 0));
        now.fetch_add(7_200 * MS, SeqCst);
        assert!(server.raft.is_ready(), "it is time");
        server.raft.round().unwrap();
        assert!(matches!(puts.lock().as_slice(), [Err(ServerError::Timeout)]));
        server.apply.round().unwrap();
        assert_eq!(puts.lock().len(), 1, "nobody is answered twice");
    }

    /// What the Raft side decides while a batch is under way is one batch more, and not one each.
    #[test]
    fn what_gathers_during_a_write_is_the_next_one() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let mut server = leader(&vfs, &now);
        let syncs = vfs.counts().syncs;
        for key in 0..9_u8 {
            let put = PutRequest { key: vec![key].into(), ..PutRequest::default() };
            server.handle.0.propose(&Command::Put(put), Scope::Anywhere, None);
            server.raft.round().unwrap();
        }
        while server.log.is_ready() || server.raft.is_ready() {
            server.turn().unwrap();
        }
        assert_eq!(server.handle.0.standing.commit(), 10);
        assert_eq!(vfs.counts().syncs - syncs, 2, "one batch under way, and all the others");
    }

    /// Nobody takes from the queue: clients hear at once that there is no room, and memory does not grow.
    #[test]
    fn a_raft_side_that_stands_still_takes_no_more_than_its_queue_holds() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let server = leader(&vfs, &now);
        let (answers, shared) = (Answers::default(), Arc::clone(&server.handle.0));
        let value = bytes::Bytes::from(vec![0; 1 << 20]);
        for _ in 0..100 {
            let put = PutRequest { value: value.clone(), ..PutRequest::default() };
            shared.propose(&Command::Put(put), Scope::Anywhere, Some(noting(&answers)));
        }
        let refused = answers.lock().len();
        assert!((37..60).contains(&refused), "{refused} of 100 MiB");
        assert!(answers.lock().iter().all(|put| matches!(put, Err(ServerError::TooManyRequests))));
    }
}
