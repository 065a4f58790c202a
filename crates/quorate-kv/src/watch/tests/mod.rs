//! etcd's watch semantics, point by point.

mod model;
mod world;

use quorate_proto::{
    etcdserverpb::{
        WatchCreateRequest, WatchRequest, watch_create_request::FilterType,
        watch_request::RequestUnion,
    },
    mvccpb::event::EventType,
};
use world::{World, on, story};

use super::{WatchLimits, WatchStream};

fn world() -> (World, WatchStream) {
    let mut world = World::new(WatchLimits::default());
    let stream = world.hub.open();
    (world, stream)
}

/// A world with a ring so small that nearly everything past comes from history.
fn forgetful() -> (World, WatchStream) {
    let mut world = World::new(WatchLimits { ring_revisions_max: 2, ..WatchLimits::default() });
    let stream = world.hub.open();
    (world, stream)
}

/// etcd point 29
#[test]
fn created_comes_before_events() {
    let (mut world, mut stream) = world();
    world.put("a", "1");
    stream.create(&mut world.hub, &on("a", "", 2));
    world.put("a", "2");
    assert_eq!(story(&world.drain(&mut stream)), ["created 0 @2", "events 0 @3: +a +a"]);
}

/// etcd point 30
#[test]
fn an_open_start_is_after_the_current_revision() {
    let (mut world, mut stream) = world();
    world.put("a", "1");
    assert_eq!(story(&world.watch(&mut stream, &on("a", "", 0))), ["created 0 @2"]);
    world.put("a", "2");
    assert_eq!(story(&world.drain(&mut stream)), ["events 0 @3: +a"]);
}

/// etcd point 30
#[test]
fn a_future_start_gets_neither_events_nor_progress_before_it() {
    let (mut world, mut stream) = world();
    let request = WatchCreateRequest { progress_notify: true, ..on("a", "", 4) };
    world.watch(&mut stream, &request);
    world.put("a", "2");
    world.put("b", "3");
    stream.interval_elapsed();
    stream.request_progress(&world.hub);
    assert!(world.drain(&mut stream).is_empty());
    world.put("a", "4");
    stream.request_progress(&world.hub);
    assert_eq!(story(&world.drain(&mut stream)), ["events 0 @4: +a", "progress -1 @4"]);
}

/// etcd point 31
#[test]
fn a_start_at_the_compacted_revision_is_served_and_below_it_is_canceled() {
    let (mut world, mut stream) = forgetful();
    world.puts("a", 5);
    world.compact(4);
    assert_eq!(
        story(&world.watch(&mut stream, &on("a", "", 4))),
        ["created 0 @6", "events 0 @6: +a +a +a"]
    );
    assert_eq!(
        story(&world.watch(&mut stream, &on("a", "", 3))),
        ["created 1 @6", "compacted 1 @0: 4"]
    );
    stream.request_progress(&world.hub);
    assert_eq!(story(&world.drain(&mut stream)), ["progress -1 @6"]);
    let again = WatchCreateRequest { watch_id: 1, ..on("a", "", 0) };
    let duplicate = "refused -1 mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(story(&world.watch(&mut stream, &again)), [duplicate]);
    stream.cancel(&mut world.hub, 1);
    assert_eq!(story(&world.watch(&mut stream, &again)), ["canceled 1 @6", "created 1 @6"]);
}

/// etcd point 31
#[test]
fn a_negative_start_is_refused_as_compacted() {
    let (mut world, mut stream) = world();
    let answer = world.watch(&mut stream, &on("a", "", -1));
    assert_eq!(
        story(&answer),
        ["refused -1 etcdserver: mvcc: required revision has been compacted"]
    );
    assert_eq!(answer[0].compact_revision, 0);
}

/// etcd point 15, 16
#[test]
fn an_empty_range_is_refused_and_an_empty_key_is_the_smallest() {
    let (mut world, mut stream) = world();
    for (key, end) in [("b", "a"), ("a", "a")] {
        let refused = world.watch(&mut stream, &on(key, end, 0));
        assert_eq!(story(&refused), ["refused -1 mvcc: watcher range is empty"]);
    }
    assert_eq!(story(&world.watch(&mut stream, &on("", "\0", 0))), ["created 0 @1"]);
    world.put("\0", "x");
    world.put("z", "x");
    assert_eq!(story(&world.drain(&mut stream)), ["events 0 @3: +\0 +z"]);
}

/// etcd point 5, 32
#[test]
fn all_events_of_a_revision_come_in_one_response() {
    let mut world = World::new(WatchLimits {
        response_bytes_max: 1,
        pull_bytes_max: 1,
        ..WatchLimits::default()
    });
    let mut stream = world.hub.open();
    world.watch(&mut stream, &on("", "\0", 0));
    world.write(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
    world.write(&[("a", None), ("c", None), ("d", Some("1"))]);
    let responses = world.drain(&mut stream);
    assert_eq!(story(&responses), ["events 0 @2: +a +b +c", "events 0 @3: -a -c +d"]);
    let deleted = responses[1].events[0].kv.clone().unwrap();
    assert_eq!((deleted.mod_revision, deleted.create_revision, deleted.version), (3, 0, 0));
}

/// etcd point 32
#[test]
fn fragments_are_marked_and_only_for_those_who_asked() {
    let mut world = World::new(WatchLimits { fragment_bytes: 100, ..WatchLimits::default() });
    let mut stream = world.hub.open();
    world.watch(&mut stream, &on("", "\0", 0));
    world.watch(&mut stream, &WatchCreateRequest { fragment: true, ..on("", "\0", 0) });
    let value = "x".repeat(60);
    world.write(&[("a", Some(&value)), ("b", Some(&value)), ("c", Some(&value))]);
    let expected =
        ["events 0 @2: +a +b +c", "events 1 @2: +a ...", "events 1 @2: +b ...", "events 1 @2: +c"];
    assert_eq!(story(&world.drain(&mut stream)), expected);
}

/// etcd point 33
#[test]
fn catching_up_takes_bounded_batches() {
    let (mut world, mut stream) = forgetful();
    world.puts("a", 2500);
    let responses = world.watch(&mut stream, &on("a", "", 2));
    let sizes: Vec<usize> = responses.iter().map(|response| response.events.len()).collect();
    assert_eq!(sizes, [0, 1000, 1000, 500]);
    for response in &responses[1..] {
        let last = response.events.last().unwrap().kv.as_ref().unwrap().mod_revision;
        assert!(response.header.unwrap().revision >= last);
    }
}

#[test]
fn a_poll_reads_history_once_though_nothing_in_it_matches() {
    let (mut world, mut stream) = forgetful();
    world.puts("a", 5000);
    stream.create(&mut world.hub, &on("b", "", 2));
    stream.create(&mut world.hub, &on("a", "", 0));
    let mut polls = 0;
    while stream.has_more() {
        world.poll_once(&mut stream, usize::MAX);
        polls += 1;
        assert_eq!(stream.reads_history(), polls < 5, "after {polls} polls");
    }
    assert_eq!(polls, 5);
}

#[test]
fn a_stream_that_sheds_reads_the_same_from_history() {
    let (mut world, mut stream) = world();
    world.watch(&mut stream, &on("a", "b", 0));
    for key in ["a1", "a2", "a3"] {
        world.put(key, "x");
    }
    let first = world.poll_once(&mut stream, 1);
    assert!(stream.feed_bytes() > 0);
    stream.shed();
    assert_eq!((stream.feed_bytes(), stream.reads_history()), (0, true));
    world.put("a4", "x");
    let rest = world.drain(&mut stream);
    assert_eq!(story(&first), ["events 0 @2: +a1"]);
    assert_eq!(story(&rest), ["events 0 @5: +a2 +a3 +a4"]);
}

/// etcd point 34
#[test]
fn progress_waits_for_every_watcher_of_the_stream() {
    let (mut world, mut stream) = forgetful();
    world.puts("a", 9);
    world.watch(&mut stream, &on("b", "", 0));
    stream.create(&mut world.hub, &on("a", "", 2));
    stream.request_progress(&world.hub);
    let early = world.drain(&mut stream);
    assert_eq!(story(&early), ["created 1 @10", "events 1 @10: +a +a +a +a +a +a +a +a +a"]);
    stream.request_progress(&world.hub);
    assert_eq!(story(&world.drain(&mut stream)), ["progress -1 @10"]);
}

/// etcd point 34
#[test]
fn progress_keeps_its_place_behind_events() {
    let (mut world, mut stream) = world();
    world.watch(&mut stream, &on("a", "b", 0));
    world.put("a1", "x");
    stream.request_progress(&world.hub);
    world.put("a2", "x");
    world.put("c", "x");
    let first = world.poll_once(&mut stream, 1);
    let rest = world.drain(&mut stream);
    assert_eq!(story(&first), ["events 0 @2: +a1"]);
    assert_eq!(story(&rest), ["events 0 @3: +a2", "progress -1 @4"]);
}

/// etcd point 34
#[test]
fn a_progress_request_without_watchers_is_silent_and_harmless() {
    let (mut world, mut stream) = world();
    stream.request_progress(&world.hub);
    assert!(world.drain(&mut stream).is_empty());
    assert_eq!(story(&world.watch(&mut stream, &on("a", "", 0))), ["created 0 @1"]);
}

/// etcd point 35
#[test]
fn periodic_progress_skips_watchers_that_had_events() {
    let (mut world, mut stream) = world();
    let notify = |key| WatchCreateRequest { progress_notify: true, ..on(key, "", 0) };
    world.watch(&mut stream, &notify("a"));
    world.watch(&mut stream, &notify("b"));
    world.watch(&mut stream, &on("c", "", 0));
    world.put("a", "x");
    world.drain(&mut stream);
    stream.interval_elapsed();
    assert_eq!(story(&world.drain(&mut stream)), ["progress 1 @2"]);
    stream.interval_elapsed();
    assert_eq!(story(&world.drain(&mut stream)), ["progress 0 @2", "progress 1 @2"]);
}

/// etcd point 36
#[test]
fn filtered_events_send_nothing() {
    let (mut world, mut stream) = world();
    let filtered =
        |filter: FilterType| WatchCreateRequest { filters: vec![filter.into()], ..on("a", "b", 0) };
    world.watch(&mut stream, &filtered(FilterType::Noput));
    world.watch(&mut stream, &filtered(FilterType::Nodelete));
    world.put("a", "x");
    assert_eq!(story(&world.drain(&mut stream)), ["events 1 @2: +a"]);
    world.delete("a");
    assert_eq!(story(&world.drain(&mut stream)), ["events 0 @3: -a"]);
}

/// etcd point 37
#[test]
fn previous_values_are_read_when_sending() {
    let (mut world, mut stream) = world();
    world.watch(&mut stream, &WatchCreateRequest { prev_kv: true, ..on("a", "", 0) });
    world.watch(&mut stream, &on("a", "", 0));
    world.put("a", "1");
    world.put("a", "2");
    world.delete("a");
    let responses = world.drain(&mut stream);
    let values = |at: usize| -> Vec<Option<&[u8]>> {
        let events = responses[at].events.iter();
        events.map(|event| event.prev_kv.as_ref().map(|kv| kv.value.as_ref())).collect()
    };
    assert_eq!(values(0), [None, Some(&b"1"[..]), Some(b"2")]);
    assert_eq!(values(1), [None, None, None]);
}

/// etcd point 37
#[test]
fn a_compacted_previous_value_is_missing() {
    let (mut world, mut stream) = world();
    world.watch(&mut stream, &WatchCreateRequest { prev_kv: true, ..on("a", "", 0) });
    world.put("a", "1");
    world.put("a", "2");
    world.compact(3);
    let responses = world.drain(&mut stream);
    assert!(responses[0].events[1].prev_kv.is_none());
}

/// etcd point 38
#[test]
fn ids_count_from_zero_and_skip_those_in_use() {
    let (mut world, mut stream) = world();
    let own = |watch_id| WatchCreateRequest { watch_id, ..on("a", "", 0) };
    let created: Vec<String> =
        [0, 2, 0, 0, 2].iter().flat_map(|id| story(&world.watch(&mut stream, &own(*id)))).collect();
    let duplicate = "refused -1 mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(
        created,
        ["created 0 @1", "created 2 @1", "created 1 @1", "created 3 @1", duplicate]
    );
    let mut other = world.hub.open();
    assert_eq!(story(&world.watch(&mut other, &own(0))), ["created 0 @1"]);
}

/// etcd point 38
#[test]
fn canceling_answers_known_ids_only_and_stops_events() {
    let (mut world, mut stream) = world();
    world.watch(&mut stream, &on("a", "", 0));
    world.put("a", "x");
    let cancel = |watch_id| WatchRequest {
        request_union: Some(RequestUnion::CancelRequest(
            quorate_proto::etcdserverpb::WatchCancelRequest { watch_id },
        )),
    };
    stream.handle(&mut world.hub, &cancel(7));
    stream.handle(&mut world.hub, &cancel(0));
    stream.handle(&mut world.hub, &cancel(0));
    stream.handle(&mut world.hub, &WatchRequest::default());
    assert_eq!(story(&world.drain(&mut stream)), ["canceled 0 @2"]);
    assert_eq!(world.hub.stats().watchers, 0);
    assert_eq!(world.put("a", "y"), 3);
    assert_eq!(world.hub.stats().pending_streams, 0);
}

/// etcd point 39
#[test]
fn a_deletion_at_the_compacted_revision_is_still_delivered() {
    let (mut world, mut stream) = forgetful();
    world.put("a", "1");
    let deleted = world.delete("a");
    world.puts("b", 3);
    world.compact(deleted);
    let responses = world.watch(&mut stream, &on("a", "", deleted));
    assert_eq!(story(&responses), ["created 0 @6", "events 0 @3: -a"]);
    assert_eq!(responses[1].events[0].r#type, i32::from(EventType::Delete));
}

/// etcd point 39
#[test]
fn compaction_cancels_a_watcher_that_is_still_behind() {
    let (mut world, mut stream) = forgetful();
    world.puts("a", 9);
    stream.create(&mut world.hub, &on("a", "", 2));
    let first = world.poll_once(&mut stream, 1);
    world.compact(8);
    assert_eq!(story(&first), ["created 0 @10", "events 0 @2: +a"]);
    assert_eq!(story(&world.drain(&mut stream)), ["compacted 0 @0: 8"]);
}

#[test]
fn only_streams_with_a_matching_watcher_are_woken_and_only_once() {
    let (mut world, mut first) = world();
    let mut second = world.hub.open();
    world.watch(&mut first, &on("a", "", 0));
    world.watch(&mut second, &on("b", "c", 0));
    world.put("a", "1");
    world.put("a", "2");
    world.put("z", "3");
    assert_eq!(world.woken, [first.id()]);
    world.drain(&mut first);
    world.write(&[("a", Some("4")), ("b", Some("4"))]);
    assert_eq!(world.woken, [first.id(), first.id(), second.id()]);
}

#[test]
fn a_slow_stream_reads_history_when_the_ring_has_moved_on() {
    let (mut world, mut slow) = forgetful();
    world.watch(&mut slow, &on("a", "b", 0));
    world.puts("a", 2000);
    assert_eq!(world.hub.stats().ring_revisions, 2);
    let responses = world.drain(&mut slow);
    let revisions: Vec<i64> = responses
        .iter()
        .flat_map(|it| &it.events)
        .map(|event| event.kv.as_ref().unwrap().mod_revision)
        .collect();
    assert_eq!(revisions, (2..=2001).collect::<Vec<_>>());
}

/// A whole stretch was once read for each revision that had room.
#[test]
fn a_poll_with_little_room_reads_little() {
    let (mut world, mut stream) = forgetful();
    for _ in 0..100 {
        world.put("a", &"x".repeat(10_000));
    }
    stream.create(&mut world.hub, &on("a", "", 2));
    let mut seen = 0;
    while seen < 100 {
        stream.pull(&mut world.hub);
        let responses = stream.poll(&world.past, 1).unwrap();
        seen += responses.iter().map(|response| response.events.len()).sum::<usize>();
    }
    let most = world.past.most_read_bytes.get();
    assert!((10_000..40_000).contains(&most), "{most}");
}

#[test]
fn a_restored_store_is_read_from_where_each_stream_stood() {
    let (mut world, mut stream) = world();
    world.watch(&mut stream, &on("a", "b", 0));
    world.put("a", "2");
    world.drain(&mut stream);
    let mut restored = World::new(WatchLimits::default());
    restored.puts("a", 5);
    world.past = restored.past;
    assert_eq!(world.hub.restored(6), [stream.id()]);
    assert_eq!(story(&world.drain(&mut stream)), ["events 0 @6: +a +a +a +a"]);
}

#[test]
fn closing_a_stream_leaves_nothing_behind() {
    let (mut world, mut stream) = world();
    (0..10).for_each(|_| stream.create(&mut world.hub, &on("a", "b", 0)));
    assert_eq!((world.hub.stats().streams, world.hub.stats().watchers), (1, 10));
    world.hub.close(stream);
    assert_eq!((world.hub.stats().streams, world.hub.stats().watchers), (0, 0));
    world.put("a", "x");
    assert!(world.woken.is_empty());
}

#[test]
fn limits_refuse_watchers_and_stop_requests() {
    let limits =
        WatchLimits { stream_watchers_max: 1, stream_answers_max: 2, ..WatchLimits::default() };
    let mut world = World::new(limits);
    let mut stream = world.hub.open();
    stream.create(&mut world.hub, &on("a", "", 0));
    assert!(!stream.is_congested());
    stream.create(&mut world.hub, &on("a", "", 0));
    assert!(stream.is_congested());
    let refused = "refused -1 etcdserver: too many watchers on the watch stream";
    assert_eq!(story(&world.drain(&mut stream)), ["created 0 @1", refused]);
}
