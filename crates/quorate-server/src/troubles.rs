//! What keeps a member from serving though its process is well, told where an operator looks: in the log, in `Status.errors` (the
//! column ERRORS of `ctl endpoint status`) and as the reason in `/health`.
//!
//! Three kinds. Peers send what this member can't take in: above all a leader whose log differs from what is committed here, which
//! it will send again for ever. There is no leader. And the disk hangs, whatever this member is to the others. Each may last for
//! days, so a line comes at first and then now and then, with how often it happened meanwhile, never with each message.

use std::{collections::BTreeMap, fmt, time::Duration};

use parking_lot::Mutex;
use quorate_node::Refused;
use quorate_raft::{Mono, NodeId, Reject};

use crate::{clock::nanoseconds, identity::MemberConfig, shared::Shared};

/// A line about one and the same thing comes no sooner than this after the one before.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// What was refused is told as an error for this long: a leader sends it again far sooner.
const REFUSAL_LASTS: Duration = Duration::from_secs(10);
/// This many election timeouts without a leader are worth a line; a usual election takes two at most.
const ELECTIONS_MAX: u32 = 3;

/// When a line is due again.
#[derive(Clone, Copy, Debug, Default)]
struct Pace(Mono);

impl Pace {
    /// Whether a line may come now; then none may for a while.
    fn is_due(&mut self, now: Mono) -> bool {
        let due = self.0 <= now;
        if due {
            self.0 = now.after(nanoseconds(LINE_INTERVAL));
        }
        due
    }
}

/// What peers sent and this member did not take in, the last of each: as many as there are peers.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<NodeId, Refusal>>);

#[derive(Clone, Copy, Debug)]
struct Refusal {
    why: Reject,
    last: Mono,
    /// Since the last line.
    count: u64,
    pace: Pace,
}

impl Refusals {
    /// Notes one, and logs it when a line is due.
    pub(crate) fn note(&self, now: Mono, refused: Refused) {
        let Refused { from, why, .. } = refused;
        let mut all = self.0.lock();
        let first = Refusal { why, last: now, count: 0, pace: Pace::default() };
        let refusal = all.entry(from).or_insert(first);
        (refusal.why, refusal.last) = (why, now);
        refusal.count += 1;
        if refusal.pace.is_due(now) {
            let count = std::mem::take(&mut refusal.count);
            drop(all);
            let peer = format!("{:x}", from.0);
            tracing::warn!(peer, %why, count, "a peer's messages are refused");
        }
    }

    /// What of them lasts, for people.
    pub(crate) fn errors(&self, now: Mono) -> Vec<String> {
        let lasts = |refusal: &Refusal| now.since(refusal.last) <= nanoseconds(REFUSAL_LASTS);
        let all = self.0.lock();
        let lasting = all.iter().filter(|(_, refusal)| lasts(refusal));
        lasting.filter_map(|(from, refusal)| error(*from, refusal.why)).collect()
    }
}

/// How what a peer sends is told as an error; `None` for what says nothing of this member's or the cluster's data.
fn error(from: NodeId, why: Reject) -> Option<String> {
    let from = from.0;
    match why {
        Reject::Conflict { .. } => Some(format!(
            "this member's log conflicts with that of leader {from:x}: {why}; one of them has lost what it acknowledged (ctl endpoint invariants --cluster compares all)"
        )),
        Reject::Malformed(_) => Some(format!("messages of peer {from:x} are refused: {why}")),
        // `Reject` may grow.
        Reject::NotLeader { .. }
        | Reject::WindowFull
        | Reject::Transferring
        | Reject::UnknownPeer(_)
        | Reject::Faulted
        | _ => None,
    }
}

/// Watches whether the disk answers.
#[derive(Debug, Default)]
pub(crate) struct DiskWatch {
    pace: Pace,
    /// There was a line, and nothing has said since that it is over.
    told: bool,
}

impl DiskWatch {
    /// Looks once, and logs what is to be told.
    pub(crate) fn look(&mut self, shared: &Shared) {
        match disk_stall(shared) {
            Some(lasted) if self.pace.is_due(shared.clock.now()) => {
                self.told = true;
                let (seconds, data_dir) = (lasted.as_secs(), shared.config.data_dir.display());
                tracing::warn!(seconds, %data_dir, "the disk hangs: a write or a read of the log has not ended");
            }
            Some(_) => {}
            None if std::mem::take(self).told => tracing::info!("the disk answers again"),
            None => {}
        }
    }
}

/// How long the disk has hung in what the log side does, if it hangs: for an election's time, after which a leader gives up.
fn disk_stall(shared: &Shared) -> Option<Duration> {
    let busy = shared.log.busy_for(shared.clock.now().0)?;
    (busy >= shared.config.election_timeout).then_some(busy)
}

/// The same as an error of this member, for people.
pub(crate) fn disk_error(shared: &Shared) -> Option<String> {
    let seconds = disk_stall(shared)?.as_secs();
    Some(format!("the disk hangs: a write or a read of the log has not ended for {seconds} s"))
}

/// Watches whether there is a leader.
#[derive(Debug, Default)]
pub(crate) struct LeaderWatch {
    pace: Pace,
    /// There was a line, and nothing has said since that it is over.
    told: bool,
}

/// What is worth a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// No leader, for so many nanoseconds by now.
    Leaderless(u64),
    /// A leader again, after that was told.
    Over,
}

impl LeaderWatch {
    /// Looks once, and logs what is to be told.
    pub(crate) fn look(&mut self, shared: &Shared) {
        let since = shared.standing.leaderless_since();
        match self.news(shared.clock.now(), since, shared.config.election_timeout) {
            None => {}
            Some(News::Over) => tracing::info!("there is a leader again"),
            Some(News::Leaderless(lasted_ns)) => {
                let seconds = Duration::from_nanos(lasted_ns).as_secs();
                let others =
                    || shared.identity.members.values().filter(|one| one.id != shared.identity.me);
                let reached = |one: &&MemberConfig| shared.metrics.peer(one.id.0).active.get() > 0;
                let connected = Names(others().filter(reached).collect());
                let unreachable = Names(others().filter(|one| !reached(one)).collect());
                tracing::warn!(
                    seconds,
                    term = shared.standing.term().0,
                    %unreachable,
                    %connected,
                    "no leader: nothing is written, and only serializable reads are answered"
                );
            }
        }
    }

    fn news(&mut self, now: Mono, since: Option<Mono>, election: Duration) -> Option<News> {
        let Some(since) = since else {
            let told = std::mem::take(self).told;
            return told.then_some(News::Over);
        };
        let lasted_ns = now.since(since);
        let long = lasted_ns >= nanoseconds(election * ELECTIONS_MAX);
        if !long || !self.pace.is_due(now) {
            return None;
        }
        self.told = true;
        Some(News::Leaderless(lasted_ns))
    }
}

/// Members as `name (URLs)`.
struct Names<'a>(Vec<&'a MemberConfig>);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, member) in self.0.iter().enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            write!(f, "{comma}{} ({})", member.name, member.peer_urls.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    };

    use bytes::Bytes;
    use quorate_etcd::backend::Backend;
    use quorate_node::{Entry, PeerMessage};
    use quorate_raft::{EntryId, EntryKind, EntryMeta, GroupId, Index, Message, Term};
    use quorate_storage::vfs::MemoryVfs;

    use super::*;
    use crate::{ServerConfig, shared::GROUP, testing};

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * SECOND)
    }

    #[test]
    fn a_conflict_is_an_error_for_as_long_as_its_leader_sends_it() {
        let refusals = Refusals::default();
        let why = Reject::Conflict { index: Index(17), committed: Term(3), offered: Term(5) };
        let refused = Refused { group: GroupId(0), from: NodeId(0xab), why };
        for second in 100..130 {
            refusals.note(at(second), refused);
        }
        let errors = refusals.errors(at(135));
        assert_eq!(errors.len(), 1);
        let expected =
            "log conflicts with that of leader ab: entry 17 is committed here with term 3";
        assert!(errors[0].contains(expected), "{errors:?}");
        assert!(refusals.errors(at(140)).is_empty());
    }

    /// An append of empty entries of these terms behind `prev`, all of them committed.
    fn append(prev: (u64, u64), terms: &[u64]) -> PeerMessage {
        let entry = |&term: &u64| Entry {
            meta: EntryMeta { term: Term(term), kind: EntryKind::Noop, bytes: 0 },
            payload: Bytes::new(),
        };
        let commit = Index(prev.1 + terms.len() as u64);
        let message = Message::AppendEntries {
            term: Term(5),
            prev: EntryId { term: Term(prev.0), index: Index(prev.1) },
            entries: terms.iter().map(entry).collect(),
            commit,
            round: 0,
        };
        PeerMessage::Raft { group: GROUP, message }
    }

    #[test]
    fn a_log_that_conflicts_below_its_commit_is_told_in_the_status() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(0)));
        let url = |port| vec![format!("http://localhost:{port}")];
        let initial_cluster =
            [("default", 2380), ("other", 2480)].map(|(name, port)| (name.into(), url(port)));
        let config =
            ServerConfig { initial_cluster: initial_cluster.into(), ..ServerConfig::default() };
        let mut server = testing::started(&vfs, &now, config);
        let members = server.handle.membership();
        let leader = members.members.keys().copied().find(|id| *id != members.me).unwrap();
        let mut hear = |message| {
            server.handle.take_peer_message(leader, message);
            for _ in 0..3 {
                server.turn().unwrap();
            }
            server.handle.status().errors
        };
        assert!(hear(append((0, 0), &[1, 1, 3])).is_empty());
        assert!(hear(append((3, 3), &[5])).is_empty());
        let errors = hear(append((2, 2), &[5]));
        let expected = "entry 2 is committed here with term 1, and the leader has one of term 2";
        assert!(errors.len() == 1 && errors[0].contains(expected), "{errors:?}");
    }

    /// A follower on a disk that hung was silent, and so was everybody else.
    #[test]
    fn a_disk_that_hangs_is_told_until_it_answers() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let mut server = testing::started(&vfs, &now, ServerConfig::default());
        while !server.log.is_ready() {
            now.fetch_add(SECOND / 100, SeqCst);
            server.raft.round().unwrap();
        }
        let shared = Arc::clone(&server.handle.0);
        let under_way = shared.log.take(now.load(SeqCst)).unwrap();
        let mut watch = DiskWatch::default();
        let mut told = |passed_ns| {
            now.fetch_add(passed_ns, SeqCst);
            watch.look(&shared);
            (watch.told, server.handle.status().errors)
        };
        assert_eq!(told(SECOND - 1), (false, vec![]), "a slow write is none");
        let (in_log, errors) = told(1);
        assert!(in_log && errors.len() == 1, "{errors:?}");
        assert!(errors[0].ends_with("has not ended for 1 s"), "{errors:?}");
        shared.log.done();
        drop(under_way);
        assert_eq!(told(0), (false, vec![]));
    }

    #[test]
    fn a_missing_leader_is_told_now_and_then_and_its_return_once() {
        let mut watch = LeaderWatch::default();
        let told: Vec<u64> = (0..=30)
            .filter(|&second| watch.news(at(second), Some(at(1)), Duration::from_secs(1)).is_some())
            .collect();
        assert_eq!(told, [4, 14, 24], "not in a usual election");
        let mut over = || watch.news(at(31), None, Duration::from_secs(1));
        assert_eq!((over(), over()), (Some(News::Over), None));
        let again = watch.news(at(34), Some(at(31)), Duration::from_secs(1));
        assert_eq!(again, Some(News::Leaderless(3 * SECOND)));
    }
}
