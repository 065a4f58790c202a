//! Appends to lists, in transactions that also read: a read of all lists, then a write on the condition that none has changed.

use quorate_check::{
    Outcome, cycles,
    etcd::{Compare, KeyValue, Range, StepReply, Txn},
    revision::{Reply, Request},
};

use super::{Heard, Trade, Who, put};
use crate::full::{
    call::{Answer, Ask},
    history::History,
    plan::MS,
};

/// How many lists there are.
const LISTS: u64 = 2;

/// Appends to lists.
#[derive(Debug, Default)]
pub(in crate::full) struct Lists(Option<Append>);

/// A transaction between its read and its write.
#[derive(Debug)]
struct Append {
    invoke: u64,
    lists: Vec<Vec<u64>>,
    /// To which list, and what; `None` while the read is under way.
    adds: Option<(u64, u64)>,
}

impl Trade for Lists {
    fn ask(&mut self, _: &mut Who, now: u64) -> Ask {
        let request = match &self.0 {
            None => {
                self.0 = Some(Append { invoke: now, lists: Vec::new(), adds: None });
                let range = Range { key: "list".into(), end: Some("lisu".into()) };
                Request::Read { range, at: None, serializable: false }
            }
            Some(append) => append.write(),
        };
        Ask::Keys(request, 0)
    }

    fn hear(&mut self, who: &mut Who, heard: &Heard<'_>, history: &mut History) -> Option<u64> {
        let mut append = self.0.take()?;
        let reply = match heard.outcome {
            Outcome::Ok(Answer::Keys(reply)) => Some(reply),
            Outcome::Ok(_) | Outcome::Failed | Outcome::Unknown => None,
        };
        if append.adds.is_none() {
            append.lists = lists_of(reply?);
            append.adds = Some((who.dice.below(LISTS), who.number()));
            self.0 = Some(append);
            return Some(heard.now + who.dice.below(20 * MS));
        }
        let outcome = match (heard.outcome, reply) {
            (Outcome::Ok(_), Some(reply)) if reply.succeeded => Outcome::Ok(append.steps(true)),
            (Outcome::Ok(_) | Outcome::Failed, _) => Outcome::Failed,
            (Outcome::Unknown, _) => Outcome::Unknown,
        };
        let (client, invoke, returned) = (who.client, append.invoke, Some(heard.now));
        let request = append.steps(false);
        history.lists.push(cycles::Operation { client, invoke, returned, request, outcome });
        None
    }
}

impl Append {
    fn write(&self) -> Request {
        let (list, element) = self.adds.unwrap_or_default();
        let read = self.lists.get(usize::try_from(list).unwrap_or(0));
        let elements: Vec<u64> = read.into_iter().flatten().copied().chain([element]).collect();
        let unchanged = (0..).zip(&self.lists).map(|(list, read)| unchanged(list, join(read)));
        let compare = unchanged.collect();
        Request::Txn(Txn { compare, ..put(list_key(list), join(&elements)) })
    }

    /// The transaction as the judge of lists takes it; with what was read, or without.
    fn steps(&self, answered: bool) -> Vec<cycles::Step> {
        let read = |list: u64| {
            let elements = self.lists.get(usize::try_from(list).unwrap_or(0));
            let elements = elements.cloned().unwrap_or_default();
            cycles::Step::Read { key: list_key(list), elements: answered.then_some(elements) }
        };
        let append = |(list, element)| cycles::Step::Append { key: list_key(list), element };
        (0..LISTS).map(read).chain(self.adds.map(append)).collect()
    }
}

fn list_key(list: u64) -> String {
    format!("list{list}")
}

fn join(elements: &[u64]) -> String {
    let words: Vec<String> = elements.iter().map(u64::to_string).collect();
    words.join(",")
}

/// The condition that a list is as it was read.
fn unchanged(list: u64, value: String) -> Compare {
    let key = list_key(list);
    if value.is_empty() {
        Compare::ModRevision { key, revision: 0 }
    } else {
        Compare::Value { key, value }
    }
}

/// The lists in an answer to the read of all.
fn lists_of(reply: &Reply) -> Vec<Vec<u64>> {
    let Some(StepReply::Got(pairs)) = reply.steps.first() else { return Vec::new() };
    let list = |number: u64| {
        let found = pairs.iter().find(|pair: &&KeyValue| pair.key == list_key(number));
        let words = found.map_or("", |pair| pair.value.as_str()).split(',');
        words.filter_map(|word| word.parse().ok()).collect()
    };
    (0..LISTS).map(list).collect()
}
