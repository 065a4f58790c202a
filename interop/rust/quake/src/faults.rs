//! The faults there are.

use crate::options::Options;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of the leader.
    KillLeader,
    /// `kill -9` of a follower; of two, if there are five members.
    KillFollower,
    /// `kill -9` of all at once.
    KillAll,
    /// The leader stands still, and goes on as if nothing had happened.
    PauseLeader,
    /// A follower does.
    PauseFollower,
    /// Nobody hears the leader, and it hears nobody.
    CutLeader,
    /// The same with a follower.
    CutFollower,
    /// A minority with the leader, and a majority without.
    CutHalves,
    /// Two sides that see each other only through one member in the middle.
    Bridge,
    /// Each member of a ring sees its two neighbours only.
    Ring,
    /// The leader hears nobody, but is heard.
    DeafLeader,
    /// Nobody hears the leader, but it hears.
    MuteLeader,
    /// Nobody sees anybody.
    CutAll,
    /// Everything from and to one member comes late and slowly.
    SlowLink,
    /// Everybody is 60 ms from everybody.
    Distance,
    /// All connections end, again and again.
    ResetLinks,
    /// More strangers than there is room for connect to both ports of a member, and half of them say something.
    Strangers,
    /// Single bytes change on their way.
    DamageLinks,
    /// The disk of one member is full.
    DiskFull,
    /// The disk of one member takes nothing for seconds, and then goes on.
    FreezeDisk,
    /// A bit turns in a file of a member that is down.
    BitFlip,
    /// A member starts with an empty directory, which the others must not take for it.
    Wipe,
    /// The wall clock of one member jumps back and forth by hours.
    ClockStrobe,
    /// Members are killed and started again in the middle of elections.
    ElectionStorm,
    /// A leader stands still, cut off, until another one has acknowledged a write; then it is asked for what was written.
    Depose,
    /// A voter is killed right after it has voted, and asked again by another candidate of the same term.
    VoteTwice,
}

impl Fault {
    /// All that a run draws from unless it is told otherwise.
    pub const ALL: &'static [Self] = &[
        Self::KillLeader,
        Self::KillFollower,
        Self::KillAll,
        Self::PauseLeader,
        Self::PauseFollower,
        Self::CutLeader,
        Self::CutFollower,
        Self::CutHalves,
        Self::Bridge,
        Self::Ring,
        Self::DeafLeader,
        Self::MuteLeader,
        Self::CutAll,
        Self::SlowLink,
        Self::Distance,
        Self::ResetLinks,
        Self::Strangers,
        Self::DamageLinks,
        Self::DiskFull,
        Self::FreezeDisk,
        Self::BitFlip,
        Self::Wipe,
        Self::ClockStrobe,
        Self::ElectionStorm,
        Self::Depose,
        Self::VoteTwice,
    ];

    /// Its name on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillLeader => "kill-leader",
            Self::KillFollower => "kill-follower",
            Self::KillAll => "kill-all",
            Self::PauseLeader => "pause-leader",
            Self::PauseFollower => "pause-follower",
            Self::CutLeader => "cut-leader",
            Self::CutFollower => "cut-follower",
            Self::CutHalves => "cut-halves",
            Self::Bridge => "bridge",
            Self::Ring => "ring",
            Self::DeafLeader => "deaf-leader",
            Self::MuteLeader => "mute-leader",
            Self::CutAll => "cut-all",
            Self::SlowLink => "slow-link",
            Self::Distance => "distance",
            Self::ResetLinks => "reset-links",
            Self::Strangers => "strangers",
            Self::DamageLinks => "damage-links",
            Self::DiskFull => "disk-full",
            Self::FreezeDisk => "freeze-disk",
            Self::BitFlip => "bit-flip",
            Self::Wipe => "wipe",
            Self::ClockStrobe => "clock-strobe",
            Self::ElectionStorm => "election-storm",
            Self::Depose => "depose",
            Self::VoteTwice => "vote-twice",
        }
    }

    /// Those that a run can choose from. Two are something else only with five members, one is written for three.
    pub fn choice(options: &Options) -> Vec<Self> {
        let few = options.members < 5;
        let fits = |fault: &Self| match fault {
            Self::CutHalves | Self::Ring => !few,
            Self::VoteTwice => few,
            Self::Wipe => options.wipe,
            _ => true,
        };
        let wanted = Self::ALL.iter().copied().filter(|fault| options.wants(fault.name()));
        wanted.filter(fits).collect()
    }
}
