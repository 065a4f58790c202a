//! One test for each sentence of figure 2 of the Raft paper (Ongaro, Ousterhout: "In search of an understandable consensus
//! algorithm", extended version), and of figure 13. The section in the comment is the one the figure names.
//!
//! Where this core does more than the paper (rehearsal, hints, heartbeats apart), the test still says the paper's sentence.

use quorate_raft::{
    AppendOutcome, Event, HardState, Index, Io, Message, NodeId, ProgressState, Reject, Role,
    SnapshotMeta, Term, Verdict,
};

use crate::solo::{Solo, append, base, id, range, recovered};

fn rejected(prev: u64, term: u64, index: u64) -> AppendOutcome {
    AppendOutcome::Rejected { prev: Index(prev), hint: id(term, index) }
}

fn appended(term: u64, outcome: AppendOutcome) -> Message<quorate_raft::EntryRange> {
    Message::Appended { term: Term(term), round: 0, outcome }
}

fn vote(term: u64, granted: bool) -> Message<quorate_raft::EntryRange> {
    Message::Vote { term: Term(term), pre_vote: false, granted }
}

/// State: "Updated on stable storage before responding to RPCs": term and vote.
#[test]
fn a_vote_leaves_after_it_is_durable() {
    let mut solo = Solo::new(3, 0, &[]);
    solo.request_vote(2, 1, id(0, 0));
    assert_eq!(solo.sent(2), (vote(1, true), Some(solo.written())));
    assert_eq!(
        solo.saved_state(),
        Some(HardState { term: Term(1), vote: Some(NodeId(2)), commit: Index(0) })
    );
}

/// State: "Updated on stable storage before responding to RPCs": the log.
#[test]
fn an_acknowledgement_leaves_after_its_entries_are_durable() {
    let mut solo = Solo::new(3, 1, &[]);
    solo.append(1, id(0, 0), &[1, 1], 0);
    assert_eq!(solo.sent(2), (appended(1, AppendOutcome::Matched(Index(2))), Some(solo.written())));
    assert_eq!(solo.appended(), Some(range(1, 2)));
}

/// State: the persistent state is what a restart begins with.
#[test]
fn term_vote_and_log_survive_a_restart() {
    let mut solo = Solo::start(recovered(3, 4, Some(2), &[1, 3]));
    let view = solo.core.view();
    assert_eq!((view.term, view.vote, view.last), (Term(4), Some(NodeId(2)), id(3, 2)));
    assert_eq!((view.role, view.leader), (Role::Follower, None));
    solo.request_vote(3, 4, id(3, 2));
    assert_eq!(solo.sent(3).0, vote(4, false));
}

/// State: "currentTerm [...] initialized to 0 on first boot", "commitIndex [...] initialized to 0".
#[test]
fn a_fresh_member_starts_at_zero() {
    let solo = Solo::new(3, 0, &[]);
    let view = solo.core.view();
    assert_eq!((view.term, view.vote, view.commit, view.last), (Term(0), None, Index(0), id(0, 0)));
}

/// State: "nextIndex [...] initialized to leader last log index + 1", "matchIndex [...] initialized to 0"; both "reinitialized
/// after election".
#[test]
fn a_new_leader_knows_nothing_of_its_peers() {
    let mut solo = Solo::new(3, 2, &[1, 2]);
    solo.lead();
    for peer in solo.core.view().peers() {
        assert_eq!(
            (peer.next_index, peer.match_index, peer.state),
            (Index(3), Index(0), ProgressState::Probe)
        );
    }
}

/// AppendEntries 1: "Reply false if term < currentTerm" (5.1).
#[test]
fn an_append_of_a_lower_term_is_refused() {
    let mut solo = Solo::new(3, 5, &[1]);
    assert_eq!(solo.append(4, id(1, 1), &[4], 1), Verdict::Stale);
    assert_eq!(solo.sent(2).0, Message::HeartbeatReply { term: Term(5), round: 0 });
    assert_eq!((solo.core.view().last, solo.core.view().leader), (id(1, 1), None));
}

/// AppendEntries 2: "Reply false if log doesn't contain an entry at prevLogIndex whose term matches prevLogTerm" (5.3).
#[test]
fn an_append_behind_an_entry_that_is_missing_or_differs_is_refused() {
    let mut solo = Solo::new(3, 3, &[1, 2]);
    solo.append(3, id(3, 3), &[3], 0);
    assert_eq!(solo.sent(2).0, appended(3, rejected(3, 2, 2)));
    solo.append(3, id(3, 2), &[3], 0);
    assert_eq!(solo.sent(2).0, appended(3, rejected(2, 2, 2)));
    solo.append(3, id(1, 2), &[3], 0);
    assert_eq!(solo.sent(2).0, appended(3, rejected(2, 1, 1)));
    assert_eq!(solo.core.view().last, id(2, 2));
}

/// AppendEntries 3: "If an existing entry conflicts with a new one (same index but different terms), delete the existing entry
/// and all that follow it" (5.3).
#[test]
fn a_conflicting_entry_goes_with_all_that_follow() {
    let mut solo = Solo::new(3, 3, &[1, 2, 2, 2]);
    solo.append(3, id(1, 1), &[2, 3], 0);
    assert_eq!(solo.appended(), Some(range(3, 3)));
    assert_eq!(solo.core.view().last, id(3, 3));
}

/// AppendEntries 4: "Append any new entries not already in the log".
#[test]
fn entries_already_there_are_neither_written_again_nor_cut_off() {
    let mut solo = Solo::new(3, 2, &[1, 1, 2, 2]);
    solo.append(2, id(0, 0), &[1, 1], 0);
    assert_eq!((solo.out.io.as_slice(), solo.core.view().last), (&[][..], id(2, 4)));
    assert_eq!(solo.sent(2).0, appended(2, AppendOutcome::Matched(Index(2))));
    solo.append(2, id(1, 2), &[2, 2, 2], 0);
    assert_eq!(solo.appended(), Some(range(5, 5)));
}

/// AppendEntries 5: "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)".
#[test]
fn a_follower_commits_no_further_than_the_last_new_entry() {
    let mut solo = Solo::new(3, 2, &[1, 1, 1]);
    solo.append(2, id(1, 1), &[1], 9);
    assert_eq!((solo.core.view().commit, solo.out.commit), (Index(2), Some(range(1, 2))));
    solo.append(2, id(1, 2), &[], 1);
    assert_eq!(solo.core.view().commit, Index(2));
}

/// RequestVote 1: "Reply false if term < currentTerm" (5.1).
#[test]
fn a_vote_in_a_lower_term_is_refused() {
    let mut solo = Solo::new(3, 5, &[1]);
    solo.request_vote(2, 4, id(3, 9));
    assert_eq!((solo.sent(2).0, solo.core.view().vote), (vote(5, false), None));
}

/// RequestVote 2: "If votedFor is null or candidateId [...], grant vote" (5.2).
#[test]
fn one_vote_a_term_first_come_first_served() {
    let mut solo = Solo::new(3, 0, &[]);
    solo.request_vote(2, 1, id(0, 0));
    assert_eq!(solo.sent(2).0, vote(1, true));
    solo.request_vote(3, 1, id(0, 0));
    assert_eq!(solo.sent(3).0, vote(1, false));
    solo.request_vote(2, 1, id(0, 0));
    assert_eq!(solo.sent(2).0, vote(1, true));
}

/// RequestVote 2: "[...] and candidate's log is at least as up-to-date as receiver's log, grant vote" (5.4).
#[test]
fn a_vote_needs_a_log_that_is_up_to_date() {
    for (last, granted) in
        [(id(2, 2), true), (id(2, 3), true), (id(3, 1), true), (id(2, 1), false), (id(1, 9), false)]
    {
        let mut solo = Solo::new(3, 4, &[1, 2]);
        solo.request_vote(2, 5, last);
        assert_eq!(solo.sent(2).0, vote(5, granted), "candidate's log ends at {last}");
    }
}

/// All servers: "If commitIndex > lastApplied: increment lastApplied, apply log[lastApplied] to state machine" (5.3).
#[test]
fn commits_are_given_out_in_order_and_once() {
    let mut solo = Solo::new(3, 1, &[1, 1, 1]);
    solo.append(1, id(1, 3), &[], 1);
    assert_eq!(solo.out.commit, Some(range(1, 1)));
    solo.append(1, id(1, 3), &[], 3);
    assert_eq!(solo.out.commit, Some(range(2, 3)));
    solo.append(1, id(1, 3), &[], 3);
    assert_eq!(solo.out.commit, None);
}

/// All servers: "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower" (5.1).
#[test]
fn a_higher_term_makes_a_follower() {
    let messages = [
        append(9, id(0, 0), &[], 0),
        Message::Vote { term: Term(9), pre_vote: false, granted: false },
        Message::Vote { term: Term(9), pre_vote: true, granted: false },
        Message::Appended { term: Term(9), round: 0, outcome: AppendOutcome::Matched(Index(0)) },
        Message::Heartbeat { term: Term(9), commit: Index(0), round: 0 },
        Message::HeartbeatReply { term: Term(9), round: 0 },
        Message::ReadIndex { term: Term(9), context: quorate_raft::ReadContext(1) },
    ];
    for message in messages {
        let mut solo = Solo::new(3, 0, &[]);
        solo.lead();
        solo.hear(2, message.clone());
        let view = solo.core.view();
        assert_eq!(
            (view.role, view.term, view.vote),
            (Role::Follower, Term(9), None),
            "{message:?}"
        );
        assert!(solo.saved_state().is_some());
    }
}

/// Followers: "Respond to RPCs from candidates and leaders" (5.2).
#[test]
fn a_follower_answers_candidates_and_leaders() {
    let mut solo = Solo::new(3, 1, &[]);
    solo.append(1, id(0, 0), &[], 0);
    assert_eq!(solo.receivers(), [2]);
    solo.hear(2, Message::Heartbeat { term: Term(1), commit: Index(0), round: 3 });
    assert_eq!(solo.sent(2).0, Message::HeartbeatReply { term: Term(1), round: 3 });
}

/// Followers: "If election timeout elapses without receiving AppendEntries RPC from current leader or granting vote to
/// candidate: convert to candidate" (5.2).
#[test]
fn a_leader_or_a_vote_puts_the_election_off() {
    let mut solo = Solo::new(3, 0, &[]);
    let first = solo.core.next_deadline().unwrap();
    solo.now = first.after(0);
    solo.now.0 -= 1;
    assert_eq!((solo.give(Event::Wake), solo.core.view().role), (Verdict::Ok, Role::Follower));
    solo.append(1, id(0, 0), &[], 0);
    assert!(solo.core.next_deadline().unwrap() > first);
    let mut solo = Solo::new(3, 0, &[]);
    solo.now.0 = first.0 - 1;
    solo.request_vote(2, 1, id(0, 0));
    assert!(solo.core.next_deadline().unwrap() > first);
    solo.sync();
    solo.wake();
    assert_eq!(solo.core.view().role, Role::PreCandidate);
}

/// 5.2: "election timeouts are chosen randomly from a fixed interval"; here [T, 2T).
#[test]
fn election_timeouts_differ_between_members() {
    let deadlines: Vec<u64> = (0..50)
        .map(|seed| {
            let recovered = recovered(3, 0, None, &[]);
            let config = crate::solo::config(1);
            let core = quorate_raft::Core::recover(config, recovered, quorate_raft::Mono(0), seed)
                .unwrap();
            core.next_deadline().unwrap().0
        })
        .collect();
    let timeout = crate::solo::config(1).election_timeout_ns;
    assert!(deadlines.iter().all(|deadline| (timeout..2 * timeout).contains(deadline)));
    assert!(deadlines.iter().collect::<std::collections::BTreeSet<_>>().len() > 45);
}

/// Candidates: "On conversion to candidate, start election: increment currentTerm, vote for self, reset election timer, send
/// RequestVote RPCs to all other servers" (5.2).
#[test]
fn a_candidate_starts_an_election() {
    let mut solo = Solo::new(5, 3, &[2, 3]);
    solo.wake();
    for voter in 2..=3 {
        solo.hear(voter, Message::Vote { term: Term(4), pre_vote: true, granted: true });
    }
    let view = solo.core.view();
    assert_eq!((view.role, view.term, view.vote), (Role::Candidate, Term(4), Some(NodeId(1))));
    assert_eq!(solo.receivers(), [2, 3, 4, 5]);
    let request =
        Message::RequestVote { term: Term(4), pre_vote: false, last: id(3, 2), transfer: false };
    assert_eq!(solo.sent(4), (request, Some(solo.written())));
    assert!(solo.core.next_deadline().unwrap() > solo.now);
}

/// Candidates: "If votes received from majority of servers: become leader" (5.2).
#[test]
fn a_majority_of_votes_makes_a_leader() {
    let mut solo = Solo::new(5, 0, &[]);
    solo.stand();
    for (voter, granted, role) in [
        (2, true, Role::Candidate),
        (2, true, Role::Candidate),
        (3, false, Role::Candidate),
        (4, true, Role::Leader),
    ] {
        solo.hear(voter, Message::Vote { term: Term(1), pre_vote: false, granted });
        assert_eq!(solo.core.view().role, role);
    }
}

/// Candidates: "If AppendEntries RPC received from new leader: convert to follower" (5.2).
#[test]
fn a_candidate_follows_the_leader_of_its_term() {
    let mut solo = Solo::new(3, 0, &[]);
    solo.stand();
    solo.append(1, id(0, 0), &[1], 0);
    let view = solo.core.view();
    assert_eq!(
        (view.role, view.leader, view.vote),
        (Role::Follower, Some(NodeId(2)), Some(NodeId(1)))
    );
}

/// Candidates: "If election timeout elapses: start new election" (5.2).
#[test]
fn a_candidate_without_an_answer_stands_again() {
    let mut solo = Solo::new(3, 0, &[]);
    solo.stand();
    solo.stand();
    assert_eq!((solo.core.view().role, solo.core.view().term), (Role::Candidate, Term(2)));
}

/// Leaders: "Upon election: send initial empty AppendEntries RPCs (heartbeat) to each server; repeat during idle periods to
/// prevent election timeouts" (5.2). The first one carries the term's first entry (8).
#[test]
fn a_leader_speaks_at_once_and_again_and_again() {
    let mut solo = Solo::new(3, 0, &[]);
    solo.stand();
    solo.hear(3, Message::Vote { term: Term(1), pre_vote: false, granted: true });
    let first = Message::AppendEntries {
        term: Term(1),
        prev: id(0, 0),
        entries: range(1, 1),
        commit: Index(0),
        round: 0,
    };
    assert_eq!((solo.sent(2).0, solo.sent(3).0), (first.clone(), first));
    solo.sync();
    for _ in 0..5 {
        solo.wake();
        assert_eq!(solo.receivers(), [2, 3]);
        solo.hear(2, Message::HeartbeatReply { term: Term(1), round: 0 });
    }
}

/// Leaders: "If command received from client: append entry to local log, respond after entry applied to state machine" (5.3).
#[test]
fn a_command_is_appended_and_given_out_when_committed() {
    let mut solo = Solo::new(3, 0, &[]);
    solo.lead();
    assert_eq!(solo.propose(2), Verdict::Proposed { range: range(2, 3), term: Term(1) });
    assert_eq!((solo.appended(), solo.out.commit), (Some(range(2, 3)), None));
    solo.sync();
    assert_eq!(solo.out.commit, None);
    solo.matched(3, 3);
    assert_eq!(solo.out.commit, Some(range(1, 3)));
    let mut follower = Solo::new(3, 0, &[]);
    assert_eq!(follower.propose(1), Verdict::Rejected(Reject::NotLeader { leader: None }));
}

/// Leaders: "If last log index >= nextIndex for a follower: send AppendEntries RPC with log entries starting at nextIndex" (5.3).
#[test]
fn a_follower_is_sent_what_it_lacks() {
    let mut solo = Solo::new(3, 0, &[]);
    solo.lead();
    solo.matched(2, 1);
    solo.propose(3);
    assert_eq!(solo.receivers(), [2]);
    let expected = Message::AppendEntries {
        term: Term(1),
        prev: id(1, 1),
        entries: range(2, 4),
        commit: Index(1),
        round: 0,
    };
    assert_eq!(solo.sent(2), (expected, None));
}

/// Leaders: "If successful: update nextIndex and matchIndex for follower" (5.3).
#[test]
fn success_moves_match_and_next() {
    let mut solo = Solo::new(3, 0, &[]);
    solo.lead();
    solo.propose(3);
    solo.matched(2, 4);
    let peer = solo.core.view().peers().next().unwrap();
    assert_eq!((peer.match_index, peer.next_index), (Index(4), Index(5)));
}

/// Leaders: "If AppendEntries fails because of log inconsistency: decrement nextIndex and retry" (5.3); with the hint, past a
/// whole term.
#[test]
fn failure_moves_next_back_and_tries_again() {
    let mut solo = Solo::new(3, 4, &[1, 2, 2, 4]);
    solo.lead();
    let outcome = rejected(4, 3, 4);
    solo.hear(2, Message::Appended { term: Term(5), round: 0, outcome });
    let peer = solo.core.view().peers().next().unwrap();
    assert_eq!((peer.match_index, peer.next_index), (Index(0), Index(4)));
    assert!(matches!(solo.sent(2).0, Message::AppendEntries { prev, .. } if prev == id(2, 3)));
}

/// Leaders: "If there exists an N such that N > commitIndex, a majority of matchIndex[i] >= N, and log[N].term == currentTerm:
/// set commitIndex = N" (5.3, 5.4).
#[test]
fn only_a_majority_of_durable_copies_of_this_term_commits() {
    let mut solo = Solo::new(5, 4, &[1, 2]);
    solo.stand();
    for voter in 2..=3 {
        solo.hear(voter, Message::Vote { term: Term(5), pre_vote: false, granted: true });
    }
    solo.sync();
    let commit = |solo: &Solo| solo.core.view().commit;
    solo.matched(2, 2);
    solo.matched(3, 2);
    solo.matched(4, 2);
    assert_eq!(commit(&solo), Index(0), "entries of earlier terms are not counted (figure 8)");
    solo.matched(2, 3);
    assert_eq!(commit(&solo), Index(0), "two of five");
    solo.matched(3, 3);
    assert_eq!(commit(&solo), Index(3), "three of five, the leader's own included");
    solo.propose(1);
    solo.matched(2, 4);
    solo.matched(3, 4);
    assert_eq!(commit(&solo), Index(3), "the leader's own copy is not durable");
    solo.sync();
    assert_eq!(commit(&solo), Index(4));
}

fn snapshot(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta { last: id(term, index), ..base(3) }
}

/// Figure 13, 1: "Reply immediately if term < currentTerm".
#[test]
fn a_snapshot_of_a_lower_term_is_not_taken() {
    let mut solo = Solo::new(3, 5, &[]);
    let snapshot = snapshot(3, 7);
    let verdict =
        solo.give(Event::SnapshotReceived { from: NodeId(2), term: Term(4), snapshot: &snapshot });
    assert_eq!((verdict, solo.core.view().last), (Verdict::Stale, id(0, 0)));
}

/// Figure 13, 5: "discard any existing or partial snapshot with a smaller index"; what is committed already is smaller.
#[test]
fn a_snapshot_of_what_is_committed_is_not_taken() {
    let mut solo = Solo::new(3, 2, &[1, 1, 2]);
    solo.append(2, id(2, 3), &[], 3);
    let snapshot = snapshot(1, 2);
    let verdict =
        solo.give(Event::SnapshotReceived { from: NodeId(2), term: Term(2), snapshot: &snapshot });
    assert_eq!((verdict, solo.core.view().base), (Verdict::Stale, id(0, 0)));
    assert_eq!(solo.sent(2).0, appended(2, AppendOutcome::Matched(Index(3))));
    let message = Message::InstallSnapshot { term: Term(2), snapshot };
    assert_eq!(solo.hear(2, message), Verdict::Stale);
}

/// Figure 13, 6: "If existing log entry has same index and term as snapshot's last included entry, retain log entries following
/// it and reply".
#[test]
fn a_snapshot_of_what_the_log_holds_only_commits() {
    let mut solo = Solo::new(3, 2, &[1, 1, 2]);
    let snapshot = snapshot(1, 2);
    let verdict =
        solo.give(Event::SnapshotReceived { from: NodeId(2), term: Term(2), snapshot: &snapshot });
    let view = solo.core.view();
    assert_eq!((verdict, view.last, view.commit), (Verdict::Ok, id(2, 3), Index(2)));
    assert_eq!((solo.out.commit, solo.out.io.len()), (Some(range(1, 2)), 0));
    assert_eq!(solo.sent(2).0, appended(2, AppendOutcome::Matched(Index(2))));
}

/// Figure 13, 7 and 8: "Discard the entire log", "Reset state machine using snapshot contents (and load snapshot's cluster
/// configuration)". The answer waits for the switch.
#[test]
fn a_snapshot_replaces_a_log_that_does_not_hold_it() {
    let mut solo = Solo::new(3, 3, &[1, 1, 2, 2]);
    let snapshot = snapshot(3, 3);
    let verdict =
        solo.give(Event::SnapshotReceived { from: NodeId(2), term: Term(4), snapshot: &snapshot });
    let view = solo.core.view();
    assert_eq!(
        (verdict, view.base, view.last, view.commit),
        (Verdict::Ok, id(3, 3), id(3, 3), Index(3))
    );
    assert!(
        matches!(&solo.out.io[0], Io::Install { hard_state, .. } if hard_state.term == Term(4))
    );
    assert_eq!(solo.sent(2), (appended(4, AppendOutcome::Matched(Index(3))), Some(solo.written())));
}
