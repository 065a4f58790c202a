//! Whatever events a core is given, in whatever order: it never panics, and its invariants hold after every step.
#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use quorate_raft::{
    AppendOutcome, Config, Core, Effects, EntryId, EntryKind, EntryMeta, EntryRange, Event, Fault,
    Index, IoToken, Membership, Message, Mono, NodeId, ReadContext, Recovered, SnapshotMeta, Term,
};

fuzz_target!(|data: &[u8]| {
    // Running out of input ends the run.
    let _ = play(&mut Unstructured::new(data));
});

fn play(input: &mut Unstructured<'_>) -> Result<()> {
    let Some(mut core) = start(input)? else { return Ok(()) };
    let mut effects = Effects::default();
    let mut now = Mono(0);
    while !input.is_empty() {
        now = now.after(u64::from(input.arbitrary::<u16>()?) << 16);
        effects.clear();
        step(&mut core, now, input, &mut effects)?;
        if let Err(broken) = core.check() {
            panic!("{broken}");
        }
    }
    Ok(())
}

fn start(input: &mut Unstructured<'_>) -> Result<Option<Core>> {
    let config = Config { id: NodeId(1), ..Config::default() };
    let voters = input.int_in_range(1..=5)?;
    let recovered = Recovered {
        base: SnapshotMeta {
            last: EntryId::default(),
            membership: Membership::of_voters((1..=voters).map(NodeId)),
        },
        entries: metas(input)?,
        ..Recovered::default()
    };
    Ok(Core::recover(config, recovered, Mono(0), input.arbitrary()?).ok())
}

fn step(
    core: &mut Core,
    now: Mono,
    input: &mut Unstructured<'_>,
    effects: &mut Effects,
) -> Result<()> {
    let event = match input.int_in_range(0..=10)? {
        0 => Event::Wake,
        1..=4 => {
            let entries = metas(input)?;
            let message = message(input, &entries)?;
            core.step(now, Event::Message { from: node(input)?, message: &message }, effects);
            return Ok(());
        }
        5 => {
            let sizes: Vec<u32> = input.arbitrary()?;
            core.step(now, Event::Propose { sizes: &sizes }, effects);
            return Ok(());
        }
        6 => Event::Read { context: ReadContext(small(input)?) },
        7 => Event::IoDone { token: IoToken(small(input)?) },
        8 => fault(input)?,
        9 => {
            let snapshot = snapshot(input)?;
            core.step(
                now,
                Event::SnapshotReceived {
                    from: node(input)?,
                    term: Term(small(input)?),
                    snapshot: &snapshot,
                },
                effects,
            );
            return Ok(());
        }
        _ => other(input)?,
    };
    core.step(now, event, effects);
    Ok(())
}

fn fault(input: &mut Unstructured<'_>) -> Result<Event<'static>> {
    Ok(match input.int_in_range(0..=3)? {
        0 => Event::Fault(Fault::DiskFull),
        1 => Event::Fault(Fault::SlowDisk { stalled_for_ns: input.arbitrary()? }),
        2 => Event::Fault(Fault::Corrupt(EntryRange {
            first: Index(small(input)?),
            last: Index(small(input)?),
        })),
        _ => Event::Repaired,
    })
}

fn other(input: &mut Unstructured<'_>) -> Result<Event<'static>> {
    Ok(match input.int_in_range(0..=3)? {
        0 => Event::Unreachable { node: node(input)? },
        1 => Event::SnapshotSent { to: node(input)?, snapshot: None },
        2 => Event::Compacted { upto: Index(small(input)?) },
        _ => Event::TransferLeader { to: node(input)? },
    })
}

fn message<'a>(
    input: &mut Unstructured<'_>,
    entries: &'a [EntryMeta],
) -> Result<Message<&'a [EntryMeta]>> {
    let term = Term(small(input)?);
    Ok(match input.int_in_range(0..=9)? {
        0 => Message::RequestVote {
            term,
            pre_vote: input.arbitrary()?,
            last: id(input)?,
            transfer: input.arbitrary()?,
        },
        1 => Message::Vote { term, pre_vote: input.arbitrary()?, granted: input.arbitrary()? },
        2 | 3 => Message::AppendEntries {
            term,
            prev: id(input)?,
            entries,
            commit: Index(small(input)?),
            round: small(input)?,
        },
        4 => Message::Appended { term, round: small(input)?, outcome: outcome(input)? },
        5 => Message::Heartbeat { term, commit: Index(small(input)?), round: small(input)? },
        6 => Message::HeartbeatReply { term, round: small(input)? },
        7 => Message::InstallSnapshot { term, snapshot: snapshot(input)? },
        8 => Message::ReadIndex { term, context: ReadContext(small(input)?) },
        _ => Message::TimeoutNow { term },
    })
}

fn outcome(input: &mut Unstructured<'_>) -> Result<AppendOutcome> {
    Ok(if input.arbitrary()? {
        AppendOutcome::Matched(Index(small(input)?))
    } else {
        AppendOutcome::Rejected { prev: Index(small(input)?), hint: id(input)? }
    })
}

fn metas(input: &mut Unstructured<'_>) -> Result<Vec<EntryMeta>> {
    let count = input.int_in_range(0..=4)?;
    (0..count)
        .map(|_| {
            Ok(EntryMeta {
                term: Term(small(input)?),
                kind: EntryKind::Normal,
                bytes: u32::from(input.arbitrary::<u8>()?),
            })
        })
        .collect()
}

fn snapshot(input: &mut Unstructured<'_>) -> Result<SnapshotMeta> {
    let voters = input.int_in_range(0..=5)?;
    Ok(SnapshotMeta {
        last: id(input)?,
        membership: Membership::of_voters((1..=voters).map(NodeId)),
    })
}

fn id(input: &mut Unstructured<'_>) -> Result<EntryId> {
    Ok(EntryId { term: Term(small(input)?), index: Index(small(input)?) })
}

fn node(input: &mut Unstructured<'_>) -> Result<NodeId> {
    Ok(NodeId(input.int_in_range(0..=6)?))
}

/// Mostly a small number, now and then any.
fn small(input: &mut Unstructured<'_>) -> Result<u64> {
    if input.int_in_range(0..=31)? == 0 { input.arbitrary() } else { input.int_in_range(0..=12) }
}
