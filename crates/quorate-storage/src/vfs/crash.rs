//! What a crash leaves of what was not synced.

/// What a crash leaves of unsynced writes and names. Synced ones always survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashStyle {
    /// Nothing.
    LoseAll,
    /// Everything: the process died, the machine did not.
    KeepAll,
    /// Of each file, the writes up to a byte chosen by the seed; of the names, a prefix of the changes.
    Tear,
    /// Of each write, any set of its 512-byte sectors; of the names, any set of the changes.
    Scatter,
}

impl CrashStyle {
    /// Every style, for tests that try them all.
    pub const ALL: [Self; 4] = [Self::LoseAll, Self::KeepAll, Self::Tear, Self::Scatter];
}

/// Disks tear at sectors of this size, or at any byte.
pub(super) const SECTOR_BYTES: u64 = 512;

/// A change of a file that is not durable yet.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    Write { offset: u64, bytes: Vec<u8> },
    Resize { size_bytes: u64 },
}

impl Pending {
    fn weight(&self) -> u64 {
        match self {
            Self::Write { bytes, .. } => bytes.len() as u64,
            Self::Resize { .. } => 1,
        }
    }
}

/// Deterministic choices (the generator is splitmix64).
#[derive(Clone, Copy, Debug)]
pub(super) struct Choices(u64);

impl Choices {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `max`, both included.
    pub(super) fn up_to(&mut self, max: u64) -> u64 {
        self.next() % max.saturating_add(1)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// Writes `bytes` at `offset` into `content`, which grows with zeroes when needed.
pub(super) fn write_into(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let end = start.saturating_add(bytes.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(start..end) {
        place.copy_from_slice(bytes);
    }
}

/// Does `pending` to `content`, whole.
pub(super) fn settle(content: &mut Vec<u8>, pending: &Pending) {
    match pending {
        Pending::Write { offset, bytes } => write_into(content, *offset, bytes),
        Pending::Resize { size_bytes } => {
            content.resize(usize::try_from(*size_bytes).unwrap_or(usize::MAX), 0);
        }
    }
}

/// Does to `content` what a crash of this style leaves of `pending`.
pub(super) fn crash_file(
    content: &mut Vec<u8>,
    pending: &[Pending],
    style: CrashStyle,
    choices: &mut Choices,
) {
    match style {
        CrashStyle::LoseAll => {}
        CrashStyle::KeepAll => pending.iter().for_each(|change| settle(content, change)),
        CrashStyle::Tear => tear(content, pending, choices),
        CrashStyle::Scatter => pending.iter().for_each(|change| scatter(content, change, choices)),
    }
}

fn tear(content: &mut Vec<u8>, pending: &[Pending], choices: &mut Choices) {
    let mut left = choices.up_to(pending.iter().map(Pending::weight).sum());
    for change in pending {
        if let Pending::Write { offset, bytes } = change
            && left < change.weight()
        {
            let kept = usize::try_from(left).unwrap_or(usize::MAX);
            write_into(content, *offset, bytes.get(..kept).unwrap_or(bytes));
        }
        if left < change.weight() {
            return;
        }
        settle(content, change);
        left -= change.weight();
    }
}

fn scatter(content: &mut Vec<u8>, change: &Pending, choices: &mut Choices) {
    match change {
        Pending::Resize { .. } if choices.coin() => settle(content, change),
        Pending::Resize { .. } => {}
        Pending::Write { offset, bytes } => {
            let mut at = 0;
            while at < bytes.len() {
                let position = offset + at as u64;
                let to_boundary = SECTOR_BYTES - position % SECTOR_BYTES;
                let end = bytes.len().min(at + usize::try_from(to_boundary).unwrap_or(1));
                if choices.coin() {
                    write_into(content, position, bytes.get(at..end).unwrap_or_default());
                }
                at = end;
            }
        }
    }
}
