//! Ranges: bounds, revisions, limits, sorting, counting.

use quorate_kv::RequestError;
use quorate_proto::etcdserverpb::{
    self as pb,
    range_request::{SortOrder, SortTarget},
};

use crate::world::{World, get, keys, list, put};

/// a=3, b=2, c=1 with lease 7: three keys whose values fall.
fn falling() -> World {
    let mut world = World::new();
    world.grant(7, 10).unwrap();
    world.put("a", "3");
    world.put("b", "2");
    world.try_put(pb::PutRequest { lease: 7, ..put("c", "1") }).unwrap();
    world
}

fn sorted(target: SortTarget, order: SortOrder, limit: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        sort_target: target.into(),
        sort_order: order.into(),
        limit,
        ..list("a", "d")
    }
}

/// etcd point 7.
#[test]
fn a_revision_of_zero_or_less_is_the_current_one_and_old_ones_stay_readable() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("a", "2");
    let at = |world: &World, revision| {
        let reply = world.range(&pb::RangeRequest { revision, ..get("a") })?;
        Ok(String::from_utf8(reply.kvs[0].value.to_vec()).unwrap())
    };
    for (revision, value) in [(0, "2"), (-5, "2"), (3, "2"), (2, "1")] {
        assert_eq!(at(&world, revision), Ok(value.to_owned()));
    }
    assert_eq!(at(&world, 4), Err(RequestError::FutureRevision));
    world.compact(3).unwrap();
    assert_eq!(at(&world, 2), Err(RequestError::Compacted));
    assert_eq!(at(&world, 3), Ok("2".to_owned()));
}

/// etcd point 9.
#[test]
fn the_header_holds_the_current_revision_not_the_requested_one() {
    let world = falling();
    let reply = world.range(&pb::RangeRequest { revision: 2, ..list("a", "d") }).unwrap();
    assert_eq!(reply.header, Some(pb::ResponseHeader { revision: 4, ..Default::default() }));
    assert_eq!(keys(&reply), ["a"]);
    assert_eq!(world.range(&get("none")).unwrap().header.unwrap().revision, 4);
}

/// etcd point 10.
#[test]
fn the_count_ignores_limit_and_filters() {
    let world = falling();
    let filtered = pb::RangeRequest { limit: 1, min_mod_revision: 4, ..list("a", "d") };
    let reply = world.range(&filtered).unwrap();
    assert_eq!((keys(&reply), reply.count, reply.more), (vec!["c".to_owned()], 3, false));
    let reply = world.range(&pb::RangeRequest { limit: 2, ..list("a", "d") }).unwrap();
    assert_eq!((reply.kvs.len(), reply.count, reply.more), (2, 3, true));
}

/// etcd point 11.
#[test]
fn more_says_whether_the_limit_cut_something() {
    let world = falling();
    for (limit, more) in [(0, false), (1, true), (2, true), (3, false), (4, false), (-1, false)] {
        for order in [SortOrder::None, SortOrder::Descend] {
            let reply = world.range(&sorted(SortTarget::Key, order, limit)).unwrap();
            assert_eq!(reply.more, more, "{limit} {order:?}");
        }
    }
    let reply = world.range(&sorted(SortTarget::Key, SortOrder::Descend, 1)).unwrap();
    assert_eq!(keys(&reply), ["c"]);
}

/// etcd point 12; the answers of etcd 3.7.2.
#[test]
fn without_an_order_the_limit_cuts_before_sorting() {
    let world = falling();
    let first = |order| {
        let reply = world.range(&sorted(SortTarget::Value, order, 1)).unwrap();
        (keys(&reply).remove(0), reply.more)
    };
    assert_eq!(first(SortOrder::None), ("b".to_owned(), true));
    assert_eq!(first(SortOrder::Ascend), ("c".to_owned(), true));
    assert_eq!(first(SortOrder::Descend), ("a".to_owned(), true));
}

#[test]
fn every_sort_target_sorts() {
    let mut world = World::new();
    for (key, value) in [("a", "2"), ("b", "1"), ("b", "3"), ("a", "1"), ("c", "2"), ("a", "2")] {
        world.put(key, value);
    }
    let order = |target, order| keys(&world.range(&sorted(target, order, 0)).unwrap()).concat();
    assert_eq!(order(SortTarget::Version, SortOrder::None), "cba");
    assert_eq!(order(SortTarget::Version, SortOrder::Descend), "abc");
    assert_eq!(order(SortTarget::Create, SortOrder::Descend), "cba");
    assert_eq!(order(SortTarget::Mod, SortOrder::Ascend), "bca");
    assert_eq!(order(SortTarget::Value, SortOrder::Ascend), "acb");
    assert_eq!(order(SortTarget::Key, SortOrder::Descend), "cba");
}

/// etcd point 13; the answers of etcd 3.7.2.
#[test]
fn keys_only_drops_the_lease_unless_values_decide_the_order() {
    let world = falling();
    for (target, lease) in [(SortTarget::Key, 0), (SortTarget::Mod, 0), (SortTarget::Value, 7)] {
        let request = pb::RangeRequest {
            keys_only: true,
            sort_order: SortOrder::Descend.into(),
            sort_target: target.into(),
            ..list("a", "d")
        };
        let reply = world.range(&request).unwrap();
        let kv = reply.kvs.iter().find(|kv| kv.key == "c").unwrap();
        assert_eq!((kv.lease, kv.value.len(), kv.version, kv.mod_revision), (lease, 0, 1, 4));
    }
}

/// etcd point 14.
#[test]
fn count_only_ignores_the_limit_and_returns_no_pairs() {
    let world = falling();
    let request = pb::RangeRequest { count_only: true, limit: 1, ..list("a", "d") };
    let reply = world.range(&request).unwrap();
    assert_eq!((reply.kvs.len(), reply.more, reply.count), (0, false, 3));
    let old = pb::RangeRequest { revision: 3, ..request };
    assert_eq!(world.range(&old).unwrap().count, 2);
}

/// etcd point 15.
#[test]
fn one_zero_byte_means_no_end() {
    let mut world = falling();
    world.put("\u{7f}", "last");
    assert_eq!(world.range(&list("b", "\0")).unwrap().count, 3);
    assert_eq!(world.range(&list("\0", "\0")).unwrap().count, 4);
    assert_eq!(world.range(&list("", "\0")), Err(RequestError::EmptyKey));
}

/// etcd point 16.
#[test]
fn a_range_that_ends_before_it_begins_is_empty() {
    let world = falling();
    for (key, end) in [("c", "a"), ("a", "a"), ("b\0", "b")] {
        let reply = world.range(&list(key, end)).unwrap();
        assert_eq!((reply.kvs.len(), reply.count), (0, 0));
    }
}

#[test]
fn keys_with_zero_bytes_keep_their_order() {
    let mut world = World::new();
    for key in ["a\0\0", "a", "a\u{1}", "a\0", "b"] {
        world.put(key, "");
    }
    let reply = world.range(&list("a", "b")).unwrap();
    assert_eq!(keys(&reply), ["a", "a\0", "a\0\0", "a\u{1}"]);
    assert_eq!(keys(&world.range(&list("a\0", "b")).unwrap()), ["a\0", "a\0\0", "a\u{1}"]);
    assert_eq!(world.range(&get("a")).unwrap().count, 1);
}

#[test]
fn keys_with_many_versions_are_passed_over() {
    let mut world = World::new();
    for round in 0..40 {
        world.put("a", &round.to_string());
        world.put("b", &round.to_string());
    }
    world.put("c", "");
    for (revision, count) in [(0, 3), (81, 2), (2, 1), (3, 2), (50, 2)] {
        let reply = world.range(&pb::RangeRequest { revision, ..list("a", "z") }).unwrap();
        assert_eq!(reply.kvs.len(), count, "{revision}");
        assert!(reply.kvs.iter().all(|kv| revision == 0 || kv.mod_revision <= revision));
    }
    let reply = world.range(&pb::RangeRequest { revision: 50, ..get("a") }).unwrap();
    assert_eq!(reply.kvs[0].mod_revision, 50);
}

#[test]
fn sort_options_that_do_not_exist_are_refused() {
    let world = falling();
    for (sort_order, sort_target) in [(3, 0), (0, 5), (-1, 0)] {
        let request = pb::RangeRequest { sort_order, sort_target, ..get("a") };
        assert_eq!(world.range(&request), Err(RequestError::InvalidSortOption));
    }
}

#[test]
fn create_filters_work_like_mod_filters() {
    let mut world = falling();
    world.put("a", "4");
    let request = |min, max| pb::RangeRequest {
        min_create_revision: min,
        max_create_revision: max,
        ..list("a", "d")
    };
    assert_eq!(keys(&world.range(&request(0, 2)).unwrap()), ["a"]);
    assert_eq!(keys(&world.range(&request(3, 0)).unwrap()), ["b", "c"]);
    let request = pb::RangeRequest { max_mod_revision: 4, ..list("a", "d") };
    assert_eq!(keys(&world.range(&request).unwrap()), ["b", "c"]);
}
