//! When the disk in memory misbehaves: a plan by the number of the call, and the count of calls.

/// What kind of call the disk got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Opening a file, asking for its length, or listing a directory.
    Look,
    /// Reading a file.
    Read,
    /// Writing a file.
    Write,
    /// Reserving room, or changing the length.
    Resize,
    /// Making a file durable.
    Sync,
    /// Creating, renaming or removing a name.
    Name,
    /// Making names durable.
    SyncDir,
}

/// How many calls the disk got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All calls.
    pub total: u64,
    /// [`Call::Read`].
    pub reads: u64,
    /// [`Call::Write`].
    pub writes: u64,
    /// [`Call::Sync`].
    pub syncs: u64,
    /// [`Call::SyncDir`].
    pub dir_syncs: u64,
}

impl Counts {
    pub(super) fn count(&mut self, call: Call) {
        self.total += 1;
        match call {
            Call::Read => self.reads += 1,
            Call::Write => self.writes += 1,
            Call::Sync => self.syncs += 1,
            Call::SyncDir => self.dir_syncs += 1,
            Call::Look | Call::Resize | Call::Name => {}
        }
    }
}

/// What goes wrong, and when. Numbers count from 0 and compare with [`Counts`] before the call. The default is a good disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The power goes at this call of all. It, and every later one, fails; what it did may or may not survive.
    pub power_off_at_call: Option<u64>,
    /// This sync of a file fails, and what it should have made durable is forgotten at the next crash.
    pub fail_sync: Option<u64>,
    /// This write fails after half of its bytes.
    pub fail_write: Option<u64>,
    /// This read fails.
    pub fail_read: Option<u64>,
    /// This read answers what stands 512 bytes further on, and says nothing.
    pub misdirect_read: Option<u64>,
    /// Reads answer fewer bytes than were asked for, as they may.
    pub short_reads: bool,
    /// All files together may not become longer than this.
    pub capacity_bytes: Option<u64>,
}
