//! The Raft protocol as a pure function: events in, effects out.
