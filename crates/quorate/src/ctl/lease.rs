//! `lease grant revoke timetolive list keep-alive`.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use quorate_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    args::{bad_arguments, coded, lease_id},
    exit, go, json,
    print::{Answer, Lines},
    session::{self, CallError, RESUME_PAUSE, Session, leader_required, within},
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

/// Renews a lease for as long as somebody answers, at whichever endpoint, and ends with an error when nobody has for the
/// lease's whole time: it is lost then, and whoever relies on it must hear so.
async fn keep_alive(session: &Session, args: &KeepAliveArgs) -> Result<(), Failure> {
    let id = only(&args.arguments, "lease keep-alive command needs lease ID as argument")?;
    let mut keeper = Keeper::new(lease_id(id, "lease ID arg")?);
    loop {
        match keeper.renew(session).await {
            Ok(answer) if answer.ttl <= 0 => return gone(keeper.id, args.once),
            Ok(answer) => {
                session.show(&answer)?;
                if args.once {
                    return Ok(());
                }
                tokio::time::sleep(keeper.third()).await;
            }
            Err(_) if keeper.may_try_again(session) => tokio::time::sleep(RESUME_PAUSE).await,
            Err(error) => return Err(keeper.lost(error)),
        }
    }
}

/// Requests, and their answers.
type KeepAliveStream = (mpsc::Sender<LeaseKeepAliveRequest>, Streaming<LeaseKeepAliveResponse>);

/// Renews one lease.
struct Keeper {
    id: i64,
    stream: Option<KeepAliveStream>,
    /// How often it failed: the endpoint that is asked first, counted round and round.
    turn: usize,
    /// When the last renewal that was acknowledged was asked for, and for how long it is.
    renewed: Option<(Instant, Duration)>,
}

impl Keeper {
    fn new(id: i64) -> Self {
        Self { id, stream: None, turn: 0, renewed: None }
    }

    /// Renews once, on the open stream or on one to the next endpoint.
    async fn renew(&mut self, session: &Session) -> Result<LeaseKeepAliveResponse, CallError> {
        let began = Instant::now();
        let answer = self.ask(session).await;
        match &answer {
            Ok(answer) => {
                let ttl = Duration::from_secs(answer.ttl.max(0).unsigned_abs());
                self.renewed = Some((began, ttl));
            }
            Err(_) => self.turn = self.turn.wrapping_add(1),
        }
        answer
    }

    async fn ask(&mut self, session: &Session) -> Result<LeaseKeepAliveResponse, CallError> {
        let patience = self.patience(session);
        let (sender, mut answers) = match self.stream.take() {
            // When the stream has broken, the next answer says so.
            Some((sender, answers)) => {
                let _ = sender.send(LeaseKeepAliveRequest { id: self.id }).await;
                (sender, answers)
            }
            None => self.open(session, patience).await?,
        };
        let answer = within(patience, answers.message()).await?;
        let answer =
            answer.ok_or_else(|| CallError { text: "the server ended the stream".into() })?;
        self.stream = Some((sender, answers));
        Ok(answer)
    }

    /// A stream whose first request is on its way: etcd answers the call itself with the first renewal.
    async fn open(
        &self,
        session: &Session,
        patience: Duration,
    ) -> Result<KeepAliveStream, CallError> {
        let mut client = session::lease(session.connect_from(self.turn).await?);
        let (sender, requests) = mpsc::channel(1);
        // The channel has room for it.
        let _ = sender.send(LeaseKeepAliveRequest { id: self.id }).await;
        let requests = leader_required(ReceiverStream::new(requests));
        let answers = within(patience, client.lease_keep_alive(requests)).await?;
        Ok((sender, answers.into_inner()))
    }

    /// How long one attempt may take: two more must fit in before the lease is lost.
    fn patience(&self, session: &Session) -> Duration {
        let limit = session.global.command_timeout;
        self.renewed.map_or(limit, |_| limit.min(self.third()))
    }

    fn third(&self) -> Duration {
        self.renewed.map_or(Duration::ZERO, |(_, ttl)| ttl / 3)
    }

    /// Before the first renewal every endpoint is asked once; later there is time until the lease ends.
    fn may_try_again(&self, session: &Session) -> bool {
        match self.renewed {
            None => self.turn < session.endpoints().len(),
            Some((since, ttl)) => since.elapsed() < ttl,
        }
    }

    fn lost(&self, error: CallError) -> Failure {
        let Some((_, ttl)) = self.renewed else { return error.into() };
        let (id, ttl) = (self.id, ttl.as_secs());
        coded(
            1,
            format!(
                "lease {id:016x} was not renewed for its {ttl} s and has ended, unless somebody else renews it: {}",
                error.text
            ),
        )
    }
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
