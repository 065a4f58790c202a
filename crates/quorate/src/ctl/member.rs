//! `member list`.

use clap::{Args, Subcommand};
use quorate_proto::etcdserverpb::{Member, MemberListRequest, MemberListResponse};
use serde::Serialize;

use super::{
    json,
    kv::is_serializable,
    print::{Answer, Lines, Table},
    session::{self, Session},
};
use crate::Failure;

/// `member`
#[derive(Clone, Debug, Subcommand)]
pub(super) enum MemberVerb {
    /// List all members in the cluster
    List(ListArgs),
}

/// `member list`
#[derive(Clone, Debug, Args)]
pub(super) struct ListArgs {
    /// Linearizable(l) or Serializable(s)
    #[arg(long, default_value = "l")]
    consistency: String,
}

/// Runs one of them.
pub(super) async fn run(session: &Session, verb: MemberVerb) -> Result<(), Failure> {
    let MemberVerb::List(args) = verb;
    let linearizable = !is_serializable(&args.consistency)?;
    let mut client = session::cluster(session.connect().await?);
    let answer = session.call(client.member_list(MemberListRequest { linearizable })).await?;
    session.show(&List { answer, hex: session.global.hex })
}

fn row(member: &Member) -> Vec<String> {
    let status = if member.name.is_empty() { "unstarted" } else { "started" };
    vec![
        format!("{:x}", member.id),
        status.to_owned(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

struct List {
    answer: MemberListResponse,
    hex: bool,
}

impl Answer for List {
    fn simple(&self, out: &mut Lines) {
        self.answer.members.iter().for_each(|member| out.line(row(member).join(", ")));
    }

    fn fields(&self, out: &mut Lines) {
        out.header(self.answer.header.as_ref());
        for member in &self.answer.members {
            out.id("ID", member.id);
            out.quoted("Name", member.name.as_bytes());
            member.peer_ur_ls.iter().for_each(|url| out.quoted("PeerURL", url.as_bytes()));
            member.client_ur_ls.iter().for_each(|url| out.quoted("ClientURL", url.as_bytes()));
            out.field("IsLearner", member.is_learner);
            out.line("");
        }
    }

    fn json(&self) -> impl Serialize {
        let member = |member: &Member| MemberJson {
            id: json::Id::new(member.id, self.hex),
            name: member.name.clone(),
            peer_urls: member.peer_ur_ls.clone(),
            client_urls: member.client_ur_ls.clone(),
            is_learner: member.is_learner,
        };
        let header = json::header_in(self.answer.header.as_ref(), self.hex);
        ListJson { header, members: self.answer.members.iter().map(member).collect() }
    }

    fn table(&self) -> Option<Table> {
        let head = ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
        Some(Table::new(&head, self.answer.members.iter().map(row)))
    }
}

#[derive(Serialize)]
struct ListJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<json::Header>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<MemberJson>,
}

#[derive(Serialize)]
struct MemberJson {
    #[serde(rename = "ID", skip_serializing_if = "json::is_zero")]
    id: json::Id,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "peerURLs", skip_serializing_if = "Vec::is_empty")]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs", skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
    #[serde(rename = "isLearner", skip_serializing_if = "json::is_zero")]
    is_learner: bool,
}
