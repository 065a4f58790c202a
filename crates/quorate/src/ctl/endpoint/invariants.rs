//! `endpoint invariants`: asks members twice what their Raft side knows, and judges whether it fits together.
//!
//! Nothing is changed on the way, and no leader is needed. [`judge`] has the invariants, [`picture`] what is asked.

mod judge;
mod picture;

use std::time::Duration;

use quorate_proto::{
    etcdserverpb::HashKvRequest,
    grpc_inspect::inspect_client::InspectClient,
    inspect::{RaftRequest, RaftResponse},
};
use serde::Serialize;
use tonic::{Code, Status, transport::Channel};

use crate::{
    Failure,
    ctl::{
        args::coded,
        exit,
        print::{Answer, Lines, Table},
        session::{self, CallError, Session},
    },
    output,
};
use judge::{Cluster, Hash, Seen, Verdict};
use picture::Picture;

/// How much later members are asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How often hashes are asked for, when members are about to compact or lag behind a compaction.
const HASH_TRIES: usize = 5;

/// An endpoint that answered.
struct Member {
    endpoint: String,
    channel: Channel,
    id: u64,
    cluster: u64,
    revision: i64,
}

/// Asks, judges and tells. Exit code 1 if an invariant is broken, [`exit::UNKNOWN`] if none is and not all could be judged, or not
/// all members, or nobody answered.
///
/// # Errors
/// When nobody answered, and when the endpoints are of different clusters.
pub(super) async fn run(session: &Session, endpoints: Vec<String>) -> Result<(), Failure> {
    let mut cluster = Cluster::default();
    let mut members = begin(session, endpoints, &mut cluster).await;
    if members.is_empty() {
        return Err(coded(exit::UNKNOWN, cluster.missing.join("; ")));
    }
    one_cluster(&members)?;
    tokio::time::sleep(ASK_AGAIN_AFTER).await;
    go_on(session, &mut members, &mut cluster).await;
    hash(session, &mut members, &mut cluster).await;
    let report = Report {
        verdicts: judge::judge(&cluster),
        members: cluster.members.len(),
        silent: cluster.silent().len(),
    };
    session.show(&report)?;
    for silent in cluster.missing.iter().chain(&cluster.lost) {
        output::complain(format_args!("no answer: {silent}"));
    }
    match (report.count("broken"), report.count("unknown") + report.silent) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::Silent(exit::UNKNOWN)),
        (_, _) => Err(Failure::Silent(1)),
    }
}

/// What members of different clusters say does not fit together, and need not.
fn one_cluster(members: &[Member]) -> Result<(), Failure> {
    let cluster = members.first().map(|first| first.cluster);
    let of_another = |member: &&Member| Some(member.cluster) != cluster;
    match members.iter().find(of_another) {
        None => Ok(()),
        Some(Member { endpoint, cluster, .. }) => Err(coded(
            exit::ARGUMENTS,
            format!("endpoint {endpoint} is of another cluster: {cluster:x}"),
        )),
    }
}

/// Asks everybody for the first time. Who answers twice, under two names, counts once.
async fn begin(session: &Session, endpoints: Vec<String>, cluster: &mut Cluster) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for endpoint in endpoints {
        let (member, answer) = match meet(session, &endpoint).await {
            Ok(met) => met,
            Err(error) => {
                cluster.missing.push(error.text);
                continue;
            }
        };
        if members.iter().all(|known| known.id != member.id) {
            let first = Picture::from(&answer);
            cluster.members.push(Seen { id: member.id, endpoint, first, second: None });
            members.push(member);
        }
    }
    members
}

async fn meet(session: &Session, endpoint: &str) -> Result<(Member, RaftResponse), CallError> {
    let channel = session.connect_to(endpoint).await?;
    let answer = ask(session, endpoint, &channel).await?;
    let header = answer.header.unwrap_or_default();
    let member = Member {
        endpoint: endpoint.to_owned(),
        channel,
        id: header.member_id,
        cluster: header.cluster_id,
        revision: header.revision,
    };
    Ok((member, answer))
}

/// What one member's Raft side knows.
async fn ask(
    session: &Session,
    endpoint: &str,
    channel: &Channel,
) -> Result<RaftResponse, CallError> {
    let mut client = InspectClient::new(channel.clone());
    let call = async { client.raft(RaftRequest {}).await.map_err(not_ours) };
    session.call(call).await.map_err(|error| at(endpoint, &error))
}

/// An error with the name of its endpoint.
fn at(endpoint: &str, error: &CallError) -> CallError {
    CallError { text: format!("endpoint {endpoint}: {}", error.text) }
}

/// etcd does not know the service, and says only that.
fn not_ours(status: Status) -> Status {
    if status.code() == Code::Unimplemented {
        let text = format!("it is not Quorate, or an older one ({})", status.message());
        return Status::new(Code::Unimplemented, text);
    }
    status
}

/// Asks those who answered again.
async fn go_on(session: &Session, members: &mut [Member], cluster: &mut Cluster) {
    for (member, seen) in members.iter_mut().zip(&mut cluster.members) {
        match ask(session, &member.endpoint, &member.channel).await {
            Ok(answer) => {
                member.revision = answer.header.unwrap_or_default().revision;
                seen.second = Some(Picture::from(&answer));
            }
            Err(error) => cluster.lost.push(error.text),
        }
    }
}

/// Gets the hashes of all states at a revision that all have reached, compacted up to the same one.
async fn hash(session: &Session, members: &mut [Member], cluster: &mut Cluster) {
    for _ in 0..HASH_TRIES {
        let revision = members.iter().map(|member| member.revision).min().unwrap_or_default();
        cluster.hashes.clear();
        cluster.hashes_missing.clear();
        for member in &mut *members {
            match hash_of(session, member, revision).await {
                Ok(hash) => cluster.hashes.push(hash),
                Err(error) => cluster.hashes_missing.push(at(&member.endpoint, &error).text),
            }
        }
        let compacted = |hash: &Hash| hash.compact_revision;
        let first = cluster.hashes.first().map(compacted);
        let agree = cluster.hashes.iter().all(|hash| Some(compacted(hash)) == first);
        if agree && cluster.hashes_missing.is_empty() {
            return;
        }
        tokio::time::sleep(ASK_AGAIN_AFTER).await;
        for member in &mut *members {
            if let Ok(answer) = ask(session, &member.endpoint, &member.channel).await {
                member.revision = answer.header.unwrap_or_default().revision;
            }
        }
    }
}

async fn hash_of(session: &Session, member: &Member, revision: i64) -> Result<Hash, CallError> {
    let mut client = session::maintenance(member.channel.clone());
    let answer = session.call(client.hash_kv(HashKvRequest { revision })).await?;
    Ok(Hash {
        endpoint: member.endpoint.clone(),
        value: answer.hash,
        revision: answer.hash_revision,
        compact_revision: answer.compact_revision,
    })
}

impl Verdict {
    /// One word, and why.
    fn words(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Ok => ("ok", None),
            Self::Broken(why) => ("broken", Some(why)),
            Self::Unknown(why) => ("unknown", Some(why)),
        }
    }
}

/// What is printed.
struct Report {
    verdicts: Vec<(&'static str, Verdict)>,
    members: usize,
    /// Voters that told nothing.
    silent: usize,
}

impl Report {
    fn count(&self, word: &str) -> usize {
        self.verdicts.iter().filter(|(_, verdict)| verdict.words().0 == word).count()
    }

    fn counts(&self) -> [(&'static str, usize); 6] {
        [
            ("invariants", self.verdicts.len()),
            ("ok", self.count("ok")),
            ("broken", self.count("broken")),
            ("unknown", self.count("unknown")),
            ("members", self.members),
            ("silent", self.silent),
        ]
    }
}

impl Answer for Report {
    fn simple(&self, out: &mut Lines) {
        for (name, verdict) in &self.verdicts {
            let (word, why) = verdict.words();
            match why {
                None => out.line(format_args!("{name}: {word}")),
                Some(why) => out.line(format_args!("{name}: {word}: {why}")),
            }
        }
        let counts = self.counts().map(|(name, count)| format!("{name}={count}"));
        out.line(counts.join(" "));
    }

    fn fields(&self, out: &mut Lines) {
        for (name, verdict) in &self.verdicts {
            let (word, why) = verdict.words();
            out.quoted("Invariant", name.as_bytes());
            out.quoted("Verdict", word.as_bytes());
            out.quoted("Why", why.unwrap_or_default().as_bytes());
            out.line("");
        }
        for (name, count) in self.counts() {
            out.field(name, count);
        }
    }

    fn json(&self) -> impl Serialize {
        let invariants = self.verdicts.iter().map(|(name, verdict)| {
            let (verdict, why) = verdict.words();
            InvariantJson { name, verdict, why }
        });
        let [_, (_, ok), (_, broken), (_, unknown), (_, members), (_, silent)] = self.counts();
        ReportJson { invariants: invariants.collect(), ok, broken, unknown, members, silent }
    }

    fn table(&self) -> Option<Table> {
        let row = |(name, verdict): &(&'static str, Verdict)| {
            let (word, why) = verdict.words();
            vec![(*name).to_owned(), word.to_owned(), why.unwrap_or_default().to_owned()]
        };
        Some(Table::new(&["INVARIANT", "VERDICT", "WHY"], self.verdicts.iter().map(row)))
    }
}

#[derive(Serialize)]
struct ReportJson<'a> {
    invariants: Vec<InvariantJson<'a>>,
    ok: usize,
    broken: usize,
    unknown: usize,
    members: usize,
    silent: usize,
}

#[derive(Serialize)]
struct InvariantJson<'a> {
    name: &'a str,
    verdict: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}
