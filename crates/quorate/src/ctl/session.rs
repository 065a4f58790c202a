//! Connections to endpoints, and what becomes of errors on the way.

use std::{future::Future, time::Duration};

use quorate_proto::grpc::{
    cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient,
};
use tonic::{
    Code, Request, Response, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use super::{
    args::{Global, coded},
    connector::Connector,
    print::{self, Answer, Format},
};
use crate::Failure;

/// Answers of any size are taken, as etcdctl does.
const ANSWER_BYTES_MAX: usize = i32::MAX as usize;

/// What etcdctl says when there is no answer in time.
const LATE: &str = "context deadline exceeded";

/// How long to wait before a broken stream is taken up again, at the next endpoint.
pub(super) const RESUME_PAUSE: Duration = Duration::from_millis(200);

/// One run of `ctl`.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) global: Global,
    pub(super) format: Format,
}

/// A call failed: what to say of it.
#[derive(Clone, Debug)]
pub(super) struct CallError {
    /// The server's text, or ours when no server answered.
    pub(super) text: String,
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let late = matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled);
        let text = if late && !status.message().starts_with("etcdserver") {
            LATE.to_owned()
        } else {
            status.message().to_owned()
        };
        Self { text }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        coded(1, error.text)
    }
}

impl Session {
    /// # Errors
    /// For an output format that is not known.
    pub(super) fn new(global: Global) -> Result<Self, Failure> {
        let format = global.format()?;
        Ok(Self { global, format })
    }

    /// The endpoints that were given.
    pub(super) fn endpoints(&self) -> Vec<String> {
        self.global.endpoints.split(',').map(|endpoint| endpoint.trim().to_owned()).collect()
    }

    /// Writes an answer in the format asked for.
    ///
    /// # Errors
    /// See [`print::show`].
    pub(super) fn show(&self, answer: &impl Answer) -> Result<(), Failure> {
        print::show(self.format, self.global.hex, answer)
    }

    /// A connection to the first endpoint whose server answers.
    ///
    /// # Errors
    /// When none does: each with its reason.
    pub(super) async fn connect(&self) -> Result<Channel, CallError> {
        self.connect_from(0).await
    }

    /// The same, but the endpoint at `turn`, counted round and round, is asked first: whoever has lost one endpoint begins
    /// with the next.
    ///
    /// # Errors
    /// See [`Session::connect`].
    pub(super) async fn connect_from(&self, turn: usize) -> Result<Channel, CallError> {
        let mut endpoints = self.endpoints();
        let first = turn.checked_rem(endpoints.len()).unwrap_or_default();
        endpoints.rotate_left(first);
        let mut problems = Vec::new();
        for endpoint in endpoints {
            match self.connect_to(&endpoint).await {
                Ok(channel) => return Ok(channel),
                Err(error) => problems.push(error.text),
            }
        }
        Err(CallError { text: problems.join("; ") })
    }

    /// A connection to this endpoint.
    ///
    /// # Errors
    /// When there is none in time, or no server that speaks.
    pub(super) async fn connect_to(&self, endpoint: &str) -> Result<Channel, CallError> {
        let problem = |text: String| CallError { text: format!("{endpoint}: {text}") };
        let url = match endpoint.split_once("://") {
            None => format!("http://{endpoint}"),
            Some(("http", _)) => endpoint.to_owned(),
            Some((scheme, _)) => {
                return Err(problem(format!("{scheme} is not available in this version")));
            }
        };
        let target = Endpoint::try_from(url)
            .map_err(|error| problem(error.to_string()))?
            .connect_timeout(self.global.dial_timeout)
            .http2_keep_alive_interval(self.global.keepalive_time)
            .keep_alive_timeout(self.global.keepalive_timeout);
        let (connector, spoke) = Connector::new();
        let channel = target
            .connect_with_connector(connector)
            .await
            .map_err(|error| problem(with_causes(&error)))?;
        match tokio::time::timeout(self.global.dial_timeout, spoke).await {
            Ok(Ok(())) => Ok(channel),
            Ok(Err(_)) => Err(problem("the connection was closed before the server spoke".into())),
            Err(_) => Err(problem(format!(
                "it takes connections, but no server has spoken within {:?} (--dial-timeout)",
                self.global.dial_timeout
            ))),
        }
    }

    /// Makes one call; it may take as long as `--command-timeout` says.
    ///
    /// # Errors
    /// The server's, or a timeout.
    pub(super) async fn call<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CallError> {
        within(self.global.command_timeout, call).await.map(Response::into_inner)
    }
}

/// Waits for a call, no longer than `patience`.
///
/// # Errors
/// The server's, or a timeout.
pub(super) async fn within<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, CallError> {
    let outcome = tokio::time::timeout(patience, call).await;
    Ok(outcome.map_err(|_| CallError { text: LATE.to_owned() })??)
}

/// A call that ends with "no leader" where its member has lost the cluster, so that it goes on at another (etcd's
/// `WithRequireLeader`; etcdctl asks so for watches and for keeping leases alive).
pub(super) fn leader_required<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    request
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Keys.
pub(super) fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel)
        .max_decoding_message_size(ANSWER_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX)
}

/// Watches.
pub(super) fn watch(channel: Channel) -> WatchClient<Channel> {
    WatchClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Leases.
pub(super) fn lease(channel: Channel) -> LeaseClient<Channel> {
    LeaseClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Members.
pub(super) fn cluster(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel)
}

/// One server's state.
pub(super) fn maintenance(channel: Channel) -> MaintenanceClient<Channel> {
    MaintenanceClient::new(channel)
}
