//! Connections that have not said who they are: few at a time, and few lines of the log.

use std::{
    collections::VecDeque,
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use parking_lot::Mutex;
use quorate_node::Throttle;

/// The strangers of one transport.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    /// Oldest first.
    waiting: Mutex<VecDeque<(u64, TcpStream)>>,
    numbers: AtomicU64,
    lines: Mutex<Throttle>,
}

impl Strangers {
    /// Takes one in, and gives its number. If there are `count_max` already, the oldest is closed: an honest peer says who it is
    /// at once, so a slot that was long waited on is the one to give up.
    pub(crate) fn admit(&self, stream: TcpStream, count_max: usize) -> u64 {
        let number = self.numbers.fetch_add(1, SeqCst);
        let mut waiting = self.waiting.lock();
        while waiting.len() >= count_max.max(1) {
            let Some((_, oldest)) = waiting.pop_front() else { break };
            // It may be closed already.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        waiting.push_back((number, stream));
        number
    }

    /// One is a stranger no more, or gone. Whether it was there still.
    pub(crate) fn dismiss(&self, number: u64) -> Option<TcpStream> {
        let mut waiting = self.waiting.lock();
        let place = waiting.iter().position(|(known, _)| *known == number)?;
        waiting.remove(place).map(|(_, stream)| stream)
    }

    /// Whether a line of the log may tell of one; if so, how many were left out before it.
    pub(crate) fn may_log(&self, now_ns: u64, interval_ns: u64) -> Option<u64> {
        self.lines.lock().pass(now_ns, interval_ns)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.waiting.lock().len()
    }
}
