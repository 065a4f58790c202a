//! A run as a golden script, in the language that the tests of `quorate-raft` read: one command for each action, and at the end
//! what each member must then say of itself. There another driver does the same things to other cores, so that such a script
//! stands on its own: as a regression test, and as evidence that a run is not the explorer's own mistake.
//!
//! Scripts are also how runs are saved here ([`replay`](super::replay)).
//!
//! Left out: bugs of the explorer's driver. Their scripts name what happened, and the other driver, which has no such bug, may
//! come to another end.

use std::fmt::Write as _;

use quorate_raft::{AppendOutcome, EntryMeta, Index, Message, Timer, View};

use super::MEMBERS;
use super::bound::{Bound, Bug};
use super::member::{Member, Parcel};
use super::universe::{Act, Universe};
use super::world::{Action, World};

/// The command that an action is. Different actions of one world have different commands.
pub(super) fn command(action: Action, universe: &Universe) -> Result<String, String> {
    let node = action.place + 1;
    Ok(match action.act {
        Act::Deliver { parcel, silent } => {
            let parcel = &universe.parcel(parcel)?.0;
            let silent = if silent { " silent=yes" } else { "" };
            let keep = if action.taken.is_none() { " keep=yes" } else { "" };
            format!("deliver {} {} {}{silent}{keep}", parcel.from, parcel.to, said(parcel))
        }
        Act::Unreachable(to) => format!("unreachable {node} {to}"),
        Act::Fire(timer) => format!("due {node} {}", timer_name(timer)),
        Act::Propose => format!("propose {node} 1"),
        Act::Read(_) => format!("read {node}"),
        Act::Synced => format!("sync {node} count=1"),
        Act::Crash(kept) => format!("reboot {node} kept={kept}"),
        Act::Compact => format!("compact {node}"),
        Act::Sent { to, failed: false } => format!("sent {node} {to}"),
        Act::Sent { to, failed: true } => format!("sent {node} {to} failed=yes"),
    })
}

fn timer_name(timer: Timer) -> &'static str {
    match timer {
        Timer::Election => "election",
        Timer::Silence => "silence",
        Timer::Beat => "beat",
        Timer::Quorum => "quorum",
        Timer::Stall => "stall",
        Timer::Reads => "reads",
    }
}

/// The action that a command is in a world.
///
/// # Errors
/// It is not possible there.
pub(super) fn action(command: &str, world: &World, universe: &Universe) -> Result<Action, String> {
    let mut actions = Vec::new();
    world.actions(universe, &mut actions)?;
    for action in actions {
        if self::command(action, universe)? == command {
            return Ok(action);
        }
    }
    Err(format!("not possible: {command}"))
}

/// The whole script: what the run shows, its commands, and how the members end.
pub(super) fn script(
    what: &str,
    (bound, bug): (Bound, Bug),
    commands: &[String],
    members: &[&Member; MEMBERS],
) -> String {
    let mut text = String::new();
    for line in what.lines() {
        let _ = writeln!(text, "# {line}");
    }
    let _ = writeln!(
        text,
        "# explore --bound {} --bug {bug} --replay THIS steps through it.\n",
        bound.name
    );
    let mutant = match bug {
        Bug::Core(number) => format!(" judged=no mutant={number}"),
        Bug::None
        | Bug::ForgetVote
        | Bug::AckBeforeDurable
        | Bug::LoseWrites
        | Bug::ReadLocally => String::new(),
    };
    let _ = writeln!(text, "(cluster {MEMBERS} entries=2 window=2 timeless=yes{mutant})");
    for command in commands {
        let _ = writeln!(text, "({command})");
    }
    text += "status\nlog\n---\n";
    for member in members {
        let _ = writeln!(text, "{}", status(&member.core().view()));
    }
    for member in members {
        let view = member.core().view();
        let base = usize::try_from(view.base.index.0).unwrap_or(usize::MAX);
        let terms = member.log().iter().skip(base).map(|term| format!(" {term}"));
        let _ = writeln!(text, "{}:{}", view.id, terms.collect::<String>());
    }
    text
}

/// The commands of a script that was saved, without what stands around them.
pub(super) fn commands(text: &str) -> Vec<String> {
    let silent = |line: &str| Some(line.strip_prefix('(')?.strip_suffix(')')?.to_owned());
    let lines = text.lines().filter_map(|line| silent(line.trim()));
    lines.filter(|line| !line.starts_with("cluster ")).collect()
}

/// What a member says of itself.
fn status(view: &View<'_>) -> String {
    let leader = view.leader.map_or("-".to_owned(), |leader| leader.to_string());
    let vote = view.vote.map_or("-".to_owned(), |vote| vote.to_string());
    let mut text = format!(
        "{} {:?} term={} vote={vote} leader={leader} commit={} last={} durable={}",
        view.id, view.role, view.term, view.commit, view.last, view.durable
    );
    if view.base.index > Index(0) {
        let _ = write!(text, " base={}", view.base);
    }
    for peer in view.peers() {
        let (node, state) = (peer.node, peer.state);
        let _ = write!(text, " {node}:{state:?}/{}/{}", peer.match_index, peer.next_index);
    }
    text
}

/// A message in quotes, as the scripts show it, and what else tells it from others.
fn said(parcel: &Parcel) -> String {
    let message = &parcel.message;
    let number = match message {
        Message::ReadIndex { context, .. } | Message::ReadIndexReply { context, .. } => {
            format!(" number={context}")
        }
        Message::RequestVote { .. }
        | Message::Vote { .. }
        | Message::AppendEntries { .. }
        | Message::Appended { .. }
        | Message::Heartbeat { .. }
        | Message::HeartbeatReply { .. }
        | Message::InstallSnapshot { .. }
        | Message::TimeoutNow { .. } => String::new(),
    };
    format!("\"{}\"{number}", text_of(message))
}

fn text_of(message: &Message<Vec<EntryMeta>>) -> String {
    let term = message.term();
    match message {
        Message::RequestVote { pre_vote, last, transfer, .. } => {
            let name = if *pre_vote { "PreVote" } else { "RequestVote" };
            format!("{name} t{term} last={last}{}", if *transfer { " transfer" } else { "" })
        }
        Message::Vote { pre_vote, granted, .. } => {
            let name = if *pre_vote { "PreVote" } else { "Vote" };
            format!("{name} t{term} {}", if *granted { "granted" } else { "refused" })
        }
        Message::AppendEntries { prev, entries, commit, round, .. } => {
            let terms = entries.iter().map(|entry| entry.term.to_string());
            let terms = terms.collect::<Vec<_>>().join(" ");
            format!(
                "AppendEntries t{term} prev={prev} terms=[{terms}] commit={commit} round={round}"
            )
        }
        Message::Appended { round, outcome, .. } => match outcome {
            AppendOutcome::Matched(index) => {
                format!("Appended t{term} matched={index} round={round}")
            }
            AppendOutcome::Rejected { prev, hint } => {
                format!("Appended t{term} rejected={prev} hint={hint} round={round}")
            }
        },
        Message::Heartbeat { commit, round, .. } => {
            format!("Heartbeat t{term} commit={commit} round={round}")
        }
        Message::HeartbeatReply { round, .. } => format!("HeartbeatReply t{term} round={round}"),
        Message::InstallSnapshot { snapshot, .. } => {
            format!("Snapshot t{term} last={}", snapshot.last)
        }
        Message::ReadIndex { .. } => format!("ReadIndex t{term}"),
        Message::ReadIndexReply { index: Some(index), .. } => {
            format!("ReadIndexReply t{term} index={index}")
        }
        Message::ReadIndexReply { index: None, .. } => format!("ReadIndexReply t{term} refused"),
        Message::TimeoutNow { .. } => format!("TimeoutNow t{term}"),
    }
}
