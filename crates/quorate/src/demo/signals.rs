//! What the demo is told by signals.

use std::io;

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1},
    iterator,
};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// End, and with it all nodes.
    Stop,
    /// Every node keeps a flight recording.
    KeepRecordings,
}

/// The signals that have come.
#[derive(Debug)]
pub(super) struct Signals(iterator::Signals);

impl Signals {
    /// Takes them in from now on. A hangup that is ignored already stays so: that is what `nohup` is for.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn listen() -> io::Result<Self> {
        let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        let all = [SIGINT, SIGTERM, SIGUSR1].into_iter().chain(hangup);
        iterator::Signals::new(all).map(Self)
    }

    /// What was asked for since the last call.
    pub(super) fn take(&mut self) -> Vec<Task> {
        let task = |signal| if signal == SIGUSR1 { Task::KeepRecordings } else { Task::Stop };
        self.0.pending().map(task).collect()
    }
}

/// Whether this process was started with a signal ignored. Where the system does not tell as Linux does, it was not.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    u32::try_from(signal - 1)
        .is_ok_and(|bit| mask.checked_shr(bit).is_some_and(|rest| rest & 1 == 1))
}
