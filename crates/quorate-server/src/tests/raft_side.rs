//! What the Raft side must not wait for: the disk, and locks that others keep for long.
//!
//! That it calls no disk is looked at in each of its rounds, in these clusters and in the simulated world of whole servers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use parking_lot::Mutex;
use quorate_etcd::backend::Backend;
use quorate_kv::Command;
use quorate_node::Scope;
use quorate_proto::etcdserverpb::{LeaseGrantRequest, PutRequest};
use quorate_storage::vfs::MemoryVfs;

use crate::{
    LowerLimits, ServerConfig, Started,
    services::{Answer, Call},
    testing::{self, Cluster, Later, MS},
};

/// Hardly anything that is applied stays in memory.
fn forgetful() -> ServerConfig {
    let limits = LowerLimits {
        append_entries_max: 3,
        append_bytes_max: 1 << 20,
        inflight_appends_max: 4,
        uncommitted_entries_max: 1_000,
        proposals_max: 1_000,
        reads_max: 1_000,
        batch_entries_max: 1_000,
        inbox_max: 1_000,
        cache_bytes_max: 0,
        watch_revisions_max: 1_000,
        watch_pull_bytes_max: 1 << 20,
        snapshot_chunk_bytes: 1 << 20,
    };
    ServerConfig { lower_limits: Some(limits), ..ServerConfig::default() }
}

fn put(cluster: &mut Cluster, member: usize, key: u8) {
    let request = PutRequest { key: vec![key].into(), ..PutRequest::default() };
    cluster.propose(member, &Command::Put(request)).unwrap();
}

/// The leader once read such entries itself, and a disk that hung in a read kept it from everything.
#[test]
fn a_follower_catches_up_from_entries_that_only_the_log_has() {
    let mut cluster = Cluster::new(3, &forgetful());
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    cluster.pass_ms(300);
    cluster.cut.insert(follower);
    (0..40).for_each(|key| put(&mut cluster, leader, key));
    cluster.cut.clear();
    // What is read and what is written take turns.
    (40..60).for_each(|key| put(&mut cluster, leader, key));
    cluster.pass_ms(500);
    let applied = |member: usize| cluster.members[member].handle.0.standing.applied();
    assert_eq!((applied(follower), applied(leader)), (applied(leader), 61));
}

/// After a start, what is committed is in the log only, and in pieces as small as the apply side takes them.
#[test]
fn a_member_that_starts_again_applies_what_only_the_log_has() {
    let config = ServerConfig { apply_bytes_max: Some(100), ..forgetful() };
    let mut cluster = Cluster::new(3, &config);
    let leader = cluster.leader();
    (0..40).for_each(|key| put(&mut cluster, leader, key));
    cluster.crash_all();
    let leader = cluster.leader();
    put(&mut cluster, leader, 40);
    assert!(cluster.members[leader].handle.0.standing.applied() > 42);
}

/// A member alone that leads and whose lessor counts, with one lease.
fn lessor(now: &Arc<AtomicU64>, jobs: &Arc<Later>) -> Started {
    let mut server = testing::started_with_jobs(&Arc::new(MemoryVfs::new()), now, jobs);
    let counts = |server: &Started| server.handle.0.lessor.lock().primary_term().is_some();
    pass_until(&mut server, now, counts);
    let command = Command::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 100 });
    server.handle.0.propose(&command, Scope::Anywhere, None);
    let granted = |server: &Started| server.handle.reader().lease(7).is_ok_and(|it| it.is_some());
    pass_until(&mut server, now, granted);
    server
}

fn pass_until(server: &mut Started, now: &AtomicU64, is_so: impl Fn(&Started) -> bool) {
    for _ in 0..10_000 {
        if is_so(server) {
            return;
        }
        now.fetch_add(MS, SeqCst);
        server.turn().unwrap();
        server.apply.round().unwrap();
    }
    panic!("not so after ten seconds");
}

type Answers = Arc<Mutex<Vec<Answer>>>;

fn ask(server: &Started, call: Call) -> Answers {
    let answers = Answers::default();
    let noted = Arc::clone(&answers);
    call.serve(&server.handle.0, move |answer| noted.lock().push(answer));
    answers
}

/// The Raft side once waited for whoever had the lessor: a promotion over a million leases has it for seconds, and no heartbeat
/// left meanwhile.
#[test]
fn a_renewal_waits_beside_for_the_lessor_and_is_confirmed_anew() {
    let (now, jobs) = (Arc::new(AtomicU64::new(1)), Arc::default());
    let mut server = lessor(&now, &jobs);
    let shared = Arc::clone(&server.handle.0);
    jobs.begin();

    let renewal = ask(&server, Call::Renew { ids: [7].into() });
    server.turn().unwrap();
    assert_eq!(*renewal.lock(), [Answer::Renewed(vec![Some(100)])], "nobody has it");

    let taken = shared.lessor.lock();
    let renewal = ask(&server, Call::Renew { ids: [7].into() });
    server.turn().unwrap();
    assert_eq!(*renewal.lock(), [], "and the Raft side goes on");
    drop(taken);
    assert_eq!((jobs.begin(), renewal.lock().len()), (1, 0), "leadership is not confirmed yet");
    server.turn().unwrap();
    assert_eq!(*renewal.lock(), [Answer::Renewed(vec![Some(100)])]);
}

/// How long a lease was granted is read from the state, which may be on the disk only.
#[test]
fn the_time_of_a_lease_is_looked_up_beside() {
    let (now, jobs) = (Arc::new(AtomicU64::new(1)), Arc::default());
    let mut server = lessor(&now, &jobs);
    jobs.begin();
    let question = ask(&server, Call::TimeToLive { id: 7 });
    server.turn().unwrap();
    assert_eq!(*question.lock(), []);
    assert_eq!(jobs.begin(), 1);
    assert!(matches!(question.lock().as_slice(), [Answer::TimeToLive(Some(_))]));
}
