//! Removing what compaction made unreachable, in small steps.
//!
//! The purge walks history from where it stopped up to the compacted revision. A change that it meets supersedes the one
//! before it of the same key, which goes; a deletion below the compacted revision goes itself. So the work is in
//! proportion to what changed, not to what is stored, and these stay: the newest version of every live key, everything
//! visible at the compacted revision, and deletions at exactly that revision, which a watch that starts there must still
//! see (etcd point 39). The next compaction begins with the revision of the last one, to fetch those.
//!
//! The cursor is this member's own. Answers and hashes do not depend on it.
//!
//! Source: etcd `server/storage/mvcc/kvstore_compaction.go`, `key_index.go`; issues 18089 and 19179.

use std::ops::ControlFlow;

use quorate_engine::{Batch, View};

use crate::{
    Error, history, index,
    picture::decode_pair,
    schema::{self, IDX, META, REV, Rev, STATE_KEY, Stamp, State},
};

/// What one step removes and where the next begins.
pub(crate) struct Step {
    pub batch: Batch,
    pub state: State,
    pub more: bool,
}

/// Whether something may be left to purge.
pub(crate) fn is_due(state: &State) -> bool {
    state.compact_revision > 0
        && (state.purge_target != state.compact_revision
            || state.purge_next.main <= state.purge_target)
}

/// Looks at the next `changes_max` changes, at least one.
pub(crate) fn step(view: &dyn View, state: &State, changes_max: usize) -> Result<Step, Error> {
    let mut state = aim(*state);
    let mut batch = Batch::new();
    let (mut looked_at, mut next) = (0, None);
    history::scan_from(
        view,
        state.purge_next,
        state.purge_target,
        &mut |rev, tombstone, key, value| {
            if looked_at >= changes_max.max(1) {
                next = Some(rev);
                return Ok(ControlFlow::Break(()));
            }
            looked_at += 1;
            let user_key = decode_pair(key, value)?.key;
            if let Some(before) = index::newest(view, &user_key, rev.main - 1)? {
                remove(&mut batch, &user_key, before);
            }
            if tombstone && rev.main < state.purge_target {
                remove(&mut batch, &user_key, Stamp::deletion(rev));
            }
            Ok(ControlFlow::Continue(()))
        },
    )?;
    state.purge_next = next.unwrap_or(Rev { main: state.purge_target.saturating_add(1), sub: 0 });
    batch.put(META, STATE_KEY, state.encode());
    Ok(Step { batch, state, more: next.is_some() })
}

/// Turns to the newest compaction: back to the revision of the last one, whose deletions were spared.
fn aim(mut state: State) -> State {
    if state.purge_target != state.compact_revision {
        state.purge_next = state.purge_next.min(Rev { main: state.purge_target, sub: 0 });
        state.purge_target = state.compact_revision;
    }
    state
}

fn remove(batch: &mut Batch, key: &[u8], stamp: Stamp) {
    batch.delete(REV, stamp.rev_key());
    batch.delete(IDX, schema::index_key(schema::index_prefix(key), stamp.rev.main));
}
