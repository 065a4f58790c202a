//! etcd's key space as a judge sees it: pairs, ranges, transactions, events, and a store that replays them.
//!
//! It is written from etcd's documentation of its data model, and not from any store of this workspace. Only what histories of
//! the judges use is here.
//!
//! Left out: sorting and limits of ranges, leases (see [`crate::lease`]), nested transactions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A pair with its revisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// The revision at which the key came into being.
    pub create_revision: i64,
    /// The revision of its last change.
    pub mod_revision: i64,
    /// How often it was put since it came into being.
    pub version: i64,
}

/// A key, or all keys from `key` up to but without `end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first key.
    pub key: String,
    /// Where the range ends; `None` for one key, `"\0"` for no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}

impl Range {
    /// One key.
    pub fn one(key: &str) -> Self {
        Self { key: key.into(), end: None }
    }

    /// Every key.
    pub fn all() -> Self {
        Self { key: String::new(), end: Some("\0".into()) }
    }

    /// Whether a key lies in it.
    pub fn covers(&self, key: &str) -> bool {
        match self.end.as_deref() {
            None => key == self.key,
            Some("\0") => key >= self.key.as_str(),
            Some(end) => key >= self.key.as_str() && key < end,
        }
    }
}

/// A condition of a transaction on one key; an absent key has revisions and version 0 and no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// The value is this one.
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// The revision of its last change is this one.
    ModRevision {
        /// The key.
        key: String,
        /// The revision; 0 for an absent key.
        revision: i64,
    },
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reads.
    Get(Range),
    /// Writes.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: String,
    },
    /// Deletes every key of the range.
    Delete(Range),
}

/// What a step answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepReply {
    /// To a get: the pairs, by key.
    Got(Vec<KeyValue>),
    /// To a put.
    Put,
    /// To a delete: how many keys there were.
    Deleted(u64),
}

/// A transaction; a plain put or delete is one without conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// All must hold for `success`.
    #[serde(default)]
    pub compare: Vec<Compare>,
    /// Carried out if they do.
    pub success: Vec<Step>,
    /// Carried out if one does not.
    #[serde(default)]
    pub failure: Vec<Step>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The pair afterwards; of a deleted key, only key and `mod_revision` are set.
    pub pair: KeyValue,
    /// Whether it is a deletion.
    #[serde(default)]
    pub deleted: bool,
}

/// Everything that happened in one revision, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionEvents {
    /// The revision.
    pub revision: i64,
    /// Its changes.
    pub events: Vec<Event>,
}

/// The key space with its past, by replay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    /// Each key's changes in order; `None` for a deletion.
    past: BTreeMap<String, Vec<(i64, Option<KeyValue>)>>,
}

/// What a transaction does to a state.
#[derive(Debug)]
pub(crate) struct Effect {
    pub(crate) succeeded: bool,
    pub(crate) replies: Vec<StepReply>,
    pub(crate) events: Vec<Event>,
}

impl Space {
    /// The pair of a key at a revision.
    pub(crate) fn get(&self, key: &str, revision: i64) -> Option<&KeyValue> {
        let past = self.past.get(key)?;
        let after = past.partition_point(|(at, _)| *at <= revision);
        past.get(after.checked_sub(1)?)?.1.as_ref()
    }

    /// The pairs of a range at a revision, by key.
    pub(crate) fn range(&self, range: &Range, revision: i64) -> Vec<KeyValue> {
        if range.end.is_none() {
            return self.get(&range.key, revision).into_iter().cloned().collect();
        }
        let keys = self.past.range(range.key.clone()..).map(|(key, _)| key);
        let keys = keys.take_while(|key| range.covers(key));
        keys.filter_map(|key| self.get(key, revision)).cloned().collect()
    }

    /// Takes the events of the next revision over.
    pub(crate) fn apply(&mut self, events: &[Event]) {
        for event in events {
            let pair = (!event.deleted).then(|| event.pair.clone());
            let past = self.past.entry(event.pair.key.clone()).or_default();
            past.push((event.pair.mod_revision, pair));
        }
    }

    /// Carries a transaction out as `revision`, without keeping its effect.
    pub(crate) fn run(&self, txn: &Txn, revision: i64) -> Effect {
        let before = revision - 1;
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare, before));
        let mut draft = Draft { base: self, before, revision, changes: BTreeMap::new() };
        let mut effect = Effect { succeeded, replies: Vec::new(), events: Vec::new() };
        for step in if succeeded { &txn.success } else { &txn.failure } {
            let reply = draft.step(step, &mut effect.events);
            effect.replies.push(reply);
        }
        effect
    }

    fn holds(&self, compare: &Compare, revision: i64) -> bool {
        match compare {
            Compare::Value { key, value } => {
                self.get(key, revision).is_some_and(|pair| pair.value == *value)
            }
            Compare::ModRevision { key, revision: wanted } => {
                self.get(key, revision).map_or(0, |pair| pair.mod_revision) == *wanted
            }
        }
    }
}

/// A transaction in progress: it sees its own changes.
struct Draft<'a> {
    base: &'a Space,
    before: i64,
    revision: i64,
    changes: BTreeMap<String, Option<KeyValue>>,
}

impl Draft<'_> {
    fn step(&mut self, step: &Step, events: &mut Vec<Event>) -> StepReply {
        match step {
            Step::Get(range) => StepReply::Got(self.range(range)),
            Step::Put { key, value } => {
                let pair = self.put(key, value);
                events.push(Event { pair, deleted: false });
                StepReply::Put
            }
            Step::Delete(range) => {
                let gone = self.range(range);
                let count = gone.len() as u64;
                events.extend(gone.into_iter().map(|pair| self.delete(pair.key)));
                StepReply::Deleted(count)
            }
        }
    }

    fn range(&self, range: &Range) -> Vec<KeyValue> {
        let base = self.base.range(range, self.before).into_iter();
        let mut pairs: BTreeMap<_, _> = base.map(|pair| (pair.key.clone(), Some(pair))).collect();
        let changes = self.changes.iter().filter(|(key, _)| range.covers(key));
        pairs.extend(changes.map(|(key, pair)| (key.clone(), pair.clone())));
        pairs.into_values().flatten().collect()
    }

    fn put(&mut self, key: &str, value: &str) -> KeyValue {
        let old = self.range(&Range::one(key)).pop();
        let pair = KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: old.as_ref().map_or(self.revision, |old| old.create_revision),
            mod_revision: self.revision,
            version: old.map_or(0, |old| old.version) + 1,
        };
        self.changes.insert(key.into(), Some(pair.clone()));
        pair
    }

    fn delete(&mut self, key: String) -> Event {
        self.changes.insert(key.clone(), None);
        tombstone(key, self.revision)
    }
}

/// The event of a deletion.
pub(crate) fn tombstone(key: String, revision: i64) -> Event {
    let value = String::new();
    let pair = KeyValue { key, value, create_revision: 0, mod_revision: revision, version: 0 };
    Event { pair, deleted: true }
}
