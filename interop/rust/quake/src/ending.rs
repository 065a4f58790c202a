//! What is left when all is mended: the final state, as each member tells it.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use quorate_check::{
    Outcome,
    etcd::{Range, StepReply},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    cluster::Cluster,
    history::History,
    judge::Ending,
    member::Held,
    session::{Freshness, PATIENCE, Session, connect},
    work::{SET, everything},
};

/// How often the final state is asked for.
const READS_MAX: u32 = 20;

/// Asks every member for everything; what one does not answer is a complaint.
pub async fn gather(cluster: &Cluster, session: &mut Session, history: &mut History) -> Ending {
    let mut ending = Ending::default();
    for _ in 0..READS_MAX {
        let read = session.read(&Range::all(), Freshness::Linearizable).await;
        if let Outcome::Ok(reply) = read.outcome {
            ending.revision = reply.revision;
            if let Some(StepReply::Got(pairs)) = reply.steps.into_iter().next() {
                let keys = pairs.into_iter().map(|pair| pair.key);
                ending.set = keys.filter(|key| key.starts_with(SET)).collect();
            }
            break;
        }
    }
    if ending.revision == 0 {
        history.complaints.push("the final state could not be read".into());
        return ending;
    }
    for (endpoint, member) in cluster.endpoints().iter().zip(&cluster.members) {
        match everything(endpoint, ending.revision).await {
            Ok(told) => ending.told.push(told),
            Err(error) => history.complaints.push(format!("a watch on {}: {error:#}", member.name)),
        }
        match hash(endpoint, ending.revision).await {
            Ok(hash) => ending.hashes.push((member.name.clone(), hash)),
            Err(error) => history.complaints.push(format!("hash of {}: {error:#}", member.name)),
        }
    }
    ending
}

async fn hash(endpoint: &str, revision: i64) -> Result<u32> {
    let mut client = connect(endpoint).await?;
    let answer = tokio::time::timeout(4 * PATIENCE, client.hash_kv(revision)).await;
    Ok(answer.context("no answer")??.hash())
}

/// How long what members held for clients may take to be given back.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(15);

/// How much more than at the start a member may hold when all clients have gone: files of the log and the state, sockets of peers that
/// connect anew, threads that wait for work, caches that are warm.
const MORE: Held = Held { files: 24, threads: 12, resident_kib: 384 << 10 };

/// Waits until every member holds about as much as at the start. What one keeps is a complaint.
pub async fn given_back(cluster: &Cluster, at_the_start: &[Held]) -> Vec<String> {
    let until = Instant::now() + GIVEN_BACK_WITHIN;
    loop {
        let kept = kept(cluster, at_the_start).await;
        if kept.is_empty() || Instant::now() > until {
            return kept;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn kept(cluster: &Cluster, at_the_start: &[Held]) -> Vec<String> {
    let mut kept = Vec::new();
    let held = cluster.held();
    for (member, (now, before)) in cluster.members.iter().zip(held.iter().zip(at_the_start)) {
        let is_too_much = now.files > before.files + MORE.files
            || now.threads > before.threads + MORE.threads
            || now.resident_kib > before.resident_kib + MORE.resident_kib;
        if is_too_much {
            kept.push(format!("{} held {before:?} at the start and keeps {now:?}", member.name));
        }
        let gauges = metrics(member.client).await;
        let gauges = gauges.unwrap_or_else(|error| vec![format!("no metrics: {error:#}")]);
        kept.extend(gauges.iter().map(|what| format!("{}: {what}", member.name)));
    }
    kept
}

/// Gauges of what is held for clients, and that must be zero when there are none: those that are not.
const GAUGES: [&str; 1] = ["etcd_server_proposals_pending"];

async fn metrics(at: SocketAddr) -> Result<Vec<String>> {
    let ask = async {
        let mut stream = TcpStream::connect(at).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        anyhow::Ok(said)
    };
    let said = tokio::time::timeout(PATIENCE, ask).await.context("no answer")??;
    anyhow::ensure!(GAUGES.iter().all(|gauge| said.contains(gauge)), "a gauge is missing");
    let held = said.lines().filter(|line| GAUGES.iter().any(|gauge| line.starts_with(gauge)));
    let held = held.filter(|line| !line.ends_with(" 0"));
    Ok(held.map(str::to_owned).collect())
}

/// Members that are not there in the end, and those that panicked at any time.
pub fn failures(cluster: &mut Cluster) -> Vec<String> {
    let mut failures = Vec::new();
    for member in &mut cluster.members {
        if let Some(status) = member.ended() {
            let why = member.why_ended();
            failures.push(format!("{} ended by itself ({status}): {why}", member.name));
        }
    }
    for log in cluster.logs() {
        let said = fs::read_to_string(&log).unwrap_or_default();
        if let Some(line) = said.lines().find(|line| line.contains("panicked at")) {
            failures.push(format!("{}: {line}", log.display()));
        }
    }
    failures
}

/// Keeps what the members said.
///
/// # Errors
/// Those of the system.
pub fn keep_logs(cluster: &Cluster, report: &Path) -> Result<()> {
    fs::create_dir_all(report)?;
    for log in cluster.logs() {
        if let Some(name) = log.file_name() {
            fs::copy(&log, report.join(name))?;
        }
    }
    println!("logs of the members: {}", report.display());
    Ok(())
}
