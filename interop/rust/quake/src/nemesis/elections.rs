//! Faults that aim at elections.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use anyhow::Result;
use quorate_check::etcd::Range;

use super::Nemesis;
use crate::{links::Cut, session::Freshness, work::put};

/// How long an election may take while links are cut.
const ELECTION_MAX: Duration = Duration::from_secs(4);

/// How long the members need to write down and tell each other what they were asked for.
const SETTLES: Duration = Duration::from_millis(250);

/// How often a leader that does not know that another one came is asked, as long as it answers.
const DEPOSED_READS_MAX: u32 = 20;

impl Nemesis<'_> {
    /// Elections without end: leader and voter are killed and started again in the middle of them.
    pub(super) async fn election_storm(&mut self, leader: usize) -> Result<String> {
        let members = self.cluster.members.len();
        let rounds = 2 + self.dice.below(3);
        let mut leader = leader;
        for _ in 0..rounds {
            let voter = (leader + 1 + self.dice.place(members - 1)) % members;
            self.cluster.members[leader].kill();
            let wait = self.dice.milliseconds(400, 900);
            tokio::time::sleep(wait).await;
            self.cluster.members[voter].kill();
            self.cluster.restart(voter, &[])?;
            self.cluster.restart(leader, &[])?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            leader = self.cluster.leader().await.unwrap_or(voter);
        }
        Ok(format!("{rounds} rounds"))
    }

    /// Lets one member vote for two others in one term, if it forgets the first vote with its process.
    ///
    /// All is quiet, so the three logs are equal. The leader is cut off; it stays in its term. One of the others wins the next term
    /// with the voter's vote, but none of its entries reaches the voter: entries have a connection of their own, and that
    /// is cut. Then the winner is cut off, the voter killed and started, and the former leader let in, which asks for the voter's vote
    /// in the term that it believes to be the next.
    pub(super) async fn vote_twice(&mut self, former: usize) -> Result<String> {
        self.world.quiet.store(true, Relaxed);
        tokio::time::sleep(SETTLES).await;
        self.cluster
            .links
            .change(|from, to| from == former || to == former, |rule| rule.cut = Cut::Refused);
        self.cluster.links.change(|_, _| true, |rule| rule.bulk_cut = Cut::Refused);
        let Some(winner) = self.await_leader(|at| at != former).await else {
            return Ok(format!("nobody won without n{former}"));
        };
        self.await_step_down(former).await;
        self.world.quiet.store(false, Relaxed);
        tokio::time::sleep(SETTLES).await;
        let voter = (0..self.cluster.members.len()).find(|at| *at != former && *at != winner);
        let voter = voter.unwrap_or(former);
        self.cluster.links.change(
            |from, to| from == winner || to == winner,
            |rule| {
                rule.cut = Cut::Refused;
            },
        );
        self.cluster.members[voter].kill();
        self.cluster.restart(voter, &[])?;
        self.cluster.links.change(
            |from, to| from != winner && to != winner,
            |rule| {
                (rule.cut, rule.bulk_cut) = (Cut::Open, Cut::Open);
            },
        );
        let next = self.await_leader(|at| at != winner).await;
        let next = next.map_or("nobody".into(), |next| format!("n{next}"));
        tokio::time::sleep(2 * SETTLES).await;
        Ok(format!("n{voter}, asked by n{winner} and then by {next}, after n{former} led"))
    }

    /// Asks a leader for what was written without it, before it can know that another one leads.
    ///
    /// It is cut off and stops in the middle of its work, so it heard of a quorum just before. When it goes on, still cut off, it may
    /// believe to lead until it has looked for its quorum again: an election timeout, or nearly two.
    pub(super) async fn depose(&mut self, former: usize) -> Result<String> {
        self.cluster
            .links
            .change(|from, to| from == former || to == former, |rule| rule.cut = Cut::Refused);
        self.cluster.members[former].signal(libc::SIGSTOP);
        let Some(next) = self.await_leader(|at| at != former).await else {
            return Ok(format!("nobody won without n{former}"));
        };
        let key = format!("q/{next}");
        let txn = put(&key, &self.probes[next].unique());
        let written = self.probes[next].transact(&txn, None).await.outcome.reply().is_some();
        self.cluster.members[former].signal(libc::SIGCONT);
        let mut answers = 0;
        while answers < DEPOSED_READS_MAX {
            let read = self.probes[former].read(&Range::one(&key), Freshness::Linearizable).await;
            if read.outcome.reply().is_none() {
                break;
            }
            answers += 1;
        }
        let written = if written { "a write" } else { "no write" };
        Ok(format!("n{former} for n{next}, which acknowledged {written}; {answers} answers"))
    }

    /// Waits until one of some members leads.
    async fn await_leader(&mut self, whom: impl Fn(usize) -> bool) -> Option<usize> {
        let until = Instant::now() + ELECTION_MAX;
        while Instant::now() < until {
            let standing = self.cluster.standing().await;
            let leads = |at: &usize| standing[*at].is_some_and(|one| one.leads);
            if let Some(leader) = (0..standing.len()).filter(|at| whom(*at)).find(leads) {
                return Some(leader);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    async fn await_step_down(&mut self, former: usize) {
        let until = Instant::now() + ELECTION_MAX;
        while Instant::now() < until
            && self.cluster.standing().await[former].is_some_and(|one| one.leads)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
