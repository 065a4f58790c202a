//! All judges over all that was seen.

use std::{fmt::Debug, fs, path::Path};

use anyhow::{Context, Result};
use quorate_check::{
    Operation, Outcome, Verdict, cycles, etcd::RevisionEvents, lease, linear, lock, revision,
    timeline_html, watch,
};

use crate::history::History;

/// How many breaches of one kind are told.
const TOLD_MAX: usize = 3;

/// How far a member's clock may run ahead of ours in one time-to-live, and how long a lease may live on: each new leader gives it its
/// whole time-to-live again.
const LEASE_BOUNDS: lease::Bounds = lease::Bounds { early: 20_000_000, late: 30_000_000_000 };

/// What the members hold in the end.
#[derive(Debug, Default)]
pub struct Ending {
    /// The revision that everybody was asked about.
    pub revision: i64,
    /// Each member's hash at that revision.
    pub hashes: Vec<(String, u32)>,
    /// What each member told of everything.
    pub told: Vec<watch::Watch>,
    /// The elements of the set.
    pub set: Vec<String>,
}

/// Judges; tells each breach, draws it into `report`, and answers all that were told, each with its promise before it.
///
/// # Errors
/// A history that cannot be judged, or a picture that cannot be written.
pub fn judge(mut history: History, ending: Ending, report: &Path) -> Result<Vec<String>> {
    let persisted = persisted(&ending);
    let mut breaches = Breaches { report, told: Vec::new() };
    for complaint in &history.complaints {
        breaches.tell("seen", complaint);
    }
    hashes(&ending, &mut breaches);
    set(&history, &ending, &mut breaches);
    breaches.take("registers", &history.registers, linear::check(&history.registers)?)?;
    breaches.take("keys", &history.keys, revision::check(&history.keys, &persisted)?)?;
    breaches.take("lists", &history.lists, cycles::check(&history.lists)?)?;
    breaches.take("leases", &history.leases, lease::check(&history.leases, LEASE_BOUNDS)?)?;
    breaches.take("locks", &history.locks, lock::check(&history.locks)?)?;
    history.watches.extend(ending.told);
    breaches.say("watches", &watch::check(&history.watches, &persisted));
    println!(
        "judged: registers={} keys={} revisions={} lists={} leases={} locks={} watches={} set={}",
        history.registers.len(),
        history.keys.len(),
        persisted.len(),
        history.lists.len(),
        history.leases.len(),
        history.locks.len(),
        history.watches.len(),
        history.added.len()
    );
    Ok(breaches.told)
}

/// Everything that happened, as the first member tells it; that the others tell the same is for the watches' judge.
fn persisted(ending: &Ending) -> Vec<RevisionEvents> {
    let mut revisions: Vec<RevisionEvents> = Vec::new();
    let told = ending.told.first().into_iter().flat_map(|watch| &watch.responses);
    for told in told.flat_map(|response| &response.events) {
        let (event, revision) = (told.event.clone(), told.event.pair.mod_revision);
        match revisions.last_mut() {
            Some(last) if last.revision == revision => last.events.push(event),
            _ => revisions.push(RevisionEvents { revision, events: vec![event] }),
        }
    }
    revisions.retain(|one| one.revision <= ending.revision);
    revisions
}

fn hashes(ending: &Ending, breaches: &mut Breaches<'_>) {
    if ending.hashes.windows(2).any(|pair| pair[0].1 != pair[1].1) {
        let what = format!("at revision {}: {:?}", ending.revision, ending.hashes);
        breaches.tell("hashes", &what);
    }
}

/// Every acknowledged element is there, and none that nobody added or whose addition failed.
fn set(history: &History, ending: &Ending, breaches: &mut Breaches<'_>) {
    let there: std::collections::BTreeSet<&str> = ending.set.iter().map(String::as_str).collect();
    let mut added = std::collections::BTreeMap::new();
    for (key, outcome) in &history.added {
        added.insert(key.as_str(), outcome);
    }
    let acked = |outcome: &Outcome<()>| *outcome == Outcome::Ok(());
    let lost: Vec<&str> = added
        .iter()
        .filter(|(key, outcome)| acked(outcome) && !there.contains(**key))
        .map(|(key, _)| *key)
        .collect();
    let strange: Vec<&str> = there
        .iter()
        .filter(|key| added.get(**key).is_none_or(|outcome| **outcome == Outcome::Failed))
        .copied()
        .collect();
    if let Some(first) = lost.first() {
        breaches.tell(
            "set",
            &format!("{} acknowledged elements are lost, such as {first}", lost.len()),
        );
    }
    if let Some(first) = strange.first() {
        breaches
            .tell("set", &format!("{} elements that nobody added, such as {first}", strange.len()));
    }
}

/// Counts and tells.
#[derive(Debug)]
struct Breaches<'a> {
    report: &'a Path,
    told: Vec<String>,
}

impl Breaches<'_> {
    fn tell(&mut self, what: &str, detail: &str) {
        let short: String = detail.chars().take(1200).collect();
        println!("VIOLATION {what}: {short}");
        self.told.push(format!("{what}: {short}"));
    }

    /// Tells what a judge says; one that cannot decide has not acquitted anybody.
    fn say(&mut self, what: &str, verdict: &Verdict) {
        let findings = verdict.findings();
        for finding in findings.iter().take(TOLD_MAX) {
            self.tell(what, &finding.to_string());
        }
        if let Some(more) = findings.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
            self.tell(what, &format!("and {more} more"));
        }
        if let Verdict::Undecided(why) = verdict {
            self.tell(what, &format!("undecided: {why}"));
        }
    }

    fn take<Q: Debug, R: Debug>(
        &mut self,
        what: &str,
        history: &[Operation<Q, R>],
        verdict: Verdict,
    ) -> Result<()> {
        self.say(what, &verdict);
        if !verdict.holds() {
            fs::create_dir_all(self.report)?;
            let page = self.report.join(format!("{what}.html"));
            fs::write(&page, timeline_html(history, &verdict))
                .with_context(|| format!("write {}", page.display()))?;
            println!("drawn: {}", page.display());
        }
        Ok(())
    }
}
