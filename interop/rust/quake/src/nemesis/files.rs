//! Faults of disks and files.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;
use quorate_check::etcd::Range;

use super::Nemesis;
use crate::{disk, faults::Fault, links::Cut, member::by_itself, session::Freshness};

/// How long a member may go on with a disk that is full, or with a bit that has turned.
const SUFFERS: Duration = Duration::from_millis(2500);

/// How long a member with an empty directory may go on before it is told that it is somebody else.
const WIPED_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// What it says then, in etcd's words.
const KNOWN_OTHERWISE: &str = "has already been bootstrapped";

impl Nemesis<'_> {
    /// Fills the disk of the last member; it ends, or gets by with the room that it has.
    pub(super) async fn fill_disk(&mut self) -> Result<String> {
        let Some(small_disk) = &self.cluster.small_disk else { return Ok("nothing".into()) };
        small_disk.fill()?;
        let Some(member) = self.cluster.members.last_mut() else { return Ok("nothing".into()) };
        let status = member.await_end(SUFFERS).await;
        let said = member.said();
        small_disk.free();
        let Some(status) = status else { return Ok(format!("{} lived on", member.name)) };
        if !by_itself(status) || said.contains("panicked") {
            let what = format!("{} on a full disk ({status}): {}", member.name, member.why_ended());
            self.tally.complaints.push(what);
        }
        member.kill();
        Ok(format!("{} ended: {}", member.name, member.why_ended()))
    }

    /// The disk of the leader or of a follower stands still for some seconds, long enough for a leader to hand over; then, and while it
    /// still does, each of the others serves a write and a read.
    pub(super) async fn freeze_disk(&mut self, leader: usize) -> Result<String> {
        let victim = if self.dice.once_in(2) { leader } else { self.follower(leader) };
        let role = if victim == leader { "leader" } else { "follower" };
        self.cluster.freeze(victim, true)?;
        let time = self.dice.milliseconds(1000, 5000);
        tokio::time::sleep(time).await;
        let (first, all) =
            self.resume_without(Some(victim), Fault::FreezeDisk, Instant::now()).await;
        let (time, first, all) = (time.as_millis(), first.as_millis(), all.as_millis());
        Ok(format!("n{victim}, {role}, for {time} ms; others served after {first} and {all} ms"))
    }

    /// Turns one bit in a member's files while it is down. It must refuse to start, with the place, or serve what is right.
    ///
    /// It is cut off as long as the bit is turned, so that it promises nobody anything; then its files are put back as they were.
    pub(super) async fn flip_bit(&mut self, leader: usize) -> Result<String> {
        let victim = self.on_the_large_disk(leader);
        self.cluster.members[victim].kill();
        self.cluster
            .links
            .change(|from, to| from == victim || to == victim, |rule| rule.cut = Cut::Refused);
        let dir = self.cluster.members[victim].dir.clone();
        let kept = dir.with_extension("kept");
        disk::copy(&dir, &kept)?;
        let flip = disk::flip(&dir, &mut self.dice)?;
        self.cluster.restart(victim, &[])?;
        let came = self.suffer(victim, &flip).await;
        self.cluster.members[victim].kill();
        fs::remove_dir_all(&dir)?;
        fs::rename(&kept, &dir)?;
        let file = flip.file.strip_prefix(&dir).unwrap_or(&flip.file).display().to_string();
        Ok(format!("n{victim} {file} at {}: {came}", flip.offset))
    }

    /// A follower whose directory can be moved away.
    fn on_the_large_disk(&self, leader: usize) -> usize {
        let victim = self.follower(leader);
        if self.cluster.small_disk.is_some() && victim + 1 == self.cluster.members.len() {
            return (0..victim).find(|at| *at != leader).unwrap_or(0);
        }
        victim
    }

    /// Starts a member with nothing. It must end by itself and say why; then it gets its files back.
    pub(super) async fn wipe(&mut self, leader: usize) -> Result<String> {
        let victim = self.on_the_large_disk(leader);
        self.cluster.members[victim].kill();
        let dir = self.cluster.members[victim].dir.clone();
        let kept = dir.with_extension("kept");
        fs::rename(&dir, &kept)?;
        self.cluster.restart(victim, &[])?;
        let member = &mut self.cluster.members[victim];
        let status = member.await_end(WIPED_ENDS_WITHIN).await;
        let is_refused = status.is_some_and(by_itself) && member.said().contains(KNOWN_OTHERWISE);
        if !is_refused {
            let what = format!(
                "{} with an empty directory ({status:?}): {}",
                member.name,
                member.why_ended()
            );
            self.tally.complaints.push(what);
        }
        member.kill();
        fs::remove_dir_all(&dir)?;
        fs::rename(&kept, &dir)?;
        let came = if is_refused { "refused" } else { "not refused" };
        Ok(format!("n{victim} {came}"))
    }

    /// What a member does with the bit: everything that it serves goes into the history.
    async fn suffer(&mut self, victim: usize, flip: &disk::Flip) -> String {
        let member = &mut self.cluster.members[victim];
        let mut status = member.await_end(SUFFERS / 3).await;
        if status.is_none() {
            let probe = &mut self.probes[victim];
            for _ in 0..3 {
                probe.pairs(&Range::all(), Freshness::Serializable).await;
            }
            status = self.cluster.members[victim].ended();
        }
        let member = &mut self.cluster.members[victim];
        let said = member.said();
        let Some(status) = status else { return "served".into() };
        let name = flip.file.file_name().map(|name| name.to_string_lossy().into_owned());
        let named = name.is_some_and(|name| said.contains(&name)) && said.contains("offset");
        if !by_itself(status) || said.contains("panicked") || !named {
            let what = format!(
                "{} with a bit turned in {} at {} ({status}): {}",
                member.name,
                flip.file.display(),
                flip.offset,
                member.why_ended()
            );
            self.tally.complaints.push(what);
        }
        "refused".into()
    }
}
