//! Faults between members.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::Nemesis;
use crate::{faults::Fault, links::Cut};

/// How many strangers come to each port: more than a peer port has room for.
const STRANGERS: u32 = 300;
/// How long one of them waits for its connection.
const CONNECTS_WITHIN: Duration = Duration::from_millis(100);
/// How long everything takes between members that are far apart.
const ONE_WAY: Duration = Duration::from_millis(60);

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

    /// Everything between members takes 60 ms, and so every round trip 120: meanwhile each member still serves writes and reads.
    pub(super) async fn keep_apart(&mut self) -> Result<String> {
        self.cluster.links.change(|_, _| true, |rule| rule.delay = ONE_WAY);
        let (first, all) = self.resume(Fault::Distance, Instant::now()).await;
        let lasted = self.hold().await;
        Ok(format!("served after {} and {} ms, {lasted}", first.as_millis(), all.as_millis()))
    }

    /// Strangers fill both ports of a member; meanwhile everybody is served through every member.
    pub(super) async fn crowd(&mut self, leader: usize) -> Result<String> {
        let victim = if self.dice.once_in(2) { leader } else { self.follower(leader) };
        let member = &self.cluster.members[victim];
        let mut strangers = Vec::new();
        for at in [member.client, member.peer] {
            for number in 0..STRANGERS {
                let connecting = timeout(CONNECTS_WITHIN, TcpStream::connect(at));
                let Ok(Ok(mut stranger)) = connecting.await else { continue };
                if number % 2 == 0 {
                    // It may be gone already.
                    let _ = stranger.write_all(b"is anybody there?\n").await;
                }
                strangers.push(stranger);
            }
        }
        let (first, all) = self.resume(Fault::Strangers, Instant::now()).await;
        let count = strangers.len();
        let lasted = self.hold().await;
        let (first, all) = (first.as_millis(), all.as_millis());
        Ok(format!("{count} at n{victim}, served after {first} and {all} ms, {lasted}"))
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
