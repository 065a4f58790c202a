//! The invariants of a cluster, judged from what its members told.
//!
//! Each member is asked twice; every first answer comes before every second one, and no two come from the same moment. So a rule
//! may only convict what no order of events between the answers explains. Members that lag, elections under way, heads of logs that
//! were dropped and processes that started again all do.
//!
//! What a member tells is durable there, but for `commit` and `applied`, which a restart may take back.
//!
//! Source: Raft paper, figure 3; the names of the first five are its own.
//!
//! Left out: a change of members between the answers; there is none yet.

use std::collections::{BTreeMap, BTreeSet};

use super::picture::Picture;

/// What is known of a cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    pub(super) members: Vec<Seen>,
    /// Who was asked in vain, and why.
    pub(super) missing: Vec<String>,
    /// Who answered once and not again, and why.
    pub(super) lost: Vec<String>,
    pub(super) hashes: Vec<Hash>,
    /// Who gave no hash that can be compared, and why.
    pub(super) hashes_missing: Vec<String>,
}

/// A member and its answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) id: u64,
    pub(super) endpoint: String,
    pub(super) first: Picture,
    /// Nothing, if it was gone by then.
    pub(super) second: Option<Picture>,
}

/// What a member's state hashes to.
#[derive(Clone, Debug, Default)]
pub(super) struct Hash {
    pub(super) endpoint: String,
    pub(super) value: u32,
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
}

/// What is said of one invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing speaks against it.
    Ok,
    /// What breaks it.
    Broken(String),
    /// Why it can't be judged.
    Unknown(String),
}

/// What an invariant speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// Each member by itself.
    Each,
    /// All voters together.
    All,
}

/// An invariant: its name, its scope, and how it is judged.
type Rule = (&'static str, Scope, fn(&Cluster) -> Verdict);

const RULES: [Rule; 12] = [
    ("election safety", Scope::All, election_safety),
    ("leader append-only", Scope::Each, leader_append_only),
    ("log matching", Scope::All, log_matching),
    ("leader completeness", Scope::All, leader_completeness),
    ("state machine safety", Scope::All, state_machine_safety),
    ("term never goes back", Scope::Each, term_never_goes_back),
    ("vote never changes in its term", Scope::Each, vote_never_changes),
    ("commit never goes back", Scope::Each, commit_never_goes_back),
    ("applied never goes back", Scope::Each, applied_never_goes_back),
    ("committed is durable on a quorum", Scope::All, committed_is_durable),
    ("equal applied, equal state", Scope::All, equal_state),
    ("the core's own checks", Scope::Each, core_checks),
];

/// Judges all invariants, in their order.
pub(super) fn judge(cluster: &Cluster) -> Vec<(&'static str, Verdict)> {
    let of_rule = |(name, scope, rule): Rule| match (rule(cluster), cluster.gap(scope)) {
        (Verdict::Ok, Some(gap)) => (name, Verdict::Unknown(gap)),
        (verdict, _) => (name, verdict),
    };
    RULES.into_iter().map(of_rule).collect()
}

/// The first of these that convicts.
fn broken_by(mut found: impl Iterator<Item = String>) -> Verdict {
    found.next().map_or(Verdict::Ok, Verdict::Broken)
}

/// A picture, whose it is, and whether it is the second.
#[derive(Clone, Copy)]
struct Taken<'a> {
    seen: &'a Seen,
    picture: &'a Picture,
    is_second: bool,
}

impl<'a> Taken<'a> {
    fn at(self) -> &'a str {
        &self.seen.endpoint
    }
}

impl Seen {
    fn both(&self) -> Option<(&Picture, &Picture)> {
        Some((&self.first, self.second.as_ref()?))
    }

    fn taken(&self) -> impl Iterator<Item = Taken<'_>> {
        let first = Taken { seen: self, picture: &self.first, is_second: false };
        let second = self.second.as_ref();
        let second = second.map(|picture| Taken { seen: self, picture, is_second: true });
        std::iter::once(first).chain(second)
    }
}

impl Cluster {
    fn pictures(&self) -> impl Iterator<Item = Taken<'_>> {
        self.members.iter().flat_map(Seen::taken)
    }

    /// Every two pictures, in either order.
    fn pairs(&self) -> impl Iterator<Item = (Taken<'_>, Taken<'_>)> {
        self.pictures().flat_map(|one| self.pictures().map(move |other| (one, other)))
    }

    /// Each member's two pictures.
    fn spans(&self) -> impl Iterator<Item = (&str, &Picture, &Picture)> {
        self.members.iter().filter_map(|seen| {
            let (first, second) = seen.both()?;
            Some((seen.endpoint.as_str(), first, second))
        })
    }

    /// The voters that the members know of.
    fn voters(&self) -> BTreeSet<u64> {
        self.pictures().flat_map(|taken| &taken.picture.voters).copied().collect()
    }

    /// The voters that told nothing.
    pub(super) fn silent(&self) -> BTreeSet<u64> {
        let answered: BTreeSet<u64> = self.members.iter().map(|seen| seen.id).collect();
        self.voters().difference(&answered).copied().collect()
    }

    /// Why not everything is known that an invariant speaks of. One about each member by itself is judged among those that
    /// answered.
    fn gap(&self, scope: Scope) -> Option<String> {
        let none = (self.missing.iter().chain(&self.lost)).map(String::as_str).collect::<Vec<_>>();
        match scope {
            Scope::Each => (!self.lost.is_empty()).then(|| self.lost.join("; ")),
            Scope::All if !none.is_empty() => Some(format!(
                "{} of {} members answered: {}",
                self.members.len() - self.lost.len(),
                self.voters().len(),
                none.join("; ")
            )),
            Scope::All => {
                let left: Vec<String> =
                    self.silent().into_iter().map(|id| format!("{id:x}")).collect();
                let why = || format!("not asked: {} (--cluster asks all members)", left.join(", "));
                (!left.is_empty()).then(why)
            }
        }
    }
}

/// In one term there is one leader, and a quorum voted for it.
fn election_safety(cluster: &Cluster) -> Verdict {
    let mut leaders = BTreeMap::new();
    for taken in cluster.pictures() {
        let Some(leader) = taken.picture.leader else { continue };
        let (known, by) = *leaders.entry(taken.picture.term).or_insert((leader, taken.at()));
        if known != leader {
            let (term, at) = (taken.picture.term, taken.at());
            return Verdict::Broken(format!(
                "term {term} has two leaders: {by} says {known:x}, {at} says {leader:x}"
            ));
        }
    }
    broken_by(cluster.members.iter().filter_map(|seen| lacks_votes(cluster, seen)))
}

/// What a member took for a leader when it was first asked, and that too few had voted for when they were asked again.
fn lacks_votes(cluster: &Cluster, seen: &Seen) -> Option<String> {
    let Picture { term, leader, voters, .. } = &seen.first;
    let leader = (*leader)?;
    let did_not_vote_for_it = |other: &&Seen| {
        let later = other.second.as_ref();
        let now_without =
            later.is_some_and(|later| later.term == *term && later.vote != Some(leader));
        let elsewhere = other.first.vote.is_some_and(|vote| vote != leader);
        voters.contains(&other.id) && (now_without || other.first.term == *term && elsewhere)
    };
    let without: Vec<&str> = (cluster.members.iter().filter(did_not_vote_for_it))
        .map(|other| other.endpoint.as_str())
        .collect();
    let votes_max = voters.len() - without.len();
    (votes_max < quorum(voters)).then(|| {
        format!(
            "{leader:x} leads term {term} with {votes_max} of {} votes at most: {} did not vote for it",
            voters.len(),
            without.join(", ")
        )
    })
}

fn quorum(voters: &BTreeSet<u64>) -> usize {
    voters.len() / 2 + usize::from(!voters.is_empty())
}

/// A leader adds to its log, and takes nothing from it.
fn leader_append_only(cluster: &Cluster) -> Verdict {
    let lead = |(_, first, second): &(&str, &Picture, &Picture)| {
        first.leads && second.leads && first.term == second.term
    };
    broken_by(cluster.spans().filter(lead).filter_map(|(at, first, second)| {
        let (before, after, term) = (first.log.last.index, second.log.last.index, first.term);
        if after < before {
            return Some(format!(
                "{at} leads term {term}, and its log went from {before} back to {after}"
            ));
        }
        let replaced = first.log.difference(&second.log, before)?;
        Some(format!("{at} leads term {term}, and replaced entry {replaced} of its log"))
    }))
}

/// Logs with the same entry are the same before it.
fn log_matching(cluster: &Cluster) -> Verdict {
    let falls = cluster.pictures().filter(|taken| !taken.picture.log.rises());
    let falls = falls.map(|taken| format!("the terms in the log of {} fall", taken.at()));
    let meet = cluster.pairs().filter_map(|(one, other)| {
        let (different, again) = one.picture.log.meets_again(&other.picture.log)?;
        let terms = terms_at(one, other, different);
        Some(format!("entry {again} is the same, but not entry {different} before it: {terms}"))
    });
    broken_by(falls.chain(meet))
}

/// Which term either has at `index`.
fn terms_at(one: Taken<'_>, other: Taken<'_>, index: u64) -> String {
    let term = |taken: Taken<'_>| taken.picture.log.term_at(index).unwrap_or_default();
    let (here, there) = (term(one), term(other));
    format!("of term {here} at {}, of term {there} at {}", one.at(), other.at())
}

/// A leader has everything that was committed before its term, and what of its own term was committed before it was asked.
fn leader_completeness(cluster: &Cluster) -> Verdict {
    let lead = |(leader, _): &(Taken<'_>, Taken<'_>)| leader.picture.leads;
    broken_by(cluster.pairs().filter(lead).filter_map(|(leader, other)| {
        let (term, of_other) = (leader.picture.term, other.picture.term);
        let is_later = leader.is_second && !other.is_second;
        if term < of_other || term == of_other && !is_later {
            return None;
        }
        let (at, by, commit) = (leader.at(), other.at(), other.picture.commit);
        let end = leader.picture.log.last.index;
        if end < commit {
            return Some(format!(
                "{by} committed up to {commit} in term {of_other}; {at} leads term {term}, and its log ends at {end}"
            ));
        }
        let index = leader.picture.log.difference(&other.picture.log, commit)?;
        let terms = terms_at(leader, other, index);
        Some(format!(
            "{by} committed up to {commit} in term {of_other}; {at} leads term {term} with another entry {index}: {terms}"
        ))
    }))
}

/// What is committed is the same everywhere, and only that is applied.
fn state_machine_safety(cluster: &Cluster) -> Verdict {
    let early = cluster.pictures().filter_map(|taken| {
        let Picture { applied, commit, log, .. } = taken.picture;
        let (at, end) = (taken.at(), log.last.index);
        let early = applied > commit || *commit > end;
        early.then(|| format!("{at} applied up to {applied}, committed up to {commit}, of {end}"))
    });
    let apart = cluster.pairs().filter_map(|(one, other)| {
        let upto = one.picture.commit.min(other.picture.commit);
        let index = one.picture.log.difference(&other.picture.log, upto)?;
        Some(format!("entry {index} is committed twice: {}", terms_at(one, other, index)))
    });
    broken_by(early.chain(apart))
}

fn term_never_goes_back(cluster: &Cluster) -> Verdict {
    let back = cluster.spans().filter(|(_, first, second)| second.term < first.term);
    broken_by(back.map(|(at, first, second)| {
        format!("{at} went from term {} back to {}", first.term, second.term)
    }))
}

fn vote_never_changes(cluster: &Cluster) -> Verdict {
    broken_by(cluster.spans().filter_map(|(at, first, second)| {
        let (term, vote) = (first.term, first.vote?);
        let changed = second.term == term && second.vote != Some(vote);
        let now = second.vote.map_or_else(|| "nobody".to_owned(), |vote| format!("{vote:x}"));
        changed.then(|| format!("{at} voted in term {term} for {vote:x}, and now for {now}"))
    }))
}

/// The commit index of a running member; of one that started again, what was both committed and durable.
fn commit_never_goes_back(cluster: &Cluster) -> Verdict {
    broken_by(cluster.spans().filter_map(|(at, first, second)| {
        if is_same_run(first, second) && second.commit < first.commit {
            let (before, after) = (first.commit, second.commit);
            return Some(format!("{at} went from commit {before} back to {after}"));
        }
        let kept = first.commit.min(first.durable);
        let end = second.log.last.index;
        (end < kept).then(|| {
            format!("{at} had entry {kept} committed and durable, and now its log ends at {end}")
        })
    }))
}

fn applied_never_goes_back(cluster: &Cluster) -> Verdict {
    let back = cluster
        .spans()
        .filter(|(_, first, second)| is_same_run(first, second) && second.applied < first.applied);
    broken_by(back.map(|(at, first, second)| {
        format!("{at} went from applied {} back to {}", first.applied, second.applied)
    }))
}

fn is_same_run(first: &Picture, second: &Picture) -> bool {
    first.incarnation == second.incarnation
}

/// What somebody knew to be committed lies in the durable logs of a quorum, now and for ever.
fn committed_is_durable(cluster: &Cluster) -> Verdict {
    broken_by(cluster.members.iter().filter_map(|seen| {
        let Picture { commit, voters, log, .. } = &seen.first;
        let term = log.term_at(*commit);
        let later = cluster.members.iter().filter(|other| voters.contains(&other.id));
        let lacks = |other: &&Seen| {
            other.second.as_ref().is_some_and(|picture| !picture.holds(*commit, term))
        };
        let lacking: Vec<&str> = later.filter(lacks).map(|other| other.endpoint.as_str()).collect();
        (voters.len() - lacking.len() < quorum(voters)).then(|| {
            format!(
                "{} committed up to {commit}, which {} of {} voters do not hold: {}",
                seen.endpoint,
                lacking.len(),
                voters.len(),
                lacking.join(", ")
            )
        })
    }))
}

/// The same history gives the same state.
fn equal_state(cluster: &Cluster) -> Verdict {
    let mut known: BTreeMap<(i64, i64), &Hash> = BTreeMap::new();
    for hash in &cluster.hashes {
        let at = (hash.revision, hash.compact_revision);
        let other = *known.entry(at).or_insert(hash);
        if other.value != hash.value {
            return Verdict::Broken(format!(
                "at revision {} the state of {} hashes to {}, that of {} to {}",
                hash.revision, other.endpoint, other.value, hash.endpoint, hash.value
            ));
        }
    }
    let missing = &cluster.hashes_missing;
    if !missing.is_empty() {
        return Verdict::Unknown(missing.join("; "));
    }
    if known.len() > 1 {
        let at =
            |hash: &Hash| format!("{} compacted up to {}", hash.endpoint, hash.compact_revision);
        let each: Vec<String> = known.values().map(|hash| at(hash)).collect();
        return Verdict::Unknown(format!("no hashes to compare: {}", each.join(", ")));
    }
    Verdict::Ok
}

fn core_checks(cluster: &Cluster) -> Verdict {
    broken_by(cluster.pictures().filter_map(|taken| {
        let broken = taken.picture.broken.as_ref()?;
        Some(format!("{}: {broken}", taken.at()))
    }))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
