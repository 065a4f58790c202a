//! What is left when all is mended: the final state, as each member tells it.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use quorate_check::{
    Outcome,
    etcd::{Range, StepReply},
};

use crate::{
    cluster::Cluster,
    history::History,
    judge::Ending,
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
