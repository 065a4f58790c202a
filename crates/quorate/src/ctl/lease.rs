//! `lease grant revoke timetolive list keep-alive`.

use std::time::Duration;

use clap::{Args, Subcommand};
use quorate_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use serde::Serialize;
use tonic::Streaming;

use super::{
    args::{bad_arguments, coded, lease_id},
    exit, go, json,
    print::{Answer, Lines},
    session::{self, CallError, Session, within},
};
use crate::{Failure, output};

/// `lease`
#[derive(Clone, Debug, Subcommand)]
pub(super) enum LeaseVerb {
    /// Create leases
    Grant(IdArgs),
    /// Revoke leases
    Revoke(IdArgs),
    /// Get lease information
    Timetolive(TimeToLiveArgs),
    /// List all active leases
    List,
    /// Keep leases alive (renew)
    KeepAlive(KeepAliveArgs),
}

/// One argument: a lease, or a time to live.
#[derive(Clone, Debug, Args)]
pub(super) struct IdArgs {
    /// Time to live in seconds for a grant, else a lease ID in hexadecimal
    arguments: Vec<String>,
}

/// `lease timetolive`
#[derive(Clone, Debug, Args)]
pub(super) struct TimeToLiveArgs {
    /// Lease ID in hexadecimal
    arguments: Vec<String>,
    /// Get keys attached to this lease
    #[arg(long)]
    keys: bool,
}

/// `lease keep-alive`
#[derive(Clone, Debug, Args)]
pub(super) struct KeepAliveArgs {
    /// Lease ID in hexadecimal
    arguments: Vec<String>,
    /// Reset the keep-alive time to its original value and exit
    #[arg(long)]
    once: bool,
}

/// Runs one of them.
pub(super) async fn run(session: &Session, verb: LeaseVerb) -> Result<(), Failure> {
    match verb {
        LeaseVerb::Grant(args) => grant(session, &args.arguments).await,
        LeaseVerb::Revoke(args) => revoke(session, &args.arguments).await,
        LeaseVerb::Timetolive(args) => time_to_live(session, &args).await,
        LeaseVerb::List => list(session).await,
        LeaseVerb::KeepAlive(args) => keep_alive(session, &args).await,
    }
}

/// The only argument.
fn only<'a>(arguments: &'a [String], wrong: &str) -> Result<&'a str, Failure> {
    match arguments {
        [argument] => Ok(argument),
        _ => Err(bad_arguments(wrong)),
    }
}

async fn grant(session: &Session, arguments: &[String]) -> Result<(), Failure> {
    let ttl = only(arguments, "lease grant command needs TTL argument")?;
    let ttl = ttl.parse().map_err(|_| {
        bad_arguments(format!("bad TTL (strconv.ParseInt: parsing {ttl:?}: invalid syntax)"))
    })?;
    let mut client = session::lease(session.connect().await?);
    let request = LeaseGrantRequest { ttl, id: 0 };
    let answer = session
        .call(client.lease_grant(request))
        .await
        .map_err(|error| coded(1, format!("failed to grant lease ({})", error.text)))?;
    session.show(&answer)
}

async fn revoke(session: &Session, arguments: &[String]) -> Result<(), Failure> {
    let id = only(arguments, "lease revoke command needs 1 argument")?;
    let id = lease_id(id, "lease ID arg")?;
    let mut client = session::lease(session.connect().await?);
    let answer = session
        .call(client.lease_revoke(LeaseRevokeRequest { id }))
        .await
        .map_err(|error| coded(1, format!("failed to revoke lease ({})", error.text)))?;
    session.show(&Revoked { id, answer })
}

async fn time_to_live(session: &Session, args: &TimeToLiveArgs) -> Result<(), Failure> {
    let id = only(&args.arguments, "lease timetolive command needs lease ID as argument")?;
    let id = lease_id(id, "lease ID arg")?;
    let mut client = session::lease(session.connect().await?);
    let request = LeaseTimeToLiveRequest { id, keys: args.keys };
    let answer = session.call(client.lease_time_to_live(request)).await?;
    session.show(&TimeToLive { answer, keys: args.keys })
}

async fn list(session: &Session) -> Result<(), Failure> {
    let mut client = session::lease(session.connect().await?);
    session.show(&session.call(client.lease_leases(LeaseLeasesRequest {})).await?)
}

async fn keep_alive(session: &Session, args: &KeepAliveArgs) -> Result<(), Failure> {
    let id = only(&args.arguments, "lease keep-alive command needs lease ID as argument")?;
    let id = lease_id(id, "lease ID arg")?;
    let mut client = session::lease(session.connect().await?);
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let ask = || sender.send(LeaseKeepAliveRequest { id });
    // The channel has room for the first request.
    let _ = ask().await;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers =
        client.lease_keep_alive(requests).await.map_err(CallError::from)?.into_inner();
    loop {
        let answer = next(session, &mut answers).await?;
        if answer.ttl <= 0 {
            return gone(id, args.once);
        }
        session.show(&answer)?;
        if args.once {
            return Ok(());
        }
        let third = answer.ttl.unsigned_abs().saturating_mul(1000) / 3;
        tokio::time::sleep(Duration::from_millis(third)).await;
        // When the stream has broken, the next answer says so.
        let _ = ask().await;
    }
}

async fn next(
    session: &Session,
    answers: &mut Streaming<LeaseKeepAliveResponse>,
) -> Result<LeaseKeepAliveResponse, Failure> {
    let answer = within(session.global.command_timeout, answers.message()).await?;
    answer.ok_or_else(|| coded(1, "the server ended the stream"))
}

fn gone(id: i64, once: bool) -> Result<(), Failure> {
    if once {
        return Err(coded(exit::CONNECTION, "etcdserver: requested lease not found"));
    }
    Ok(output::line(format_args!("lease {id:016x} expired or revoked."))?)
}

/// The parts that lease answers share in JSON: the header's fields stand among their own.
#[derive(Serialize)]
struct LeaseJson<T> {
    #[serde(flatten)]
    header: Option<json::Header>,
    #[serde(flatten)]
    own: T,
}

impl Answer for LeaseGrantResponse {
    fn simple(&self, out: &mut Lines) {
        out.line(format_args!("lease {:016x} granted with TTL({}s)", self.id, self.ttl));
    }

    fn fields(&self, out: &mut Lines) {
        out.header(self.header.as_ref());
        out.lease("ID", self.id);
        out.field("TTL", self.ttl);
    }

    fn json(&self) -> impl Serialize {
        let own = GrantJson { id: self.id, ttl: self.ttl, error: self.error.clone() };
        LeaseJson { header: json::header(self.header.as_ref()), own }
    }
}

#[derive(Serialize)]
struct GrantJson {
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "TTL")]
    ttl: i64,
    #[serde(rename = "Error")]
    error: String,
}

struct Revoked {
    id: i64,
    answer: LeaseRevokeResponse,
}

impl Answer for Revoked {
    fn simple(&self, out: &mut Lines) {
        out.line(format_args!("lease {:016x} revoked", self.id));
    }

    fn fields(&self, out: &mut Lines) {
        out.header(self.answer.header.as_ref());
    }

    fn json(&self) -> impl Serialize {
        RevokedJson { header: json::header(self.answer.header.as_ref()) }
    }
}

#[derive(Serialize)]
struct RevokedJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<json::Header>,
}

struct TimeToLive {
    answer: LeaseTimeToLiveResponse,
    keys: bool,
}

impl Answer for TimeToLive {
    fn simple(&self, out: &mut Lines) {
        let LeaseTimeToLiveResponse { id, ttl, granted_ttl, keys, .. } = &self.answer;
        if *granted_ttl == 0 && *ttl == -1 {
            return out.line(format_args!("lease {id:016x} already expired"));
        }
        let mut text =
            format!("lease {id:016x} granted with TTL({granted_ttl}s), remaining({ttl}s)");
        if self.keys {
            let keys: Vec<_> = keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
            text = format!("{text}, attached keys([{}])", keys.join(" "));
        }
        out.line(text);
    }

    fn fields(&self, out: &mut Lines) {
        out.header(self.answer.header.as_ref());
        out.lease("ID", self.answer.id);
        out.field("TTL", self.answer.ttl);
        out.field("GrantedTTL", self.answer.granted_ttl);
        self.answer.keys.iter().for_each(|key| out.quoted("Key", key));
    }

    fn json(&self) -> impl Serialize {
        let LeaseTimeToLiveResponse { header, id, ttl, granted_ttl, keys } = &self.answer;
        let keys: Vec<String> = keys.iter().map(|key| go::base64(key)).collect();
        let keys = (!keys.is_empty()).then_some(keys);
        let own = TimeToLiveJson { id: *id, ttl: *ttl, granted_ttl: *granted_ttl, keys };
        LeaseJson { header: json::header(header.as_ref()), own }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct TimeToLiveJson {
    id: i64,
    ttl: i64,
    granted_ttl: i64,
    keys: Option<Vec<String>>,
}

impl Answer for LeaseLeasesResponse {
    fn simple(&self, out: &mut Lines) {
        out.line(format_args!("found {} leases", self.leases.len()));
        self.leases.iter().for_each(|lease| out.line(format_args!("{:016x}", lease.id)));
    }

    fn fields(&self, out: &mut Lines) {
        out.header(self.header.as_ref());
        self.leases.iter().for_each(|lease| out.lease("ID", lease.id));
    }

    fn json(&self) -> impl Serialize {
        let leases = self.leases.iter().map(|lease| IdJson { id: lease.id }).collect();
        LeaseJson { header: json::header(self.header.as_ref()), own: LeasesJson { leases } }
    }
}

#[derive(Serialize)]
struct LeasesJson {
    leases: Vec<IdJson>,
}

#[derive(Serialize)]
struct IdJson {
    id: i64,
}

impl Answer for LeaseKeepAliveResponse {
    fn simple(&self, out: &mut Lines) {
        out.line(format_args!("lease {:016x} keepalived with TTL({})", self.id, self.ttl));
    }

    fn fields(&self, out: &mut Lines) {
        out.header(self.header.as_ref());
        out.lease("ID", self.id);
        out.field("TTL", self.ttl);
    }

    fn json(&self) -> impl Serialize {
        let own = KeepAliveJson { id: self.id, ttl: self.ttl };
        LeaseJson { header: json::header(self.header.as_ref()), own }
    }
}

#[derive(Serialize)]
struct KeepAliveJson {
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "TTL")]
    ttl: i64,
}
