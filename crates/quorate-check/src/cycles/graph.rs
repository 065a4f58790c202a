//! Who depends on whom, and the cycles in it.
//!
//! Real time would give an edge for each pair of transactions that do not overlap. A chain of instants gives the same paths with a
//! few edges each: a transaction leads to the instant of its return, instants lead to later ones, and
//! the last instant before an invocation leads to that transaction.

use std::collections::VecDeque;

use super::{Operation, lists::Lists};

/// How many anti-dependencies inside cycles are tried before a cycle is called G2 without looking for a better name.
const SEARCHES_MAX: usize = 1000;

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Ww,
    Wr,
    Rw,
    Time,
}

/// Some kinds of edges.
#[derive(Clone, Copy, Debug)]
pub(super) struct EdgeSet(u8);

impl EdgeSet {
    pub(super) fn of(kinds: &[Kind]) -> Self {
        Self(kinds.iter().fold(0, |set, kind| set | 1 << *kind as u8))
    }

    fn has(self, kind: Kind) -> bool {
        self.0 >> kind as u8 & 1 == 1
    }
}

/// The dependencies: transactions first, then the instants of returns.
#[derive(Debug)]
pub(super) struct Graph {
    transactions: usize,
    edges: Vec<Vec<(usize, Kind)>>,
}

/// Transactions of a cycle, each with the kind of edge that leads on.
type Cycle = Vec<(usize, Kind)>;

impl Graph {
    pub(super) fn of(history: &[Operation], lists: &Lists<'_>) -> Self {
        let mut graph =
            Self { transactions: history.len(), edges: vec![Vec::new(); history.len()] };
        for list in lists.0.values() {
            let writers: Vec<_> =
                list.order.iter().map(|element| list.writer.get(element).copied()).collect();
            for pair in writers.windows(2) {
                if let [Some(first), Some(second)] = pair {
                    graph.add(*first, *second, Kind::Ww);
                }
            }
            for (reader, read) in &list.reads {
                let last =
                    read.len().checked_sub(1).and_then(|last| writers.get(last).copied().flatten());
                if let Some(writer) = last {
                    graph.add(writer, *reader, Kind::Wr);
                }
                let next = writers.get(read.len()).copied().flatten();
                if let Some(writer) = next {
                    graph.add(*reader, writer, Kind::Rw);
                }
            }
        }
        graph.add_time(history);
        graph
    }

    fn add(&mut self, from: usize, to: usize, kind: Kind) {
        if from != to
            && let Some(edges) = self.edges.get_mut(from)
        {
            edges.push((to, kind));
        }
    }

    fn add_time(&mut self, history: &[Operation]) {
        let deadlines =
            history.iter().enumerate().filter_map(|(id, one)| Some((one.deadline()?, id)));
        let mut returns: Vec<(u64, usize)> = deadlines.collect();
        returns.sort_unstable();
        self.edges.resize(self.transactions + returns.len(), Vec::new());
        for ((_, id), instant) in returns.iter().zip(self.transactions..) {
            self.add(*id, instant, Kind::Time);
            if instant + 1 < self.edges.len() {
                self.add(instant, instant + 1, Kind::Time);
            }
        }
        for (id, one) in history.iter().enumerate() {
            let before = returns.partition_point(|(at, _)| *at < one.invoke);
            if before > 0 {
                self.add(self.transactions + before - 1, id, Kind::Time);
            }
        }
    }

    /// A short cycle of the given kinds of edges.
    pub(super) fn cycle(&self, edges: EdgeSet) -> Option<Cycle> {
        let component = self.components(edges);
        let start = (0..self.transactions)
            .find(|id| self.stays(*id, &component, edges).next().is_some())?;
        let (next, kind) = self.stays(start, &component, edges).next()?;
        let path = self.path(next, start, edges, &component)?;
        Some(self.shown([(start, kind)].into_iter().chain(path)))
    }

    /// A cycle with exactly one anti-dependency, if it is among the first [`SEARCHES_MAX`] that may be one.
    pub(super) fn single_cycle(&self) -> Option<Cycle> {
        let component = self.components(EdgeSet::of(&[Kind::Ww, Kind::Wr, Kind::Rw]));
        let rest = EdgeSet::of(&[Kind::Ww, Kind::Wr]);
        let anti = (0..self.transactions).flat_map(|from| {
            self.stays(from, &component, EdgeSet::of(&[Kind::Rw]))
                .map(move |(to, kind)| (from, to, kind))
        });
        anti.take(SEARCHES_MAX).find_map(|(from, to, kind)| {
            let path = self.path(to, from, rest, &component)?;
            Some(self.shown([(from, kind)].into_iter().chain(path)))
        })
    }

    fn shown(&self, cycle: impl Iterator<Item = (usize, Kind)>) -> Cycle {
        cycle.filter(|(id, _)| *id < self.transactions).collect()
    }

    fn out(&self, from: usize, edges: EdgeSet) -> impl Iterator<Item = (usize, Kind)> {
        let all = self.edges.get(from).into_iter().flatten().copied();
        all.filter(move |(_, kind)| edges.has(*kind))
    }

    /// Edges that do not leave the strongly connected component.
    fn stays(
        &self,
        from: usize,
        component: &[usize],
        edges: EdgeSet,
    ) -> impl Iterator<Item = (usize, Kind)> {
        let home = component.get(from);
        self.out(from, edges).filter(move |(to, _)| component.get(*to) == home)
    }

    /// The shortest path inside a component, without its end.
    fn path(&self, from: usize, to: usize, edges: EdgeSet, component: &[usize]) -> Option<Cycle> {
        let mut came: Vec<Option<(usize, Kind)>> = vec![None; self.edges.len()];
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front().filter(|at| *at != to) {
            for (next, kind) in self.stays(at, component, edges) {
                if let Some(slot) = came.get_mut(next).filter(|slot| slot.is_none() && next != from)
                {
                    *slot = Some((at, kind));
                    queue.push_back(next);
                }
            }
        }
        let mut path = Vec::new();
        let mut at = to;
        while at != from {
            let (before, kind) = came.get(at).copied().flatten()?;
            path.push((before, kind));
            at = before;
        }
        path.reverse();
        Some(path)
    }

    /// The strongly connected component of each node (Tarjan, 1972, with a stack of its own instead of recursion).
    fn components(&self, edges: EdgeSet) -> Vec<usize> {
        let mut walk = Walk::new(self.edges.len());
        for root in 0..self.edges.len() {
            walk.visit(root, |from, nth| self.out(from, edges).nth(nth).map(|(to, _)| to));
        }
        walk.component
    }
}

const UNSEEN: usize = usize::MAX;

/// The state of Tarjan's walk.
struct Walk {
    order: Vec<usize>,
    low: Vec<usize>,
    component: Vec<usize>,
    stack: Vec<usize>,
    count: usize,
}

impl Walk {
    fn new(nodes: usize) -> Self {
        let unseen = || vec![UNSEEN; nodes];
        Self { order: unseen(), low: unseen(), component: unseen(), stack: Vec::new(), count: 0 }
    }

    fn visit(&mut self, root: usize, edge: impl Fn(usize, usize) -> Option<usize>) {
        if get(&self.order, root) != UNSEEN {
            return;
        }
        let mut frames = vec![(root, 0)];
        self.enter(root);
        while let Some((at, nth)) = frames.pop() {
            match edge(at, nth) {
                Some(to) => {
                    frames.push((at, nth + 1));
                    if get(&self.order, to) == UNSEEN {
                        self.enter(to);
                        frames.push((to, 0));
                    } else if get(&self.component, to) == UNSEEN {
                        self.lower(at, get(&self.order, to));
                    }
                }
                None => self.leave(at, frames.last().map(|(parent, _)| *parent)),
            }
        }
    }

    fn enter(&mut self, node: usize) {
        set(&mut self.order, node, self.count);
        set(&mut self.low, node, self.count);
        self.stack.push(node);
        self.count += 1;
    }

    fn leave(&mut self, node: usize, parent: Option<usize>) {
        let low = get(&self.low, node);
        if low == get(&self.order, node) {
            while let Some(member) = self.stack.pop() {
                set(&mut self.component, member, node);
                if member == node {
                    break;
                }
            }
        }
        if let Some(parent) = parent.filter(|_| get(&self.component, node) == UNSEEN) {
            self.lower(parent, low);
        }
    }

    fn lower(&mut self, node: usize, to: usize) {
        let low = get(&self.low, node).min(to);
        set(&mut self.low, node, low);
    }
}

fn get(numbers: &[usize], at: usize) -> usize {
    numbers.get(at).copied().unwrap_or(UNSEEN)
}

fn set(numbers: &mut [usize], at: usize, value: usize) {
    if let Some(number) = numbers.get_mut(at) {
        *number = value;
    }
}
