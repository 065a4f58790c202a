//! Faults between members.

use std::time::Duration;

use anyhow::Result;

use super::Nemesis;
use crate::links::Cut;

impl Nemesis<'_> {
    /// Stalls or refuses; both are found in networks.
    fn cut(&mut self) -> Cut {
        if self.dice.once_in(2) { Cut::Stalled } else { Cut::Refused }
    }

    async fn cut_between(&mut self, which: impl Fn(usize, usize) -> bool) -> String {
        let cut = self.cut();
        self.cluster.links.change(which, |rule| rule.cut = cut);
        format!("{cut:?} {}", self.hold().await)
    }

    /// Cuts some members off from all others.
    pub(super) async fn cut_off(&mut self, inside: &[usize]) -> Result<String> {
        let crosses = |from, to| inside.contains(&from) != inside.contains(&to);
        Ok(format!("{inside:?} {}", self.cut_between(crosses).await))
    }

    /// Two sides and one member between them.
    pub(super) async fn bridge(&mut self, leader: usize) -> Result<String> {
        let middle = self.dice.place(self.cluster.members.len());
        let members = self.cluster.members.len();
        let left: Vec<usize> =
            (1..=(members - 1) / 2).map(|step| (middle + step) % members).collect();
        let crosses = |from: usize, to: usize| {
            from != middle && to != middle && left.contains(&from) != left.contains(&to)
        };
        let lasted = self.cut_between(crosses).await;
        Ok(format!("over n{middle}, leader n{leader}, {lasted}"))
    }

    /// Everybody sees two neighbours.
    pub(super) async fn ring(&mut self) -> Result<String> {
        let members = self.cluster.members.len();
        let far = |from: usize, to: usize| (from + 1) % members != to && (to + 1) % members != from;
        Ok(self.cut_between(far).await)
    }

    /// Cuts what goes to the leader, or what comes from it.
    pub(super) async fn one_way(&mut self, leader: usize, from_leader: bool) -> Result<String> {
        let away = |from, to| if from_leader { from == leader } else { to == leader };
        Ok(format!("n{leader} {}", self.cut_between(away).await))
    }

    /// Nobody sees anybody.
    pub(super) async fn cut_all(&mut self) -> Result<String> {
        Ok(self.cut_between(|_, _| true).await)
    }

    /// Delays and throttles one member.
    pub(super) async fn slow(&mut self, leader: usize) -> Result<String> {
        let victim = if self.dice.once_in(2) { leader } else { self.follower(leader) };
        let delay = self.dice.milliseconds(20, 200);
        let bytes_per_second = if self.dice.once_in(2) { 200_000 } else { 0 };
        self.cluster.links.change(
            |from, to| from == victim || to == victim,
            |rule| (rule.delay, rule.bytes_per_second) = (delay, bytes_per_second),
        );
        let lasted = self.hold().await;
        Ok(format!("n{victim} by {} ms, {bytes_per_second} bytes/s, {lasted}", delay.as_millis()))
    }

    /// Ends all connections some times.
    pub(super) async fn reset(&mut self) -> Result<String> {
        let times = 3 + self.dice.below(5);
        for _ in 0..times {
            self.cluster.links.change(|_, _| true, |rule| rule.resets += 1);
            let wait = self.dice.milliseconds(30, 300);
            tokio::time::sleep(wait).await;
        }
        Ok(format!("{times} times"))
    }

    /// Changes bytes between the leader and everybody.
    pub(super) async fn damage(&mut self, leader: usize) -> Result<String> {
        let times = 3 + self.dice.below(4);
        for _ in 0..times {
            for other in 0..self.cluster.members.len() {
                self.cluster.links.damage(leader, other, 1);
                self.cluster.links.damage(other, leader, 1);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(format!("n{leader} {times} times"))
    }
}
