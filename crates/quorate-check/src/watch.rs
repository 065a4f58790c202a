//! etcd's watch guarantees: ordered, unique, reliable, atomic, resumable, bookmarkable; and that each event is right.
//!
//! The judge knows everything that happened ([`RevisionEvents`], without a gap from an empty store on) and what each watch was told. What a watch
//! must be told follows: the events of its range from its first revision on that its filters leave, revision by revision.
//!
//! Source: etcd's "KV API guarantees, Watch APIs"; the names are those of etcd's robustness tests.
//!
//! Left out: that events come in time. A watch that is never told anything breaks nothing, unless a progress notice
//! or [`Watch::complete_to`] says that it should have been.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    etcd::{Event, KeyValue, Range, RevisionEvents, Space},
    verdict::{Finding, Rule, Verdict},
};

/// What one watch asked for and was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Which keys.
    pub range: Range,
    /// The first revision it wants; 0 for whatever comes after its creation.
    pub start_revision: i64,
    /// Whether events carry the pair before.
    #[serde(default)]
    pub prev_kv: bool,
    /// Leaves puts out.
    #[serde(default)]
    pub no_put: bool,
    /// Leaves deletions out.
    #[serde(default)]
    pub no_delete: bool,
    /// What came, in order. Of a watch that was broken off and resumed, each part is a watch of its own.
    pub responses: Vec<Response>,
    /// The watch must have been told everything up to this revision; `None` if that is not known.
    #[serde(default)]
    pub complete_to: Option<i64>,
}

/// One message of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The revision in the header.
    pub revision: i64,
    /// A notice that everything up to `revision` has been told.
    #[serde(default)]
    pub progress: bool,
    /// What happened.
    #[serde(default)]
    pub events: Vec<Told>,
}

/// An event as the watch was told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The event.
    pub event: Event,
    /// The pair before.
    #[serde(default)]
    pub prev: Option<KeyValue>,
}

impl Watch {
    fn wants(&self, event: &Event) -> bool {
        let filtered = if event.deleted { self.no_delete } else { self.no_put };
        self.range.covers(&event.pair.key) && !filtered
    }
}

/// Whether every watch was told the truth, the whole truth, once and in order.
///
/// Findings name watches by their place in `watches`.
pub fn check(watches: &[Watch], history: &[RevisionEvents]) -> Verdict {
    let mut space = Space::default();
    for one in history {
        space.apply(&one.events);
    }
    let truth = Truth { history, space };
    let findings = watches.iter().enumerate().flat_map(|(id, watch)| truth.judge(id, watch));
    Verdict::of(findings.collect())
}

struct Truth<'a> {
    history: &'a [RevisionEvents],
    space: Space,
}

impl Truth<'_> {
    fn judge(&self, id: usize, watch: &Watch) -> Vec<Finding> {
        let mut findings = order(watch);
        findings.extend(bookmarks(watch));
        findings.extend(told(watch).filter_map(|told| self.content(watch, told)));
        findings.extend(self.missing(watch));
        findings.into_iter().map(|finding| finding.of([id])).collect()
    }

    /// What is wrong with one event, if anything.
    fn content(&self, watch: &Watch, told: &Told) -> Option<Finding> {
        let pair = &told.event.pair;
        let before = self.space.get(&pair.key, pair.mod_revision - 1);
        let at = self.history.partition_point(|one| one.revision < pair.mod_revision);
        let there = self.history.get(at).filter(|one| one.revision == pair.mod_revision);
        let same_key =
            |event: &&Event| event.pair.key == pair.key && event.deleted == told.event.deleted;
        let truth = there.and_then(|one| one.events.iter().find(same_key));
        let (rule, what) = match truth {
            None => (Rule::WatchContent, format!("{:?} never happened", told.event)),
            Some(_) if !watch.wants(&told.event) => {
                (Rule::WatchFilter, format!("{:?} was not asked for", told.event))
            }
            Some(truth) if is_create(&truth.pair) != is_create(pair) => {
                (Rule::WatchIsCreate, format!("{pair:?}, but before it was {before:?}"))
            }
            Some(truth) if *truth != told.event => {
                (Rule::WatchContent, format!("{:?} was {truth:?}", told.event))
            }
            Some(_) if told.prev.as_ref() != before.filter(|_| watch.prev_kv) => (
                Rule::WatchPrevKv,
                format!("{pair:?} with {:?} before, but it was {before:?}", told.prev),
            ),
            Some(_) => return None,
        };
        Some(Finding::new(rule, what))
    }

    /// Events that should have come: those before the first told one, and those between two told ones.
    fn missing(&self, watch: &Watch) -> Vec<Finding> {
        let mut count: BTreeMap<(i64, &str), usize> = BTreeMap::new();
        for told in told(watch) {
            *count.entry((told.event.pair.mod_revision, &told.event.pair.key)).or_default() += 1;
        }
        let first = count.keys().next().map(|(revision, _)| *revision);
        let due = due(watch).max(count.keys().next_back().map(|(revision, _)| *revision));
        let Some(due) = due else { return Vec::new() };
        let start = if watch.start_revision > 0 { Some(watch.start_revision) } else { first };
        let from =
            self.history.partition_point(|one| start.is_none_or(|start| one.revision < start));
        let expected = self.history.get(from..).unwrap_or_default().iter();
        let expected = expected.take_while(|one| one.revision <= due).flat_map(|one| &one.events);
        let lost = expected.filter(|event| watch.wants(event)).filter(|event| {
            !count.contains_key(&(event.pair.mod_revision, event.pair.key.as_str()))
        });
        let rule = |event: &Event| match first {
            Some(first) if event.pair.mod_revision > first => Rule::WatchReliable,
            Some(first) if event.pair.mod_revision == first => Rule::WatchAtomic,
            Some(_) | None => Rule::WatchResumable,
        };
        lost.map(|event| Finding::new(rule(event), format!("{event:?} was never told"))).collect()
    }
}

fn told(watch: &Watch) -> impl Iterator<Item = &Told> {
    watch.responses.iter().flat_map(|response| &response.events)
}

/// Whether the pair came into being with its last change.
fn is_create(pair: &KeyValue) -> bool {
    pair.create_revision == pair.mod_revision
}

/// The revision up to which a watch must have been told everything.
fn due(watch: &Watch) -> Option<i64> {
    let notices = watch.responses.iter().filter(|response| response.progress);
    notices.map(|response| response.revision).max().max(watch.complete_to)
}

/// Ordered, unique, atomic: what can be seen without knowing what happened.
fn order(watch: &Watch) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut newest = 0;
    let mut seen = std::collections::BTreeSet::new();
    for response in &watch.responses {
        let before = newest;
        for told in &response.events {
            let (revision, key) = (told.event.pair.mod_revision, &told.event.pair.key);
            let mut find = |rule, what| {
                findings.push(Finding::new(rule, format!("{key} at {revision}: {what}")));
            };
            if !seen.insert((revision, key)) {
                find(Rule::WatchUnique, "told twice".to_owned());
            } else if revision < newest {
                find(Rule::WatchOrdered, format!("told after revision {newest}"));
            } else if revision == before {
                find(
                    Rule::WatchAtomic,
                    "the rest of its revision came in an earlier response".to_owned(),
                );
            }
            newest = newest.max(revision);
        }
    }
    findings
}

/// No event may come after a notice that covers it.
fn bookmarks(watch: &Watch) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut notice = 0;
    for response in &watch.responses {
        for told in response.events.iter().filter(|told| told.event.pair.mod_revision <= notice) {
            let what = format!("{:?} came after progress to {notice}", told.event);
            findings.push(Finding::new(Rule::WatchBookmarkable, what));
        }
        if response.progress {
            notice = notice.max(response.revision);
        }
    }
    findings
}
