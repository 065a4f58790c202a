//! A few whole members, driven by hand: what must hold between their sides.

mod install;
mod leases;
mod purge;
mod raft_side;
mod start;
mod state_file;
