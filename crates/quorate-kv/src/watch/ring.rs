//! The newest revisions in memory, shared by all watch streams.

use std::{collections::VecDeque, sync::Arc};

use crate::RevisionEvents;

/// What an event costs beside its bytes, roughly: the message, its buffers' headers.
const EVENT_OVERHEAD_BYTES: usize = 160;

/// Rough size of one revision's events in memory.
pub(super) fn size_bytes(revision: &RevisionEvents) -> usize {
    let size = |event: &quorate_proto::mvccpb::Event| {
        event.kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len()) + EVENT_OVERHEAD_BYTES
    };
    revision.events.iter().map(size).sum()
}

/// A window over the newest revisions, bounded in number and in bytes.
///
/// Invariant: the revisions are consecutive.
#[derive(Debug)]
pub(super) struct Ring {
    revisions: VecDeque<Arc<RevisionEvents>>,
    bytes: usize,
    revisions_max: usize,
    bytes_max: usize,
}

impl Ring {
    /// An empty window.
    pub(super) fn new(revisions_max: usize, bytes_max: usize) -> Self {
        Self { revisions: VecDeque::new(), bytes: 0, revisions_max, bytes_max }
    }

    /// Adds the next revision and drops the oldest ones beyond the limits, itself if it alone is too large.
    pub(super) fn push(&mut self, revision: &Arc<RevisionEvents>) {
        let follows =
            self.revisions.back().is_none_or(|last| last.revision + 1 == revision.revision);
        if !follows {
            self.clear();
        }
        self.bytes += size_bytes(revision);
        self.revisions.push_back(Arc::clone(revision));
        while self.revisions.len() > self.revisions_max || self.bytes > self.bytes_max {
            let Some(oldest) = self.revisions.pop_front() else { break };
            self.bytes -= size_bytes(&oldest);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.revisions.clear();
        self.bytes = 0;
    }

    /// Revisions from `from` on, as many as the limits allow and at least one; `None` if the window does not hold
    /// `from`.
    pub(super) fn run(
        &self,
        from: i64,
        revisions_max: usize,
        bytes_max: usize,
    ) -> Option<Vec<Arc<RevisionEvents>>> {
        let first = self.revisions.front()?.revision;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        if skip >= self.revisions.len() {
            return None;
        }
        let mut bytes = 0;
        let mut run = Vec::new();
        for revision in self.revisions.range(skip..).take(revisions_max) {
            bytes += size_bytes(revision);
            if bytes > bytes_max && !run.is_empty() {
                break;
            }
            run.push(Arc::clone(revision));
        }
        Some(run)
    }

    /// Number of revisions held.
    pub(super) fn len(&self) -> usize {
        self.revisions.len()
    }

    /// Rough size of what is held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(revision: i64) -> Arc<RevisionEvents> {
        Arc::new(RevisionEvents { revision, events: vec![quorate_proto::mvccpb::Event::default()] })
    }

    fn ring(revisions_max: usize, last: i64) -> Ring {
        let mut ring = Ring::new(revisions_max, usize::MAX);
        (2..=last).for_each(|number| ring.push(&revision(number)));
        ring
    }

    #[test]
    fn the_oldest_revisions_leave_first() {
        let ring = ring(3, 10);
        assert!(ring.run(7, 10, usize::MAX).is_none());
        let run = ring.run(8, 10, usize::MAX).unwrap();
        assert_eq!(run.iter().map(|entry| entry.revision).collect::<Vec<_>>(), [8, 9, 10]);
        assert!(ring.run(11, 10, usize::MAX).is_none());
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut ring = Ring::new(100, EVENT_OVERHEAD_BYTES * 2);
        (2..=9).for_each(|number| ring.push(&revision(number)));
        assert_eq!((ring.len(), ring.bytes()), (2, EVENT_OVERHEAD_BYTES * 2));
        assert_eq!(ring.run(8, 10, 1).unwrap().len(), 1);
    }

    #[test]
    fn a_gap_empties_the_window() {
        let mut ring = ring(10, 5);
        ring.push(&revision(9));
        assert!(ring.run(5, 10, usize::MAX).is_none());
        assert_eq!(ring.run(9, 10, usize::MAX).unwrap().len(), 1);
    }
}
