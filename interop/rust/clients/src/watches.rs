//! Watches and compaction.

use anyhow::{Context, Result};
use etcd_client::{
    Client, EventType, GetOptions, WatchFilterType, WatchOptions, WatchResponse, WatchStream,
};
use tonic::Code;

use crate::{expect, expect_refusal, key};

async fn next(stream: &mut WatchStream) -> Result<WatchResponse> {
    stream.message().await?.context("the watch stream ended")
}

/// The next events, as many as asked for, whatever the number of responses.
async fn events(
    stream: &mut WatchStream,
    count: usize,
) -> Result<Vec<(EventType, String, i64, Option<Vec<u8>>)>> {
    let mut events = Vec::new();
    while events.len() < count {
        for event in next(stream).await?.events() {
            let kv = event.kv().context("a pair")?;
            let previous = event.prev_kv().map(|kv| kv.value().to_vec());
            events.push((
                event.event_type(),
                kv.key_str()?.to_owned(),
                kv.mod_revision(),
                previous,
            ));
        }
    }
    Ok(events)
}

async fn put(client: &mut Client, name: &str, value: &str) -> Result<i64> {
    Ok(client.put(key(name), value, None).await?.header().context("a header")?.revision())
}

pub async fn watch(mut client: Client) -> Result<()> {
    let mut stream = client.watch(key("w"), Some(WatchOptions::new().with_prev_key())).await?;
    let created = next(&mut stream).await?;
    expect(
        "created",
        (created.created(), created.canceled(), created.events().len()),
        (true, false, 0),
    )?;
    let first = put(&mut client, "w", "1").await?;
    put(&mut client, "x", "other").await?;
    let second = put(&mut client, "w", "2").await?;
    let deleted = client.delete(key("w"), None).await?.header().context("a header")?.revision();
    let expected = vec![
        (EventType::Put, key("w"), first, None),
        (EventType::Put, key("w"), second, Some(b"1".to_vec())),
        (EventType::Delete, key("w"), deleted, Some(b"2".to_vec())),
    ];
    expect("events", events(&mut stream, 3).await?, expected)?;
    stream.cancel(created.watch_id()).await?;
    let canceled = next(&mut stream).await?;
    expect("canceled", (canceled.canceled(), canceled.watch_id()), (true, created.watch_id()))
}

pub async fn from_the_past(mut client: Client) -> Result<()> {
    let first = put(&mut client, "p/0", "0").await?;
    for number in 1..1500 {
        put(&mut client, &format!("p/{}", number % 7), &number.to_string()).await?;
    }
    let options = WatchOptions::new().with_prefix().with_start_revision(first);
    let mut stream = client.watch(key("p/"), Some(options)).await?;
    let seen: Vec<i64> =
        events(&mut stream, 1500).await?.into_iter().map(|(_, _, revision, _)| revision).collect();
    expect("every revision once and in order", seen, (first..first + 1500).collect())
}

pub async fn progress(mut client: Client) -> Result<()> {
    let mut stream = client.watch(key("quiet"), None).await?;
    expect("created", next(&mut stream).await?.created(), true)?;
    let revision = put(&mut client, "loud", "1").await?;
    client.get(key("loud"), Some(GetOptions::new())).await?;
    stream.request_progress().await?;
    let progress = next(&mut stream).await?;
    expect("an answer without events", (progress.events().len(), progress.watch_id()), (0, -1))?;
    let reached = progress.header().context("a header")?.revision();
    expect("progress is not in the future", reached <= revision, true)
}

pub async fn several(mut client: Client) -> Result<()> {
    let mut stream = client.watch(key("s/1"), Some(WatchOptions::new().with_watch_id(5))).await?;
    expect("own id", next(&mut stream).await?.watch_id(), 5)?;
    let no_put =
        WatchOptions::new().with_prefix().with_watch_id(6).with_filters([WatchFilterType::NoPut]);
    stream.watch(key("s/"), Some(no_put)).await?;
    expect("second id", next(&mut stream).await?.watch_id(), 6)?;
    stream.watch(key("s/2"), Some(WatchOptions::new().with_watch_id(5))).await?;
    let duplicate = next(&mut stream).await?;
    expect(
        "duplicate id",
        (duplicate.created(), duplicate.canceled(), duplicate.watch_id()),
        (true, true, -1),
    )?;
    expect(
        "why",
        duplicate.cancel_reason(),
        "mvcc: duplicate watch ID provided on the WatchStream",
    )?;
    put(&mut client, "s/1", "1").await?;
    expect("only the first sees the put", next(&mut stream).await?.watch_id(), 5)?;
    client.delete(key("s/1"), None).await?;
    let mut both = [next(&mut stream).await?.watch_id(), next(&mut stream).await?.watch_id()];
    both.sort_unstable();
    expect("both see the deletion", both, [5, 6])
}

pub async fn compaction(mut client: Client) -> Result<()> {
    let first = put(&mut client, "c", "1").await?;
    put(&mut client, "c", "2").await?;
    let third = put(&mut client, "c", "3").await?;
    client.compact(third, None).await?;
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let old = client.get(key("c"), Some(GetOptions::new().with_revision(first))).await;
    expect_refusal(old, Code::OutOfRange, compacted)?;
    expect_refusal(client.compact(third, None).await, Code::OutOfRange, compacted)?;
    let at = client.get(key("c"), Some(GetOptions::new().with_revision(third))).await?;
    expect("the compacted revision itself", at.kvs()[0].value(), b"3")?;
    let mut stream =
        client.watch(key("c"), Some(WatchOptions::new().with_start_revision(first))).await?;
    expect("created first", next(&mut stream).await?.created(), true)?;
    let canceled = next(&mut stream).await?;
    expect("then canceled", (canceled.canceled(), canceled.compact_revision()), (true, third))
}
