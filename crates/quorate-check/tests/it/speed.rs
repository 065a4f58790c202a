//! Large histories, as a store that works would give them.

use quorate_check::{
    Operation as Op, Outcome, Rule,
    cycles::{self, Step},
    linear, register,
};
use register::{Operation, Reply, Request};

/// A small generator, so that a history is the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// `count` operations of `clients` clients on `keys` keys: each takes effect at a random instant of its span.
fn history(count: u64, clients: u64, keys: u64, unknown_percent: u64) -> Vec<Operation> {
    let mut dice = Dice(count + clients);
    let mut spans: Vec<(u64, u64, u64, u64)> = Vec::new();
    let mut free = vec![0; usize::try_from(clients).unwrap()];
    for nth in 0..count {
        let client = nth % clients;
        let at = &mut free[usize::try_from(client).unwrap()];
        let invoke = *at + dice.roll(20);
        let effect = invoke + 1 + dice.roll(100);
        let returned = effect + 1 + dice.roll(100);
        *at = returned + 1;
        spans.push((effect, invoke, returned, client));
    }
    spans.sort_unstable();
    let mut state: Vec<Option<String>> = vec![None; usize::try_from(keys).unwrap()];
    let operations = spans.into_iter().zip(0_u64..).map(|((_, invoke, returned, client), nth)| {
        let key = dice.roll(keys);
        let (request, reply) =
            act(&mut dice, &key.to_string(), &mut state[usize::try_from(key).unwrap()], nth);
        let lost = dice.roll(100) < unknown_percent;
        let outcome = if lost { Outcome::Unknown } else { Outcome::Ok(reply) };
        Op { client, invoke, returned: Some(returned), request, outcome }
    });
    operations.collect()
}

fn act(dice: &mut Dice, key: &str, state: &mut Option<String>, nth: u64) -> (Request, Reply) {
    let key = key.to_owned();
    match dice.roll(10) {
        0..4 => {
            *state = Some(nth.to_string());
            (Request::Put { key, value: nth.to_string() }, Reply::Done)
        }
        4..8 => (Request::Get { key }, Reply::Value(state.clone())),
        8 => {
            let expected = state.replace(nth.to_string());
            (Request::Cas { key, expected, value: nth.to_string() }, Reply::Swapped(true))
        }
        _ => {
            let request =
                Request::Cas { key, expected: Some("never".into()), value: nth.to_string() };
            (request, Reply::Swapped(false))
        }
    }
}

fn check(count: u64, clients: u64, keys: u64, unknown_percent: u64) {
    let mut history = history(count, clients, keys, unknown_percent);
    let verdict = linear::check(&history).unwrap();
    assert!(verdict.holds(), "{verdict}");
    // One stale read among all of them is found.
    let values = history.iter_mut().rev().find_map(|one| match &mut one.outcome {
        Outcome::Ok(Reply::Value(value)) => Some(value),
        Outcome::Ok(Reply::Done | Reply::Swapped(_)) | Outcome::Failed | Outcome::Unknown => None,
    });
    *values.unwrap() = Some("stale".into());
    assert_eq!(linear::check(&history).unwrap().findings().len(), 1);
}

#[test]
fn many_keys_and_many_clients() {
    check(operations(100_000), 50, 100, 1);
}

#[test]
fn one_key_and_eight_clients() {
    check(operations(20_000), 8, 1, 0);
}

#[test]
fn one_key_and_thirty_clients() {
    check(operations(2_000), 30, 1, 0);
}

/// `CHECK_OPERATIONS` sets another length, to measure with.
fn operations(normal: u64) -> u64 {
    std::env::var("CHECK_OPERATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(normal)
}

/// Each transaction reads one list and appends to another; lists are cut before they grow long.
fn transactions(count: u64) -> Vec<cycles::Operation> {
    let mut dice = Dice(count);
    let mut lists: Vec<Vec<u64>> = vec![Vec::new(); 100];
    let operations = (0..count).map(|nth| {
        let generation = nth / 2000;
        if nth % 2000 == 0 {
            lists.iter_mut().for_each(Vec::clear);
        }
        let [from, to] = [dice.roll(50), 50 + dice.roll(50)];
        let (read, written) = (format!("{generation}-{from}"), format!("{generation}-{to}"));
        let (read, written) = if nth % 2 == 0 { (read, written) } else { (written, read) };
        let place = |name: &str| name.rsplit('-').next().unwrap().parse::<usize>().unwrap();
        let seen = lists[place(&read)].clone();
        lists[place(&written)].push(nth);
        let ask = |elements| Step::Read { key: read.clone(), elements };
        let append = Step::Append { key: written.clone(), element: nth };
        let request = vec![ask(None), append.clone()];
        let outcome = Outcome::Ok(vec![ask(Some(seen)), append]);
        Op { client: nth % 20, invoke: nth * 10, returned: Some(nth * 10 + 150), request, outcome }
    });
    operations.collect()
}

#[test]
fn many_transactions() {
    let mut history = transactions(operations(20_000));
    assert!(cycles::check(&history).unwrap().holds());
    // One read among all of them misses what had been answered long before.
    let stale = history.iter_mut().rev().find_map(|one| match &mut one.outcome {
        Outcome::Ok(steps) => match steps.first_mut() {
            Some(Step::Read { elements: Some(elements), .. }) if elements.len() > 8 => {
                Some(elements)
            }
            _ => None,
        },
        Outcome::Failed | Outcome::Unknown => None,
    });
    stale.unwrap().truncate(1);
    let verdict = cycles::check(&history).unwrap();
    let cycles = [Rule::GSingle, Rule::G2, Rule::GRealTime];
    assert!(cycles.iter().any(|rule| verdict.breaks(*rule)), "{verdict}");
}
