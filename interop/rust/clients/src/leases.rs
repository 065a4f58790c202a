//! Leases and what an operator asks.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_client::{Client, EventType, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions};
use tonic::Code;

use crate::{expect, expect_refusal, key};

pub async fn lease(mut client: Client) -> Result<()> {
    let granted = client.lease_grant(60, None).await?;
    expect("time to live", (granted.ttl(), granted.id() > 0), (60, true))?;
    let leased = || Some(PutOptions::new().with_lease(granted.id()));
    client.put(key("l/1"), "1", leased()).await?;
    client.put(key("l/2"), "2", leased()).await?;
    let with_keys = LeaseTimeToLiveOptions::new().with_keys();
    let state = client.lease_time_to_live(granted.id(), Some(with_keys)).await?;
    let mut keys = state.keys().to_vec();
    keys.sort_unstable();
    expect("keys", keys, vec![key("l/1").into_bytes(), key("l/2").into_bytes()])?;
    expect("granted", state.granted_ttl(), 60)?;
    expect("left", (50..=60).contains(&state.ttl()), true)?;
    let listed = client.leases().await?.leases().iter().any(|lease| lease.id() == granted.id());
    expect("listed", listed, true)?;
    let again = client.lease_grant(60, Some(LeaseGrantOptions::new().with_id(granted.id()))).await;
    expect_refusal(again, Code::FailedPrecondition, "etcdserver: lease already exists")?;
    client.lease_revoke(granted.id()).await?;
    expect("gone with its keys", client.get(key("l/1"), None).await?.count(), 0)?;
    let unknown = "etcdserver: requested lease not found";
    expect_refusal(client.lease_revoke(granted.id()).await, Code::NotFound, unknown)?;
    expect("unknown", client.lease_time_to_live(granted.id(), None).await?.ttl(), -1)
}

pub async fn keep_alive(mut client: Client) -> Result<()> {
    let id = client.lease_grant(2, None).await?.id();
    client.put(key("k"), "1", Some(PutOptions::new().with_lease(id))).await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(id).await?;
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        keeper.keep_alive().await?;
        let answer = answers.message().await?.context("keep-alive ended")?;
        expect("renewed", (answer.id(), answer.ttl()), (id, 2))?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    expect("still there", client.get(key("k"), None).await?.count(), 1)?;
    client.lease_revoke(id).await?;
    keeper.keep_alive().await?;
    expect("revoked", answers.message().await?.context("keep-alive ended")?.ttl(), 0)
}

pub async fn runs_out(mut client: Client) -> Result<()> {
    let granted = Instant::now();
    let id = client.lease_grant(2, None).await?.id();
    client.put(key("o"), "1", Some(PutOptions::new().with_lease(id))).await?;
    let mut stream = client.watch(key("o"), None).await?;
    expect("created", stream.message().await?.context("created")?.created(), true)?;
    let end = stream.message().await?.context("an event")?;
    expect("deleted", end.events()[0].event_type(), EventType::Delete)?;
    expect("not early", granted.elapsed() >= Duration::from_secs(2), true)
}

pub async fn maintenance(mut client: Client) -> Result<()> {
    let status = client.status().await?;
    expect("version", status.version().starts_with("3.7."), true)?;
    let members = client.member_list().await?;
    let leads = members.members().iter().any(|member| member.id() == status.leader());
    expect("the leader is a member", leads, true)?;
    client.put(key("h"), "1", None).await?;
    // Whichever member answers may not have applied the put yet, so its own newest revision is asked for.
    let hash = client.hash_kv(0).await?;
    expect("hash", (hash.hash() != 0, hash.hash_revision() > 1), (true, true))
}
