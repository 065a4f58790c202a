//! One server process: its threads and what they share.

mod config;

pub(crate) use config::{AutoCompaction, QUOTA_BYTES_DEFAULT, ServerConfig};

/// Runs a server until it is told to stop by SIGTERM or SIGINT.
///
/// # Errors
/// What kept it from starting, or what stopped it: the message names file, offset or value.
pub(crate) fn run(config: ServerConfig) -> anyhow::Result<()> {
    anyhow::ensure!(
        config.initial_cluster.contains_key(&config.name),
        "member {:?} is not in the initial cluster",
        config.name
    );
    anyhow::bail!("{:?} can't be served yet", config.data_dir)
}
