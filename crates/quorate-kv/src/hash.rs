//! Hashes that members compare, made slice by slice.
//!
//! [`Hash::Kv`] is etcd's `HashKV`: CRC32C over the name of its bucket and then, for each change up to the revision in order,
//! its key there and its value. What a compaction takes away does not count, whether it is still here or not: of the
//! changes up to the compacted revision only those that are still the newest of a live key (etcd point 47).
//!
//! When no key is alive at the revision, etcd leaves its filter out and hashes what its purge has left, deletions at the
//! compacted revision excepted: what was alive at the compacted revision. The same is done here.
//!
//! [`Hash::Whole`] goes on with revisions, leases with their keys, alarms and members' directories: everything replicated.
//!
//! Source: etcd `server/storage/mvcc/hash.go`, `kvstore.go` `hashByRev`, `kvstore_compaction.go`.

use std::ops::{Bound, ControlFlow};

use prost::Message;
use quorate_engine::{Direction, Table, View};

use crate::{
    Budget, Error, HashKv, ReadError, Span, alarm, history,
    index::{self, Pause, Scan, Stretch},
    lease, member,
    picture::{Picture, decode_pair},
    schema::{self, LEASE, LEASE_KEY, Rev},
};

/// The name of etcd's bucket for the history, with which every hash begins.
const BUCKET: &[u8] = b"key";

/// What is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    /// The history.
    Kv,
    /// Everything replicated. Purging does not change it.
    Whole,
}

/// A hash in the making. Every call must see the same picture.
#[derive(Debug)]
pub(crate) struct HashWork {
    what: Hash,
    hashed: HashKv,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Is any key alive at the revision?
    Alive(Scan),
    /// The history, from this change on; of what lies up to the compacted revision, what is alive at `keep_at`.
    History {
        next: Rev,
        keep_at: i64,
    },
    /// A table, behind this key.
    Table(Table, Option<Vec<u8>>),
    Done,
}

impl HashWork {
    /// The hash up to `requested`, 0 for the newest revision. A negative one is before everything, so that only the name is
    /// hashed.
    pub(crate) fn new(
        picture: &Picture<'_>,
        what: Hash,
        requested: i64,
    ) -> Result<Self, ReadError> {
        let compact_revision = picture.compact_revision;
        if requested < 0 {
            let hashed = begun(compact_revision, requested);
            return Ok(Self { what, hashed, stage: Stage::Done });
        }
        let revision = picture.resolve(requested)?;
        Ok(Self::up_to(what, begun(compact_revision, revision)))
    }

    /// The hash up to the compacted revision as it was before that compaction, when `previous` was the compacted revision.
    /// Right only as long as nothing was purged since.
    pub(crate) fn of_compaction(picture: &Picture<'_>, previous: i64) -> Self {
        Self::up_to(Hash::Kv, begun(previous, picture.compact_revision))
    }

    fn up_to(what: Hash, hashed: HashKv) -> Self {
        let everything = Stretch::new(Span::new(b"\0", b"\0"));
        let stage = Stage::Alive(Scan::new(&everything, hashed.hash_revision));
        Self { what, hashed, stage }
    }

    /// Goes on within `budget`. Gives the hash when it is whole.
    pub(crate) fn advance(
        &mut self,
        picture: &Picture<'_>,
        budget: &mut Budget,
    ) -> Result<Option<HashKv>, Error> {
        while !matches!(self.stage, Stage::Done) {
            match &mut self.stage {
                Stage::Done => {}
                Stage::Alive(scan) => {
                    let pause =
                        scan.advance(picture.view, budget, &mut |_, _| Ok(ControlFlow::Break(())))?;
                    let keep_at = match pause {
                        Pause::Spent => return Ok(None),
                        Pause::Stopped => self.hashed.hash_revision,
                        Pause::Ended => self.hashed.compact_revision,
                    };
                    self.stage = Stage::History { next: Rev::default(), keep_at };
                }
                Stage::History { .. } => self.hash_history(picture, budget)?,
                Stage::Table(..) => self.hash_table(picture, budget)?,
            }
            if budget.is_spent() && !matches!(self.stage, Stage::Done) {
                return Ok(None);
            }
        }
        Ok(Some(self.hashed))
    }

    fn hash_history(&mut self, picture: &Picture<'_>, budget: &mut Budget) -> Result<(), Error> {
        let Stage::History { next, keep_at } = self.stage else { return Ok(()) };
        let hashed = &mut self.hashed;
        let mut stopped_at = None;
        history::scan_from(
            picture.view,
            next,
            hashed.hash_revision,
            &mut |rev, tombstone, key, value| {
                if budget.is_spent() {
                    stopped_at = Some(rev);
                    return Ok(ControlFlow::Break(()));
                }
                budget.spend_step();
                budget.spend_bytes(value.len());
                let is_new = rev.main > hashed.compact_revision;
                if is_new || is_kept(picture, keep_at, rev, (key, value), budget)? {
                    hashed.hash = crc32c::crc32c_append(hashed.hash, &etcd_key(rev, tombstone));
                    hashed.hash = crc32c::crc32c_append(hashed.hash, value);
                }
                Ok(ControlFlow::Continue(()))
            },
        )?;
        match stopped_at {
            Some(next) => self.stage = Stage::History { next, keep_at },
            None => self.end_history(picture),
        }
        Ok(())
    }

    fn end_history(&mut self, picture: &Picture<'_>) {
        self.stage = match self.what {
            Hash::Kv => Stage::Done,
            Hash::Whole => {
                self.add(&picture.revision.to_be_bytes());
                self.add(&picture.compact_revision.to_be_bytes());
                Stage::Table(LEASE, None)
            }
        };
    }

    /// Leases, then their keys, then alarms, of which there are few.
    fn hash_table(&mut self, picture: &Picture<'_>, budget: &mut Budget) -> Result<(), Error> {
        let Stage::Table(of, after) = &mut self.stage else { return Ok(()) };
        let (of, hash) = (*of, &mut self.hashed.hash);
        let ended = table(picture.view, of, after, budget, &mut |key, value| {
            if of == LEASE_KEY {
                *hash = crc32c::crc32c_append(*hash, key);
                return Ok(());
            }
            let (id, record) = lease::parse(key, value)?;
            for number in [id, record.ttl, record.remaining_ttl] {
                *hash = crc32c::crc32c_append(*hash, &number.to_be_bytes());
            }
            Ok(())
        })?;
        if ended && of == LEASE {
            self.stage = Stage::Table(LEASE_KEY, None);
        } else if ended {
            for alarm in alarm::all(picture.view)? {
                self.add(&alarm.encode_to_vec());
            }
            for member in member::all(picture.view)? {
                self.add(&member.encode_to_vec());
            }
            self.stage = Stage::Done;
        }
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hashed.hash = crc32c::crc32c_append(self.hashed.hash, bytes);
    }
}

fn begun(compact_revision: i64, hash_revision: i64) -> HashKv {
    HashKv { hash: crc32c::crc32c(BUCKET), compact_revision, hash_revision }
}

/// Gets a pair of a table.
type VisitPair<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), Error> + 'a;

/// Visits the pairs of a table behind `after`, within the budget. Whether the table has ended.
fn table(
    view: &dyn View,
    table: Table,
    after: &mut Option<Vec<u8>>,
    budget: &mut Budget,
    visit: &mut VisitPair<'_>,
) -> Result<bool, Error> {
    let begun = after.take();
    let low = begun.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut outcome = Ok(());
    view.scan(table, (low, Bound::Unbounded), Direction::Forward, &mut |key, value| {
        budget.spend_step();
        outcome = visit(key, value);
        if outcome.is_err() || budget.is_spent() {
            *after = Some(key.to_vec());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    outcome.map(|()| after.is_none())
}

/// Whether the change at `rev` is the newest of its key at `revision`, and not a deletion.
fn is_kept(
    picture: &Picture<'_>,
    revision: i64,
    rev: Rev,
    (key, value): (&[u8], &[u8]),
    budget: &mut Budget,
) -> Result<bool, Error> {
    let user_key = decode_pair(key, value)?.key;
    budget.spend_lookup(0);
    let newest = index::newest(picture.view, &user_key, revision)?;
    Ok(newest.is_some_and(|newest| newest.rev == rev && !newest.tombstone))
}

/// A change's key in etcd's own database.
fn etcd_key(rev: Rev, tombstone: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.extend_from_slice(&rev.main.to_be_bytes());
    key.push(b'_');
    key.extend_from_slice(&i64::from(rev.sub).to_be_bytes());
    if tombstone {
        key.push(schema::TOMBSTONE_MARK);
    }
    key
}
