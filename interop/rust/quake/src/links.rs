//! What each direction between two members lets through at present.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::watch;

/// How a direction is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// It is not.
    #[default]
    Open,
    /// Nothing is taken from the sender; what is under way arrives after the cut.
    Stalled,
    /// Connections end, and new ones end at once.
    Refused,
}

/// What one direction does to what it carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Whether it carries anything.
    pub cut: Cut,
    /// Whether it carries entries: those have a connection of their own.
    pub bulk_cut: Cut,
    /// How much later everything arrives.
    pub delay: Duration,
    /// How many bytes it carries in a second; 0 for no limit.
    pub bytes_per_second: u64,
    /// Rises when connections have to end.
    pub resets: u64,
}

/// All directions of a cluster.
#[derive(Debug)]
pub struct Links {
    members: usize,
    rules: watch::Sender<Vec<Rule>>,
    /// Each member's id, once they are known.
    ids: OnceLock<Vec<u64>>,
    /// How many pieces of each direction are still to be damaged.
    damages: Vec<AtomicU64>,
}

impl Links {
    /// Everything is let through.
    pub fn new(members: usize) -> Self {
        let rules = watch::Sender::new(vec![Rule::default(); members * members]);
        let damages = (0..members * members).map(|_| AtomicU64::new(0)).collect();
        Self { members, rules, ids: OnceLock::new(), damages }
    }

    /// Says who has which id; until then, everything is let through.
    pub fn name(&self, ids: Vec<u64>) {
        self.ids.get_or_init(|| ids);
    }

    /// The place of the member with this id.
    pub fn place(&self, id: u64) -> Option<usize> {
        self.ids.get()?.iter().position(|known| *known == id)
    }

    /// Changes the rules of every direction for which `which(from, to)` holds.
    pub fn change(&self, which: impl Fn(usize, usize) -> bool, change: impl Fn(&mut Rule)) {
        self.rules.send_modify(|rules| {
            for (at, rule) in rules.iter_mut().enumerate() {
                if which(at / self.members, at % self.members) {
                    change(rule);
                }
            }
        });
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.change(|_, _| true, |rule| *rule = Rule { resets: rule.resets, ..Rule::default() });
    }

    /// Damages one byte of the next pieces from one member to another.
    pub fn damage(&self, from: usize, to: usize, pieces: u64) {
        self.damages[from * self.members + to].store(pieces, Relaxed);
    }

    /// Whether the next piece has to be damaged.
    pub fn takes_damage(&self, from: Option<usize>, to: Option<usize>) -> bool {
        let (Some(from), Some(to)) = (from, to) else { return false };
        let left = &self.damages[from * self.members + to];
        left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// To be told when a rule changes.
    pub fn subscribe(&self) -> watch::Receiver<Vec<Rule>> {
        self.rules.subscribe()
    }

    /// The rule of a direction among `rules`.
    pub fn rule(&self, rules: &[Rule], from: Option<usize>, to: Option<usize>) -> Rule {
        match (from, to) {
            (Some(from), Some(to)) => rules[from * self.members + to],
            _ => Rule::default(),
        }
    }
}
