//! One request, and what came back.

use std::fmt;

use quorate_proto::{
    etcdserverpb as pb,
    grpc::{kv_client::KvClient, lease_client::LeaseClient, maintenance_client::MaintenanceClient},
};
use tonic::{Status, Streaming, transport::Channel};

/// A request that one client sends and waits for.
#[derive(Clone, Debug)]
pub enum Call {
    Range(pb::RangeRequest),
    RangeStream(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    LeaseTimeToLive(pb::LeaseTimeToLiveRequest),
    LeaseKeepAlive(pb::LeaseKeepAliveRequest),
    LeaseLeases,
    Alarms,
    HashKv(i64),
}

impl Call {
    /// Whether only the member that did the last write is sure to answer as etcd does.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Range(range) | Self::RangeStream(range) => range.serializable,
            Self::Txn(txn) => {
                let ops = txn.success.iter().chain(&txn.failure);
                let serializable = |op: &pb::RequestOp| match &op.request {
                    Some(pb::request_op::Request::RequestRange(range)) => range.serializable,
                    _ => false,
                };
                ops.clone().all(serializable) || ops.count() == 0
            }
            Self::HashKv(_) | Self::LeaseLeases | Self::Alarms => true,
            Self::LeaseTimeToLive(_) | Self::LeaseKeepAlive(_) => true,
            _ => false,
        }
    }

    /// Whether it may change something.
    pub fn is_write(&self) -> bool {
        !matches!(
            self,
            Self::Range(_)
                | Self::RangeStream(_)
                | Self::LeaseTimeToLive(_)
                | Self::LeaseLeases
                | Self::LeaseKeepAlive(_)
                | Self::Alarms
                | Self::HashKv(_)
        )
    }
}

/// What came back, ids and terms put aside.
#[derive(Clone, PartialEq)]
pub enum Answer {
    Range(pb::RangeResponse),
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    LeaseTimeToLive(pb::LeaseTimeToLiveResponse),
    LeaseKeepAlive(pb::LeaseKeepAliveResponse),
    LeaseLeases(pb::LeaseLeasesResponse),
    Alarms(pb::AlarmResponse),
    HashKv(pb::HashKvResponse),
    Failed { code: tonic::Code, message: String },
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(it) => it.fmt(f),
            Self::Put(it) => it.fmt(f),
            Self::DeleteRange(it) => it.fmt(f),
            Self::Txn(it) => it.fmt(f),
            Self::Compact(it) => it.fmt(f),
            Self::LeaseGrant(it) => it.fmt(f),
            Self::LeaseRevoke(it) => it.fmt(f),
            Self::LeaseTimeToLive(it) => it.fmt(f),
            Self::LeaseKeepAlive(it) => it.fmt(f),
            Self::LeaseLeases(it) => it.fmt(f),
            Self::Alarms(it) => it.fmt(f),
            Self::HashKv(it) => it.fmt(f),
            Self::Failed { code, message } => write!(f, "{code:?} {message:?}"),
        }
    }
}

impl Answer {
    /// The revision in the header; 0 if there is none.
    pub fn revision(&self) -> i64 {
        let header = match self {
            Self::Range(it) => it.header.as_ref(),
            Self::Put(it) => it.header.as_ref(),
            Self::DeleteRange(it) => it.header.as_ref(),
            Self::Txn(it) => it.header.as_ref(),
            _ => None,
        };
        header.map_or(0, |header| header.revision)
    }
}

/// Ids and terms differ by nature; whether they are there must not.
fn blank(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = header.cluster_id.min(1);
        header.member_id = header.member_id.min(1);
        header.raft_term = header.raft_term.min(1);
    }
}

/// The same for all answers inside a transaction's.
fn blank_txn(txn: &mut pb::TxnResponse) {
    use pb::response_op::Response;
    blank(&mut txn.header);
    for op in &mut txn.responses {
        match &mut op.response {
            Some(Response::ResponseRange(it)) => blank(&mut it.header),
            Some(Response::ResponsePut(it)) => blank(&mut it.header),
            Some(Response::ResponseDeleteRange(it)) => blank(&mut it.header),
            Some(Response::ResponseTxn(it)) => blank_txn(it),
            None => {}
        }
    }
}

/// Sends a request to one member and waits for its answer.
pub async fn send(channel: &Channel, call: Call) -> Answer {
    match try_send(channel.clone(), call).await {
        Ok(answer) => answer,
        Err(status) => Answer::Failed { code: status.code(), message: status.message().to_owned() },
    }
}

/// Takes the message out of a response and blanks its header.
macro_rules! answer {
    ($kind:ident, $response:expr) => {{
        let mut message = $response.await?.into_inner();
        blank(&mut message.header);
        Answer::$kind(message)
    }};
}

async fn try_send(channel: Channel, call: Call) -> Result<Answer, Status> {
    let limit = usize::MAX;
    let mut kv = KvClient::new(channel.clone()).max_decoding_message_size(limit);
    let mut lease = LeaseClient::new(channel.clone());
    let mut maintenance = MaintenanceClient::new(channel);
    Ok(match call {
        Call::Range(it) => answer!(Range, kv.range(it)),
        Call::RangeStream(it) => {
            Answer::Range(joined(kv.range_stream(it).await?.into_inner()).await?)
        }
        Call::Put(it) => answer!(Put, kv.put(it)),
        Call::DeleteRange(it) => answer!(DeleteRange, kv.delete_range(it)),
        Call::Txn(it) => {
            let mut message = kv.txn(it).await?.into_inner();
            blank_txn(&mut message);
            Answer::Txn(message)
        }
        Call::Compact(it) => answer!(Compact, kv.compact(it)),
        Call::LeaseGrant(it) => answer!(LeaseGrant, lease.lease_grant(it)),
        Call::LeaseRevoke(it) => answer!(LeaseRevoke, lease.lease_revoke(it)),
        Call::LeaseTimeToLive(it) => answer!(LeaseTimeToLive, lease.lease_time_to_live(it)),
        Call::LeaseKeepAlive(it) => Answer::LeaseKeepAlive(kept_alive(lease, it).await?),
        Call::LeaseLeases => answer!(LeaseLeases, lease.lease_leases(pb::LeaseLeasesRequest {})),
        Call::Alarms => answer!(Alarms, maintenance.alarm(pb::AlarmRequest::default())),
        Call::HashKv(revision) => {
            answer!(HashKv, maintenance.hash_kv(pb::HashKvRequest { revision }))
        }
    })
}

/// All chunks of a streamed range as one answer: the pairs one behind the other, the rest from the last.
async fn joined(
    mut stream: Streaming<pb::RangeStreamResponse>,
) -> Result<pb::RangeResponse, Status> {
    let mut kvs = Vec::new();
    let mut last = pb::RangeResponse::default();
    while let Some(chunk) = stream.message().await? {
        if last.header.is_some() || last.more || last.count != 0 {
            return Err(Status::internal(
                "differential: a chunk that is not the last has header, more or count",
            ));
        }
        last = chunk.range_response.unwrap_or_default();
        kvs.append(&mut last.kvs);
    }
    last.kvs = kvs;
    blank(&mut last.header);
    Ok(last)
}

/// One keep-alive on a stream of its own.
async fn kept_alive(
    mut lease: LeaseClient<Channel>,
    request: pb::LeaseKeepAliveRequest,
) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let (requests, stream) = tokio::sync::mpsc::channel(1);
    requests.send(request).await.map_err(|_| Status::internal("differential: queue closed"))?;
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let mut answers = lease.lease_keep_alive(stream).await?.into_inner();
    let answer = answers.message().await?;
    let mut answer = answer
        .ok_or_else(|| Status::internal("differential: keep-alive ended without an answer"))?;
    blank(&mut answer.header);
    Ok(answer)
}
