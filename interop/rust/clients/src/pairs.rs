//! Keys, values, transactions.

use anyhow::{Context, Result};
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget, Txn,
    TxnOp, TxnOpResponse,
};
use tonic::Code;

use crate::{expect, expect_refusal, key};

pub async fn put_and_get(mut client: Client) -> Result<()> {
    let first = client.put(key("one"), "1", None).await?;
    let revision = first.header().context("a header")?.revision();
    let second = client.put(key("one"), "2", Some(PutOptions::new().with_prev_key())).await?;
    expect("previous value", second.prev_key().context("a previous pair")?.value(), b"1")?;
    let got = client.get(key("one"), None).await?;
    let kv = got.kvs().first().context("a pair")?;
    expect("value", kv.value(), b"2")?;
    expect(
        "revisions",
        (kv.create_revision(), kv.mod_revision(), kv.version()),
        (revision, revision + 1, 2),
    )?;
    client.put(key("empty"), "", None).await?;
    let empty = client.get(key("empty"), None).await?;
    expect("an empty value is a value", (empty.count(), empty.kvs()[0].value().len()), (1, 0))?;
    let none = client.get(key("none"), Some(GetOptions::new().with_serializable())).await?;
    expect("an absent key", (none.count(), none.kvs().len()), (0, 0))
}

pub async fn ranges(mut client: Client) -> Result<()> {
    for number in 0..10 {
        client.put(key(&format!("r/{number}")), format!("{}", 9 - number), None).await?;
    }
    let prefix = || GetOptions::new().with_prefix();
    let limited = client.get(key("r/"), Some(prefix().with_limit(3))).await?;
    expect("limit", (limited.kvs().len(), limited.count(), limited.more()), (3, 10, true))?;
    let sorted = client
        .get(key("r/"), Some(prefix().with_sort(SortTarget::Value, SortOrder::Ascend)))
        .await?;
    expect("smallest value", sorted.kvs()[0].key(), key("r/9").as_bytes())?;
    let descending = client
        .get(key("r/"), Some(prefix().with_sort(SortTarget::Key, SortOrder::Descend)))
        .await?;
    expect("largest key", descending.kvs()[0].key(), key("r/9").as_bytes())?;
    let count = client.get(key("r/"), Some(prefix().with_count_only())).await?;
    expect("count", (count.kvs().len(), count.count()), (0, 10))?;
    let keys = client.get(key("r/"), Some(prefix().with_keys_only())).await?;
    expect("keys only", keys.kvs().iter().map(|kv| kv.value().len()).sum::<usize>(), 0)?;
    let range = client.get(key("r/3"), Some(GetOptions::new().with_range(key("r/6")))).await?;
    expect("interval", range.kvs().len(), 3)?;
    let newest = limited.kvs()[2].mod_revision();
    let filtered = client.get(key("r/"), Some(prefix().with_max_mod_revision(newest))).await?;
    expect("revision filter", (filtered.kvs().len(), filtered.count()), (3, 10))
}

pub async fn old_revision(mut client: Client) -> Result<()> {
    let old = client.put(key("old"), "1", None).await?.header().context("a header")?.revision();
    client.put(key("old"), "2", None).await?;
    let got = client.get(key("old"), Some(GetOptions::new().with_revision(old))).await?;
    expect("old value", got.kvs()[0].value(), b"1")?;
    expect("header", got.header().context("a header")?.revision(), old + 1)?;
    let future =
        client.get(key("old"), Some(GetOptions::new().with_revision(old + 1_000_000))).await;
    expect_refusal(
        future,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    )
}

pub async fn delete(mut client: Client) -> Result<()> {
    for name in ["d/1", "d/2", "d/3"] {
        client.put(key(name), name, None).await?;
    }
    let one = client.delete(key("d/1"), Some(DeleteOptions::new().with_prev_key())).await?;
    expect("deleted", (one.deleted(), one.prev_kvs()[0].value()), (1, &b"d/1"[..]))?;
    let before = one.header().context("a header")?.revision();
    let none = client.delete(key("d/1"), None).await?;
    expect(
        "nothing deleted",
        (none.deleted(), none.header().context("a header")?.revision()),
        (0, before),
    )?;
    let rest = client.delete(key("d/"), Some(DeleteOptions::new().with_prefix())).await?;
    expect("the rest", rest.deleted(), 2)
}

pub async fn transaction(mut client: Client) -> Result<()> {
    let absent = Compare::mod_revision(key("t"), CompareOp::Equal, 0);
    let create = || {
        Txn::new()
            .when([absent.clone()])
            .and_then([TxnOp::put(key("t"), "1", None)])
            .or_else([TxnOp::get(key("t"), None)])
    };
    let first = client.txn(create()).await?;
    expect("created", first.succeeded(), true)?;
    let revision = first.header().context("a header")?.revision();
    let second = client.txn(create()).await?;
    expect("not again", second.succeeded(), false)?;
    let responses = second.op_responses();
    let Some(TxnOpResponse::Get(got)) = responses.first() else {
        anyhow::bail!("no get: {responses:?}")
    };
    expect(
        "what is there",
        (got.kvs()[0].value(), got.kvs()[0].mod_revision()),
        (&b"1"[..], revision),
    )?;
    let compares = [
        Compare::value(key("t"), CompareOp::Equal, "1"),
        Compare::version(key("t"), CompareOp::Less, 2),
        Compare::create_revision(key("t"), CompareOp::Greater, revision - 1),
        Compare::lease(key("t"), CompareOp::NotEqual, 7),
    ];
    let ops = [
        TxnOp::delete(key("t"), None),
        TxnOp::put(key("u"), "2", None),
        TxnOp::get(key("u"), None),
    ];
    let third = client.txn(Txn::new().when(compares).and_then(ops)).await?;
    expect("all compares hold", (third.succeeded(), third.op_responses().len()), (true, 3))?;
    let Some(TxnOpResponse::Get(seen)) = third.op_responses().pop() else {
        anyhow::bail!("no get")
    };
    expect("a later operation sees an earlier", seen.kvs()[0].value(), b"2")
}

pub async fn nested_transaction(mut client: Client) -> Result<()> {
    let inner = Txn::new()
        .when([Compare::version(key("n"), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(key("n"), "inner", None)])
        .or_else([TxnOp::put(key("m"), "else", None)]);
    let outer = client
        .txn(Txn::new().and_then([TxnOp::txn(inner), TxnOp::put(key("o"), "outer", None)]))
        .await?;
    expect("outer", outer.succeeded(), true)?;
    let got = client.get(key(""), Some(GetOptions::new().with_prefix())).await?;
    let pairs: Vec<(&[u8], i64)> =
        got.kvs().iter().map(|kv| (kv.value(), kv.mod_revision())).collect();
    let revision = outer.header().context("a header")?.revision();
    expect("one revision", pairs, vec![(&b"inner"[..], revision), (b"outer", revision)])
}

pub async fn errors(mut client: Client) -> Result<()> {
    let empty = client.put("", "x", None).await;
    expect_refusal(empty, Code::InvalidArgument, "etcdserver: key is not provided")?;
    let leased = client.put(key("e"), "x", Some(PutOptions::new().with_lease(0x7777_7777))).await;
    expect_refusal(leased, Code::NotFound, "etcdserver: requested lease not found")?;
    let absent = client.put(key("e"), "", Some(PutOptions::new().with_ignore_value())).await;
    expect_refusal(absent, Code::InvalidArgument, "etcdserver: key not found")?;
    let twice =
        Txn::new().and_then([TxnOp::put(key("e"), "1", None), TxnOp::put(key("e"), "2", None)]);
    let duplicate = client.txn(twice).await;
    expect_refusal(
        duplicate,
        Code::InvalidArgument,
        "etcdserver: duplicate key given in txn request",
    )?;
    let many: Vec<TxnOp> =
        (0..129).map(|number| TxnOp::put(key(&format!("e/{number}")), "x", None)).collect();
    let long = client.txn(Txn::new().and_then(many)).await;
    expect_refusal(long, Code::InvalidArgument, "etcdserver: too many operations in txn request")?;
    let large = client.put(key("large"), vec![b'x'; 1_600_000], None).await;
    expect_refusal(large, Code::InvalidArgument, "etcdserver: request is too large")
}
