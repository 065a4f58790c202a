//! Hashes of compactions: what the history up to a compacted revision hashed to before the compaction took its share.
//!
//! Members compare these, and a client that asked for the hash of a revision gets the same after that revision was compacted.
//! A job of its own reads the history from a view of just before the purge, so that neither writes nor the purge wait. Kept in
//! memory, the newest few, as etcd does.
//!
//! Source: etcd `server/storage/mvcc/hash.go` (`hashStorage`).

use std::{collections::VecDeque, sync::Arc};

use anyhow::Context;
use parking_lot::Mutex;
use quorate_kv::{HashKv, Reader};

use crate::shared::{ApplyInput, Shared};

/// How many are kept (etcd: `hashStorageMaxSize`).
const KEPT_MAX: usize = 10;

/// The newest hashes, by ascending revision.
#[derive(Debug, Default)]
pub(crate) struct CompactionHashes {
    kept: Mutex<VecDeque<HashKv>>,
}

impl CompactionHashes {
    /// The hash that was kept of the compaction at exactly `revision`.
    pub(crate) fn at(&self, revision: i64) -> Option<HashKv> {
        self.kept.lock().iter().find(|hash| hash.hash_revision == revision).copied()
    }

    fn keep(&self, hash: HashKv) {
        let mut kept = self.kept.lock();
        kept.push_back(hash);
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
    }
}

/// Hashes the compaction that `reader` is the first to show. The apply side hears when that is done.
///
/// # Errors
/// There is nowhere to do it.
pub(crate) fn start(
    shared: Arc<Shared>,
    reader: Reader,
    previous_compact_revision: i64,
) -> std::io::Result<()> {
    let jobs = Arc::clone(&shared.jobs);
    let work = move || {
        let hashed = reader.hash_compacted(previous_compact_revision).context("hash a compaction");
        let kept = hashed.map(|hash| {
            let revision = hash.hash_revision;
            tracing::info!(hash = hash.hash, revision, "finished compaction hash");
            shared.hashes.keep(hash);
        });
        shared.apply.put(ApplyInput::Hashed(kept));
    };
    jobs.run("hash", Box::new(work))
}
