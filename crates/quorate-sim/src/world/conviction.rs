//! What a judge says of a run that must not have happened.

use std::fmt;

/// Which property is broken. The first five are the Raft paper's (figure 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Judge {
    /// At most one leader in a term.
    ElectionSafety,
    /// A leader only adds to its log.
    LeaderAppendOnly,
    /// Two logs with the same id at a position agree up to there.
    LogMatching,
    /// What is committed is in the log of every later leader.
    LeaderCompleteness,
    /// Nobody applies something else at a position.
    StateMachineSafety,
    /// Nothing is said before what it promises is durable.
    Promise,
    /// Term, vote, commit and applied never go back on disk.
    DiskMonotony,
    /// A leader commits by counting only entries of its own term (5.4.2).
    CommitRule,
    /// A committed entry lies on a quorum's durable logs.
    DurableQuorum,
    /// A read sees everything that was committed before it.
    ReadLinearizability,
    /// A proposal takes effect once, after it was made and before it is answered.
    WriteLinearizability,
    /// The core's own fields agree with each other (`quorate_raft::Core::check` and `Past::check`).
    CoreState,
    /// The core and its driver keep their contract.
    Contract,
    /// A member starts again from every disk that a crash leaves behind.
    Recovery,
    /// A healthy quorum makes progress.
    Liveness,
    /// No input makes the code panic.
    Panic,
    /// The same seed gives the same run.
    Determinism,
    /// What clients saw is what etcd promises (`quorate-check`).
    History,
    /// What a client was told of can be read at once where it was told.
    Visibility,
    /// What was taken for a time is given back: slots, permits, buffers, files.
    Conservation,
    /// Damaged bytes are never taken for good ones.
    Corruption,
}

/// A broken property, with what was seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{judge:?}: {detail}")]
pub struct Conviction {
    /// Which property.
    pub judge: Judge,
    /// What was seen.
    pub detail: String,
}

impl Conviction {
    /// Convicts by `judge`, because of `detail`.
    pub fn new(judge: Judge, detail: impl fmt::Display) -> Self {
        Self { judge, detail: detail.to_string() }
    }
}

/// `Ok` if the property holds; the detail is made only if not.
pub(crate) fn hold<D: fmt::Display>(
    holds: bool,
    judge: Judge,
    detail: impl FnOnce() -> D,
) -> Result<(), Conviction> {
    if holds { Ok(()) } else { Err(Conviction::new(judge, detail())) }
}
