//! Strict serializability of etcd's key space, by the order that replies carry themselves.
//!
//! Every reply names a revision. A write's revision is its place in the one order of all writes; a read stands right behind the
//! write of its revision. So nothing has to be searched: sort by revision, replay, compare every reply with the
//! state at its place, and sweep once over time to see that nobody was answered with a past that somebody else
//! had already left behind. That is O(n log n) for any number of clients, keys and steps; each persisted write without an answer costs one more pass over
//! the unknown ones that are left.
//!
//! Writes of unknown outcome: the events that were persisted (from logs or from a watch over everything) say which took effect.
//! An event set that no answered write explains must be what one of the unknown ones would have done there.
//!
//! Left out: compaction (an old read must still be in the state), and searching for an order when events are not known: a gap
//! that unknown writes may fill is [`Verdict::Undecided`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    etcd::{Event, Range, RevisionEvents, Space, StepReply, Txn},
    history::{self, Error, Outcome},
    verdict::{Finding, Rule, Verdict},
};

/// The revision of an empty store: the first write gets the next one.
pub const EMPTY_REVISION: i64 = 1;

/// What a client can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Reads a range.
    Read {
        /// Which keys.
        range: Range,
        /// At which revision; `None` for the newest.
        #[serde(default)]
        at: Option<i64>,
        /// Whether any member may answer from what it has: real time is not judged then.
        #[serde(default)]
        serializable: bool,
    },
    /// Puts, deletes, and everything with conditions.
    Txn(Txn),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The revision in the header.
    pub revision: i64,
    /// Whether the conditions held; `true` for a read.
    pub succeeded: bool,
    /// An answer for each step; for a read, one.
    pub steps: Vec<StepReply>,
}

/// One request to etcd.
pub type Operation = history::Operation<Request, Reply>;

/// Whether the history is strict serializable in the order of its revisions, from an empty store on.
///
/// `persisted` is every revision that is known to be in the store, in order; empty if nothing is known but the replies.
///
/// # Errors
/// [`Error::Time`] or [`Error::PersistedOrder`].
pub fn check(history: &[Operation], persisted: &[RevisionEvents]) -> Result<Verdict, Error> {
    history::check_times(history)?;
    check_order(persisted)?;
    let mut judge = Judge::new(history, persisted);
    judge.replay();
    judge.findings.extend(real_time(history, &judge.resolved));
    let open = judge.findings.is_empty().then_some(judge.undecided).flatten();
    Ok(open.map_or_else(|| Verdict::of(judge.findings), Verdict::Undecided))
}

fn check_order(persisted: &[RevisionEvents]) -> Result<(), Error> {
    let late = persisted.windows(2).find_map(|pair| match pair {
        [first, second] if first.revision >= second.revision => Some(second.revision),
        _ => None,
    });
    late.map_or(Ok(()), |revision| Err(Error::PersistedOrder { revision }))
}

/// Whether the reply is that of a write, which has its revision for itself.
fn wrote(reply: &Reply) -> bool {
    reply.steps.iter().any(|step| match step {
        StepReply::Put => true,
        StepReply::Deleted(count) => *count > 0,
        StepReply::Got(_) => false,
    })
}

struct Judge<'a> {
    history: &'a [Operation],
    persisted: BTreeMap<i64, &'a [Event]>,
    /// Answered operations by the revision whose state they saw.
    seen: BTreeMap<i64, Vec<(usize, &'a Reply)>>,
    /// Transactions of unknown outcome that have not been found yet, earliest first.
    unknown: Vec<(usize, &'a Txn)>,
    /// The revision of each that was found.
    resolved: Vec<(usize, i64)>,
    space: Space,
    findings: Vec<Finding>,
    undecided: Option<String>,
}

impl<'a> Judge<'a> {
    fn new(history: &'a [Operation], persisted: &'a [RevisionEvents]) -> Self {
        let persisted = persisted.iter().map(|one| (one.revision, one.events.as_slice())).collect();
        let mut seen: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        let mut unknown = Vec::new();
        for (id, one) in history.iter().enumerate() {
            match (&one.request, &one.outcome) {
                (Request::Read { at, .. }, Outcome::Ok(reply)) => {
                    seen.entry(at.unwrap_or(reply.revision)).or_default().push((id, reply));
                }
                (Request::Txn(_), Outcome::Ok(reply)) => {
                    seen.entry(reply.revision).or_default().push((id, reply));
                }
                (Request::Txn(txn), Outcome::Unknown) => unknown.push((id, txn)),
                (Request::Read { .. } | Request::Txn(_), Outcome::Failed | Outcome::Unknown) => {}
            }
        }
        unknown.sort_by_key(|(id, _)| history.get(*id).map(|one| one.invoke));
        let space = Space::default();
        let (resolved, findings) = (Vec::new(), Vec::new());
        Self { history, persisted, seen, unknown, resolved, space, findings, undecided: None }
    }

    /// Walks up the revisions: first the write, then everybody who saw its state.
    fn replay(&mut self) {
        let last = |revisions: Option<i64>| revisions.unwrap_or(EMPTY_REVISION);
        let newest = last(self.seen.keys().next_back().copied())
            .max(last(self.persisted.keys().next_back().copied()));
        let known: std::collections::BTreeSet<i64> = self
            .seen
            .keys()
            .chain(self.persisted.keys())
            .copied()
            .filter(|at| *at <= newest)
            .collect();
        let mut before = EMPTY_REVISION;
        for revision in known {
            self.gap(before, revision);
            let seen = self.seen.remove(&revision).unwrap_or_default();
            if revision > EMPTY_REVISION {
                self.write(revision, &seen);
            }
            if self.undecided.is_some() {
                return;
            }
            for (id, reply) in seen {
                self.compare(revision, id, reply);
            }
            before = revision.max(before);
        }
    }

    fn gap(&mut self, before: i64, revision: i64) {
        if revision <= before + 1 {
            return;
        }
        let what = format!("nothing is known of revisions {} to {}", before + 1, revision - 1);
        if self.unknown.is_empty() || !self.persisted.is_empty() {
            self.findings.push(Finding::new(Rule::RevisionGap, what));
        } else {
            self.undecided = Some(what);
        }
    }

    /// Finds who wrote `revision`, and takes its events over.
    fn write(&mut self, revision: i64, seen: &[(usize, &Reply)]) {
        let writers: Vec<usize> =
            seen.iter().filter(|(_, reply)| wrote(reply)).map(|(id, _)| *id).collect();
        if writers.len() > 1 {
            let what = format!("revision {revision} was given to {} writes", writers.len());
            let finding = Finding::new(Rule::RevisionUnique, what).of(writers.iter().copied());
            self.findings.push(self.timed(finding));
        }
        let persisted = self.persisted.get(&revision).copied();
        let events = match (writers.first(), persisted) {
            (Some(writer), persisted) => self.answered(revision, *writer, persisted),
            (None, Some(events)) => self.resolve(revision, events),
            (None, None) => return self.gap(revision - 1, revision + 1),
        };
        self.space.apply(&events);
    }

    fn answered(
        &mut self,
        revision: i64,
        writer: usize,
        persisted: Option<&[Event]>,
    ) -> Vec<Event> {
        let events = self.run(writer, revision);
        if let Some(persisted) = persisted.filter(|persisted| *persisted != events.as_slice()) {
            let what =
                format!("revision {revision} holds {persisted:?}, its writer asked for {events:?}");
            let finding = Finding::new(Rule::RevisionContent, what).of([writer]);
            self.findings.push(self.timed(finding));
        }
        persisted.map_or(events, <[Event]>::to_vec)
    }

    fn run(&self, id: usize, revision: i64) -> Vec<Event> {
        match self.history.get(id).map(|one| &one.request) {
            Some(Request::Txn(txn)) => self.space.run(txn, revision).events,
            Some(Request::Read { .. }) | None => Vec::new(),
        }
    }

    /// The earliest unknown write that would have done this is the best choice: none is bound to return.
    fn resolve(&mut self, revision: i64, events: &[Event]) -> Vec<Event> {
        let space = &self.space;
        let found =
            self.unknown.iter().position(|(_, txn)| space.run(txn, revision).events == events);
        if let Some(found) = found {
            let (id, _) = self.unknown.remove(found);
            self.resolved.push((id, revision));
        } else {
            let what = format!("revision {revision} holds {events:?}, which nobody asked for");
            self.findings.push(Finding::new(Rule::RevisionContent, what));
        }
        events.to_vec()
    }

    /// Compares a reply with the state at its place.
    fn compare(&mut self, revision: i64, id: usize, reply: &Reply) {
        let (succeeded, steps) = match self.history.get(id).map(|one| &one.request) {
            Some(Request::Read { range, .. }) => {
                (true, vec![StepReply::Got(self.space.range(range, revision))])
            }
            Some(Request::Txn(txn)) => {
                let at = if wrote(reply) { revision } else { revision + 1 };
                let effect = self.space.run(txn, at);
                (effect.succeeded, effect.replies)
            }
            None => return,
        };
        if reply.succeeded != succeeded || reply.steps != steps {
            let what =
                format!("at revision {revision}: got {:?}, the state gives {steps:?}", reply.steps);
            let finding = Finding::new(Rule::ReadContent, what).of([id]);
            self.findings.push(self.timed(finding));
        }
    }

    fn timed(&self, finding: Finding) -> Finding {
        let shown = || finding.operations.iter().filter_map(|id| self.history.get(*id));
        let from = shown().map(|one| one.invoke).min().unwrap_or(0);
        let to = shown().filter_map(|one| one.returned).max().unwrap_or(from);
        finding.within(from, to)
    }
}

/// An answered or found operation at one of its ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Instant {
    at: u64,
    /// Its return; invocations sort first, so that a tie convicts nobody.
    returns: bool,
    id: usize,
    revision: i64,
    wrote: bool,
}

fn instants(history: &[Operation], resolved: &[(usize, i64)]) -> Vec<Instant> {
    let mut instants = Vec::new();
    for (id, one) in history.iter().enumerate() {
        if let (Some(reply), Some(returned)) = (one.outcome.reply(), one.returned) {
            let (revision, wrote) = (reply.revision, wrote(reply));
            instants.push(Instant { at: one.invoke, returns: false, id, revision, wrote });
            instants.push(Instant { at: returned, returns: true, id, revision, wrote });
        }
    }
    for (id, revision) in resolved {
        let at = history.get(*id).map_or(0, |one| one.invoke);
        instants.push(Instant { at, returns: false, id: *id, revision: *revision, wrote: true });
    }
    instants.sort_unstable();
    instants
}

/// Whoever is invoked after a return stands behind it: a write strictly, a read not before.
fn real_time(history: &[Operation], resolved: &[(usize, i64)]) -> Vec<Finding> {
    let mut newest: Option<Instant> = None;
    let mut findings = Vec::new();
    for now in instants(history, resolved) {
        if !now.returns {
            findings.extend(newest.and_then(|newest| stale(history, newest, now)));
        } else if newest.is_none_or(|newest| newest.revision < now.revision) {
            newest = Some(now);
        }
    }
    findings
}

fn stale(history: &[Operation], newest: Instant, now: Instant) -> Option<Finding> {
    let one = history.get(now.id)?;
    let free = matches!(one.request, Request::Read { serializable: true, .. });
    let least = newest.revision + i64::from(now.wrote);
    let what =
        format!("stands at revision {} after {} had been answered", now.revision, newest.revision);
    let from = history.get(newest.id).map_or(0, |before| before.invoke);
    let finding = Finding::new(Rule::RealTime, what).of([newest.id, now.id]);
    (!free && now.revision < least).then(|| finding.within(from, one.returned.unwrap_or(from)))
}
