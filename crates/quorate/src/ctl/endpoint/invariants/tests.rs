//! Pictures that must be let go, and pictures broken by hand that must be convicted.

use super::super::picture::{Entry, Log};
use super::*;

type Change = fn(&mut Cluster);

fn entry((index, term): (u64, u64)) -> Entry {
    Entry { index, term }
}

/// A log behind `base` with these first entries of terms, up to `last`.
fn log(base: (u64, u64), runs: &[(u64, u64)], last: (u64, u64)) -> Log {
    Log { base: entry(base), runs: runs.iter().copied().map(entry).collect(), last: entry(last) }
}

/// The log of everybody: terms 1, 3 and 5.
fn whole() -> Log {
    log((0, 0), &[(1, 1), (4, 3), (7, 5)], (10, 5))
}

/// Three members at rest; the first leads term 5.
fn honest() -> Cluster {
    let picture = |id| Picture {
        incarnation: id,
        leads: id == 1,
        term: 5,
        vote: Some(1),
        leader: Some(1),
        commit: 9,
        durable: 10,
        applied: 9,
        log: whole(),
        voters: [1, 2, 3].into(),
        broken: None,
    };
    let seen = |id| Seen {
        id,
        endpoint: format!("node{id}"),
        first: picture(id),
        second: Some(picture(id)),
    };
    let hash =
        |id| Hash { endpoint: format!("node{id}"), value: 7, revision: 20, compact_revision: 3 };
    Cluster {
        members: (1..=3).map(seen).collect(),
        missing: Vec::new(),
        lost: Vec::new(),
        hashes: (1..=3).map(hash).collect(),
        hashes_missing: Vec::new(),
    }
}

fn first(cluster: &mut Cluster, id: usize) -> &mut Picture {
    &mut cluster.members[id - 1].first
}

fn second(cluster: &mut Cluster, id: usize) -> &mut Picture {
    cluster.members[id - 1].second.as_mut().unwrap()
}

/// Changes both pictures of a member.
fn both(cluster: &mut Cluster, id: usize, change: impl Fn(&mut Picture)) {
    change(first(cluster, id));
    change(second(cluster, id));
}

/// The invariants with this word, each with its reason.
fn named(cluster: &Cluster, word: &str) -> Vec<(&'static str, String)> {
    let verdicts = judge(cluster).into_iter();
    let of_word = verdicts.filter_map(|(name, verdict)| {
        let (said, why) = verdict.words();
        (said == word).then(|| (name, why.unwrap_or_default().to_owned()))
    });
    of_word.collect()
}

#[test]
fn honest_clusters_are_let_go() {
    let honest_ones: [(&str, Change); 12] = [
        ("at rest", |_| {}),
        ("one lags", |cluster| {
            both(cluster, 3, |picture| {
                picture.vote = None;
                picture.log = log((0, 0), &[(1, 1), (4, 3)], (5, 3));
                (picture.commit, picture.durable, picture.applied) = (4, 5, 2);
            });
        }),
        ("writes go on", |cluster| {
            for id in 1..=3 {
                let picture = second(cluster, id);
                picture.log.last = entry((30, 5));
                (picture.commit, picture.durable, picture.applied) = (28, 29, 25 + id as u64);
            }
        }),
        ("the first answers are of different moments", |cluster| {
            // The leader was asked before it had what the next one already knows to be committed.
            let leader = first(cluster, 1);
            leader.log.last = entry((8, 5));
            (leader.commit, leader.durable, leader.applied) = (7, 8, 7);
        }),
        ("an election is under way", |cluster| {
            both(cluster, 2, |picture| {
                (picture.term, picture.vote, picture.leader) = (6, Some(2), None);
            });
            both(cluster, 3, |picture| {
                (picture.term, picture.vote, picture.leader) = (6, Some(3), None);
            });
        }),
        ("leadership moved between the answers", |cluster| {
            for id in 1..=3 {
                let picture = second(cluster, id);
                (picture.term, picture.vote, picture.leader) = (6, Some(2), Some(2));
                picture.leads = id == 2;
                picture.log.runs.push(entry((11, 6)));
                picture.log.last = entry((11, 6));
                picture.durable = 11;
            }
        }),
        ("a vote is cast between the answers", |cluster| {
            for id in [2, 3] {
                (first(cluster, id).vote, first(cluster, id).leader) = (None, None);
            }
        }),
        ("an old leader's entries were never committed", |cluster| {
            both(cluster, 3, |picture| {
                (picture.term, picture.vote, picture.leader) = (4, Some(3), Some(3));
                picture.leads = true;
                picture.log = log((0, 0), &[(1, 1), (4, 3), (7, 4)], (12, 4));
                (picture.commit, picture.durable, picture.applied) = (6, 12, 6);
            });
        }),
        ("a follower's tail was replaced", |cluster| {
            first(cluster, 3).log = log((0, 0), &[(1, 1), (4, 3), (7, 4)], (12, 4));
            (first(cluster, 3).commit, first(cluster, 3).applied) = (6, 6);
        }),
        ("logs begin at different places", |cluster| {
            both(cluster, 2, |picture| picture.log = log((8, 5), &[(9, 5)], (10, 5)));
            // Nothing but a snapshot, ahead of what the others gave out when they were asked.
            both(cluster, 3, |picture| {
                picture.log = log((9, 5), &[], (9, 5));
                picture.durable = 9;
            });
        }),
        ("a log has more terms than are told", |cluster| {
            both(cluster, 2, |picture| picture.log.runs = vec![entry((7, 5))]);
        }),
        ("one started again", |cluster| {
            let picture = second(cluster, 3);
            picture.incarnation = 33;
            (picture.commit, picture.applied, picture.leader) = (4, 0, None);
        }),
    ];
    for (what, change) in honest_ones {
        let mut cluster = honest();
        change(&mut cluster);
        let verdicts = judge(&cluster);
        for (name, verdict) in verdicts {
            assert_eq!(verdict, Verdict::Ok, "{what}: {name}");
        }
    }
}

/// Asserts that exactly these invariants are broken, and that the first names this.
fn assert_convicted(change: Change, broken: &[&str], named_value: &str) {
    let mut cluster = honest();
    change(&mut cluster);
    let found = named(&cluster, "broken");
    let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, broken, "{found:#?}");
    assert!(found[0].1.contains(named_value), "{found:#?}");
}

#[test]
fn two_leaders_of_a_term_are_convicted() {
    let change: Change = |cluster| both(cluster, 3, |picture| picture.leader = Some(3));
    let why = "term 5 has two leaders: node1 says 1, node3 says 3";
    assert_convicted(change, &["election safety"], why);
}

#[test]
fn a_leader_without_the_votes_is_convicted() {
    let forgot: Change = |cluster| {
        both(cluster, 2, |picture| picture.vote = None);
        both(cluster, 3, |picture| picture.vote = Some(3));
    };
    assert_convicted(forgot, &["election safety"], "1 of 3 votes at most: node2, node3");
}

#[test]
fn a_leader_that_takes_from_its_log_is_convicted() {
    let shorter: Change = |cluster| second(cluster, 1).log.last = entry((9, 5));
    assert_convicted(shorter, &["leader append-only"], "from 10 back to 9");
    let other: Change = |cluster| {
        let picture = second(cluster, 1);
        picture.log = log((0, 0), &[(1, 1), (4, 3), (7, 5), (10, 6)], (10, 6));
    };
    assert_convicted(other, &["leader append-only"], "replaced entry 10");
}

#[test]
fn logs_that_differ_before_what_they_share_are_convicted() {
    // Beyond what is committed, so that nothing else is broken.
    let change: Change = |cluster| {
        for id in 1..=3 {
            both(cluster, id, |picture| (picture.commit, picture.applied) = (3, 3));
        }
        both(cluster, 3, |picture| {
            picture.log = log((0, 0), &[(1, 1), (4, 2), (7, 5)], (10, 5));
        });
    };
    let why = "entry 7 is the same, but not entry 4 before it";
    assert_convicted(change, &["log matching"], why);
    let falling: Change = |cluster| {
        both(cluster, 3, |picture| {
            picture.log = log((0, 0), &[(1, 1), (4, 3), (7, 5), (10, 4)], (10, 4));
        });
    };
    assert_convicted(falling, &["log matching"], "the terms in the log of node3 fall");
}

#[test]
fn a_leader_without_what_was_committed_is_convicted() {
    let lost: Change = |cluster| {
        // Node 2 leads on without what term 5 committed.
        let picture = second(cluster, 2);
        (picture.term, picture.vote, picture.leader, picture.leads) = (6, Some(2), Some(2), true);
        picture.log = log((0, 0), &[(1, 1), (4, 3), (7, 5)], (8, 5));
        (picture.commit, picture.durable, picture.applied) = (8, 8, 8);
        picture.incarnation = 22;
    };
    let also = ["leader completeness", "commit never goes back"];
    assert_convicted(lost, &also, "committed up to 9 in term 5; node2 leads term 6");
}

#[test]
fn different_committed_entries_are_convicted() {
    let change: Change = |cluster| {
        both(cluster, 3, |picture| {
            picture.log = log((0, 0), &[(1, 1), (4, 3), (7, 4)], (10, 4));
        });
    };
    let also = ["leader completeness", "state machine safety", "committed is durable on a quorum"];
    assert_convicted(change, &also, "another entry 7");
    let early: Change = |cluster| both(cluster, 2, |picture| picture.applied = 10);
    let why = "node2 applied up to 10, committed up to 9";
    assert_convicted(early, &["state machine safety"], why);
}

#[test]
fn what_goes_back_is_convicted() {
    let term: Change = |cluster| {
        let picture = second(cluster, 3);
        (picture.term, picture.vote, picture.leader) = (4, None, None);
        // A restart is no excuse: a term is durable before it is told.
        picture.incarnation = 33;
    };
    assert_convicted(term, &["term never goes back"], "node3 went from term 5 back to 4");
    let vote: Change = |cluster| {
        second(cluster, 3).vote = Some(2);
        second(cluster, 3).incarnation = 33;
    };
    let why = "node3 voted in term 5 for 1, and now for 2";
    assert_convicted(vote, &["vote never changes in its term"], why);
    let commit: Change = |cluster| {
        (second(cluster, 3).commit, second(cluster, 3).applied) = (8, 8);
        first(cluster, 3).applied = 8;
    };
    assert_convicted(commit, &["commit never goes back"], "node3 went from commit 9 back to 8");
    let applied: Change = |cluster| second(cluster, 2).applied = 8;
    assert_convicted(applied, &["applied never goes back"], "node2 went from applied 9 back to 8");
}

#[test]
fn a_committed_entry_on_too_few_disks_is_convicted() {
    let change: Change = |cluster| {
        for id in [2, 3] {
            both(cluster, id, |picture| {
                picture.log.last = entry((8, 5));
                (picture.commit, picture.durable, picture.applied) = (7, 8, 7);
            });
        }
    };
    let why = "node1 committed up to 9, which 2 of 3 voters do not hold: node2, node3";
    assert_convicted(change, &["committed is durable on a quorum"], why);
    let not_synced: Change = |cluster| {
        for id in [2, 3] {
            both(cluster, id, |picture| picture.durable = 5);
        }
    };
    assert_convicted(not_synced, &["committed is durable on a quorum"], "node2, node3");
}

#[test]
fn different_states_are_convicted() {
    let change: Change = |cluster| cluster.hashes[2].value = 8;
    let why = "at revision 20 the state of node1 hashes to 7, that of node3 to 8";
    assert_convicted(change, &["equal applied, equal state"], why);
}

#[test]
fn what_a_core_says_of_itself_is_told() {
    let change: Change = |cluster| {
        second(cluster, 2).broken = Some("the term never falls".to_owned());
    };
    assert_convicted(change, &["the core's own checks"], "node2: the term never falls");
}

#[test]
fn what_can_not_be_seen_is_unknown_and_what_is_broken_stays_so() {
    let mut cluster = honest();
    cluster.members.pop();
    cluster.missing.push("node3: connection refused".to_owned());
    let why = "2 of 3 members answered: node3: connection refused";
    let unknown = named(&cluster, "unknown");
    assert!(unknown.iter().all(|(_, said)| said == why), "{unknown:?}");
    let each = "what the two say of themselves is judged";
    assert_eq!((unknown.len(), named(&cluster, "ok").len()), (6, 6), "{each}");
    second(&mut cluster, 2).term = 4;
    assert_eq!(named(&cluster, "broken").len(), 1);
    cluster.members[0].second = None;
    cluster.lost.push("node1: connection lost".to_owned());
    assert_eq!(named(&cluster, "unknown").len(), RULES.len() - 1, "it can't be compared");

    let mut cluster = honest();
    cluster.members.truncate(1);
    let ok: Vec<_> = named(&cluster, "ok").into_iter().map(|(name, _)| name).collect();
    assert_eq!(ok.len(), 6, "what each member says of itself: {ok:?}");
    let unknown = named(&cluster, "unknown");
    assert!(unknown.iter().all(|(_, why)| why.starts_with("not asked: 2, 3 ")), "{unknown:?}");
}

#[test]
fn hashes_that_can_not_be_compared_are_unknown() {
    let mut cluster = honest();
    cluster.hashes[1].compact_revision = 5;
    let why = "no hashes to compare: node1 compacted up to 3, node2 compacted up to 5";
    assert_eq!(named(&cluster, "unknown"), [("equal applied, equal state", why.to_owned())]);
    cluster.hashes_missing.push("node2: compacted".to_owned());
    assert_eq!(named(&cluster, "unknown")[0].1, "node2: compacted");
}
