//! What an operator may set, and the bounds that nobody may cross.

/// The greatest term this core accepts or reaches. Far beyond any real election count; keeps all arithmetic exact.
pub const TERM_MAX: u64 = 1 << 62;
/// How far one message may raise a member's term. A sender that is further ahead raises it step by step, with each of its
/// messages: a member that comes back after any number of elections catches up, and no single frame can use up the terms.
/// At a million messages a second, all terms last for 50 days of nothing else.
pub const TERM_JUMP_MAX: u64 = 1 << 20;
/// The greatest log position this core accepts or reaches.
pub const INDEX_MAX: u64 = 1 << 62;
/// The most voters in one configuration.
pub const VOTERS_MAX: usize = 31;
/// The longest election timeout, in nanoseconds (about 36 years).
pub const ELECTION_TIMEOUT_NS_MAX: u64 = 1 << 60;

/// The settings of one member. All members of a group should agree on the times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which member this is. Never 0.
    pub id: crate::NodeId,
    /// How often a leader gives a sign of life, in nanoseconds.
    pub heartbeat_interval_ns: u64,
    /// How long a follower waits for one, at least, in nanoseconds. Each wait is random in `[T, 2T)` (Raft paper 5.2).
    pub election_timeout_ns: u64,
    /// The most content of one `AppendEntries`, in bytes; a single larger entry travels alone.
    pub append_bytes_max: u64,
    /// The most entries of one `AppendEntries`.
    pub append_entries_max: u64,
    /// How many `AppendEntries` to one peer may be unanswered.
    pub inflight_appends_max: usize,
    /// How much content to one peer may be unanswered, in bytes; the message that crosses the bound is still sent.
    pub inflight_bytes_max: u64,
    /// How much content a leader may hold appended and uncommitted, in bytes; one larger proposal is taken when there is none.
    pub uncommitted_bytes_max: u64,
    /// How many entries a leader may hold appended and uncommitted.
    pub uncommitted_entries_max: u64,
    /// How many linearizable reads may be under way at one member; more are dropped at once.
    pub reads_max: usize,
    /// A historical bug to bring back, by its number in the simulator's catalogue; 0: none. Only in builds that judge the judges.
    #[cfg(feature = "mutants")]
    pub mutant: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: crate::NodeId(0),
            heartbeat_interval_ns: 100_000_000,
            election_timeout_ns: 1_000_000_000,
            append_bytes_max: 1 << 20,
            append_entries_max: 1 << 13,
            inflight_appends_max: 256,
            inflight_bytes_max: 16 << 20,
            uncommitted_bytes_max: 64 << 20,
            uncommitted_entries_max: 1 << 18,
            reads_max: 1 << 16,
            #[cfg(feature = "mutants")]
            mutant: 0,
        }
    }
}

impl Config {
    /// Whether the historical bug of this number is switched on. Never, in a build without the feature `mutants`.
    #[cfg(feature = "mutants")]
    pub(crate) fn bug(&self, number: u16) -> bool {
        self.mutant == number
    }

    /// Whether the historical bug of this number is switched on: never.
    #[cfg(not(feature = "mutants"))]
    #[allow(clippy::unused_self, reason = "the same call as in a build with mutants")]
    pub(crate) const fn bug(&self, _: u16) -> bool {
        false
    }

    /// What is wrong with it, if anything.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        let rules = [
            (self.id.0 != 0, "id is zero"),
            (self.heartbeat_interval_ns > 0, "heartbeat_interval_ns is zero"),
            (
                self.election_timeout_ns > self.heartbeat_interval_ns,
                "election_timeout_ns is not above heartbeat_interval_ns",
            ),
            (
                self.election_timeout_ns <= ELECTION_TIMEOUT_NS_MAX,
                "election_timeout_ns is too long",
            ),
            (self.append_bytes_max > 0, "append_bytes_max is zero"),
            (self.append_entries_max > 0, "append_entries_max is zero"),
            (self.inflight_appends_max > 0, "inflight_appends_max is zero"),
            (self.inflight_bytes_max > 0, "inflight_bytes_max is zero"),
            (self.uncommitted_bytes_max > 0, "uncommitted_bytes_max is zero"),
            (self.uncommitted_entries_max > 0, "uncommitted_entries_max is zero"),
            (self.reads_max > 0, "reads_max is zero"),
        ];
        rules.into_iter().find_map(|(holds, what)| (!holds).then_some(what))
    }
}
