//! A flight recording as `quorate-sim replay` tells it.

use std::process::Command;

use quorate_flight::{Recorder, Recording};
use quorate_raft::{
    AppendOutcome, Config, Core, Effects, EntryId, Event, GroupId, Index, IoToken, Membership,
    Message, Mono, NodeId, Recovered, SnapshotMeta, Term,
};
use quorate_sim::replay::{Shown, Telling, tell};

const SECOND: u64 = 1_000_000_000;

/// A member of three that is elected, appends two entries and commits them.
fn recording() -> Vec<u8> {
    recording_without(None)
}

/// The same; what this step gave out is kept from the recorder.
fn recording_without(step: Option<u64>) -> Vec<u8> {
    let membership = Membership::of_voters((1..=3).map(NodeId));
    let base = SnapshotMeta { last: EntryId::default(), membership };
    let config = Config { id: NodeId(1), ..Config::default() };
    let recovered = Recovered { base, ..Recovered::default() };
    let mut core = Core::recover(config, recovered, Mono(0), 3).unwrap();
    let mut recorder = Recorder::new(quorate_flight::RING_BYTES_DEFAULT);
    let mut effects = Effects::default();
    let (term, from) = (Term(1), NodeId(2));
    let outcome = AppendOutcome::Matched(Index(3));
    let messages = [
        Message::Vote { term, pre_vote: true, granted: true },
        Message::Vote { term, pre_vote: false, granted: true },
        Message::Appended { term, round: 0, outcome },
    ];
    let events = [
        Event::Wake,
        Event::Message { from, message: &messages[0] },
        Event::Message { from, message: &messages[1] },
        Event::Propose { sizes: &[5, 6] },
        Event::IoDone { token: IoToken(3) },
        Event::Message { from, message: &messages[2] },
    ];
    for (event, at) in events.into_iter().zip(5..) {
        effects.clear();
        recorder.before(Mono(at * SECOND), &core, event);
        let verdict = core.step(Mono(at * SECOND), event, &mut effects);
        if step == Some(recorder.steps()) {
            effects.clear();
        }
        recorder.after(&core, verdict, &effects).unwrap();
    }
    recorder.recording(GroupId(0))
}

fn told(telling: Telling) -> String {
    let bytes = recording();
    let mut out = Vec::new();
    let outcome = tell(&Recording::read(&bytes).unwrap(), telling, &mut out).unwrap();
    assert_eq!((outcome.steps, outcome.images, outcome.violations), (6, 1, vec![]));
    String::from_utf8(out).unwrap()
}

#[test]
fn each_step_is_told_with_what_it_changed() {
    let text = told(Telling::default());
    let expected = "\
#0 +0.000000s image of member 1
      follower of term 0, voted for nobody, leader nobody, commit 0, given out 0, log 0/0 to 0/0, durable 0
#0 +0.000000s time has passed
      role follower -> pre-candidate
      sends to 2: PreVote, last 0/0 (term 1)
      sends to 3: PreVote, last 0/0 (term 1)
#1 +1.000000s from 2: PreVote granted (term 1)
      role pre-candidate -> candidate, term 0 -> 1, vote nobody -> 1
      writes 1: term 1 and vote 1
      sends to 2 once 1 is done: RequestVote, last 0/0 (term 1)
      sends to 3 once 1 is done: RequestVote, last 0/0 (term 1)
#2 +2.000000s from 2: Vote granted (term 1)
      role candidate -> leader, leader nobody -> 1, last 0/0 -> 1/1
      writes 2: [1..1]
      sends to 2 once 1 is done: AppendEntries behind 0/0, commit 0, round 0 (term 1), entries [1..1]
      sends to 3 once 1 is done: AppendEntries behind 0/0, commit 0, round 0 (term 1), entries [1..1]
#3 +3.000000s 2 entries proposed, 11 bytes: they are [2..3] of term 1
      last 1/1 -> 1/3
      writes 3: [2..3]
#4 +4.000000s write 3 is done
      durable 0 -> 3
#5 +5.000000s from 2: Appended up to 3, round 0 (term 1)
      commit 0 -> 3
";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("      gives out [1..3]\n"), "{text}");
}

#[test]
fn only_the_steps_and_the_state_that_were_asked_for_are_told() {
    let text = told(Telling { from: 3, to: 4, shown: Shown::None });
    assert_eq!(
        text,
        "#3 +3.000000s 2 entries proposed, 11 bytes: they are [2..3] of term 1\n\
         #4 +4.000000s write 3 is done\n"
    );
    let text = told(Telling { from: 4, to: 4, shown: Shown::Every });
    assert_eq!(
        text,
        "#4 +4.000000s write 3 is done\n      leader of term 1, voted for 1, leader 1, commit 0, \
         given out 0, log 0/0 to 1/3, durable 3\n"
    );
}

/// What the program prints last, and its exit code.
fn replay_file(name: &str, bytes: &[u8]) -> (String, Option<i32>) {
    let path = std::env::temp_dir().join(format!("quorate-{}-{name}.flight", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let program = env!("CARGO_BIN_EXE_quorate-sim");
    let output = Command::new(program).arg("replay").arg(&path).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let shown = text.lines().rev().take(2).collect::<Vec<_>>().join(" < ");
    (shown, output.status.code())
}

#[test]
fn the_program_says_by_its_last_line_and_exit_code_how_it_went() {
    let whole = recording();
    let (last, code) = replay_file("whole", &whole);
    assert!(last.starts_with("steps=6 images=1 violations=0 < "), "{last}");
    assert_eq!(code, Some(0));

    let (last, code) = replay_file("lie", &recording_without(Some(5)));
    let violation = "#5 +5.000000s VIOLATION: the live run gave out something else in this step";
    assert_eq!(last, format!("steps=6 images=1 violations=1 < {violation}"));
    assert_eq!(code, Some(1));

    let (last, code) = replay_file("cut", &whole[..whole.len() - 1]);
    let end = format!("the recording ends at byte {}, in the middle of a segment", whole.len() - 1);
    assert!(last.starts_with("steps=0 images=0 violations=0 < "), "{last}");
    assert!(last.ends_with(&end), "{last}");
    assert_eq!(code, Some(2));

    let (last, code) = replay_file("other", b"{\"some\": \"other file\"}");
    assert!(last.contains("this is no flight recording"), "{last}");
    assert_eq!(code, Some(2));
}
