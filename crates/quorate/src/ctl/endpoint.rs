//! `endpoint health status hashkv`: each endpoint is asked by itself. `endpoint invariants`, which etcdctl does not have: all together.

mod answers;
mod invariants;

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use quorate_proto::etcdserverpb::{
    AlarmRequest, AlarmType, HashKvRequest, HashKvResponse, MemberListRequest, RangeRequest,
    StatusRequest, StatusResponse, alarm_request::AlarmAction,
};

use super::{
    args::coded,
    session::{self, CallError, Session},
};
use crate::{Failure, output};
use answers::{Asked, Hashes, Health, Healths, Statuses};

/// `endpoint`
#[derive(Clone, Debug, Args)]
pub(super) struct EndpointArgs {
    /// Use all endpoints from the cluster member list
    #[arg(long, global = true)]
    cluster: bool,
    #[command(subcommand)]
    verb: EndpointVerb,
}

#[derive(Clone, Debug, Subcommand)]
enum EndpointVerb {
    /// Check the healthiness of endpoints
    Health,
    /// Print out the status of endpoints
    Status,
    /// Print the KV history hash for each endpoint
    Hashkv(HashKvArgs),
    /// Judge whether what the endpoints know of terms, votes, logs and states fits together (Quorate only)
    Invariants,
}

#[derive(Clone, Debug, Args)]
struct HashKvArgs {
    /// Maximum revision to hash (default: latest revision)
    #[arg(long, default_value_t = 0)]
    rev: i64,
}

/// Runs one of them.
pub(super) async fn run(session: &Session, args: EndpointArgs) -> Result<(), Failure> {
    // Without a leader there is no linearizable list, and then the judge is wanted most.
    let linearizable = !matches!(args.verb, EndpointVerb::Invariants);
    let endpoints =
        if args.cluster { members(session, linearizable).await? } else { session.endpoints() };
    match args.verb {
        EndpointVerb::Health => health(session, endpoints).await,
        EndpointVerb::Status => status(session, endpoints).await,
        EndpointVerb::Invariants => invariants::run(session, endpoints).await,
        EndpointVerb::Hashkv(args) => hash_kv(session, endpoints, args.rev).await,
    }
}

/// Where the members say that they serve.
async fn members(session: &Session, linearizable: bool) -> Result<Vec<String>, Failure> {
    let mut client = session::cluster(session.connect().await?);
    let request = MemberListRequest { linearizable };
    let list = session.call(client.member_list(request)).await?;
    Ok(list.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

async fn health(session: &Session, endpoints: Vec<String>) -> Result<(), Failure> {
    let mut healths = Vec::new();
    for endpoint in endpoints {
        let began = Instant::now();
        let outcome = check(session, &endpoint).await;
        let took = began.elapsed();
        healths.push(Health { endpoint, took, error: outcome.err() });
    }
    let healths = Healths(healths);
    session.show(&healths)?;
    if healths.0.iter().any(|health| health.error.is_some()) {
        return Err(coded(1, "unhealthy cluster"));
    }
    Ok(())
}

/// A healthy member answers a linearizable read, and no alarm is raised.
async fn check(session: &Session, endpoint: &str) -> Result<(), String> {
    let ask = async {
        let channel = session.connect_to(endpoint).await?;
        let request = RangeRequest { key: "health".into(), ..RangeRequest::default() };
        // A refusal for want of rights is an answer of a healthy member.
        match session.call(session::kv(channel.clone()).range(request)).await {
            Err(error) if error.text != "etcdserver: permission denied" => return Err(error),
            _ => {}
        }
        let request = AlarmRequest { action: AlarmAction::Get.into(), ..AlarmRequest::default() };
        session.call(session::maintenance(channel).alarm(request)).await
    };
    let alarms = ask.await.map_err(|error: CallError| error.text)?.alarms;
    if alarms.is_empty() {
        return Ok(());
    }
    let names = alarms.iter().map(|alarm| match alarm.alarm() {
        AlarmType::Nospace => "NOSPACE ",
        AlarmType::Corrupt => "CORRUPT ",
        AlarmType::None => "UNKNOWN ",
    });
    Err(format!("Active Alarm(s): {}", names.collect::<String>()))
}

async fn status(session: &Session, endpoints: Vec<String>) -> Result<(), Failure> {
    let mut asked: Vec<Asked<StatusResponse>> = Vec::new();
    let count = endpoints.len();
    for endpoint in endpoints {
        match status_of(session, &endpoint).await {
            Ok(answer) => asked.push(Asked { endpoint, answer }),
            Err(error) => output::complain(format_args!(
                "Failed to get the status of endpoint {endpoint} ({})",
                error.text
            )),
        }
    }
    let complete = asked.len() == count;
    session.show(&Statuses(asked))?;
    if complete { Ok(()) } else { Err(Failure::Silent(1)) }
}

async fn status_of(session: &Session, endpoint: &str) -> Result<StatusResponse, CallError> {
    let mut client = session::maintenance(session.connect_to(endpoint).await?);
    session.call(client.status(StatusRequest {})).await
}

async fn hash_kv(session: &Session, endpoints: Vec<String>, revision: i64) -> Result<(), Failure> {
    let mut asked: Vec<Asked<HashKvResponse>> = Vec::new();
    let mut last_error = None;
    for endpoint in endpoints {
        match hash_of(session, &endpoint, revision).await {
            Ok(answer) => asked.push(Asked { endpoint, answer }),
            Err(error) => {
                output::complain(format_args!(
                    "Failed to get the hash of endpoint {endpoint} ({})",
                    error.text
                ));
                last_error = Some(error);
            }
        }
    }
    session.show(&Hashes(asked))?;
    last_error.map_or(Ok(()), |error| Err(error.into()))
}

async fn hash_of(
    session: &Session,
    endpoint: &str,
    revision: i64,
) -> Result<HashKvResponse, CallError> {
    let mut client = session::maintenance(session.connect_to(endpoint).await?);
    session.call(client.hash_kv(HashKvRequest { revision })).await
}

impl Health {
    /// How long the answer took, as Go writes it.
    fn took(&self) -> String {
        let took: Duration = self.took;
        super::go::duration(took)
    }
}
