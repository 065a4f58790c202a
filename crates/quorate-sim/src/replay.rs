//! A flight recording of a live member, told step by step.
//!
//! [`quorate_flight::replay`] takes the steps and judges them; here they become words: what the member was told, what became
//! of it, what it gave out. One line names the event, with the number of the step and the time since the recording begins;
//! lines below it are indented. Violations are told wherever they are, also outside the steps that were asked for.

use std::fmt::Write as _;
use std::io;

use quorate_flight::{Outcome, Recording, Scene, Standing, Step, replay};
use quorate_raft::{
    AppendOutcome, Effects, EntryId, EntryMeta, EntryRange, Index, Io, Message, Mono, NodeId,
    Notice, RecordedEvent, Role, Verdict,
};

/// How much of a member's state is told with each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// All of it.
    Every,
    /// What the step changed, and what it gave out.
    Changes,
    /// Nothing: only the events.
    None,
}

/// What of a recording is told.
#[derive(Clone, Copy, Debug)]
pub struct Telling {
    /// The first step.
    pub from: u64,
    /// The last step, included.
    pub to: u64,
    /// How much with each.
    pub shown: Shown,
}

impl Default for Telling {
    fn default() -> Self {
        Self { from: 0, to: u64::MAX, shown: Shown::Changes }
    }
}

/// Plays a recording and tells it, as far as it is whole.
///
/// # Errors
/// `out` takes no more.
pub fn tell(
    recording: &Recording<'_>,
    telling: Telling,
    out: &mut dyn io::Write,
) -> io::Result<Outcome> {
    let zero = recording.segments.first().map_or(Mono(0), |segment| segment.begun);
    let mut written = Ok(());
    let outcome = replay(recording, |scene| {
        let text = describe(scene, telling, zero);
        if written.is_ok() {
            written = out.write_all(text.as_bytes());
        }
    });
    written.map(|()| outcome)
}

fn describe(scene: &Scene<'_>, telling: Telling, zero: Mono) -> String {
    let is_told = |step: u64| (telling.from..=telling.to).contains(&step);
    match scene {
        Scene::Image { step, now, core, gap } => {
            if !is_told(*step) {
                return String::new();
            }
            let missing =
                if *gap > 0 { format!(", {gap} steps are missing") } else { String::new() };
            let (view, state) = (core.view(), state(&Standing::of(core)));
            let head = head(*step, *now, zero);
            format!("{head} image of member {}{missing}\n      {state}\n", name(view.id))
        }
        Scene::Step(step) if is_told(step.number) => describe_step(step, telling.shown, zero),
        Scene::Step(_) => String::new(),
        Scene::Violation(violation) => {
            format!(
                "{} VIOLATION: {}\n",
                head(violation.step, violation.now, zero),
                violation.problem
            )
        }
    }
}

fn head(step: u64, now: Mono, zero: Mono) -> String {
    let since = now.since(zero);
    format!("#{step} +{}.{:06}s", since / 1_000_000_000, since / 1_000 % 1_000_000)
}

fn describe_step(step: &Step<'_>, shown: Shown, zero: Mono) -> String {
    let mut text = format!("{} {}", head(step.number, step.now, zero), event(step.event));
    match step.verdict {
        None => text.push_str(": it panics"),
        Some(Verdict::Ok) => {}
        Some(Verdict::Stale) => text.push_str(": out of date"),
        Some(Verdict::Proposed { range, term }) => {
            let _ = write!(text, ": they are {range} of term {term}");
        }
        Some(Verdict::Rejected(reject)) => {
            let _ = write!(text, ": refused, {reject}");
        }
    }
    if step.diverged {
        text.push_str(" (not as in the live run)");
    }
    text.push('\n');
    let now = Standing::of(step.core);
    let lines = match shown {
        Shown::None => Vec::new(),
        Shown::Changes => [changes(&step.before, &now), effects(step.effects)].concat(),
        Shown::Every => [vec![state(&now)], effects(step.effects)].concat(),
    };
    for line in lines {
        let _ = writeln!(text, "      {line}");
    }
    text
}

fn state(now: &Standing) -> String {
    let Standing { term, commit, released, base, last, durable, .. } = now;
    format!(
        "{} of term {term}, voted for {}, leader {}, commit {commit}, given out {released}, log {base} to {last}, durable {durable}",
        role(now.role),
        node(now.vote),
        node(now.leader),
    )
}

fn changes(before: &Standing, now: &Standing) -> Vec<String> {
    let mut parts = Vec::new();
    let mut compare = |what: &str, one: String, other: String| {
        if one != other {
            parts.push(format!("{what} {one} -> {other}"));
        }
    };
    compare("role", role(before.role).to_owned(), role(now.role).to_owned());
    compare("term", before.term.to_string(), now.term.to_string());
    compare("vote", node(before.vote), node(now.vote));
    compare("leader", node(before.leader), node(now.leader));
    compare("commit", before.commit.to_string(), now.commit.to_string());
    compare("last", before.last.to_string(), now.last.to_string());
    compare("durable", before.durable.to_string(), now.durable.to_string());
    compare("base", before.base.to_string(), now.base.to_string());
    if parts.is_empty() { Vec::new() } else { vec![parts.join(", ")] }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

fn node(node: Option<NodeId>) -> String {
    node.map_or_else(|| "nobody".to_owned(), name)
}

/// As the server's log and `ctl` name members.
fn name(node: NodeId) -> String {
    format!("{:x}", node.0)
}

fn event(event: &RecordedEvent) -> String {
    match event {
        RecordedEvent::Wake => "time has passed".to_owned(),
        RecordedEvent::Message { from, message: what, entries } => {
            format!("from {}: {}{}", name(*from), message(what), carried(entries))
        }
        RecordedEvent::Propose { sizes } => {
            let bytes: u64 = sizes.iter().map(|size| u64::from(*size)).sum();
            format!("{} proposed, {bytes} bytes", count(sizes.len() as u64, "entry", "entries"))
        }
        RecordedEvent::Read { context } => format!("read {context}"),
        RecordedEvent::IoDone { token } => format!("write {token} is done"),
        RecordedEvent::Fault(fault) => format!("the disk failed: {fault:?}"),
        RecordedEvent::Repaired => "the disk is repaired".to_owned(),
        RecordedEvent::Unreachable { node } => format!("messages to {} are lost", name(*node)),
        RecordedEvent::SnapshotSent { to, snapshot: Some(snapshot) } => {
            format!("the snapshot {} was sent to {}", snapshot.last, name(*to))
        }
        RecordedEvent::SnapshotSent { to, snapshot: None } => {
            format!("no snapshot could be sent to {}", name(*to))
        }
        RecordedEvent::SnapshotReceived { from, term, snapshot } => {
            format!("the snapshot {} is here from {}, term {term}", snapshot.last, name(*from))
        }
        RecordedEvent::Compacted { upto } => format!("the log is cut up to {upto}"),
        RecordedEvent::TransferLeader { to } => format!("leadership shall go to {}", name(*to)),
    }
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn carried(entries: &[EntryMeta]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let bytes: u64 = entries.iter().map(|entry| u64::from(entry.bytes)).sum();
    let last = entries.last().map_or(0, |entry| entry.term.0);
    let entries = count(entries.len() as u64, "entry", "entries");
    format!(", {entries} up to term {last}, {bytes} bytes")
}

fn message<E>(message: &Message<E>) -> String {
    let term = message.term();
    let what = match message {
        Message::RequestVote { pre_vote, last, transfer, .. } => {
            let name = if *pre_vote { "PreVote" } else { "RequestVote" };
            let transfer = if *transfer { ", asked to by the leader" } else { "" };
            format!("{name}, last {last}{transfer}")
        }
        Message::Vote { pre_vote, granted, .. } => {
            let name = if *pre_vote { "PreVote" } else { "Vote" };
            format!("{name} {}", if *granted { "granted" } else { "refused" })
        }
        Message::AppendEntries { prev, commit, round, .. } => {
            format!("AppendEntries behind {prev}, commit {commit}, round {round}")
        }
        Message::Appended { round, outcome: AppendOutcome::Matched(index), .. } => {
            format!("Appended up to {index}, round {round}")
        }
        Message::Appended { outcome: AppendOutcome::Rejected { prev, hint }, .. } => {
            format!("Appended nothing behind {prev}, try {hint}")
        }
        Message::Heartbeat { commit, round, .. } => {
            format!("Heartbeat, commit {commit}, round {round}")
        }
        Message::HeartbeatReply { round, .. } => format!("HeartbeatReply, round {round}"),
        Message::InstallSnapshot { snapshot, .. } => format!("InstallSnapshot {}", snapshot.last),
        Message::ReadIndex { context, .. } => format!("ReadIndex {context}"),
        Message::ReadIndexReply { context, index, .. } => {
            let index = index.map_or_else(|| "none".to_owned(), |Index(index)| index.to_string());
            format!("ReadIndexReply {context}: {index}")
        }
        Message::TimeoutNow { .. } => "TimeoutNow".to_owned(),
    };
    format!("{what} (term {term})")
}

fn effects(effects: &Effects) -> Vec<String> {
    let mut lines: Vec<String> = effects.io.iter().map(write_of).collect();
    lines.extend(effects.send.iter().map(|send| {
        let after = send.after.map_or_else(String::new, |token| format!(" once {token} is done"));
        let entries = if let Message::AppendEntries { entries, .. } = &send.message {
            range(*entries)
        } else {
            String::new()
        };
        format!("sends to {}{after}: {}{entries}", name(send.to), message(&send.message))
    }));
    if let Some(commit) = effects.commit {
        lines.push(format!("gives out {commit}"));
    }
    lines.extend(
        effects
            .reads
            .iter()
            .map(|grant| format!("grants read {} at {}", grant.context, grant.index)),
    );
    lines.extend(effects.reads_dropped.iter().map(|context| format!("drops read {context}")));
    lines.extend(
        effects.snapshots.iter().map(|node| format!("wants a snapshot sent to {}", name(*node))),
    );
    lines.extend(effects.notices.iter().filter_map(notice));
    lines
}

fn range(range: EntryRange) -> String {
    if range.is_empty() { ", no entries".to_owned() } else { format!(", entries {range}") }
}

fn write_of(io: &Io) -> String {
    match io {
        Io::Save { token, hard_state, append } => {
            let state = hard_state.map_or_else(String::new, |state| {
                format!(" term {} and vote {}", state.term, node(state.vote))
            });
            let entries = append.map_or_else(String::new, |append| format!(" {}", append.range));
            format!("writes {token}:{state}{entries}")
        }
        Io::Install { token, snapshot, .. } => {
            let last: EntryId = snapshot.last;
            format!("writes {token}: installs the snapshot {last}")
        }
    }
}

/// Changes of role are told by the state.
fn notice(notice: &Notice) -> Option<String> {
    if matches!(notice, Notice::RoleChanged { .. }) { None } else { Some(format!("{notice:?}")) }
}
