//! Random writes, compactions, slow polls and restarts against a list of everything that happened.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_proto::{
    etcdserverpb::{WatchCreateRequest, WatchResponse, watch_create_request::FilterType},
    mvccpb::Event,
};

use super::{
    super::{
        History, NO_WATCH_ID, WatchLimits, WatchStream,
        range_index::{KeySet, RangeIndex},
    },
    world::{World, on},
};

#[derive(Clone, Debug)]
enum Step {
    Write { keys: Vec<(u8, bool)>, publish: bool },
    Compact(u8),
    Watch { stream: usize, key: u8, end: Option<u8>, back: i8, flags: u8 },
    Cancel { stream: usize, watcher: usize },
    Progress(usize),
    Poll { stream: usize, budget_bytes: usize, pull: bool },
    Shed(usize),
    Restored,
}

const STREAMS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop::collection::btree_map(0..12u8, any::<bool>(), 1..4), prop::bool::weighted(0.7))
            .prop_map(|(keys, publish)| Step::Write { keys: keys.into_iter().collect(), publish }),
        1 => (0..6u8).prop_map(Step::Compact),
        3 => (0..STREAMS, 0..12u8, prop::option::of(0..14u8), -20..6i8, any::<u8>())
            .prop_map(|(stream, key, end, back, flags)| Step::Watch { stream, key, end, back, flags }),
        1 => (0..STREAMS, 0..8usize).prop_map(|(stream, watcher)| Step::Cancel { stream, watcher }),
        2 => (0..STREAMS).prop_map(Step::Progress),
        5 => (0..STREAMS, prop_oneof![Just(1), 10..400usize], prop::bool::weighted(0.8))
            .prop_map(|(stream, budget_bytes, pull)| Step::Poll { stream, budget_bytes, pull }),
        2 => (0..STREAMS).prop_map(Step::Shed),
        1 => Just(Step::Restored),
    ]
}

/// What one watcher asked for and got.
#[derive(Debug)]
struct Seen {
    request: WatchCreateRequest,
    from: i64,
    events: Vec<Event>,
    created: bool,
    compacted: Option<i64>,
}

impl Seen {
    fn wants(&self, event: &Event) -> bool {
        let mut index = RangeIndex::default();
        index.insert(&KeySet::from_request(&self.request.key, &self.request.range_end).unwrap(), 0);
        let mut hit = false;
        index.visit(&event.kv.as_ref().unwrap().key, |_| hit = true);
        let unwanted = if event.r#type == 0 { FilterType::Noput } else { FilterType::Nodelete };
        hit && !self.request.filters.contains(&unwanted.into())
    }
}

/// A stream and what its client knows.
struct Client {
    stream: WatchStream,
    seen: BTreeMap<i64, Seen>,
    canceled: Vec<i64>,
}

struct Run {
    world: World,
    clients: Vec<Client>,
}

fn name(key: u8) -> String {
    format!("k/{key:02}")
}

impl Run {
    fn new() -> Self {
        let limits = WatchLimits {
            ring_revisions_max: 6,
            pull_bytes_max: 1500,
            response_bytes_max: 300,
            ..WatchLimits::default()
        };
        let mut world = World::new(limits);
        let client = |stream| Client { stream, seen: BTreeMap::new(), canceled: Vec::new() };
        let clients = (0..STREAMS).map(|_| client(world.hub.open())).collect();
        Self { world, clients }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write { keys, publish } => {
                let names: Vec<(String, bool)> =
                    keys.iter().map(|(key, put)| (name(*key), *put)).collect();
                let changes: Vec<_> =
                    names.iter().map(|(key, put)| (key.as_str(), put.then_some("v"))).collect();
                self.world.apply(&changes);
                if *publish {
                    self.world.publish();
                }
            }
            Step::Compact(back) => {
                let to = self.world.past.revision() - i64::from(*back);
                if to > self.world.past.compact_revision() {
                    self.world.compact(to);
                }
            }
            Step::Watch { stream, key, end, back, flags } => {
                self.watch(*stream, *key, *end, *back, *flags);
            }
            Step::Cancel { stream, watcher } => self.cancel(*stream, *watcher),
            Step::Progress(stream) => {
                self.clients[*stream].stream.request_progress(&self.world.hub);
            }
            Step::Poll { stream, budget_bytes, pull: true } => self.poll(*stream, *budget_bytes),
            Step::Poll { stream, budget_bytes, pull: false } => {
                self.poll_unpulled(*stream, *budget_bytes);
            }
            Step::Shed(stream) => self.clients[*stream].stream.shed(),
            Step::Restored => drop(self.world.hub.restored(self.world.past.revision())),
        }
    }

    fn watch(&mut self, stream: usize, key: u8, end: Option<u8>, back: i8, flags: u8) {
        let end =
            end.map(|end| if end == 13 { "k0".to_owned() } else { name(end) }).unwrap_or_default();
        let key = if end == "k0" { "k/".to_owned() } else { name(key) };
        let current = self.world.hub.revision();
        let start = if back == 0 { 0 } else { (current + i64::from(back)).max(1) };
        let mut request = on(&key, &end, start);
        request.prev_kv = flags & 1 != 0;
        request.filters = [FilterType::Noput, FilterType::Nodelete]
            .into_iter()
            .zip([flags & 6 == 2, flags & 6 == 4])
            .filter_map(|(filter, on)| on.then_some(filter.into()))
            .collect();
        let client = &mut self.clients[stream];
        client.stream.create(&mut self.world.hub, &request);
        if KeySet::from_request(&request.key, &request.range_end).is_none() {
            return;
        }
        let id = i64::try_from(client.seen.len()).unwrap();
        let from = if start == 0 { current + 1 } else { start };
        client.seen.insert(
            id,
            Seen { request, from, events: Vec::new(), created: false, compacted: None },
        );
    }

    fn cancel(&mut self, stream: usize, watcher: usize) {
        let client = &mut self.clients[stream];
        let Some(id) = client.seen.keys().nth(watcher).copied() else { return };
        client.stream.cancel(&mut self.world.hub, id);
        client.canceled.push(id);
    }

    fn poll(&mut self, stream: usize, budget_bytes: usize) {
        let responses = self.world.poll_once(&mut self.clients[stream].stream, budget_bytes);
        for response in &responses {
            self.take(stream, response);
        }
    }

    /// Polls before the stream has seen the hub's newest.
    fn poll_unpulled(&mut self, stream: usize, budget_bytes: usize) {
        let responses = self.clients[stream].stream.poll(&self.world.past, budget_bytes).unwrap();
        for response in &responses {
            self.take(stream, response);
        }
    }

    /// Checks one response against what its client may expect, and notes it.
    fn take(&mut self, stream: usize, response: &WatchResponse) {
        let client = &mut self.clients[stream];
        let revision = response.header.unwrap().revision;
        if response.watch_id == NO_WATCH_ID {
            if !response.canceled {
                let living = client.seen.iter().filter(|(id, _)| !client.canceled.contains(id));
                living.filter(|(_, seen)| seen.compacted.is_none()).for_each(|(id, seen)| {
                    self.world.check_whole(*id, seen, revision);
                });
            }
            return;
        }
        let seen = client.seen.get_mut(&response.watch_id).expect("an id that was created");
        assert_eq!(seen.created, !response.created, "created comes first and once");
        seen.created = true;
        if response.canceled {
            if response.compact_revision != 0 {
                assert_eq!(
                    (revision, response.compact_revision),
                    (0, self.world.past.compact_revision())
                );
                seen.compacted = Some(response.compact_revision);
            }
            return;
        }
        assert!(seen.compacted.is_none(), "nothing comes after the end");
        for event in &response.events {
            let kv = event.kv.as_ref().unwrap();
            assert!(kv.mod_revision <= revision, "header.revision is behind the events");
            let create = event.r#type == 0 && kv.create_revision == kv.mod_revision;
            let before = self.world.past.newest(&kv.key, kv.mod_revision);
            let known = kv.mod_revision > self.world.past.compact_revision();
            let expected = (seen.request.prev_kv && !create && known).then_some(before).flatten();
            assert_eq!(event.prev_kv, expected);
            seen.events.push(Event { prev_kv: None, ..event.clone() });
        }
        if let Some(last) = response.events.last() {
            let whole = last.kv.as_ref().unwrap().mod_revision;
            self.world.check_whole(
                response.watch_id,
                &self.clients[stream].seen[&response.watch_id],
                whole,
            );
        }
    }

    /// Drains everything and compares with the whole past.
    fn finish(mut self) {
        self.world.publish();
        for stream in 0..STREAMS {
            self.poll(stream, 10);
            while self.clients[stream].stream.has_more() {
                self.poll(stream, 100);
            }
            let client = &self.clients[stream];
            for (id, seen) in client.seen.iter().filter(|(id, _)| !client.canceled.contains(id)) {
                match seen.compacted {
                    None => self.world.check_whole(*id, seen, i64::MAX),
                    Some(compacted) => self.world.check_prefix(*id, seen, compacted),
                }
            }
        }
        self.clients.into_iter().for_each(|client| self.world.hub.close(client.stream));
        assert_eq!(self.world.hub.stats().watchers, 0);
    }
}

impl World {
    /// The watcher has got exactly what it asked for up to `revision`, in order.
    fn check_whole(&self, id: i64, seen: &Seen, revision: i64) {
        let past = self
            .past
            .since(seen.from)
            .filter(|event| event.kv.as_ref().unwrap().mod_revision <= revision);
        let expected: Vec<&Event> = past.filter(|event| seen.wants(event)).collect();
        let got: Vec<&Event> = seen.events.iter().collect();
        assert_eq!(got, expected, "watcher {id} at {revision}");
    }

    /// The watcher has got the beginning of what it asked for, and what it lacks begins below `compacted`.
    fn check_prefix(&self, id: i64, seen: &Seen, compacted: i64) {
        let expected: Vec<&Event> =
            self.past.since(seen.from).filter(|event| seen.wants(event)).collect();
        let got: Vec<&Event> = seen.events.iter().collect();
        assert_eq!(got, expected[..got.len()], "watcher {id}");
        assert!(seen.from < compacted, "watcher {id} was canceled without need");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// etcd points 29 to 39, in any order
    #[test]
    fn every_watcher_gets_exactly_its_events(steps in prop::collection::vec(step(), 1..120)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        run.finish();
    }
}
