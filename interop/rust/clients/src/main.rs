//! A script of assertions with the crate `etcd-client` against a running cluster.
//!
//! usage: clients ENDPOINT[,ENDPOINT...]

mod leases;
mod pairs;
mod watches;

use std::{future::Future, pin::Pin, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, DeleteOptions, Error};

/// How long one step may take.
const STEP: Duration = Duration::from_secs(30);

/// Where all keys of this script begin.
const PREFIX: &str = "rust/";

type Step = fn(Client) -> Pin<Box<dyn Future<Output = Result<()>>>>;

/// Makes a step of an async function.
macro_rules! step {
    ($name:literal, $function:path) => {
        ($name, |client| Box::pin($function(client)))
    };
}

const STEPS: &[(&str, Step)] = &[
    step!("put and get", pairs::put_and_get),
    step!("ranges", pairs::ranges),
    step!("old revision", pairs::old_revision),
    step!("delete", pairs::delete),
    step!("transaction", pairs::transaction),
    step!("nested transaction", pairs::nested_transaction),
    step!("errors", pairs::errors),
    step!("watch", watches::watch),
    step!("watch from the past", watches::from_the_past),
    step!("watch progress", watches::progress),
    step!("several watchers on one stream", watches::several),
    step!("compaction", watches::compaction),
    step!("lease", leases::lease),
    step!("lease keep-alive", leases::keep_alive),
    step!("lease runs out", leases::runs_out),
    step!("status, members, hash", leases::maintenance),
];

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let endpoints = std::env::args().nth(1).context("usage: clients ENDPOINT[,ENDPOINT...]")?;
    let endpoints: Vec<&str> = endpoints.split(',').collect();
    let mut failed = 0;
    for (name, run) in STEPS {
        let client = Client::connect(&endpoints, None).await?;
        client.kv_client().delete(PREFIX, Some(DeleteOptions::new().with_prefix())).await?;
        let outcome = tokio::time::timeout(STEP, run(client)).await.context("took too long");
        if let Err(error) = outcome.and_then(|result| result) {
            failed += 1;
            println!("FAILED {name}: {error:#}");
        }
    }
    println!("rust: {} passed, {failed} failed", STEPS.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A key of this script.
fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Says what differs, if anything does.
fn expect<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Result<()> {
    ensure!(got == want, "{what}: got {got:?}, want {want:?}");
    Ok(())
}

/// Expects a refusal with this code and text.
fn expect_refusal<T: std::fmt::Debug>(
    result: Result<T, Error>,
    code: tonic::Code,
    message: &str,
) -> Result<()> {
    match result {
        Err(Error::GRpcStatus(status)) => {
            expect("refusal", (status.code(), status.message()), (code, message))
        }
        other => anyhow::bail!("expected {message:?}, got {other:?}"),
    }
}
