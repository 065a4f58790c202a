//! The programs as users start them: real processes on loopback ports.

#[cfg(test)]
#[path = "programs/command_line.rs"]
mod command_line;
#[cfg(test)]
#[path = "programs/ctl.rs"]
mod ctl;
#[cfg(test)]
#[path = "programs/demo.rs"]
mod demo;
#[cfg(test)]
#[path = "programs/fake_etcd.rs"]
mod fake_etcd;
#[cfg(test)]
#[path = "programs/invariants.rs"]
mod invariants;
#[cfg(test)]
#[path = "programs/process.rs"]
mod process;
#[cfg(test)]
#[path = "programs/server.rs"]
mod server;
