//! Keeping old segments from living for ever: a lagging group's few entries are copied forward, a piece with each round.

use quorate_node::{Entry, LogError};
use quorate_raft::{GroupId, Index};

use super::{Wal, index::GroupState, record::Plain};

/// No more than about this is copied with one round, nor more than a quarter of a segment.
pub(super) const REWRITE_BYTES_PER_ROUND: u64 = 1024 * 1024;

/// Entries that are copied forward.
#[derive(Debug)]
pub(super) struct Rewrite {
    pub group: GroupId,
    first: u64,
    entries: Vec<Entry>,
}

impl Rewrite {
    pub(super) fn plain(&self) -> Plain<'_> {
        Plain::Rewritten { first: Index(self.first), entries: &self.entries }
    }
}

/// What of the oldest segment is still to be copied. What has changed since it was listed is passed over.
#[derive(Debug, Default)]
pub(super) struct RewriteQueue {
    segment: u64,
    spans: Vec<(GroupId, u64)>,
}

/// The record that tells what a group is at the start of a segment.
pub(super) fn checkpoint(state: &GroupState) -> Plain<'_> {
    Plain::State {
        hard_state: state.hard_state,
        base: state.base.as_ref(),
        next: Index(state.next),
    }
}

impl Wal {
    /// What is to be copied with this round.
    pub(super) fn plan_rewrites(&mut self) -> Result<Vec<Rewrite>, LogError> {
        let mut rewrites = Vec::new();
        let Some(oldest) = self.segments.oldest().filter(|oldest| *oldest < self.next.segment)
        else {
            return Ok(rewrites);
        };
        if self.rewrites.segment != oldest || self.rewrites.spans.is_empty() {
            if !self.is_mostly_dead() {
                return Ok(rewrites);
            }
            let mut spans = self.index.spans_in(oldest);
            spans.reverse();
            self.rewrites = RewriteQueue { segment: oldest, spans };
        }
        let most = REWRITE_BYTES_PER_ROUND.min(self.config.segment_bytes / 4);
        let mut bytes = 0;
        while bytes < most {
            let Some((group, key)) = self.rewrites.spans.pop() else { break };
            let span = self.index.group(group).and_then(|state| state.spans.get(&key).copied());
            if let Some(span) = span.filter(|span| span.place.segment == oldest) {
                let entries = self.read_from(group, key, span.last, u64::MAX)?;
                bytes += u64::from(span.place.bytes);
                rewrites.push(Rewrite { group, first: key, entries });
            }
        }
        Ok(rewrites)
    }

    /// Whether the closed segments hold more dead bytes than live ones and a segment's worth.
    fn is_mostly_dead(&self) -> bool {
        let current = self.next.segment;
        let usage = self.index.usage();
        let live = usage.total().bytes.saturating_sub(usage.of(current).bytes);
        let dead = self.segments.closed_bytes(current).saturating_sub(live);
        dead > live.saturating_add(self.config.segment_bytes)
    }
}
