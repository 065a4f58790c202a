//! What the reads say about each list, and what is wrong with them before any cycle is looked for.

use std::collections::{BTreeMap, BTreeSet};

use super::{Operation, Step};
use crate::{
    history::Outcome,
    verdict::{Finding, Rule},
};

/// One list of the history.
#[derive(Debug, Default)]
pub(super) struct List<'a> {
    /// Its longest read: the order of its versions.
    pub(super) order: &'a [u64],
    longest: usize,
    /// Who appended each element.
    pub(super) writer: BTreeMap<u64, usize>,
    /// Each read by an answered transaction that had not appended to the list before, with the transaction's number.
    pub(super) reads: Vec<(usize, &'a [u64])>,
}

/// All lists by key.
#[derive(Debug, Default)]
pub(super) struct Lists<'a>(pub(super) BTreeMap<&'a str, List<'a>>);

impl<'a> Lists<'a> {
    /// Reads the history; whatever contradicts the very idea of a list goes to `findings`.
    pub(super) fn gather(history: &'a [Operation], findings: &mut Vec<Finding>) -> Self {
        let mut lists = Self::default();
        for (id, one) in history.iter().enumerate() {
            lists.gather_writes(id, one, findings);
        }
        for (id, one) in history.iter().enumerate() {
            if let Some(reply) = one.outcome.reply() {
                lists.gather_reads(id, reply, findings);
            }
        }
        for (key, list) in &lists.0 {
            findings.extend(
                list.reads.iter().filter_map(|(id, read)| list.judge(key, *id, read, history)),
            );
        }
        lists
    }

    fn gather_writes(&mut self, id: usize, one: &'a Operation, findings: &mut Vec<Finding>) {
        for step in &one.request {
            if let Step::Append { key, element } = step
                && let Some(other) = self.0.entry(key).or_default().writer.insert(*element, id)
            {
                let what = format!("element {element} of {key} is appended twice");
                findings.push(Finding::new(Rule::ListOrder, what).of([other, id]));
            }
        }
    }

    fn gather_reads(&mut self, id: usize, steps: &'a [Step], findings: &mut Vec<Finding>) {
        let mut own: BTreeMap<&str, (Option<&'a [u64]>, Vec<u64>)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Append { key, element } => own.entry(key).or_default().1.push(*element),
                Step::Read { key, elements: Some(elements) } => {
                    let (before, added) = own.entry(key).or_default();
                    findings.extend(contradiction(id, key, *before, added, elements));
                    let seen = elements.len().saturating_sub(added.len());
                    let seen = elements.get(..seen).unwrap_or_default();
                    *before = Some(seen);
                    self.0.entry(key).or_default().take_read(id, seen);
                }
                Step::Read { elements: None, .. } => {}
            }
        }
    }
}

/// A read that does not end in what the transaction itself had appended, or differs from its earlier read.
fn contradiction(
    id: usize,
    key: &str,
    before: Option<&[u64]>,
    added: &[u64],
    read: &[u64],
) -> Option<Finding> {
    let same = before.is_none_or(|before| read.strip_prefix(before) == Some(added));
    let what = format!("{key} read as {read:?} after own appends {added:?} to {before:?}");
    (!same || !read.ends_with(added)).then(|| Finding::new(Rule::Internal, what).of([id]))
}

impl<'a> List<'a> {
    fn take_read(&mut self, id: usize, read: &'a [u64]) {
        self.reads.push((id, read));
        if read.len() > self.order.len() {
            (self.order, self.longest) = (read, id);
        }
    }

    fn judge(&self, key: &str, id: usize, read: &[u64], history: &[Operation]) -> Option<Finding> {
        let finding =
            |rule, what: String| Some(Finding::new(rule, format!("{key}: {what}")).of([id]));
        if !self.order.starts_with(read) {
            let what = format!("{key}: {read:?} is no beginning of {:?}", self.order);
            return Some(Finding::new(Rule::ListOrder, what).of([id, self.longest]));
        }
        if id == self.longest && read.iter().collect::<BTreeSet<_>>().len() < read.len() {
            return finding(Rule::ListOrder, format!("an element twice in {read:?}"));
        }
        let unborn = |element: &&u64| {
            let writer = self.writer.get(*element).and_then(|writer| history.get(*writer));
            writer.is_none_or(|writer| matches!(writer.outcome, Outcome::Failed))
        };
        // Every shorter read is a beginning of the longest one, so looking at that one is enough for most histories.
        let suspects = if id == self.longest {
            read
        } else {
            read.get(read.len().saturating_sub(1)..).unwrap_or_default()
        };
        if let Some(element) = suspects.iter().find(unborn) {
            return finding(Rule::G1a, format!("read {element}, which was never appended"));
        }
        self.middle(key, id, read, history)
    }

    /// A read that ends in the middle of another transaction's appends.
    fn middle(&self, key: &str, id: usize, read: &[u64], history: &[Operation]) -> Option<Finding> {
        let last = read.last()?;
        let writer = *self.writer.get(last)?;
        let is_own = |step: &&Step| matches!(step, Step::Append { key: list, .. } if list == key);
        let steps = &history.get(writer)?.request;
        let Step::Append { element, .. } = steps.iter().rfind(is_own)? else { return None };
        let what = format!("{key}: read ends in {last}, but its transaction went on to {element}");
        (writer != id && element != last).then(|| Finding::new(Rule::G1b, what).of([writer, id]))
    }
}
