//! Disk faults, as events (protocol-aware recovery, FAST'18; fsync failures, ATC'20).
//!
//! A member whose disk is faulted must not promise anything that needs the disk: it gives no vote, does not campaign, and does
//! not lead. It still follows: it hears its leader, and serves reads of what it has. Unless the disk is only slow it takes no
//! entries either, so it acknowledges nothing that may not be there. A leader hands over and steps down.
//!
//! After a failed sync nobody knows what the disk holds (the kernel may have dropped the dirty pages): that fault is final, and
//! the member must be started again from what can be read back.

use crate::machine::{Core, Turn};
use crate::{Fault, Notice, Reject, Verdict};

impl Core {
    pub(crate) fn on_fault(&mut self, fault: Fault, turn: &mut Turn<'_>) -> Verdict {
        if self.fault == Some(Fault::SyncFailed) || self.fault == Some(fault) {
            return Verdict::Stale;
        }
        if self.fault.is_none() {
            turn.notice(Notice::Faulted);
            self.hand_over(turn);
            let leader = self.leader.filter(|leader| *leader != self.config.id);
            self.become_follower(self.term, leader, turn);
        }
        self.fault = Some(fault);
        Verdict::Ok
    }

    pub(crate) fn on_repaired(&mut self, turn: &mut Turn<'_>) -> Result<Verdict, Reject> {
        match self.fault {
            None => Ok(Verdict::Stale),
            Some(Fault::SyncFailed) => Err(Reject::Faulted),
            Some(Fault::Corrupt(_) | Fault::DiskFull | Fault::SlowDisk { .. }) => {
                self.fault = None;
                self.arm(turn.now);
                Ok(Verdict::Ok)
            }
        }
    }

    /// Whether entries can't be written now.
    pub(crate) fn refuses_entries(&self) -> bool {
        match self.fault {
            None | Some(Fault::SlowDisk { .. }) => false,
            Some(Fault::SyncFailed | Fault::Corrupt(_) | Fault::DiskFull) => true,
        }
    }
}
