//! The sweep over one register.
//!
//! A *config* is a world that may be the true one: the value of the register, which of the open operations have taken effect,
//! and when a blind write (a put or a delete) last did. At an invocation nothing happens but that a slot opens. At a return, each config in which
//! the operation has not taken effect yet is replaced by all configs in which it has; when none is left, no order exists.
//!
//! What keeps the configs few:
//! - *Observers are taken at once.* A read of the present value, or a compare-and-set that missed because of it, takes effect the moment it
//!   can: it changes nothing, and one duty less is never worse.
//! - *Blind writes hide each other.* A put that nobody needed can be laid, afterwards, right before any later blind write
//!   that took effect while it was open: it was overwritten at once. So a put takes effect before its return only when
//!   something needs its value, and at its return it is either the present value or hidden, together with the observers of its
//!   value that were open then. Without this rule every subset of open puts would be a config of its own.
//! - *Equal writes are interchangeable*: the one that returns first goes first.
//! - *Dominated configs are dropped*: same value, no duty more, nothing less to draw on.
//!
//! Left out: the order that was found. A config does not remember how it came about, which keeps memory independent of length.

use std::collections::{BTreeMap, VecDeque};

use super::{CONFIGS_MAX, OPEN_MAX, bits::Bits};

/// Dominance compares all pairs, so it is left out when there are more configs than this.
const DOMINANCE_MAX: usize = 256;

/// What an operation does to a register; values are small numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Set(u32),
    Swap {
        from: u32,
        to: u32,
    },
    Read(u32),
    /// A compare-and-set that failed because the value was not this one.
    Miss(u32),
}

impl Action {
    /// The value without which it cannot take effect.
    pub(super) fn needs(self) -> Option<u32> {
        match self {
            Self::Swap { from: value, .. } | Self::Read(value) => Some(value),
            Self::Set(_) | Self::Miss(_) => None,
        }
    }

    /// The value that it leaves.
    pub(super) fn gives(self) -> Option<u32> {
        match self {
            Self::Set(value) | Self::Swap { to: value, .. } => Some(value),
            Self::Read(_) | Self::Miss(_) => None,
        }
    }

    /// Whether it only looks, and can look now.
    fn observes(self, state: u32) -> bool {
        match self {
            Self::Read(value) => value == state,
            Self::Miss(value) => value != state,
            Self::Set(_) | Self::Swap { .. } => false,
        }
    }
}

/// One operation on the register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Its place in the history.
    pub(super) id: usize,
    pub(super) action: Action,
    pub(super) invoke: u64,
    /// `None`: it may take effect at any time later, or never.
    pub(super) returned: Option<u64>,
}

/// Why the sweep stopped.
#[derive(Debug)]
pub(super) enum Failure {
    /// When this call returned, no config was left.
    NoOrder { call: usize },
    /// A limit was reached.
    Limit(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Config {
    state: u32,
    /// The step at which a blind write last took effect; 0 for never.
    blind: u32,
    /// The open operations that have taken effect.
    done: Bits,
}

/// An operation that is invoked and has not returned.
#[derive(Clone, Copy, Debug)]
struct Open {
    slot: usize,
    call: usize,
    action: Action,
    /// The step at which it was invoked.
    since: u32,
    /// When it returns; `u64::MAX` for one that never does.
    deadline: u64,
}

/// The sweep's state.
#[derive(Debug)]
pub(super) struct Sweep<'a> {
    calls: &'a [Call],
    /// Earliest return first.
    open: Vec<Open>,
    used: Bits,
    configs: Vec<Config>,
    step: u32,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(calls: &'a [Call]) -> Self {
        let start = Config { state: 0, blind: 0, done: Bits::default() };
        Self { calls, open: Vec::new(), used: Bits::default(), configs: vec![start], step: 0 }
    }

    /// Walks over all invocations and returns; at equal times invocations come first.
    pub(super) fn run(mut self) -> Result<(), Failure> {
        for (_, returns, index) in self.events() {
            self.step += 1;
            if returns { self.give_back(index)? } else { self.take(index)? }
        }
        Ok(())
    }

    fn events(&self) -> Vec<(u64, bool, usize)> {
        let calls = self.calls.iter().enumerate();
        let mut events: Vec<_> = calls
            .flat_map(|(index, call)| {
                let returned = call.returned.map(|at| (at, true, index));
                [(call.invoke, false, index)].into_iter().chain(returned)
            })
            .collect();
        events.sort_unstable();
        events
    }

    fn take(&mut self, index: usize) -> Result<(), Failure> {
        let Some(call) = self.calls.get(index) else { return Ok(()) };
        let slot = self.used.first_free().filter(|slot| *slot < OPEN_MAX);
        let slot = slot.ok_or(Failure::Limit("too many open operations"))?;
        self.used.insert(slot);
        let deadline = call.returned.unwrap_or(u64::MAX);
        let at = self.open.partition_point(|open| (open.deadline, open.call) < (deadline, index));
        let open = Open { slot, call: index, action: call.action, since: self.step, deadline };
        self.open.insert(at, open);
        for config in &mut self.configs {
            if call.action.observes(config.state) {
                config.done.insert(slot);
            }
        }
        Ok(())
    }

    fn give_back(&mut self, index: usize) -> Result<(), Failure> {
        let Some(at) = self.open.iter().position(|open| open.call == index) else { return Ok(()) };
        let Some(due) = self.open.get(at).copied() else { return Ok(()) };
        if self.configs.iter().any(|config| !config.done.has(due.slot)) {
            self.configs = self.all_done(due)?;
        }
        self.open.remove(at);
        self.used.remove(due.slot);
        for config in &mut self.configs {
            config.done.remove(due.slot);
        }
        if self.configs.is_empty() {
            return Err(Failure::NoOrder { call: index });
        }
        self.prune();
        Ok(())
    }

    /// Every config that follows from a present one and in which `due` has taken effect, but for dominated ones.
    ///
    /// Those that draw on little come first, so that they are there to dominate those that draw on more.
    fn all_done(&self, due: Open) -> Result<Vec<Config>, Failure> {
        let mut seen: BTreeMap<u32, Vec<Config>> = BTreeMap::new();
        let mut count = 0;
        let mut work = VecDeque::from(self.configs.clone());
        while let Some(config) = work.pop_front() {
            let alike = seen.entry(config.state).or_default();
            let finished = config.done.has(due.slot);
            let mut rivals = alike.iter().filter(|other| !finished || other.done.has(due.slot));
            if rivals.any(|other| self.dominates(other, &config)) {
                continue;
            }
            alike.push(config);
            count += 1;
            if count > CONFIGS_MAX {
                return Err(Failure::Limit("too many possible worlds"));
            }
            if !finished {
                work.extend(self.hidden(&config, due));
                work.extend(self.next(&config, due));
            }
        }
        let seen = seen.into_values().flatten();
        Ok(seen.filter(|config| config.done.has(due.slot)).collect())
    }

    /// Configs in which `due` is done by an open blind write that was overwritten at once.
    fn hidden(&self, config: &Config, due: Open) -> impl Iterator<Item = Config> {
        let config = *config;
        let writes = self.writes(&config, move |open| open.since < config.blind);
        let hidden: Vec<_> = writes.map(|(write, value)| self.hide(config, write, value)).collect();
        hidden.into_iter().filter(move |config| config.done.has(due.slot))
    }

    /// Lays `write` right before the last blind write, with all observers that can look there.
    fn hide(&self, mut config: Config, write: Open, value: u32) -> Config {
        config.done.insert(write.slot);
        let there = self.open.iter().filter(|open| open.since < config.blind);
        for open in there.filter(|open| open.action.observes(value)) {
            config.done.insert(open.slot);
        }
        config
    }

    /// Configs in which one more operation has taken effect now, and it was `due` or may lead there.
    fn next(&self, config: &Config, due: Open) -> Vec<Config> {
        let mut next = Vec::new();
        for (write, value) in self.writes(config, |_| true) {
            let mut after = self.apply(*config, write, value);
            after.blind = self.step;
            if after.done.has(due.slot) || self.swap_is_open(&after) {
                next.push(after);
            }
        }
        next.extend(self.swaps(config).map(|(swap, to)| self.apply(*config, swap, to)));
        next
    }

    fn apply(&self, mut config: Config, open: Open, value: u32) -> Config {
        config.done.insert(open.slot);
        config.state = value;
        for open in self.open.iter().filter(|open| open.action.observes(value)) {
            config.done.insert(open.slot);
        }
        config
    }

    /// Open blind writes that have not taken effect: of equal ones, the first to return.
    fn writes(
        &self,
        config: &Config,
        wanted: impl Fn(&Open) -> bool,
    ) -> impl Iterator<Item = (Open, u32)> {
        let mut last = Vec::new();
        for open in self.open.iter().filter(|open| !config.done.has(open.slot) && wanted(open)) {
            if let Action::Set(value) = open.action
                && last.iter().all(|(_, earlier)| *earlier != value)
            {
                last.push((*open, value));
            }
        }
        last.into_iter()
    }

    /// Open compare-and-sets that succeed now: of equal ones, the first to return.
    fn swaps(&self, config: &Config) -> impl Iterator<Item = (Open, u32)> {
        let mut first: Vec<(Open, u32)> = Vec::new();
        for open in self.open.iter().filter(|open| !config.done.has(open.slot)) {
            if let Action::Swap { from, to } = open.action
                && from == config.state
                && first.iter().all(|(_, earlier)| *earlier != to)
            {
                first.push((*open, to));
            }
        }
        first.into_iter()
    }

    fn swap_is_open(&self, config: &Config) -> bool {
        self.swaps(config).next().is_some()
    }

    fn prune(&mut self) {
        self.configs.sort_unstable();
        self.configs.dedup();
        if self.configs.len() < 2 || self.configs.len() > DOMINANCE_MAX {
            return;
        }
        let mut kept: Vec<Config> = Vec::new();
        for config in std::mem::take(&mut self.configs) {
            if !kept.iter().any(|other| self.dominates(other, &config)) {
                kept.retain(|other| !self.dominates(&config, other));
                kept.push(config);
            }
        }
        self.configs = kept;
    }

    /// Whether whatever can follow `worse` can follow `better` as well.
    fn dominates(&self, better: &Config, worse: &Config) -> bool {
        let differs = |open: &&Open| better.done.has(open.slot) != worse.done.has(open.slot);
        better.state == worse.state
            && better.blind >= worse.blind
            && self.open.iter().filter(differs).all(|open| {
                let done = better.done.has(open.slot);
                match open.action {
                    Action::Read(_) | Action::Miss(_) => done,
                    Action::Set(_) | Action::Swap { .. } if open.deadline == u64::MAX => !done,
                    Action::Set(_) => !done && open.since < better.blind,
                    Action::Swap { .. } => false,
                }
            })
    }
}
