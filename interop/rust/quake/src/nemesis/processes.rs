//! Faults of processes and their clocks.

use anyhow::Result;

use super::Nemesis;

impl Nemesis<'_> {
    /// Kills some members, and starts them again after a while.
    pub(super) async fn kill(&mut self, victims: &[usize]) -> Result<String> {
        for victim in victims {
            self.cluster.members[*victim].kill();
        }
        Ok(format!("{victims:?} {}", self.hold().await))
    }

    /// Kills all members at one time.
    pub(super) async fn kill_all(&mut self) -> Result<String> {
        for member in &mut self.cluster.members {
            member.signal(libc::SIGKILL);
        }
        for member in &mut self.cluster.members {
            member.kill();
        }
        let time = self.dice.milliseconds(0, 300);
        tokio::time::sleep(time).await;
        Ok(format!("for {} ms", time.as_millis()))
    }

    /// Stops a member, and lets it go on.
    pub(super) async fn pause(&mut self, victim: usize) -> Result<String> {
        self.cluster.members[victim].signal(libc::SIGSTOP);
        Ok(format!("n{victim} {}", self.hold().await))
    }

    /// Starts a member again with a wall clock that jumps; it keeps that until it is started again.
    pub(super) async fn strobe(&mut self, victim: usize) -> Result<String> {
        let hours = 1 + self.dice.below(1000);
        let variables = [("QUAKE_CLOCK_JUMP_SECONDS", (hours * 3600).to_string())];
        self.cluster.members[victim].kill();
        self.cluster.restart(victim, &variables)?;
        Ok(format!("n{victim} by {hours} hours, {}", self.hold().await))
    }
}
