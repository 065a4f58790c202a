//! etcd's rules for the time of leases, and that none ever ends early.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const EXTEND_NS: u64 = SECOND_NS;

fn granted(lessor: &mut Lessor, now_ns: u64, id: i64, ttl: i64) {
    lessor.apply(now_ns, &LeaseChange::Granted { id, ttl });
}

fn of(leases: impl IntoIterator<Item = (i64, LeaseRecord)>) -> Lessor {
    Lessor::new(leases, CHECKPOINT_INTERVAL_SECONDS)
}

fn primary() -> Lessor {
    let mut lessor = Lessor::default();
    lessor.promote(0, EXTEND_NS, 1);
    lessor
}

fn seconds(seconds: u64) -> u64 {
    seconds * SECOND_NS
}

/// etcd point 40
#[test]
fn the_shortest_time_to_live_follows_the_election_timeout() {
    let cases =
        [(0, 2), (1000, 2), (1334, 3), (5000, 8), (50_000, 75), (u64::MAX, LEASE_TTL_MAX_SECONDS)];
    for (election_timeout_ms, expected) in cases {
        assert_eq!(ttl_min_seconds(election_timeout_ms), expected, "{election_timeout_ms} ms");
    }
}

#[test]
fn a_lease_is_named_at_its_end_and_not_before() {
    let mut lessor = primary();
    granted(&mut lessor, 0, 1, 10);
    assert_eq!(lessor.next_deadline_ns(), Some(seconds(10)));
    assert!(lessor.expired(seconds(10) - 1, 500).is_empty());
    assert_eq!(lessor.remaining(seconds(3) + 1, 1), Some(6));
    assert_eq!(lessor.expired(seconds(10), 500), [1]);
    assert_eq!(lessor.remaining(seconds(11), 1), Some(0));
}

/// etcd point 41
#[test]
fn an_expired_lease_is_named_again_only_after_a_while() {
    let mut lessor = primary();
    granted(&mut lessor, 0, 1, 2);
    assert_eq!(lessor.expired(seconds(2), 500), [1]);
    assert!(lessor.expired(seconds(5) - 1, 500).is_empty());
    assert_eq!(lessor.expired(seconds(5), 500), [1]);
    lessor.apply(seconds(6), &LeaseChange::Revoked { id: 1 });
    assert!(lessor.expired(seconds(100), 500).is_empty());
    assert!(lessor.is_empty());
}

/// etcd point 41
#[test]
fn no_more_leases_are_named_than_asked_for() {
    let mut lessor = primary();
    (0..1200).for_each(|id| granted(&mut lessor, 0, id, 2));
    let sizes: Vec<usize> =
        (0..4).map(|round| lessor.expired(seconds(2) + round, REVOKE_BATCH_MAX).len()).collect();
    assert_eq!(sizes, [500, 500, 200, 0]);
}

/// etcd point 41
#[test]
fn a_new_leader_gives_the_whole_time_and_an_election() {
    let record = LeaseRecord { ttl: 10, remaining_ttl: 0 };
    let mut lessor = of([(1, record)]);
    assert!(lessor.expired(u64::MAX, 500).is_empty(), "a follower ends nothing");
    assert_eq!((lessor.remaining(0, 1), lessor.renew(0, 1)), (None, Renewal::NotPrimary));
    lessor.promote(seconds(100), EXTEND_NS, 1);
    assert!(lessor.expired(seconds(111) - 1, 500).is_empty());
    assert_eq!(lessor.expired(seconds(111), 500), [1]);
    lessor.demote();
    assert!(lessor.expired(u64::MAX, 500).is_empty() && lessor.next_deadline_ns().is_none());
}

/// etcd point 41
#[test]
fn a_new_leader_goes_by_the_checkpoint() {
    let mut lessor = of([(1, LeaseRecord { ttl: 3600, remaining_ttl: 0 })]);
    lessor.apply(0, &LeaseChange::Checkpointed { id: 1, remaining_ttl: 600 });
    lessor.promote(0, EXTEND_NS, 1);
    assert_eq!(lessor.remaining(0, 1), Some(601));
}

/// etcd point 41
#[test]
fn a_renewal_takes_the_checkpoint_back_first() {
    let mut lessor = of([(1, LeaseRecord { ttl: 3600, remaining_ttl: 600 })]);
    lessor.promote(0, EXTEND_NS, 1);
    assert_eq!(lessor.renew(0, 1), Renewal::ResetCheckpointFirst);
    assert_eq!(lessor.remaining(0, 1), Some(601), "nothing changed");
    lessor.apply(0, &LeaseChange::Checkpointed { id: 1, remaining_ttl: 0 });
    assert_eq!(lessor.renew(0, 1), Renewal::Renewed { ttl: 3600 });
    assert_eq!(lessor.remaining(0, 1), Some(3600));
}

/// etcd point 41
#[test]
fn long_leases_are_checkpointed_every_five_minutes() {
    let mut lessor = primary();
    granted(&mut lessor, 0, 1, 3600);
    granted(&mut lessor, 0, 2, 300);
    assert!(lessor.checkpoints(seconds(300) - 1).is_empty());
    assert_eq!(lessor.checkpoints(seconds(300)), [(1, 3300)]);
    assert!(lessor.checkpoints(seconds(301)).is_empty());
    assert_eq!(lessor.checkpoints(seconds(600)), [(1, 3000)]);
    lessor.demote();
    assert!(lessor.checkpoints(u64::MAX).is_empty());
}

/// A checkpoint that is named and not applied yet would come behind a renewal in the log, and deny it.
#[test]
fn a_checkpoint_on_its_way_is_taken_back_before_a_renewal() {
    let mut lessor = primary();
    granted(&mut lessor, 0, 1, 3600);
    assert_eq!(lessor.checkpoints(seconds(300)), [(1, 3300)]);
    assert_eq!(lessor.renew(seconds(300), 1), Renewal::ResetCheckpointFirst);
    lessor.apply(seconds(301), &LeaseChange::Checkpointed { id: 1, remaining_ttl: 3300 });
    assert_eq!(lessor.renew(seconds(301), 1), Renewal::ResetCheckpointFirst);
    lessor.apply(seconds(302), &LeaseChange::Checkpointed { id: 1, remaining_ttl: 0 });
    assert_eq!(lessor.renew(seconds(302), 1), Renewal::Renewed { ttl: 3600 });
}

/// A checkpoint that is named between the proposal of a reset and its application comes behind it in the log. The renewal was
/// acknowledged, and denied by what followed.
#[test]
fn no_checkpoint_is_named_while_one_is_being_taken_back() {
    let mut lessor = of([(1, LeaseRecord { ttl: 3600, remaining_ttl: 3000 })]);
    lessor.promote(0, EXTEND_NS, 1);
    assert_eq!(lessor.renew(seconds(299), 1), Renewal::ResetCheckpointFirst);
    assert_eq!(lessor.checkpoints(seconds(300)), []);
    lessor.apply(seconds(301), &LeaseChange::Checkpointed { id: 1, remaining_ttl: 0 });
    assert_eq!(lessor.renew(seconds(301), 1), Renewal::Renewed { ttl: 3600 });
    assert_eq!(lessor.checkpoints(seconds(600)), [(1, 3301)], "they go on");
}

#[test]
fn a_checkpoint_taken_back_begins_the_time_anew() {
    let mut lessor = of([(1, LeaseRecord { ttl: 3600, remaining_ttl: 600 })]);
    lessor.promote(0, EXTEND_NS, 1);
    lessor.apply(seconds(10), &LeaseChange::Checkpointed { id: 1, remaining_ttl: 0 });
    assert_eq!(lessor.remaining(seconds(10), 1), Some(3600));
    let whole = LeaseRecord { ttl: 3600, remaining_ttl: 0 };
    let mut lessor = of([(1, whole)]);
    lessor.promote(0, EXTEND_NS, 1);
    lessor.apply(0, &LeaseChange::Checkpointed { id: 1, remaining_ttl: 0 });
    assert_eq!(lessor.remaining(0, 1), Some(3601), "nothing is taken away");
}

/// etcd issue 15247
#[test]
fn time_is_kept_for_one_leadership() {
    let mut lessor = of([(1, LeaseRecord { ttl: 10, remaining_ttl: 0 })]);
    lessor.promote(0, EXTEND_NS, 5);
    assert!(lessor.demote_unless(Some(5)));
    assert_eq!(lessor.primary_term(), Some(5));
    assert!(!lessor.demote_unless(Some(7)));
    assert_eq!((lessor.primary_term(), lessor.remaining(0, 1)), (None, None));
    assert!(!lessor.demote_unless(None));
    lessor.promote(seconds(20), EXTEND_NS, 7);
    assert_eq!((lessor.primary_term(), lessor.remaining(seconds(20), 1)), (Some(7), Some(11)));
}

#[test]
fn checkpoints_come_in_bounded_batches() {
    let mut lessor = primary();
    (0..1500).for_each(|id| granted(&mut lessor, 0, id, 3600));
    let sizes: Vec<usize> = (0..3).map(|_| lessor.checkpoints(seconds(300)).len()).collect();
    assert_eq!(sizes, [1000, 500, 0]);
}

/// etcd point 41
#[test]
fn a_pile_up_is_moved_apart_and_nothing_ends_earlier() {
    let record = LeaseRecord { ttl: 10, remaining_ttl: 0 };
    let mut lessor = of((0..3000).map(|id| (id, record)));
    lessor.promote(0, EXTEND_NS, 1);
    let mut revoke = |second| {
        let ids = lessor.expired(seconds(second), usize::MAX);
        for id in &ids {
            lessor.apply(seconds(second), &LeaseChange::Revoked { id: *id });
        }
        ids.len()
    };
    let ended: Vec<usize> = (10..16).map(&mut revoke).collect();
    assert_eq!(ended, [0, 750, 750, 750, 750, 0]);
}

/// etcd point 42
#[test]
fn keep_alive_knows_unknown_and_ended_leases() {
    let mut lessor = primary();
    granted(&mut lessor, 0, 1, 5);
    assert_eq!(lessor.renew(seconds(4), 1), Renewal::Renewed { ttl: 5 });
    assert!(lessor.expired(seconds(9) - 1, 500).is_empty());
    assert_eq!(lessor.renew(seconds(9), 1), Renewal::Expiring);
    assert_eq!(lessor.renew(0, 2), Renewal::Unknown);
}

#[derive(Clone, Debug)]
enum Step {
    Grant(i64, i64),
    Renew(i64),
    Pass(u64),
    Checkpoint,
    Expire,
    NewLeader,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..20i64, prop_oneof![2..30i64, 250..2000i64]).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        4 => (0..20i64).prop_map(Step::Renew),
        6 => prop_oneof![0..3_000_000_000u64, 0..400_000_000_000u64].prop_map(Step::Pass),
        2 => Just(Step::Checkpoint),
        4 => Just(Step::Expire),
        1 => Just(Step::NewLeader),
    ]
}

/// Two servers, one of which leads, and for each lease the time up to which its client was promised it. The leader applies
/// the log when it must, the other one when it is elected.
struct Pair {
    lessors: [Lessor; 2],
    log: Vec<LeaseChange>,
    applied: [usize; 2],
    leader: usize,
    now_ns: u64,
    promised_ns: BTreeMap<i64, u64>,
    ttl: BTreeMap<i64, i64>,
}

impl Pair {
    /// Appends, and lets the leader apply everything.
    fn replicate(&mut self, change: &LeaseChange) {
        self.log.push(*change);
        self.apply(self.leader);
    }

    fn apply(&mut self, server: usize) {
        let from = std::mem::replace(&mut self.applied[server], self.log.len());
        self.log[from..].iter().for_each(|change| self.lessors[server].apply(self.now_ns, change));
    }

    fn promise(&mut self, id: i64) {
        self.promised_ns.insert(id, after_seconds(self.now_ns, self.ttl[&id]));
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Pass(ns) => self.now_ns += ns,
            Step::Grant(id, ttl) if !self.ttl.contains_key(&id) => {
                self.ttl.insert(id, ttl);
                self.replicate(&LeaseChange::Granted { id, ttl });
                self.promise(id);
            }
            Step::Grant(..) => {}
            Step::Renew(id) => self.renew(id),
            Step::Checkpoint => {
                // In the log, and applied by nobody yet.
                let due = self.lessors[self.leader].checkpoints(self.now_ns).into_iter();
                let checkpoint =
                    |(id, remaining_ttl)| LeaseChange::Checkpointed { id, remaining_ttl };
                self.log.extend(due.map(checkpoint));
            }
            Step::Expire => {
                for id in self.lessors[self.leader].expired(self.now_ns, 500) {
                    assert!(self.promised_ns[&id] <= self.now_ns, "lease {id} ended early");
                    self.ttl.remove(&id);
                    self.replicate(&LeaseChange::Revoked { id });
                }
            }
            Step::NewLeader => {
                self.lessors[self.leader].demote();
                self.leader = 1 - self.leader;
                self.apply(self.leader);
                self.lessors[self.leader].promote(self.now_ns, EXTEND_NS, 1);
            }
        }
    }

    fn renew(&mut self, id: i64) {
        let mut renewal = self.lessors[self.leader].renew(self.now_ns, id);
        if renewal == Renewal::ResetCheckpointFirst {
            self.replicate(&LeaseChange::Checkpointed { id, remaining_ttl: 0 });
            renewal = self.lessors[self.leader].renew(self.now_ns, id);
        }
        match renewal {
            Renewal::Renewed { ttl } => {
                assert_eq!(Some(&ttl), self.ttl.get(&id));
                self.promise(id);
            }
            Renewal::Unknown => assert!(!self.ttl.contains_key(&id)),
            Renewal::Expiring => assert!(self.promised_ns[&id] <= self.now_ns),
            Renewal::ResetCheckpointFirst | Renewal::NotPrimary => panic!("{renewal:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// etcd points 40 to 42: a promise outlives any change of leader, and every lease ends at last
    #[test]
    fn no_lease_ends_before_its_promise(steps in prop::collection::vec(step(), 1..200)) {
        let mut pair = Pair {
            lessors: [Lessor::default(), Lessor::default()],
            log: Vec::new(),
            applied: [0, 0],
            leader: 0,
            now_ns: 0,
            promised_ns: BTreeMap::new(),
            ttl: BTreeMap::new(),
        };
        pair.lessors[0].promote(0, EXTEND_NS, 1);
        for step in &steps {
            pair.step(step);
        }
        let end = seconds(10_000);
        pair.step(&Step::Pass(end));
        pair.step(&Step::Expire);
        prop_assert!(pair.ttl.is_empty());
    }
}
