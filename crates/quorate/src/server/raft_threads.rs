//! The two threads that drive the Raft side and the log side.
//!
//! While the disk is quick, the first does both in turn: a write is over sooner than another thread wakes, and what comes in
//! meanwhile is the next batch. When it takes longer than that, the second takes the Raft side over until it is done: peers
//! are answered, time-outs kept, leadership given up. `docs/decisions/0002-disk-and-raft-share-a-thread.md`.

use std::{thread, time::Duration};

use parking_lot::Mutex;
use quorate_server::{LogLoop, RaftLoop};

/// A write may take this part of a heartbeat's interval before the Raft side goes on without it.
const PATIENCE_PER_HEARTBEAT: u32 = 4;

/// What the two threads share.
pub(super) struct RaftThreads {
    /// Taken by whoever drives it; gone once it has ended.
    raft: Mutex<Option<Box<RaftLoop>>>,
    log: LogLoop,
    patience: Duration,
}

impl RaftThreads {
    pub(super) fn new(raft: RaftLoop, log: LogLoop, heartbeat_interval: Duration) -> Self {
        let patience = heartbeat_interval / PATIENCE_PER_HEARTBEAT;
        Self { raft: Mutex::new(Some(Box::new(raft))), log, patience }
    }

    /// The first thread: writes, and drives the Raft side between two writes, until that ends.
    ///
    /// # Errors
    /// Those of the Raft side.
    pub(super) fn drive(&self) -> anyhow::Result<()> {
        loop {
            self.log.round();
            if !self.turn(|log| !log.is_ready())? {
                return Ok(());
            }
        }
    }

    /// The second thread: drives the Raft side while a write takes long, until that ends.
    ///
    /// # Errors
    /// Those of the Raft side.
    pub(super) fn stand_by(&self) -> anyhow::Result<()> {
        loop {
            thread::park_timeout(self.patience);
            while self.log.busy_for().is_some_and(|lasted| lasted >= self.patience) {
                if !self.turn(|log| log.busy_for().is_some())? {
                    return Ok(());
                }
            }
            if self.raft.try_lock().is_some_and(|raft| raft.is_none()) {
                return Ok(());
            }
        }
    }

    /// One round of the Raft side, when it has something to do, if it is still this thread's turn. Whether it goes on.
    fn turn(&self, is_mine: impl Fn(&LogLoop) -> bool) -> anyhow::Result<bool> {
        let mut seat = self.raft.lock();
        // Taken out, so that a panic finds it on this thread.
        let Some(mut raft) = seat.take_if(|_| is_mine(&self.log)) else {
            return Ok(seat.is_some());
        };
        raft.wait();
        let ended = raft.round()?;
        if !ended {
            *seat = Some(raft);
        }
        Ok(!ended)
    }
}
