//! The step is total: no event, however senseless, panics, breaks an invariant, or, if it is refused, changes anything. And logs
//! of any shape are repaired in as many exchanges as they have terms.

use quorate_raft::{
    AppendOutcome, Config, Core, Effects, EntryId, EntryKind, EntryMeta, EntryRange, Event, Fault,
    HardState, Index, Io, IoToken, Membership, Message, Mono, NodeId, Past, ReadContext,
    RecoverError, Recovered, Role, SnapshotMeta, Term, Verdict,
};

use crate::cluster::{Cluster, Dice};
use crate::solo::{base, config, id, metas, recovered};

/// Numbers near everything that matters, and far from it.
fn number(dice: &mut Dice) -> u64 {
    match dice.below(20) {
        0..15 => dice.below(8),
        15..18 => dice.below(40),
        18 => (1 << 62) - 1 + dice.below(3),
        _ => u64::MAX - dice.below(2),
    }
}

fn entry_id(dice: &mut Dice) -> EntryId {
    id(number(dice), number(dice))
}

/// Mostly in order; else no append would ever pass.
fn entries(dice: &mut Dice) -> Vec<EntryMeta> {
    let mut term = dice.below(6);
    let count = dice.below(5);
    let mut entry = || {
        term = if dice.chance(5) {
            number(dice)
        } else {
            term.saturating_add(u64::from(dice.chance(20)))
        };
        let kind = if dice.chance(2) { EntryKind::Membership } else { EntryKind::Normal };
        EntryMeta { term: Term(term), kind, bytes: u32::try_from(dice.below(100)).unwrap() }
    };
    (0..count).map(|_| entry()).collect()
}

fn membership(dice: &mut Dice) -> Membership {
    let mut some = |most| (0..dice.below(most)).map(|_| NodeId(dice.below(6))).collect();
    Membership { voters: some(5), voters_outgoing: some(2), learners: some(2) }
}

/// Mostly one that could be installed.
fn snapshot(dice: &mut Dice, view: (Term, EntryId)) -> SnapshotMeta {
    let ahead = id(view.1.term.0.max(1), view.1.index.0.saturating_add(1 + dice.below(4)));
    let last = if dice.chance(60) { ahead } else { entry_id(dice) };
    let membership = if dice.chance(80) { base(3).membership } else { membership(dice) };
    SnapshotMeta { last, membership }
}

fn message<'a>(
    dice: &mut Dice,
    view: (Term, EntryId),
    entries: &'a [EntryMeta],
) -> Message<&'a [EntryMeta]> {
    let term = if dice.chance(70) { view.0 } else { Term(number(dice)) };
    let prev = if dice.chance(50) { view.1 } else { entry_id(dice) };
    let (index, round) = (Index(number(dice)), dice.below(3));
    match dice.below(11) {
        0 => {
            let last = prev;
            Message::RequestVote {
                term,
                pre_vote: dice.chance(50),
                last,
                transfer: dice.chance(20),
            }
        }
        1 => {
            let pre_vote = dice.chance(50);
            let term = if pre_vote && dice.chance(50) { term.next() } else { term };
            Message::Vote { term, pre_vote, granted: dice.chance(80) }
        }
        2 | 3 => Message::AppendEntries { term, prev, entries, commit: index, round },
        4 => Message::Appended { term, round, outcome: AppendOutcome::Matched(index) },
        5 => {
            let outcome = AppendOutcome::Rejected { prev: index, hint: entry_id(dice) };
            Message::Appended { term, round, outcome }
        }
        6 => Message::Heartbeat { term, commit: index, round },
        7 => Message::HeartbeatReply { term, round },
        8 => {
            let snapshot = snapshot(dice, view);
            Message::InstallSnapshot { term, snapshot }
        }
        9 => Message::ReadIndex { term, context: ReadContext(number(dice)) },
        _ => match dice.below(3) {
            0 => Message::TimeoutNow { term },
            1 => Message::ReadIndexReply { term, context: ReadContext(number(dice)), index: None },
            _ => Message::ReadIndexReply {
                term,
                context: ReadContext(number(dice)),
                index: Some(index),
            },
        },
    }
}

/// Gives one event of any kind.
fn disturb(
    core: &mut Core,
    dice: &mut Dice,
    now: Mono,
    token: IoToken,
    out: &mut Effects,
) -> Verdict {
    let from = NodeId(dice.below(5));
    let entries = entries(dice);
    let view = core.view();
    let message = message(dice, (view.term, view.last), &entries);
    let snapshot = snapshot(dice, (view.term, view.last));
    let term = if dice.chance(70) { view.term } else { Term(number(dice)) };
    let sizes: Vec<u32> = entries.iter().map(|entry| entry.bytes).collect();
    let event = match dice.below(40) {
        0..4 => Event::Wake,
        4..22 => Event::Message { from, message: &message },
        22..25 => Event::Propose { sizes: &sizes },
        25..27 => Event::Read { context: ReadContext(number(dice)) },
        27..32 => {
            Event::IoDone { token: if dice.chance(90) { token } else { IoToken(number(dice)) } }
        }
        32 if dice.chance(20) => Event::Fault(match dice.below(8) {
            0 => Fault::SyncFailed,
            1..4 => Fault::DiskFull,
            4..6 => Fault::SlowDisk { stalled_for_ns: number(dice) },
            _ => {
                Fault::Corrupt(EntryRange { first: Index(number(dice)), last: Index(number(dice)) })
            }
        }),
        32 | 33 => Event::Repaired,
        34 => Event::Unreachable { node: from },
        35 => Event::SnapshotSent { to: from, snapshot: dice.chance(50).then_some(&snapshot) },
        36 => Event::SnapshotReceived { from, term, snapshot: &snapshot },
        37 => Event::Compacted { upto: Index(number(dice)) },
        _ => Event::TransferLeader { to: from },
    };
    core.step(now, event, out)
}

fn torment(seed: u64, steps: u64, seen: &mut [u64; 4]) {
    let mut dice = Dice::new(seed);
    let voters = 1 + dice.below(4);
    let config =
        Config { reads_max: 3, inflight_appends_max: 2, append_entries_max: 3, ..config(1) };
    let mut core =
        Core::recover(config, recovered(voters, 3, None, &[1, 1, 2]), Mono(0), seed).unwrap();
    let (mut out, mut now, mut token) = (Effects::default(), Mono(0), IoToken(0));
    for _ in 0..steps {
        let (before, past) = (core.clone(), Past::of(&core));
        now = if dice.chance(30) {
            core.next_deadline().unwrap_or(now).max(now)
        } else {
            now.after(dice.below(1000))
        };
        out.clear();
        let verdict = disturb(&mut core, &mut dice, now, token, &mut out);
        core.check().unwrap_or_else(|broken| panic!("seed {seed}: {broken} after {before:#?}"));
        past.check(&core)
            .unwrap_or_else(|broken| panic!("seed {seed}: {broken} after {before:#?}"));
        if matches!(verdict, Verdict::Rejected(_)) {
            assert_eq!(
                format!("{core:?}"),
                format!("{before:?}"),
                "seed {seed}: refused, and yet something changed"
            );
            assert_eq!(
                out,
                Effects::default(),
                "seed {seed}: refused, and yet something is wanted"
            );
            seen[3] += 1;
        }
        seen[0] += u64::from(core.view().role == Role::Leader);
        seen[1] += u64::from(out.commit.is_some());
        seen[2] += out.io.iter().filter(|io| matches!(io, Io::Install { .. })).count() as u64;
        token = out.io.last().map_or(token, Io::token);
    }
}

#[test]
fn no_event_panics_breaks_an_invariant_or_is_half_refused() {
    let mut seen = [0; 4];
    for seed in 0..400 {
        torment(seed, 300, &mut seen);
    }
    assert!(seen.iter().all(|count| *count > 100), "leader, commit, install, refused: {seen:?}");
}

/// A term's entries do not survive it in this log's tail if the other log has other terms from there on.
fn tail(dice: &mut Dice, parity: u64, length: u64) -> Vec<u64> {
    let mut term = 10 + parity;
    let mut next = || {
        term += if dice.chance(15) { 2 } else { 0 };
        term
    };
    (0..length).map(|_| next()).collect()
}

fn distinct(terms: &[u64]) -> u64 {
    terms.chunk_by(|one, next| one == next).count() as u64
}

/// Mission C3: "conflicting logs of any length repaired in O(terms) round trips".
#[test]
fn any_two_logs_are_repaired_in_as_many_refusals_as_terms() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let mut cluster = Cluster::new(&Config { id: NodeId(0), ..Config::default() }, 3, 0, seed);
        let (common, one, other) = (dice.below(40), dice.below(200), dice.below(200));
        let (one, other) = (tail(&mut dice, 0, one), tail(&mut dice, 1, other));
        for (node, tail) in [(1, &one), (2, &one), (3, &other)] {
            let terms: Vec<u64> = (0..common).map(|_| 1).chain(tail.iter().copied()).collect();
            cluster.forge(NodeId(node), &terms, 500);
        }
        cluster.isolate(NodeId(3));
        assert!(cluster.run_until(10_000_000_000, |cluster| cluster.leader().is_some()));
        cluster.cut.clear();
        assert!(cluster.run_until(20_000_000_000, Cluster::is_even), "{}", cluster.describe());
        let terms = distinct(&one) + distinct(&other) + 2;
        assert!(
            cluster.refusals <= terms,
            "{} refusals for {terms} terms, seed {seed}",
            cluster.refusals
        );
        assert_eq!(
            cluster.members[&NodeId(3)].log.entries(),
            cluster.members[&NodeId(1)].log.entries()
        );
    }
}

fn refused(config: Config, recovered: Recovered) -> RecoverError {
    Core::recover(config, recovered, Mono(0), 1).unwrap_err()
}

#[test]
fn recovery_names_the_broken_invariant() {
    let sound = recovered(3, 2, None, &[1, 2]);
    let with = |change: fn(&mut Recovered)| {
        let mut recovered = sound.clone();
        change(&mut recovered);
        refused(config(1), recovered)
    };
    assert_eq!(refused(config(0), sound.clone()), RecoverError::Config("id is zero"));
    let membership = with(|recovered| recovered.base.membership = Membership::default());
    assert_eq!(membership, RecoverError::Membership("there is no voter"));
    let falls = with(|recovered| recovered.entries = metas(&[2, 1]));
    assert_eq!(falls, RecoverError::TermFalls { index: Index(2), term: Term(1), before: Term(2) });
    let behind = with(|recovered| recovered.hard_state.term = Term(1));
    assert_eq!(behind, RecoverError::TermBehindLog { term: Term(1), last: id(2, 2) });
    let commit = with(|recovered| recovered.hard_state.commit = Index(3));
    assert_eq!(commit, RecoverError::CommitBeyondLog { commit: Index(3), last: id(2, 2) });
    let applied = with(|recovered| recovered.applied = id(2, 3));
    assert_eq!(applied, RecoverError::AppliedBeyondLog { applied: Index(3), last: id(2, 2) });
    let differs = with(|recovered| recovered.applied = id(1, 2));
    assert_eq!(differs, RecoverError::AppliedDiffers { applied: id(1, 2), found: Term(2) });
    let based = with(|recovered| recovered.base.last = id(1, 7));
    assert_eq!(based, RecoverError::AppliedBehindBase { applied: Index(0), base: id(1, 7) });
    let kind = with(|recovered| recovered.entries[0].kind = EntryKind::Membership);
    assert_eq!(kind, RecoverError::MembershipEntry(Index(1)));
    let vote = with(|recovered| {
        *recovered = Recovered { base: base(3), ..Recovered::default() };
        recovered.hard_state = HardState { vote: Some(NodeId(2)), ..HardState::default() };
    });
    assert_eq!(vote, RecoverError::VoteWithoutTerm(NodeId(2)));
    let term = with(|recovered| recovered.hard_state.term = Term(u64::MAX));
    assert!(matches!(term, RecoverError::OutOfRange { value: u64::MAX, .. }));
}

/// A hint of the commit index lets a member apply at once what it had, without waiting for a leader.
#[test]
fn recovery_goes_on_from_the_saved_commit_index() {
    let mut recovered = recovered(3, 2, None, &[1, 2, 2]);
    recovered.hard_state.commit = Index(2);
    recovered.applied = id(1, 1);
    let mut core = Core::recover(config(1), recovered, Mono(0), 1).unwrap();
    let mut out = Effects::default();
    core.step(Mono(0), Event::Wake, &mut out);
    assert_eq!(out.commit, Some(EntryRange { first: Index(2), last: Index(2) }));
}
