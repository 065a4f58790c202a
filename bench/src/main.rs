//! Compares Raft cores by one method: three members in one thread, storage in memory, CPU time of the thread.
//!
//! Each round proposes B entries of 16 bytes at the leader, each a heap allocation of its own, and then delivers messages, appends,
//! and applies until all three members are silent. Pre-vote and check-quorum are on. What is counted is entries applied at the leader.
//!
//! usage: cargo run --release [-- ENTRIES]

mod ours;
mod raft_rs;

use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 5;
const BATCHES: [usize; 3] = [1, 64, 256];

/// A cluster of three members that can be told to propose and to run until silent.
trait Cluster {
    /// Proposes `count` entries and runs until nothing is left to do; returns how many entries the leader applied.
    fn round(&mut self, count: usize) -> u64;
    /// Messages sent so far.
    fn messages(&self) -> u64;
    /// Steps of all recorded cores so far.
    fn steps(&self) -> u64 {
        0
    }
}

fn main() {
    let entries = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(400_000);
    println!(
        "{:28}{:>8}{:>16}{:>16}{:>12}{:>12}",
        "core", "batch", "ns CPU/entry", "M entries/CPU-s", "messages", "steps"
    );
    for batch in BATCHES {
        let mut ours = Vec::new();
        let mut recorded = Vec::new();
        let mut plain = Vec::new();
        let mut batched = Vec::new();
        for _ in 0..ROUNDS {
            ours.push(measure(&mut ours::Trio::new(false), batch, entries));
            recorded.push(measure(&mut ours::Trio::new(true), batch, entries));
            plain.push(measure(&mut raft_rs::Trio::new(false), batch, entries / 4));
            batched.push(measure(&mut raft_rs::Trio::new(true), batch, entries / 4));
        }
        report("quorate-raft", batch, ours);
        report("quorate-raft, recorded", batch, recorded);
        report("raft 0.7, propose", batch, plain);
        report("raft 0.7, batch_append", batch, batched);
    }
}

/// Nanoseconds of CPU, messages, and steps of recorded cores, per entry.
type Figures = (f64, f64, f64);

fn measure(cluster: &mut dyn Cluster, batch: usize, entries: u64) -> Figures {
    run(cluster, batch, entries / 10);
    let (messages, steps) = (cluster.messages(), cluster.steps());
    let start = cpu_ns();
    let applied = run(cluster, batch, entries) as f64;
    let ns = (cpu_ns() - start) as f64;
    let (messages, steps) = (cluster.messages() - messages, cluster.steps() - steps);
    (ns / applied, messages as f64 / applied, steps as f64 / applied)
}

fn run(cluster: &mut dyn Cluster, batch: usize, entries: u64) -> u64 {
    let mut applied = 0;
    while applied < entries {
        applied += cluster.round(batch);
    }
    applied
}

fn report(core: &str, batch: usize, mut runs: Vec<Figures>) {
    runs.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (ns, messages, steps) = runs[runs.len() / 2];
    println!("{core:28}{batch:>8}{ns:>16.0}{:>16.2}{messages:>12.2}{steps:>12.2}", 1e3 / ns);
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
