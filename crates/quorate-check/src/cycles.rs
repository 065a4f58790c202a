//! Transactions over lists: each step appends a unique element to a list or reads a whole list.
//!
//! A read of a list shows the order in which elements came, so the order of all versions of a list is known from its longest read,
//! and with it who depends on whom (Kingsbury and Alvaro, "Elle", VLDB 2020):
//! - *ww*: a transaction appended right after another one's element;
//! - *wr*: it read a list whose last element the other one appended;
//! - *rw*: it read a list to which the other one appended the next element;
//! - *real time*: it began after the other one had been answered.
//!
//! A cycle of these is an anomaly, named after its edges (Adya, "Weak consistency", 1999): G0 has ww only, G1c ww and wr, G-single one
//! rw, G2 several. One that needs real time is serializable but not strictly so.
//!
//! Left out: predicates, and registers whose version order has to be guessed.

mod graph;
mod lists;

use graph::{EdgeSet, Graph, Kind};
use lists::Lists;
use serde::{Deserialize, Serialize};

use crate::{
    history::{self, Error},
    verdict::{Finding, Rule, Verdict},
};

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Adds an element that no other step of the history adds to this list.
    Append {
        /// The list.
        key: String,
        /// The element.
        element: u64,
    },
    /// Reads the list: `None` in a request, all its elements in a reply.
    Read {
        /// The list.
        key: String,
        /// What was read.
        elements: Option<Vec<u64>>,
    },
}

/// One transaction; the reply repeats its steps with reads filled in.
pub type Operation = history::Operation<Vec<Step>, Vec<Step>>;

/// Whether the transactions are strict serializable.
///
/// # Errors
/// [`Error::Time`] or [`Error::ReplyKind`] if the history is malformed.
pub fn check(history: &[Operation]) -> Result<Verdict, Error> {
    history::check_times(history)?;
    check_shapes(history)?;
    let mut findings = Vec::new();
    let lists = Lists::gather(history, &mut findings);
    let graph = Graph::of(history, &lists);
    findings.extend(cycle(&graph));
    Ok(Verdict::of(findings.into_iter().map(|finding| timed(finding, history)).collect()))
}

fn check_shapes(history: &[Operation]) -> Result<(), Error> {
    let bad = history
        .iter()
        .position(|one| one.outcome.reply().is_some_and(|reply| !answers(&one.request, reply)));
    bad.map_or(Ok(()), |operation| Err(Error::ReplyKind { operation }))
}

fn answers(request: &[Step], reply: &[Step]) -> bool {
    request.len() == reply.len()
        && request.iter().zip(reply).all(|(asked, told)| match (asked, told) {
            (Step::Append { .. }, Step::Append { .. }) => asked == told,
            (Step::Read { key, .. }, Step::Read { key: same, elements }) => {
                key == same && elements.is_some()
            }
            (Step::Append { .. }, Step::Read { .. }) | (Step::Read { .. }, Step::Append { .. }) => {
                false
            }
        })
}

/// The worst kinds of cycles first; a weaker kind is looked for only when no worse one is there.
fn cycle(graph: &Graph) -> Option<Finding> {
    let plain = |rule, edges| move |graph: &Graph| graph.cycle(edges).map(|cycle| (rule, cycle));
    let g0 = plain(Rule::G0, EdgeSet::of(&[Kind::Ww]));
    let g1c = plain(Rule::G1c, EdgeSet::of(&[Kind::Ww, Kind::Wr]));
    let single = |graph: &Graph| graph.single_cycle().map(|cycle| (Rule::GSingle, cycle));
    let g2 = plain(Rule::G2, EdgeSet::of(&[Kind::Ww, Kind::Wr, Kind::Rw]));
    let late = plain(Rule::GRealTime, EdgeSet::of(&[Kind::Ww, Kind::Wr, Kind::Rw, Kind::Time]));
    let found = g0(graph).or_else(|| g1c(graph)).or_else(|| single(graph));
    let (rule, cycle) = found.or_else(|| g2(graph)).or_else(|| late(graph))?;
    let steps: Vec<_> = cycle.iter().map(|(from, kind)| format!("{from} -{kind:?}->")).collect();
    let operations = cycle.iter().map(|(from, _)| *from);
    Some(Finding::new(rule, format!("cycle {}", steps.join(" "))).of(operations))
}

fn timed(finding: Finding, history: &[Operation]) -> Finding {
    let shown = || finding.operations.iter().filter_map(|id| history.get(*id));
    let from = shown().map(|one| one.invoke).min().unwrap_or(0);
    let to = shown().filter_map(|one| one.returned).max().unwrap_or(from);
    finding.within(from, to)
}
