//! Facts about a single member that figure 2 does not name: what it refuses, where it is generous, and joint quorums.

use quorate_raft::{
    Append, AppendOutcome, Config, Event, Index, Io, IoToken, Message, NodeId, Notice, Origin,
    ProgressState, ReadContext, Recovered, Reject, Role, SnapshotMeta, TERM_JUMP_MAX, TERM_MAX,
    Term, Verdict,
};

use crate::cluster::Cluster;
use crate::solo::{Solo, append, base, id, metas, range, recovered};

fn malformed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Rejected(Reject::Malformed(_)))
}

/// tikv#7353, cockroach#128663 (L13): the follower lost a tail that its leader believes it has.
#[test]
fn a_commit_index_beyond_the_log_is_clamped() {
    let mut solo = Solo::new(3, 1, &[1, 1]);
    solo.hear(2, Message::Heartbeat { term: Term(1), commit: Index(9), round: 0 });
    assert_eq!((solo.core.view().commit, solo.out.commit), (Index(2), Some(range(1, 2))));
}

/// openraft#511, databend#7112 (L5): what lies before the log was committed, so it matches.
#[test]
fn an_append_from_before_the_log_matches() {
    let mut solo = Solo::start(Recovered {
        base: SnapshotMeta { last: id(1, 5), ..base(3) },
        applied: id(1, 5),
        entries: metas(&[1]),
        ..recovered(3, 2, None, &[])
    });
    solo.append(2, id(1, 3), &[1, 1, 1, 2], 5);
    let append = Append { range: range(7, 7), origin: Origin::Received { skip: 3 } };
    assert!(matches!(&solo.out.io[..], [Io::Save { append: Some(found), .. }] if *found == append));
    solo.append(2, id(1, 2), &[1], 5);
    let outcome = AppendOutcome::Matched(Index(5));
    assert_eq!(solo.sent(2).0, Message::Appended { term: Term(2), round: 0, outcome });
}

/// Leader completeness, from the follower's side.
#[test]
fn an_append_that_contradicts_a_committed_entry_is_refused() {
    let mut solo = Solo::new(3, 2, &[1, 1, 1]);
    solo.append(2, id(1, 3), &[], 2);
    let conflict = |index| {
        let (index, committed, offered) = (Index(index), Term(1), Term(2));
        Verdict::Rejected(Reject::Conflict { index, committed, offered })
    };
    assert_eq!(solo.append(3, id(1, 1), &[2, 2], 0), conflict(2));
    assert_eq!(solo.append(3, id(2, 2), &[], 0), conflict(2));
    assert_eq!((solo.core.view().term, solo.core.view().last), (Term(2), id(1, 3)));
}

/// Election safety, from the follower's side.
#[test]
fn a_second_leader_in_a_term_is_refused() {
    let mut solo = Solo::new(3, 2, &[]);
    solo.append(2, id(0, 0), &[], 0);
    assert!(malformed(solo.hear(3, append(2, id(0, 0), &[], 0))));
    assert_eq!(solo.core.view().leader, Some(NodeId(2)));
    let mut leader = Solo::new(3, 0, &[]);
    leader.lead();
    assert!(malformed(leader.append(1, id(0, 0), &[], 0)));
}

/// openraft cecb5de8 (L3): the log that an acknowledgement of an earlier term spoke of may be gone.
#[test]
fn an_acknowledgement_of_an_earlier_term_counts_for_nothing() {
    let mut solo = Solo::new(3, 4, &[1, 2]);
    solo.lead();
    let outcome = AppendOutcome::Matched(Index(2));
    assert_eq!(
        solo.hear(2, Message::Appended { term: Term(4), round: 0, outcome }),
        Verdict::Stale
    );
    assert_eq!(solo.core.view().peers().next().unwrap().match_index, Index(0));
}

/// CCF#5674, "Smart Casual Verification" (L14): a refusal moves neither match nor commit, whatever it hints.
#[test]
fn a_refusal_is_never_an_acknowledgement() {
    let mut solo = Solo::new(3, 1, &[1, 1]);
    solo.lead();
    let outcome = AppendOutcome::Rejected { prev: Index(2), hint: id(2, 3) };
    solo.hear(2, Message::Appended { term: Term(2), round: 0, outcome });
    assert_eq!(solo.core.view().peers().next().unwrap().match_index, Index(0));
    assert_eq!(solo.core.view().commit, Index(0));
}

#[test]
fn answers_to_what_was_never_sent_are_refused() {
    let mut solo = Solo::new(3, 0, &[]);
    solo.lead();
    assert!(malformed(solo.matched(2, 2)));
    assert!(malformed(solo.hear(2, Message::HeartbeatReply { term: Term(1), round: 1 })));
    assert!(malformed(solo.give(Event::IoDone { token: IoToken(99) })));
    assert_eq!(solo.matched(9, 1), Verdict::Rejected(Reject::UnknownPeer(NodeId(9))));
    assert_eq!(solo.matched(1, 1), Verdict::Rejected(Reject::UnknownPeer(NodeId(1))));
}

/// openraft#1220 (V4): who adopts a candidate's term has not voted for it.
#[test]
fn a_higher_term_is_not_a_vote() {
    let mut solo = Solo::new(3, 1, &[1, 1]);
    solo.request_vote(2, 5, id(1, 1));
    let view = solo.core.view();
    assert_eq!((view.term, view.vote), (Term(5), None));
    solo.request_vote(3, 5, id(1, 2));
    assert_eq!(solo.core.view().vote, Some(NodeId(3)));
}

/// One proposal is one message a follower, unless it is larger than a message may be.
#[test]
fn a_batch_travels_as_one_message() {
    let mut solo = Solo::new(3, 0, &[]);
    solo.lead();
    solo.matched(2, 1);
    solo.matched(3, 1);
    solo.propose(500);
    assert_eq!(solo.receivers(), [2, 3]);
    solo.give(Event::Propose { sizes: &[900_000, 900_000] });
    assert_eq!(solo.receivers(), [2, 2, 3, 3]);
    assert!(solo.core.view().peers().all(|peer| peer.state == ProgressState::Replicate));
}

#[test]
fn an_early_wake_does_nothing() {
    let mut solo = Solo::new(3, 0, &[]);
    solo.lead();
    assert_eq!(
        (solo.give(Event::Wake), &solo.out),
        (Verdict::Ok, &quorate_raft::Effects::default())
    );
}

#[test]
fn a_lone_voter_needs_no_timer() {
    let mut solo = Solo::new(1, 0, &[]);
    assert_eq!(solo.core.next_deadline(), Some(solo.now));
    solo.wake();
    solo.sync();
    assert_eq!(solo.core.next_deadline(), None);
    assert_eq!((solo.core.view().role, solo.core.view().commit), (Role::Leader, Index(1)));
}

/// A restarted member follows until it is told better, even if it led (openraft#1246, L18).
#[test]
fn a_restarted_leader_does_not_lead() {
    let solo = Solo::start(recovered(3, 7, Some(1), &[7]));
    assert_eq!((solo.core.view().role, solo.core.view().leader), (Role::Follower, None));
}

#[test]
fn a_read_without_a_leader_is_dropped_at_once() {
    let mut solo = Solo::new(3, 0, &[]);
    solo.give(Event::Read { context: ReadContext(5) });
    assert_eq!(solo.out.reads_dropped, [ReadContext(5)]);
}

/// In the middle of a change of membership (Raft paper 6): members 1 to 3 come, members 1, 4 and 5 go.
fn joint() -> Solo {
    let mut membership = base(3).membership;
    membership.voters_outgoing = [1, 4, 5].map(NodeId).into();
    let base = SnapshotMeta { membership, ..base(3) };
    Solo::start(Recovered { base, ..recovered(3, 0, None, &[]) })
}

fn lead_joint() -> Solo {
    let mut solo = joint();
    solo.wake();
    assert_eq!(solo.receivers(), [2, 3, 4, 5]);
    for voter in [2, 3, 4] {
        assert_eq!(solo.core.view().role, Role::PreCandidate);
        solo.hear(voter, Message::Vote { term: Term(1), pre_vote: true, granted: true });
    }
    solo.sync();
    for voter in [2, 3, 5] {
        assert_eq!(solo.core.view().role, Role::Candidate);
        solo.hear(voter, Message::Vote { term: Term(1), pre_vote: false, granted: true });
    }
    assert_eq!(solo.core.view().role, Role::Leader);
    solo.sync();
    solo
}

/// Raft paper 6: "Agreement (for elections and entry commitment) requires separate majorities from both".
#[test]
fn a_joint_configuration_elects_and_commits_by_both_halves() {
    let mut solo = lead_joint();
    solo.matched(2, 1);
    solo.matched(3, 1);
    assert_eq!(solo.core.view().commit, Index(0));
    solo.matched(5, 1);
    assert_eq!(solo.core.view().commit, Index(1));
}

/// CCF 6.0.17, #7375 (V12): a leader must hear from a majority of each half.
#[test]
fn a_joint_configuration_loses_its_quorum_by_one_half() {
    let mut solo = lead_joint();
    let lost = Notice::QuorumLost { term: Term(1) };
    for _ in 0..30 {
        solo.wake();
        if solo.out.notices.contains(&lost) {
            assert_eq!(solo.core.view().role, Role::Follower);
            return;
        }
        for voter in [2, 3] {
            solo.hear(voter, Message::HeartbeatReply { term: Term(1), round: 0 });
        }
    }
    panic!("it leads on without the outgoing half");
}

/// One frame must not use up the terms: whatever a message is, it raises the term by a bounded amount, and says by whom.
#[test]
fn no_message_raises_the_term_by_more_than_a_jump() {
    let far = Term(TERM_MAX);
    let messages: [Message<Vec<u64>>; 6] = [
        Message::RequestVote { term: far, pre_vote: false, last: id(9, 9), transfer: true },
        Message::Vote { term: far, pre_vote: false, granted: false },
        append(TERM_MAX, id(0, 0), &[9], 0),
        Message::Heartbeat { term: far, commit: Index(0), round: 0 },
        Message::HeartbeatReply { term: far, round: 0 },
        Message::TimeoutNow { term: far },
    ];
    for message in messages {
        let mut solo = Solo::new(3, 2, &[1]);
        solo.hear(2, message.clone());
        let (view, raised) = (solo.core.view(), Term(2 + TERM_JUMP_MAX));
        assert_eq!((view.term, view.leader, view.vote), (raised, None, None), "{message:?}");
        assert_eq!(view.last, id(1, 1), "nothing else is taken in: {message:?}");
        let jump = Notice::TermJump { from: NodeId(2), claimed: far, term: raised };
        assert!(solo.out.notices.contains(&jump), "{message:?}: {:?}", solo.out.notices);
        solo.sync();
        solo.wake();
        assert_eq!(solo.core.view().role, Role::PreCandidate, "it can still be elected");
    }
}

/// A rehearsal raises nobody's term, however far ahead it is.
#[test]
fn a_rehearsal_in_a_far_term_changes_nothing() {
    let mut solo = Solo::new(3, 2, &[1]);
    let far = Term(TERM_MAX);
    solo.hear(
        2,
        Message::RequestVote { term: far, pre_vote: true, last: id(9, 9), transfer: true },
    );
    assert_eq!((solo.core.view().term, &solo.out.io[..]), (Term(2), &[][..]));
}

/// Whoever is really so far ahead is followed in the end, and leads or is led.
#[test]
fn members_whose_terms_are_many_jumps_apart_come_together() {
    let mut cluster = Cluster::new(&Config::default(), 3, 0, 1);
    cluster.forge(NodeId(3), &[], 4 * TERM_JUMP_MAX + 7);
    cluster.heal_and_expect_progress();
    assert!(cluster.view(NodeId(1)).term > Term(4 * TERM_JUMP_MAX));
}
