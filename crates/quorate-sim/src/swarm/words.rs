//! What messages, calls and mishaps are called, for people.

use quorate_raft::{AppendOutcome, Message};

use super::mishap::{KINDS, Mishap, Pattern, Target};
use super::plan::Weather;
use super::tape::Act;
use crate::world::{Body, Part, id_of};

/// The names of the kinds of messages, by number.
pub(crate) const KIND_NAMES: [&str; KINDS] = [
    "RequestVote",
    "Vote",
    "AppendEntries",
    "Appended",
    "Heartbeat",
    "HeartbeatReply",
    "InstallSnapshot",
    "ReadIndex",
    "ReadIndexReply",
    "TimeoutNow",
    "Snapshot",
];

/// A kind's name.
pub(crate) fn kind(number: usize) -> &'static str {
    KIND_NAMES.get(number).copied().unwrap_or("?")
}

/// A message in a few words.
pub(crate) fn message(body: &Body) -> String {
    match body {
        Body::Snapshot { snapshot, term } => format!("Snapshot to {} (t{term})", snapshot.last),
        Body::Message(message) => match message {
            Message::RequestVote { term, pre_vote, last, .. } => {
                format!(
                    "{} t{term}, log to {last}",
                    if *pre_vote { "PreVote" } else { "RequestVote" }
                )
            }
            Message::Vote { term, pre_vote, granted } => {
                let kind = if *pre_vote { "pre-vote" } else { "vote" };
                format!("{kind} {} t{term}", if *granted { "granted" } else { "refused" })
            }
            Message::AppendEntries { term, prev, entries, commit, .. } => {
                format!("Append t{term}, {} behind {prev}, commit {commit}", entries.len())
            }
            Message::Appended { term, outcome: AppendOutcome::Matched(index), .. } => {
                format!("Appended t{term} to {index}")
            }
            Message::Appended { term, outcome: AppendOutcome::Rejected { prev, hint }, .. } => {
                format!("Rejected t{term} at {prev}, hint {hint}")
            }
            Message::Heartbeat { term, commit, .. } => {
                format!("Heartbeat t{term}, commit {commit}")
            }
            Message::HeartbeatReply { term, .. } => format!("HeartbeatReply t{term}"),
            Message::InstallSnapshot { term, snapshot } => {
                format!("InstallSnapshot t{term} to {}", snapshot.last)
            }
            Message::ReadIndex { term, .. } => format!("ReadIndex t{term}"),
            Message::ReadIndexReply { term, index, .. } => match index {
                Some(index) => format!("ReadIndexReply t{term}: {index}"),
                None => format!("ReadIndexReply t{term}: ask again"),
            },
            Message::TimeoutNow { term } => format!("TimeoutNow t{term}"),
        },
    }
}

/// A call in a few words.
pub(crate) fn act(act: &Act) -> String {
    match act {
        Act::Start { .. } => "starts".to_owned(),
        Act::Crash { kept } => format!("loses power, {kept} pending writes are kept"),
        Act::Doom { units } => format!("will die after {units} effects of its next step"),
        Act::Wake => "wakes".to_owned(),
        Act::Sync { count } => format!("syncs {count} writes"),
        Act::Deliver { from, mark } => {
            format!("gets {} of term {} from {}", kind(mark.kind), mark.term, id_of(*from))
        }
        Act::Propose { count } => format!("is given {count} proposals"),
        Act::Read { context } => format!("is asked for read {context}"),
        Act::Compact { kept } => format!("drops its log but for {kept} entries"),
        Act::SyncFailed => "hears that a sync failed".to_owned(),
        Act::DiskFault { which } => {
            format!("hears of a disk fault: {:?}", crate::world::fault_of(*which))
        }
        Act::Repaired => "hears that its disk is repaired".to_owned(),
        Act::Unreachable { peer } => format!("hears that {} is unreachable", id_of(*peer)),
        Act::SnapshotSent { to, last: Some(last) } => {
            format!("hears that a snapshot to {} arrived: {last}", id_of(*to))
        }
        Act::SnapshotSent { to, last: None } => {
            format!("hears that a snapshot to {} failed", id_of(*to))
        }
        Act::Transfer { to } => format!("is to hand over to {}", id_of(*to)),
        Act::Kill => "is killed".to_owned(),
        Act::Lie => "has a drive that lies about syncs".to_owned(),
        Act::OwnUp => "has an honest drive again".to_owned(),
        Act::Damage { part } => format!("has a disk whose {} is damaged", words_of(*part)),
        Act::Wipe => "has its disk wiped".to_owned(),
        Act::Full => "has no room on its disk".to_owned(),
        Act::Room => "has room on its disk".to_owned(),
    }
}

fn words_of(part: Part) -> &'static str {
    match part {
        Part::Record => "log",
        Part::Snapshot => "state",
        Part::HardState => "term and vote",
    }
}

fn target(target: Target) -> String {
    let id = id_of(target.seat);
    if target.leader { format!("the leader (or {id})") } else { format!("{id}") }
}

fn pattern(pattern: Pattern) -> String {
    let ids = |set: u8| {
        let seats = (0..8_usize).filter(|seat| set >> seat & 1 == 1);
        seats.map(|seat| id_of(seat).to_string()).collect::<Vec<_>>().join(",")
    };
    match pattern {
        Pattern::Isolate(alone) => format!("{} alone", target(alone)),
        Pattern::Split(set) => format!("{{{}}} from the others", ids(set)),
        Pattern::Bridge(middle) => format!("two halves, only {} reaches both", id_of(middle)),
        Pattern::Ring => "all but a ring".to_owned(),
        Pattern::Chain => "all but a chain".to_owned(),
        Pattern::Link(one, other) => format!("{} - {}", id_of(one), id_of(other)),
        Pattern::OneWay(one, other) => format!("{} > {}", id_of(one), id_of(other)),
        Pattern::Mute(silent) => format!("all from {}", target(silent)),
        Pattern::Deaf(deaf) => format!("all to {}", target(deaf)),
    }
}

fn weather(weather: Weather) -> String {
    let Weather { loss_ppm, duplicate_ppm, delay_ns, jitter_ns, .. } = weather;
    format!(
        "{} % lost, {} % twice, {} to {} ms under way",
        loss_ppm / 10_000,
        duplicate_ppm / 10_000,
        millis(delay_ns),
        millis(delay_ns.saturating_add(jitter_ns))
    )
}

fn millis(ns: u64) -> u64 {
    ns / 1_000_000
}

/// A mishap in a few words.
pub(crate) fn mishap(mishap: &Mishap) -> String {
    match *mishap {
        Mishap::Crash { target: hit, kept, down_ns } => {
            format!("{} loses power, {kept} writes kept, {} ms", target(hit), millis(down_ns))
        }
        Mishap::CrashInside { target: hit, units, down_ns } => {
            format!("{} dies after {units} effects, {} ms", target(hit), millis(down_ns))
        }
        Mishap::CrashAll { kept, down_ns } => {
            format!("all lose power, {kept} writes kept, {} ms", millis(down_ns))
        }
        Mishap::Pause { target: hit, for_ns } => {
            format!("{} stands still, {} ms", target(hit), millis(for_ns))
        }
        Mishap::SlowNode { target: hit, lag_ns, for_ns } => {
            format!("{} slow by {} ms, {} ms", target(hit), millis(lag_ns), millis(for_ns))
        }
        Mishap::SlowLink { from, to, lag_ns, for_ns } => {
            let (from, to) = (id_of(from), id_of(to));
            format!("{from} > {to} slow by {} ms, {} ms", millis(lag_ns), millis(for_ns))
        }
        Mishap::ClockJump { target: hit, by_ns } => {
            format!("clock of {} jumps {} ms", target(hit), millis(by_ns))
        }
        Mishap::ClockRate { target: hit, ppm } => {
            format!("clock of {} runs at {ppm} ppm", target(hit))
        }
        Mishap::Cut { pattern: cut, for_ns } => {
            format!("cut: {}, {} ms", pattern(cut), millis(for_ns))
        }
        Mishap::Flap { pattern: cut, period_ns, for_ns } => {
            let (period, span) = (millis(period_ns), millis(for_ns));
            format!("flapping: {}, every {period} ms, {span} ms", pattern(cut))
        }
        Mishap::Weather { weather: bad, for_ns } => {
            format!("weather: {}, {} ms", weather(bad), millis(for_ns))
        }
        Mishap::TargetedLoss { kind: lost, ppm, for_ns } => {
            format!("{} % of {} lost, {} ms", ppm / 10_000, kind(lost), millis(for_ns))
        }
        Mishap::SlowDisk { target: hit, sync_ns, for_ns } => {
            format!("syncs of {} take {} ms, {} ms", target(hit), millis(sync_ns), millis(for_ns))
        }
        Mishap::SyncFailure { target: hit, kept, down_ns } => {
            format!("a sync of {} fails, {kept} writes kept, {} ms", target(hit), millis(down_ns))
        }
        Mishap::DiskFault { target: hit, which, for_ns } => {
            let fault = crate::world::fault_of(which);
            format!("{} hears of {fault:?}, {} ms", target(hit), millis(for_ns))
        }
        Mishap::Kill { target: hit, down_ns } => {
            format!("{} is killed, {} ms", target(hit), millis(down_ns))
        }
        Mishap::LyingDisk { target: hit, for_ns } => {
            format!("the drive of {} lies about syncs, {} ms", target(hit), millis(for_ns))
        }
        Mishap::Damage { target: hit, part, read } => {
            let found = if read { "and that is found at once" } else { "unnoticed" };
            format!("the {} of {} is damaged, {found}", words_of(part), target(hit))
        }
        Mishap::Wipe { target: hit } => format!("the disk of {} is wiped", target(hit)),
        Mishap::FullDisk { target: hit, for_ns } => {
            format!("the disk of {} is full, {} ms", target(hit), millis(for_ns))
        }
        Mishap::HungDisk { target: hit, kept, for_ns } => {
            let span = millis(for_ns);
            format!(
                "the disk of {} hangs, power off after {span} ms, {kept} writes kept",
                target(hit)
            )
        }
        Mishap::ClockStall { target: hit, for_ns } => {
            format!("the clock of {} stands still, {} ms", target(hit), millis(for_ns))
        }
        Mishap::Corruption { ppm, for_ns } => {
            format!("{} of a million frames are corrupt, {} ms", ppm, millis(for_ns))
        }
        Mishap::Transfer { to } => format!("leadership to {}", id_of(to)),
        Mishap::Unreachable { target: hit, peer } => {
            format!("{} hears that {} is unreachable", target(hit), id_of(peer))
        }
        Mishap::Compact { target: hit, kept } => {
            format!("{} drops its log but for {kept} entries", target(hit))
        }
    }
}
