//! Drives Raft groups deterministically: proposals, log, apply, reads.
