#!/usr/bin/env python3
"""A script of assertions with the Python client `etcd3` against a running cluster.

usage: clients.py HOST:PORT
"""
import queue
import sys
import time

import etcd3
from etcd3 import exceptions, transactions


def put_and_get(client):
    client.put("py/one", "1")
    value, meta = client.get("py/one")
    assert value == b"1" and meta.key == b"py/one" and meta.version >= 1
    assert client.get("py/never") == (None, None)
    client.put("py/one", "")
    assert client.get("py/one")[0] == b""
    assert client.put("py/one", "2", prev_kv=True).prev_kv.value == b""


def ranges(client):
    client.delete_prefix("py/r/")
    for number in range(10):
        client.put(f"py/r/{number}", str(9 - number))
    assert [meta.key for _, meta in client.get_prefix("py/r/")] == [b"py/r/%d" % n for n in range(10)]
    down = client.get_prefix("py/r/", sort_order="descend", sort_target="value")
    assert [value for value, _ in down] == [b"%d" % n for n in range(9, -1, -1)]
    assert len(list(client.get_range("py/r/2", "py/r/5"))) == 3
    assert all(value == b"" for value, _ in client.get_prefix("py/r/", keys_only=True))
    assert client.delete_prefix("py/r/").deleted == 10


def delete(client):
    client.put("py/d", "x")
    assert client.delete("py/d") is True
    assert client.delete("py/d") is False


def transaction(client):
    client.delete("py/t")
    attempt = dict(
        compare=[client.transactions.version("py/t") == 0],
        success=[client.transactions.put("py/t", "1")],
        failure=[client.transactions.get("py/t")],
    )
    assert client.transaction(**attempt)[0] is True
    succeeded, replies = client.transaction(**attempt)
    assert succeeded is False and replies[0][0][0] == b"1"
    nested = client.transactions.txn(
        compare=[client.transactions.value("py/t") == "1"],
        success=[client.transactions.put("py/t", "nested")],
        failure=[],
    )
    assert client.transaction(compare=[], success=[nested], failure=[])[0] is True
    assert client.get("py/t")[0] == b"nested"
    assert client.replace("py/t", "nested", "replaced") is True
    assert client.put_if_not_exists("py/t", "again") is False


def binary_keys(client):
    key = bytes([0xFD, 0, 1, 0xFF])
    client.put(key, bytes(range(256)))
    assert client.get(key)[0] == bytes(range(256))


def watch(client):
    events, cancel = client.watch("py/w")
    client.put("py/w", "1")
    client.put("py/w", "2")
    client.delete("py/w")
    kinds = [type(next(events)).__name__ for _ in range(3)]
    assert kinds == ["PutEvent", "PutEvent", "DeleteEvent"], kinds
    cancel()
    seen = queue.Queue()
    watch_id = client.add_watch_prefix_callback("py/wp/", seen.put)
    client.put("py/wp/a", "1")
    client.put("py/wp/b", "2")
    got = []
    while len(got) < 2:
        got += seen.get(timeout=10).events
    assert [event.key for event in got] == [b"py/wp/a", b"py/wp/b"]
    client.cancel_watch(watch_id)


def watch_from_the_past(client):
    first = client.put("py/past", "0").header.revision
    for number in range(1, 20):
        client.put("py/past", str(number))
    events, cancel = client.watch("py/past", start_revision=first)
    assert [next(events).value for _ in range(20)] == [b"%d" % n for n in range(20)]
    cancel()


def lease(client):
    granted = client.lease(30)
    client.put("py/l", "x", lease=granted)
    assert granted.granted_ttl == 30 and 25 <= granted.remaining_ttl <= 30
    assert granted.keys == [b"py/l"]
    assert list(granted.refresh())[0].TTL == 30
    granted.revoke()
    assert client.get("py/l") == (None, None)
    short = client.lease(2)
    client.put("py/l", "x", lease=short)
    start = time.monotonic()
    while client.get("py/l")[0] is not None:
        assert time.monotonic() - start < 6
    assert time.monotonic() - start > 1.8


def lock(client):
    with client.lock("py/lock", ttl=10):
        assert client.lock("py/lock", ttl=10).acquire(timeout=0.3) is False
    assert client.lock("py/lock", ttl=10).acquire(timeout=5) is True


def compaction(client):
    first = client.put("py/c", "1").header.revision
    second = client.put("py/c", "2").header.revision
    client.compact(second)
    events, cancel = client.watch("py/c", start_revision=first)
    try:
        next(events)
        raise AssertionError("a compacted watch has no events")
    except exceptions.RevisionCompactedError as error:
        assert error.compacted_revision == second
    cancel()


def status(client):
    members = list(client.members)
    assert client.status().version.startswith("3.")
    assert members and all(member.client_urls for member in members)
    assert client.hash() >= 0


STEPS = [put_and_get, ranges, delete, transaction, binary_keys, watch, watch_from_the_past, lease, lock, compaction, status]


def main():
    host, port = sys.argv[1].split(",")[0].rsplit(":", 1)
    client = etcd3.client(host=host, port=int(port), timeout=10)
    failed = 0
    for step in STEPS:
        try:
            step(client)
        except Exception as error:  # each step is reported by name
            failed += 1
            print(f"FAILED {step.__name__}: {type(error).__name__}: {error}")
    print(f"python: {len(STEPS) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
