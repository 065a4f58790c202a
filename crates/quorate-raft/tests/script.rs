//! Scripts: stories in text files, told in commands, with what the cluster did as the expected output.
//!
//! Messages and writes wait until a command lets them go on; nobody wakes on its own except in `run`.
//!
//! Commands (`ID` is a member):
//! - `cluster VOTERS [learners=N] [entries=N] [window=N] [uncommitted=N] [reads=N]`: starts afresh. Heartbeats 100 ms, elections 1000 ms.
//! - `disk ID [term=N] TERM...`: starts it again with a log of these terms. `restart ID`, `crash ID [kept=N]`.
//! - `wake ID`: lets time pass until it is due, and wakes it. `wait MS`: only lets time pass. `run MS`: lets everything happen.
//!   `approach ID`: the same, until just before `ID` is due.
//! - `deliver [FROM TO] [count=N]`, `drop [FROM TO]`: messages under way. `sync [ID...] [count=N]`: writes under way.
//! - `settle`: everything under way, until nothing is. Says only what came of it. `elect ID`: wakes it and settles.
//! - `cut ID ID`, `isolate ID`, `heal`.
//! - `propose ID COUNT`, `read ID`, `transfer ID TO`, `compact ID UPTO`, `unreachable ID NODE`, `fault ID KIND`, `repair ID`.
//! - Runs that an explorer found are told with `cluster VOTERS timeless=yes [judged=no] [mutant=N]`, `due ID TIMER`, `reboot ID kept=N`,
//!   `deliver FROM TO TEXT [number=N] [silent=yes] [keep=yes]` (the message that says so; its receiver has not heard its leader; a
//!   copy stays under way), `sent ID TO [failed=yes]` (a snapshot), and `compact ID` (all that is applied).
//! - `status [ID]`, `log [ID]`, `flying`.

use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Command, Context, Runner};
use quorate_raft::{
    AppendOutcome, Config, EntryRange, Fault, HardState, Index, Io, Message, Mono, NodeId, Notice,
    Timer, Verdict,
};

use crate::cluster::{Body, Cluster, Input, MILLISECOND, Outcome, Packet};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One script under way.
#[derive(Default)]
pub(crate) struct Script {
    cluster: Option<Cluster>,
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Result<String> {
        let mut args = command.consume_args();
        let mut text = String::new();
        if command.name == "cluster" {
            self.cluster = Some(start(&mut args)?);
        } else {
            let cluster = self.cluster.as_mut().ok_or("there is no cluster")?;
            let known = act(cluster, &command.name, &mut args, &mut text)?
                || show(cluster, &command.name, &mut args, &mut text)?;
            if !known {
                return Err(format!("no such command: {}", command.name).into());
            }
        }
        args.reject_next()?;
        Ok(text)
    }
}

fn key(args: &mut ArgumentConsumer<'_>, name: &str) -> Result<Option<u64>> {
    Ok(args.take_key(name).map(str::parse).transpose()?)
}

fn number(args: &mut ArgumentConsumer<'_>) -> Result<u64> {
    Ok(args.next_pos().ok_or("a number is missing")?.parse()?)
}

fn node(args: &mut ArgumentConsumer<'_>) -> Result<NodeId> {
    Ok(NodeId(number(args)?))
}

fn numbers(args: &mut ArgumentConsumer<'_>) -> Result<Vec<u64>> {
    Ok(std::iter::from_fn(|| args.next_pos())
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?)
}

fn start(args: &mut ArgumentConsumer<'_>) -> Result<Cluster> {
    let voters = number(args)?;
    let learners = key(args, "learners")?.unwrap_or(0);
    let mut config = Config::default();
    config.append_entries_max = key(args, "entries")?.unwrap_or(config.append_entries_max);
    config.uncommitted_entries_max =
        key(args, "uncommitted")?.unwrap_or(config.uncommitted_entries_max);
    if let Some(window) = key(args, "window")? {
        config.inflight_appends_max = usize::try_from(window)?;
    }
    if let Some(reads) = key(args, "reads")? {
        config.reads_max = usize::try_from(reads)?;
    }
    plant(&mut config, key(args, "mutant")?)?;
    let mut cluster = Cluster::new(&config, voters, learners, 1);
    let judged = args.take_key("judged") != Some("no");
    if args.take_key("timeless").is_some() {
        cluster.stop_time(judged);
    }
    Ok(cluster)
}

/// Brings a historical bug back.
fn plant(config: &mut Config, mutant: Option<u64>) -> Result<()> {
    let Some(mutant) = mutant else { return Ok(()) };
    #[cfg(feature = "mutants")]
    {
        config.mutant = u16::try_from(mutant)?;
        Ok(())
    }
    #[cfg(not(feature = "mutants"))]
    Err(format!("mutant {mutant} needs the feature `mutants`: {config:?}").into())
}

/// Commands that change something. Says whether it knows the command.
fn act(
    cluster: &mut Cluster,
    name: &str,
    args: &mut ArgumentConsumer<'_>,
    text: &mut String,
) -> Result<bool> {
    match name {
        "wake" => wake(cluster, node(args)?, text)?,
        "wait" => cluster.now = cluster.now.after(number(args)? * MILLISECOND),
        "approach" => {
            let due = deadline(cluster, node(args)?)?;
            cluster.run_for(due.since(cluster.now).saturating_sub(1));
        }
        "run" => {
            cluster.run_for(number(args)? * MILLISECOND);
            *text += &cluster.describe();
        }
        "elect" => {
            wake(cluster, node(args)?, &mut String::new())?;
            settle(cluster, text);
        }
        "settle" => settle(cluster, text),
        "deliver" => deliver(cluster, args, text)?,
        "drop" => {
            let pair = pair(args)?;
            cluster
                .flying
                .retain(|packet| pair.is_some_and(|pair| pair != (packet.from, packet.to)));
        }
        "sync" => {
            let count = usize::try_from(key(args, "count")?.unwrap_or(u64::MAX))?;
            let chosen = numbers(args)?;
            for id in cluster
                .running()
                .into_iter()
                .filter(|id| chosen.is_empty() || chosen.contains(&id.0))
            {
                for outcome in std::iter::from_fn(|| cluster.sync_one(id)).take(count) {
                    tell(id, &outcome, true, text);
                }
            }
        }
        "cut" => cluster.cut(&[node(args)?], &[node(args)?]),
        "isolate" => cluster.isolate(node(args)?),
        "heal" => cluster.cut.clear(),
        "crash" => {
            let kept = key(args, "kept")?.unwrap_or(0);
            cluster.crash(node(args)?, usize::try_from(kept)?);
        }
        "restart" => {
            let id = node(args)?;
            cluster.restart(id);
            *text += &cluster.describe_member(id);
        }
        "disk" => forge(cluster, args, text)?,
        "due" | "reboot" | "sent" => explored(cluster, name, args, text)?,
        _ => return ask(cluster, name, args, text),
    }
    Ok(true)
}

/// Commands of runs that an explorer found.
fn explored(
    cluster: &mut Cluster,
    name: &str,
    args: &mut ArgumentConsumer<'_>,
    text: &mut String,
) -> Result<()> {
    let id = node(args)?;
    let outcome = match name {
        "due" => cluster.due(id, timer(args)?),
        "sent" => {
            let to = node(args)?;
            Some(cluster.snapshot_sent(id, to, args.take_key("failed").is_none()))
        }
        _ => {
            let kept = key(args, "kept")?.unwrap_or(0);
            cluster.crash(id, usize::try_from(kept)?);
            cluster.restart(id);
            None
        }
    };
    if let Some(outcome) = outcome {
        tell(id, &outcome, true, text);
    }
    Ok(())
}

fn timer(args: &mut ArgumentConsumer<'_>) -> Result<Timer> {
    match args.next_pos() {
        Some("election") => Ok(Timer::Election),
        Some("silence") => Ok(Timer::Silence),
        Some("beat") => Ok(Timer::Beat),
        Some("quorum") => Ok(Timer::Quorum),
        Some("stall") => Ok(Timer::Stall),
        Some("reads") => Ok(Timer::Reads),
        other => Err(format!("no such timer: {other:?}").into()),
    }
}

/// Commands that are one event of one member.
fn ask(
    cluster: &mut Cluster,
    name: &str,
    args: &mut ArgumentConsumer<'_>,
    text: &mut String,
) -> Result<bool> {
    if name == "propose" {
        let id = node(args)?;
        let outcome = cluster.propose(id, number(args)?);
        tell(id, &outcome, true, text);
        return Ok(true);
    }
    if name == "read" {
        let id = node(args)?;
        let (context, outcome) = cluster.read(id);
        writeln!(text, "{id} asks for read {context}")?;
        tell(id, &outcome, true, text);
        return Ok(true);
    }
    if !["transfer", "compact", "unreachable", "fault", "repair"].contains(&name) {
        return Ok(false);
    }
    let id = node(args)?;
    let input = match name {
        "transfer" => Input::Transfer(node(args)?),
        "compact" => match args.next_pos() {
            Some(upto) => Input::Compact(Index(upto.parse()?)),
            None => Input::Compact(cluster.view(id).released),
        },
        "unreachable" => Input::Unreachable(node(args)?),
        "repair" => Input::Repaired,
        _ => Input::Fault(match args.next_pos() {
            Some("full") => Fault::DiskFull,
            Some("sync") => Fault::SyncFailed,
            Some("slow") => Fault::SlowDisk { stalled_for_ns: MILLISECOND },
            Some("corrupt") => Fault::Corrupt(EntryRange { first: Index(1), last: Index(1) }),
            other => return Err(format!("no such fault: {other:?}").into()),
        }),
    };
    let outcome = cluster.step(id, &input);
    tell(id, &outcome, true, text);
    Ok(true)
}

/// Commands that only show something. Says whether it knows the command.
fn show(
    cluster: &Cluster,
    name: &str,
    args: &mut ArgumentConsumer<'_>,
    text: &mut String,
) -> Result<bool> {
    let chosen: Vec<NodeId> = match args.next_pos() {
        Some(id) => vec![NodeId(id.parse()?)],
        None => cluster.ids(),
    };
    match name {
        "status" => {
            for id in chosen {
                *text += &(cluster.describe_member(id) + "\n");
            }
        }
        "log" => {
            for id in chosen {
                let log = &cluster.members[&id].log;
                let terms = log.entries().iter().map(|entry| format!(" {}", entry.meta.term));
                writeln!(text, "{id}:{}", terms.collect::<String>())?;
            }
        }
        "flying" => {
            for packet in &cluster.flying {
                writeln!(text, "{} -> {} {}", packet.from, packet.to, describe(&packet.body))?;
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn deadline(cluster: &Cluster, id: NodeId) -> Result<Mono> {
    let core = cluster.members[&id].core.as_ref().ok_or("it is down")?;
    Ok(core.next_deadline().ok_or("it has no deadline")?)
}

fn wake(cluster: &mut Cluster, id: NodeId, text: &mut String) -> Result<()> {
    let due = cluster.members[&id]
        .core
        .as_ref()
        .ok_or("it is down")?
        .next_deadline()
        .ok_or("it has no deadline")?;
    cluster.now = cluster.now.max(due);
    let outcome = cluster.step(id, &Input::Wake);
    tell(id, &outcome, true, text);
    Ok(())
}

fn pair(args: &mut ArgumentConsumer<'_>) -> Result<Option<(NodeId, NodeId)>> {
    match args.next_pos() {
        None => Ok(None),
        Some(from) => Ok(Some((NodeId(from.parse()?), node(args)?))),
    }
}

fn deliver(
    cluster: &mut Cluster,
    args: &mut ArgumentConsumer<'_>,
    text: &mut String,
) -> Result<()> {
    let count = usize::try_from(key(args, "count")?.unwrap_or(u64::MAX))?;
    let pair = pair(args)?;
    if let (Some(pair), Some(says)) = (pair, args.next_pos().map(str::to_owned)) {
        return deliver_one(cluster, pair, &says, args, text);
    }
    let (chosen, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut cluster.flying)
        .into_iter()
        .partition(|packet| pair.is_none_or(|pair| pair == (packet.from, packet.to)));
    cluster.flying = rest;
    let mut chosen = chosen.into_iter();
    for packet in chosen.by_ref().take(count) {
        let to = packet.to;
        writeln!(text, "{} => {to} {}", packet.from, describe(&packet.body))?;
        match cluster.deliver(packet) {
            Some(outcome) => tell(to, &outcome, true, text),
            None => *text += "  (lost)\n",
        }
    }
    cluster.flying.splice(0..0, chosen);
    Ok(())
}

/// Delivers the message that says just this.
fn deliver_one(
    cluster: &mut Cluster,
    (from, to): (NodeId, NodeId),
    says: &str,
    args: &mut ArgumentConsumer<'_>,
    text: &mut String,
) -> Result<()> {
    let number = key(args, "number")?;
    let at = cluster.find((from, to), |packet| {
        describe(&packet.body) == says && number.is_none_or(|number| number_of(packet) == number)
    });
    let at = at.ok_or_else(|| format!("nothing under way from {from} to {to} says: {says}"))?;
    if args.take_key("silent").is_some() {
        cluster.due(to, Timer::Silence);
    }
    let packet = match args.take_key("keep") {
        Some(_) => cluster.flying[at].clone(),
        None => cluster.flying.remove(at),
    };
    writeln!(text, "{from} => {to} {says}")?;
    match cluster.deliver(packet) {
        Some(outcome) => tell(to, &outcome, true, text),
        None => *text += "  (lost)\n",
    }
    Ok(())
}

/// The number of a request to read, which its text leaves out.
fn number_of(packet: &Packet) -> u64 {
    if let Body::Message(
        Message::ReadIndex { context, .. } | Message::ReadIndexReply { context, .. },
    ) = &packet.body
    {
        context.0
    } else {
        0
    }
}

/// Lets everything under way happen, write before message, member by member, until there is nothing.
fn settle(cluster: &mut Cluster, text: &mut String) {
    for _ in 0..1000 {
        for id in cluster.running() {
            while let Some(outcome) = cluster.sync_one(id) {
                tell(id, &outcome, false, text);
            }
        }
        let flying = std::mem::take(&mut cluster.flying);
        if flying.is_empty() {
            return;
        }
        for packet in flying {
            let to = packet.to;
            if let Some(outcome) = cluster.deliver(packet) {
                tell(to, &outcome, false, text);
            }
        }
    }
    panic!("the cluster does not settle");
}

/// Gives a member a log with the given terms, as if it had been there.
fn forge(cluster: &mut Cluster, args: &mut ArgumentConsumer<'_>, text: &mut String) -> Result<()> {
    let term = key(args, "term")?;
    let id = node(args)?;
    let terms = numbers(args)?;
    let term = term.or(terms.last().copied()).unwrap_or(0);
    cluster.forge(id, &terms, term);
    *text += &(cluster.describe_member(id) + "\n");
    Ok(())
}

/// Says what came of a step; messages and writes only if `all`.
fn tell(id: NodeId, outcome: &Outcome, all: bool, text: &mut String) {
    let mut line = |what: String| {
        let _ = writeln!(text, "  {id} {what}");
    };
    match outcome.verdict {
        Verdict::Ok => {}
        Verdict::Stale if !all => {}
        Verdict::Stale => line("finds that out of date".into()),
        Verdict::Proposed { range, term } => line(format!("appends {range} in term {term}")),
        Verdict::Rejected(reject) => line(format!("refuses: {reject}")),
    }
    for notice in &outcome.notices {
        line(describe_notice(*notice));
    }
    for io in outcome.saved.iter().filter(|_| all) {
        line(describe_io(io));
    }
    if let Some(range) = outcome.committed {
        line(format!("commits {range}"));
    }
    for grant in &outcome.reads {
        line(format!("may serve read {} at {}", grant.context, grant.index));
    }
    for context in &outcome.dropped {
        line(format!("drops read {context}"));
    }
    for (to, body) in outcome.sent.iter().filter(|_| all) {
        line(format!("-> {to} {}", describe(body)));
    }
    if all && outcome.held > 0 {
        line(format!("holds back {}", outcome.held));
    }
}

fn describe_notice(notice: Notice) -> String {
    match notice {
        Notice::RoleChanged { role, term, leader } => match leader {
            Some(leader) => format!("is {role:?} in term {term} of leader {leader}"),
            None => format!("is {role:?} in term {term}"),
        },
        Notice::LogTruncated { first } => format!("replaces its log from {first} on"),
        Notice::QuorumLost { term } => format!("has lost its quorum in term {term}"),
        Notice::DiskStalled { term } => format!("has a stalled disk in term {term}"),
        Notice::Faulted => "is faulted".into(),
        Notice::TermJump { from, claimed, term } => {
            format!("raises its term to {term}: {from} claims {claimed}")
        }
        other => format!("{other:?}"),
    }
}

fn describe_io(io: &Io) -> String {
    let state = |state: &HardState| {
        let vote = state.vote.map_or("-".to_string(), |vote| vote.to_string());
        format!(" term={} vote={vote}", state.term)
    };
    match io {
        Io::Save { token, hard_state, append } => {
            let hard_state = hard_state.as_ref().map(state).unwrap_or_default();
            let append = append.map(|append| format!(" {}", append.range)).unwrap_or_default();
            format!("saves #{token}{hard_state}{append}")
        }
        Io::Install { token, hard_state, snapshot } => {
            format!("installs #{token}{} snapshot {}", state(hard_state), snapshot.last)
        }
    }
}

fn describe(body: &Body) -> String {
    let message = match body {
        Body::Snapshot { term, meta, .. } => return format!("Snapshot t{term} last={}", meta.last),
        Body::Message(message) => message,
    };
    match message {
        Message::RequestVote { term, pre_vote, last, transfer } => {
            let name = if *pre_vote { "PreVote" } else { "RequestVote" };
            format!("{name} t{term} last={last}{}", if *transfer { " transfer" } else { "" })
        }
        Message::Vote { term, pre_vote, granted } => {
            let name = if *pre_vote { "PreVote" } else { "Vote" };
            format!("{name} t{term} {}", if *granted { "granted" } else { "refused" })
        }
        Message::AppendEntries { term, prev, entries, commit, round } => {
            let terms: Vec<String> =
                entries.iter().map(|entry| entry.meta.term.to_string()).collect();
            format!(
                "AppendEntries t{term} prev={prev} terms=[{}] commit={commit} round={round}",
                terms.join(" ")
            )
        }
        Message::Appended { term, round, outcome } => match outcome {
            AppendOutcome::Matched(index) => {
                format!("Appended t{term} matched={index} round={round}")
            }
            AppendOutcome::Rejected { prev, hint } => {
                format!("Appended t{term} rejected={prev} hint={hint} round={round}")
            }
        },
        Message::Heartbeat { term, commit, round } => {
            format!("Heartbeat t{term} commit={commit} round={round}")
        }
        Message::HeartbeatReply { term, round } => format!("HeartbeatReply t{term} round={round}"),
        Message::InstallSnapshot { term, snapshot } => {
            format!("InstallSnapshot t{term} last={}", snapshot.last)
        }
        Message::ReadIndex { term, .. } => format!("ReadIndex t{term}"),
        Message::ReadIndexReply { term, index, .. } => match index {
            Some(index) => format!("ReadIndexReply t{term} index={index}"),
            None => format!("ReadIndexReply t{term} refused"),
        },
        Message::TimeoutNow { term } => format!("TimeoutNow t{term}"),
    }
}
