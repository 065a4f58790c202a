//! `move-leader`: hands leadership to another member, before the leader's machine is taken away, say.

use clap::Args;
use quorate_proto::etcdserverpb::{MoveLeaderRequest, StatusRequest};
use serde::Serialize;
use tonic::transport::Channel;

use super::{
    args::bad_arguments,
    print::{Answer, Lines},
    session::{self, CallError, Session},
};
use crate::Failure;

/// `move-leader`
#[derive(Clone, Debug, Args)]
pub(super) struct MoveLeaderArgs {
    /// ID of the member that is to lead, in hexadecimal
    arguments: Vec<String>,
}

/// Asks the leader among the endpoints.
///
/// # Errors
/// No endpoint is the leader's; or what the leader answers.
pub(super) async fn run(session: &Session, args: &MoveLeaderArgs) -> Result<(), Failure> {
    let [target] = args.arguments.as_slice() else {
        return Err(bad_arguments("move-leader command needs 1 argument"));
    };
    let to = u64::from_str_radix(target, 16).map_err(|_| {
        bad_arguments(format!("bad member ID arg ({target:?}), expecting ID in Hex"))
    })?;
    let (channel, from) = leader(session).await?;
    let mut client = session::maintenance(channel);
    session.call(client.move_leader(MoveLeaderRequest { target_id: to })).await?;
    session.show(&Moved { from, to })
}

/// A connection to the leader, and its id.
async fn leader(session: &Session) -> Result<(Channel, u64), Failure> {
    let mut problems = Vec::new();
    for endpoint in session.endpoints() {
        match who_leads(session, &endpoint).await {
            Ok((channel, member, leader)) if member == leader => return Ok((channel, leader)),
            Ok(_) => {}
            Err(error) => problems.push(format!("; no answer: {}", error.text)),
        }
    }
    let endpoints = session.endpoints().join(" ");
    let problems = problems.concat();
    Err(bad_arguments(format!("no leader endpoint given at [{endpoints}]{problems}")))
}

/// The member at an endpoint, and whom it knows as the leader.
async fn who_leads(session: &Session, endpoint: &str) -> Result<(Channel, u64, u64), CallError> {
    let channel = session.connect_to(endpoint).await?;
    let mut client = session::maintenance(channel.clone());
    let status = session.call(client.status(StatusRequest {})).await?;
    Ok((channel, status.header.unwrap_or_default().member_id, status.leader))
}

/// Who led, and who leads.
struct Moved {
    from: u64,
    to: u64,
}

impl Answer for Moved {
    fn simple(&self, out: &mut Lines) {
        out.line(format_args!("Leadership transferred from {:x} to {:x}", self.from, self.to));
    }

    fn fields(&self, out: &mut Lines) {
        out.id("From", self.from);
        out.id("To", self.to);
    }

    /// As in etcd the answer itself is empty.
    fn json(&self) -> impl Serialize {
        Empty {}
    }
}

#[derive(Serialize)]
struct Empty {}
