//! Watches.

use quorate_check::{
    Rule,
    etcd::{Event, KeyValue, Range},
    watch::{self, Response, Told, Watch},
};

use super::{
    Row, convict,
    revisions::{events, gone, kv, set},
};

fn told(event: Event, prev: Option<KeyValue>) -> Told {
    Told { event, prev }
}

fn response(revision: i64, events: Vec<Told>) -> Response {
    Response { revision, progress: false, events }
}

/// A watch over everything from revision 3 on that knows what was before; and one over one key that wants no deletions.
fn good() -> Vec<Watch> {
    let txn = vec![
        told(set("a", "2", [2, 4, 2]), Some(kv("a", "1", [2, 2, 1]))),
        told(set("c", "1", [4, 4, 1]), None),
    ];
    let responses = vec![
        response(4, [vec![told(set("b", "1", [3, 3, 1]), None)], txn].concat()),
        response(5, vec![told(gone("b", 5), Some(kv("b", "1", [3, 3, 1])))]),
        Response { revision: 5, progress: true, events: vec![] },
        response(6, vec![told(set("d", "9", [6, 6, 1]), None)]),
        response(7, vec![told(set("b", "3", [7, 7, 1]), None)]),
    ];
    let all = Watch {
        range: Range::all(),
        start_revision: 3,
        prev_kv: true,
        no_put: false,
        no_delete: false,
        responses,
        complete_to: Some(7),
    };
    let some = vec![
        response(3, vec![told(set("b", "1", [3, 3, 1]), None)]),
        response(7, vec![told(set("b", "3", [7, 7, 1]), None)]),
    ];
    let one = Watch {
        range: Range::one("b"),
        start_revision: 0,
        prev_kv: false,
        no_delete: true,
        responses: some,
        complete_to: None,
        ..all.clone()
    };
    vec![all, one]
}

pub(super) fn rows() -> usize {
    let rows: [Row<Vec<Watch>>; 18] = [
        ("two responses change places", Rule::WatchOrdered, |w| w[0].responses.swap(3, 4)),
        ("a response comes twice", Rule::WatchUnique, |w| {
            let again = w[0].responses[3].clone();
            w[0].responses.insert(4, again);
        }),
        ("an event comes twice in a response", Rule::WatchUnique, |w| {
            let again = w[0].responses[0].events[1].clone();
            w[0].responses[0].events.insert(2, again);
        }),
        ("a revision is split over two responses", Rule::WatchAtomic, |w| {
            let rest = w[0].responses[0].events.pop().unwrap();
            w[0].responses.insert(1, response(4, vec![rest]));
        }),
        ("half of the first revision never comes", Rule::WatchAtomic, |w| {
            w[0].start_revision = 4;
            w[0].responses[0].events.remove(0);
            w[0].responses[0].events.remove(0);
        }),
        ("half of a later revision never comes", Rule::WatchReliable, |w| {
            w[0].responses[0].events.pop();
        }),
        ("an event in the middle is dropped", Rule::WatchReliable, |w| {
            w[0].responses.remove(3);
        }),
        ("the last event never comes", Rule::WatchReliable, |w| {
            w[0].responses.pop();
        }),
        ("a resumed watch starts too late", Rule::WatchResumable, |w| {
            w[0].responses[0].events.remove(0);
        }),
        ("a progress notice comes too early", Rule::WatchBookmarkable, |w| {
            w[0].responses.swap(1, 2);
        }),
        ("a progress notice covers what never came", Rule::WatchResumable, |w| {
            w[1].start_revision = 3;
            w[1].responses = vec![Response { revision: 7, progress: true, events: vec![] }];
        }),
        ("the pair before is missing", Rule::WatchPrevKv, |w| {
            w[0].responses[0].events[1].prev = None;
        }),
        ("the pair before is of another revision", Rule::WatchPrevKv, |w| {
            w[0].responses[0].events[1].prev = Some(kv("a", "2", [2, 4, 2]));
        }),
        ("the pair before was not asked for", Rule::WatchPrevKv, |w| w[0].prev_kv = false),
        ("an event of another key", Rule::WatchFilter, |w| w[1].range = Range::one("c")),
        ("a filtered deletion comes", Rule::WatchFilter, |w| w[0].no_delete = true),
        ("a change looks like a creation", Rule::WatchIsCreate, |w| {
            w[0].responses[0].events[1].event.pair.create_revision = 4;
        }),
        ("an event with another value", Rule::WatchContent, |w| {
            w[1].responses[1].events[0].event.pair.value = "4".into();
        }),
    ];
    convict(&good(), &rows, |watches| watch::check(watches, &events()))
}
