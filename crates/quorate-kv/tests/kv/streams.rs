//! Ranges in pieces.

use quorate_kv::{RangeStream, RequestError};
use quorate_proto::etcdserverpb as pb;

use crate::world::{World, list, refused};

fn filled(count: usize) -> World {
    let mut world = World::new();
    for number in 0..count {
        world.put(&format!("k{number:04}"), "0123456789");
    }
    world
}

fn chunks(mut stream: RangeStream) -> Vec<pb::RangeResponse> {
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.next_chunk().unwrap() {
        chunks.push(chunk);
    }
    chunks
}

fn sizes(chunks: &[pb::RangeResponse]) -> Vec<usize> {
    chunks.iter().map(|chunk| chunk.kvs.len()).collect()
}

#[test]
fn chunks_grow_from_ten_keys_towards_the_budget() {
    let world = filled(100);
    let stream = world.reader().range_stream(&list("k", "l"), 1 << 20).unwrap();
    let found = chunks(stream);
    assert_eq!(sizes(&found), [10, 20, 40, 30]);
    let stream = world.reader().range_stream(&list("k", "l"), 500).unwrap();
    assert_eq!(sizes(&chunks(stream)), [10, 20, 20, 20, 20, 10]);
    let stream = world.reader().range_stream(&list("k", "l"), 100).unwrap();
    assert_eq!(sizes(&chunks(stream))[..3], [4, 4, 4]);
}

#[test]
fn only_the_last_chunk_has_header_more_and_count() {
    let world = filled(25);
    let request = pb::RangeRequest { limit: 15, ..list("k", "l") };
    let found = chunks(world.reader().range_stream(&request, 1 << 20).unwrap());
    assert_eq!(sizes(&found), [10, 5]);
    assert_eq!((found[0].header, found[0].more, found[0].count), (None, false, 0));
    assert_eq!((found[1].header.unwrap().revision, found[1].more, found[1].count), (26, true, 25));
}

#[test]
fn the_pieces_are_the_range() {
    let mut world = filled(60);
    world.delete("k0010", "k0020");
    for request in [
        list("k", "l"),
        list("k0005", "\0"),
        list("k0001", ""),
        list("x", "z"),
        pb::RangeRequest { revision: 40, ..list("k", "l") },
        pb::RangeRequest { keys_only: true, limit: 33, ..list("k", "l") },
        pb::RangeRequest { count_only: true, limit: 3, ..list("k", "l") },
    ] {
        let whole = world.range(&request).unwrap();
        for budget in [1, 300, 1 << 20] {
            let mut found = chunks(world.reader().range_stream(&request, budget).unwrap());
            let mut joined = found.pop().unwrap();
            let before: Vec<_> = found.into_iter().flat_map(|chunk| chunk.kvs).collect();
            joined.kvs.splice(0..0, before);
            assert_eq!(joined, whole, "{request:?} {budget}");
        }
    }
}

#[test]
fn a_stream_stays_at_its_revision() {
    let mut world = filled(30);
    let mut stream = world.reader().range_stream(&list("k", "l"), 1 << 20).unwrap();
    stream.next_chunk().unwrap();
    world.delete("k", "l");
    world.compact(32).unwrap();
    world.purge_all();
    let last = chunks(stream).pop().unwrap();
    assert_eq!((last.count, last.header.unwrap().revision), (30, 31));
}

/// etcd's own client suite streams by value without an order.
#[test]
fn a_target_without_an_order_is_sorted_as_a_whole() {
    let mut world = filled(0);
    for (key, value) in [("k1", "c"), ("k2", "a"), ("k3", "b")] {
        world.put(key, value);
    }
    let request = pb::RangeRequest { sort_target: 4, ..list("k", "l") };
    let stream = world.reader().range_stream(&request, 1).unwrap();
    let [whole] = <[_; 1]>::try_from(chunks(stream)).unwrap();
    let keys: Vec<_> = whole.kvs.iter().map(|kv| kv.key.clone()).collect();
    assert_eq!((keys, whole.count), (vec!["k2".into(), "k3".into(), "k1".into()], 3));
}

#[test]
fn sorting_and_filters_are_not_streamed() {
    let world = filled(1);
    let start = |request| refused(world.reader().range_stream(&request, 1).map(|_| ()));
    for request in [
        pb::RangeRequest { sort_order: 2, ..list("k", "l") },
        pb::RangeRequest { sort_order: 1, sort_target: 4, ..list("k", "l") },
        pb::RangeRequest { min_mod_revision: 1, ..list("k", "l") },
    ] {
        assert_eq!(start(request), Err(RequestError::StreamUnsupported));
    }
    let future = pb::RangeRequest { revision: 9, ..list("k", "l") };
    assert_eq!(start(future), Err(RequestError::FutureRevision));
}
