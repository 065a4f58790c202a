//! Leases by the time at which something is due.

use std::collections::{BTreeMap, BTreeSet};

/// At most one due time per lease.
///
/// Invariant: `by_time` and `by_lease` hold the same pairs.
#[derive(Debug, Default)]
pub(super) struct Queue {
    by_time: BTreeSet<(u64, i64)>,
    by_lease: BTreeMap<i64, u64>,
}

impl Queue {
    /// Sets when a lease is due, in place of what was set before.
    pub(super) fn set(&mut self, id: i64, due_ns: u64) {
        self.remove(id);
        self.by_time.insert((due_ns, id));
        self.by_lease.insert(id, due_ns);
    }

    /// Takes a lease out.
    pub(super) fn remove(&mut self, id: i64) {
        if let Some(due_ns) = self.by_lease.remove(&id) {
            self.by_time.remove(&(due_ns, id));
        }
    }

    /// Takes out the lease that has been due longest, if one is.
    pub(super) fn pop_due(&mut self, now_ns: u64) -> Option<i64> {
        let (due_ns, id) = *self.by_time.first()?;
        (due_ns <= now_ns).then(|| self.remove(id))?;
        Some(id)
    }

    /// Earliest due time.
    pub(super) fn first(&self) -> Option<u64> {
        self.by_time.first().map(|(due_ns, _)| *due_ns)
    }

    /// Whether the lease has a due time.
    pub(super) fn contains(&self, id: i64) -> bool {
        self.by_lease.contains_key(&id)
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) {
        self.by_time.clear();
        self.by_lease.clear();
    }
}
