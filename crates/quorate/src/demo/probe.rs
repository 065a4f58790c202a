//! Whether a node serves: it answers a linearizable read.

use std::time::Duration;

use anyhow::Context;
use quorate_proto::{etcdserverpb::RangeRequest, grpc::kv_client::KvClient};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::Endpoint;

/// An answer that takes longer is none.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);

/// Asks nodes.
#[derive(Debug)]
pub(super) struct Probes {
    runtime: Runtime,
}

impl Probes {
    /// # Errors
    /// When there is no runtime to be had.
    pub(super) fn new() -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("a runtime")?;
        Ok(Self { runtime })
    }

    /// Whether the node at `endpoint` serves.
    pub(super) fn serves(&self, endpoint: &str) -> bool {
        self.runtime.block_on(ask(endpoint)).is_ok()
    }
}

async fn ask(endpoint: &str) -> anyhow::Result<()> {
    let endpoint = Endpoint::try_from(format!("http://{endpoint}"))?
        .connect_timeout(ANSWER_WAIT_MAX)
        .timeout(ANSWER_WAIT_MAX);
    let request = RangeRequest { key: "\0".into(), limit: 1, ..RangeRequest::default() };
    KvClient::new(endpoint.connect().await?).range(request).await?;
    Ok(())
}
