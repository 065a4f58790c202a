//! A server that breaks a promise, shaken until it is convicted.
//!
//! The faults are aimed, but what the machine does in between is its own: an election may take longer than a fault lasts, and then the
//! broken promise was never asked for. Such a run says nothing of the judges, and another one follows it.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    options::{Break, Options},
    shake,
};

/// For how long another run may begin.
const CONVICTION_MAX: Duration = Duration::from_secs(120);

/// Shakes one cluster after the other, each with the next seed, until one shows that `promise` is broken; the number of breaches of
/// that one, and 0 if there was none.
///
/// # Errors
/// What stands in the way of a run.
pub async fn convict(options: &Options, promise: Break) -> Result<usize> {
    let began = Instant::now();
    let mut options = options.clone();
    let mut runs = 0;
    while began.elapsed() < CONVICTION_MAX {
        runs += 1;
        let breaches = shake(&options).await?;
        if breaches.iter().any(|breach| promise.shows_in(breach)) {
            println!("{} convicted in run {runs}", promise.name());
            return Ok(breaches.len());
        }
        options.seed = options.seed.wrapping_add(1);
    }
    println!("{} not convicted in {runs} runs", promise.name());
    Ok(0)
}
