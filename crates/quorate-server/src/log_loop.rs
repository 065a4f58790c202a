//! The log side: writes what the Raft side decided, and makes it durable.
//!
//! It gets one batch at a time, and with it the log itself, which goes back with the outcome: so neither side ever waits for the
//! other. While a write takes its time, or hangs, the Raft side goes on: it hears its peers and clients, keeps deadlines, and gives
//! up leadership; what it decides meanwhile is the next batch.
//!
//! Whoever drives both sides may do so on one thread as long as writes are quick: `docs/decisions/0002-disk-and-raft-share-a-thread.md`.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quorate_node::{LogError, LogRecord, LogStore, NodeIo};
use quorate_storage::Wal;

use crate::shared::{RaftInput, Shared};

/// No moment: nothing is being written.
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

    /// Whether there is something to write.
    pub fn is_ready(&self) -> bool {
        self.shared.log.is_ready()
    }

    /// How long the write under way has taken; `None`: there is none.
    pub fn busy_for(&self) -> Option<Duration> {
        self.shared.log.busy_for(self.shared.clock.now().0)
    }

    /// Writes what waits, if anything does, and tells the Raft side how it went. Blocks for as long as the disk does.
    pub fn round(&self) {
        let shared = &self.shared;
        let Some(mut job) = shared.log.take(shared.clock.now().0) else { return };
        let outcome = job.write();
        if outcome.is_ok() {
            shared.metrics.wal_write_bytes.raise_to(job.log.stats().written_bytes);
        }
        shared.log.done();
        shared.raft.put(RaftInput::Written(Box::new(Written { job, outcome })));
    }
}

/// A batch on its way to the disk, with the log that it goes to.
pub(crate) struct LogJob {
    pub(crate) log: Box<Wal>,
    pub(crate) io: Vec<NodeIo>,
    /// The term of the log's last entry, and the commit index: for a build that forgets votes.
    #[cfg(feature = "breakable")]
    pub(crate) forget: Option<(crate::Breaks, quorate_raft::Term, quorate_raft::Index)>,
}

impl LogJob {
    /// One write and one sync for everything.
    fn write(&mut self) -> Result<(), LogError> {
        let records: Vec<LogRecord<'_>> = self.io.iter().map(NodeIo::record).collect();
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

impl fmt::Debug for LogJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogJob").field("records", &self.io.len()).finish_non_exhaustive()
    }
}

/// A batch that was written, or could not be.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) job: LogJob,
    pub(crate) outcome: Result<(), LogError>,
}

/// Between the Raft side and the log side: room for one batch.
#[derive(Debug)]
pub(crate) struct LogQueue {
    waiting: Mutex<Option<LogJob>>,
    /// When the write under way began, in nanoseconds of the server's clock.
    since: AtomicU64,
}

impl Default for LogQueue {
    fn default() -> Self {
        Self { waiting: Mutex::new(None), since: AtomicU64::new(IDLE) }
    }
}

impl LogQueue {
    /// Gives a batch to write. There is none: its log is that of the last one.
    pub(crate) fn put(&self, job: LogJob) {
        *self.waiting.lock() = Some(job);
    }

    /// Whether a batch waits to be written.
    pub(crate) fn is_ready(&self) -> bool {
        self.waiting.lock().is_some()
    }

    fn take(&self, now: u64) -> Option<LogJob> {
        let job = self.waiting.lock().take()?;
        self.since.store(now, SeqCst);
        Some(job)
    }

    fn done(&self) {
        self.since.store(IDLE, SeqCst);
    }

    /// How long the write under way has taken; `None`: there is none.
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
