//! Tiny histories, where every order can be tried.

use proptest::prelude::*;
use quorate_check::{Operation as Op, Outcome, Rule, Verdict, cycles, linear, register};
use register::{Operation, Reply, Request};

const KEY: &str = "k";

fn value() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(str::to_owned)
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = || KEY.to_owned();
    let held = || proptest::option::weighted(0.8, value());
    let shape = prop_oneof![
        3 => value().prop_map(move |value| (Request::Put { key: key(), value }, Reply::Done)),
        4 => held().prop_map(move |seen| (Request::Get { key: key() }, Reply::Value(seen))),
        1 => Just((Request::Delete { key: key() }, Reply::Done)),
        2 => (held(), value(), any::<bool>()).prop_map(move |(expected, value, swapped)| {
            (Request::Cas { key: key(), expected, value }, Reply::Swapped(swapped))
        }),
    ];
    let ends = prop_oneof![8 => Just(0), 1 => Just(1), 1 => Just(2)];
    (shape, 0_u64..16, 0_u64..8, ends).prop_map(|((request, reply), invoke, length, end)| {
        let outcome = match end {
            0 => Outcome::Ok(reply),
            1 => Outcome::Unknown,
            _ => Outcome::Failed,
        };
        Op { client: 0, invoke, returned: Some(invoke + length), request, outcome }
    })
}

/// Tries every order.
fn some_order(history: &[Operation], done: u32, state: Option<&str>) -> bool {
    let waiting = || (0..history.len()).filter(|id| done >> id & 1 == 0);
    let answered = |id: usize| history[id].outcome.reply().is_some();
    if waiting().all(|id| !answered(id)) {
        return true;
    }
    let limit = waiting().filter_map(|id| history[id].deadline()).min().unwrap();
    waiting().filter(|id| history[*id].invoke <= limit).any(|id| {
        effect(&history[id], state).is_some_and(|after| some_order(history, done | 1 << id, after))
    })
}

/// The state after the operation, or `None` if it cannot stand here.
#[expect(clippy::option_option, reason = "no state, and a state that is empty")]
fn effect<'a>(one: &'a Operation, state: Option<&'a str>) -> Option<Option<&'a str>> {
    let reply = match &one.outcome {
        Outcome::Ok(reply) => Some(reply),
        Outcome::Unknown => None,
        Outcome::Failed => return None,
    };
    match (&one.request, reply) {
        (Request::Put { value, .. }, _) => Some(Some(value)),
        (Request::Delete { .. }, _) => Some(None),
        (Request::Get { .. }, Some(Reply::Value(seen))) => {
            (seen.as_deref() == state).then_some(state)
        }
        (Request::Get { .. }, _) => Some(state),
        (Request::Cas { expected, value, .. }, reply) => {
            let swaps = expected.as_deref() == state;
            let told = reply.is_none_or(|reply| *reply == Reply::Swapped(swaps));
            told.then_some(if swaps { Some(value) } else { state })
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn registers_agree_with_brute_force(history in proptest::collection::vec(operation(), 0..9)) {
        let verdict = linear::check(&history).unwrap();
        prop_assert_eq!(verdict.holds(), some_order(&history, 0, None), "{}", verdict);
    }
}

/// Two lists, three transactions and a reader of everything at the end; replies are from one order, then one read may be changed.
fn lists() -> impl Strategy<Value = Vec<cycles::Operation>> {
    let step = (0_usize..2, any::<bool>());
    let transaction = (proptest::collection::vec(step, 1..3), 0_u64..6, 0_u64..6);
    let transactions = proptest::collection::vec(transaction, 1..5);
    (transactions, any::<u64>(), any::<bool>())
        .prop_map(|(shapes, order, shorten)| execute(&shapes, order, shorten))
}

type Shape = (Vec<(usize, bool)>, u64, u64);

fn execute(shapes: &[Shape], order: u64, shorten: bool) -> Vec<cycles::Operation> {
    let mut turns: Vec<usize> = (0..shapes.len()).collect();
    turns.sort_by_key(|turn| order.rotate_left(u32::try_from(*turn).unwrap() * 13) % 64);
    let mut lists = [Vec::new(), Vec::new()];
    let mut history: Vec<Option<cycles::Operation>> = vec![None; shapes.len()];
    for turn in turns {
        let (steps, invoke, length) = &shapes[turn];
        let steps = steps.iter().zip(1_u64..).map(|((list, append), nth)| {
            let key = ["x", "y"][*list].to_owned();
            if *append {
                let element = turn as u64 * 10 + nth;
                lists[*list].push(element);
                cycles::Step::Append { key, element }
            } else {
                cycles::Step::Read { key, elements: Some(lists[*list].clone()) }
            }
        });
        history[turn] = Some(answered(steps.collect(), *invoke, *length));
    }
    let mut history: Vec<_> = history.into_iter().flatten().collect();
    if shorten && let Outcome::Ok(steps) = &mut history[0].outcome {
        steps.iter_mut().for_each(forget_last);
    }
    let [x, y] = lists;
    let last = [("x", x), ("y", y)]
        .map(|(key, elements)| cycles::Step::Read { key: key.into(), elements: Some(elements) });
    history.push(answered(last.to_vec(), 100, 1));
    history
}

fn forget_last(step: &mut cycles::Step) {
    if let cycles::Step::Read { elements: Some(elements), .. } = step {
        elements.pop();
    }
}

fn answered(reply: Vec<cycles::Step>, invoke: u64, length: u64) -> cycles::Operation {
    let request = reply.iter().cloned().map(|step| match step {
        cycles::Step::Read { key, .. } => cycles::Step::Read { key, elements: None },
        cycles::Step::Append { .. } => step,
    });
    let (request, returned) = (request.collect(), Some(invoke + length));
    Op { client: 0, invoke, returned, request, outcome: Outcome::Ok(reply) }
}

fn serializable(history: &[cycles::Operation], done: u32, lists: &[Vec<u64>; 2]) -> bool {
    let waiting: Vec<usize> = (0..history.len()).filter(|id| done >> id & 1 == 0).collect();
    let Some(limit) = waiting.iter().filter_map(|id| history[*id].deadline()).min() else {
        return true;
    };
    waiting.iter().filter(|id| history[**id].invoke <= limit).any(|id| {
        let mut after = lists.clone();
        let fits = history[*id].outcome.reply().unwrap().iter().all(|step| match step {
            cycles::Step::Append { key, element } => {
                after[usize::from(key == "y")].push(*element);
                true
            }
            cycles::Step::Read { key, elements } => {
                *elements.as_ref().unwrap() == after[usize::from(key == "y")]
            }
        });
        fits && serializable(history, done | 1 << id, &after)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn transactions_agree_with_brute_force(history in lists()) {
        let verdict = cycles::check(&history).unwrap();
        prop_assert_eq!(verdict.holds(), serializable(&history, 0, &[Vec::new(), Vec::new()]), "{}", verdict);
    }
}

#[test]
fn limits_leave_a_history_undecided() {
    let put = |at: u64| Op {
        client: at,
        invoke: 0,
        returned: Some(1000),
        request: Request::Put { key: KEY.into(), value: at.to_string() },
        outcome: Outcome::Ok(Reply::Done),
    };
    let history: Vec<_> = (0..=(linear::OPEN_MAX as u64)).map(put).collect();
    let verdict = linear::check(&history).unwrap();
    assert!(matches!(verdict, Verdict::Undecided(_)), "{verdict}");
    assert!(!verdict.breaks(Rule::Linearizable));
}
