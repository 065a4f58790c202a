//! Transactions over lists.

use quorate_check::{
    Outcome, Rule,
    cycles::{self, Operation, Step},
};

use super::{Row, convict, op, reply};

fn append(key: &str, element: u64) -> Step {
    Step::Append { key: key.into(), element }
}

fn read(key: &str, elements: &[u64]) -> Step {
    Step::Read { key: key.into(), elements: Some(elements.to_vec()) }
}

fn txn(client: u64, span: (u64, u64), steps: Vec<Step>) -> Operation {
    let asked = steps.iter().map(|step| match step {
        Step::Read { key, .. } => Step::Read { key: key.clone(), elements: None },
        Step::Append { .. } => step.clone(),
    });
    op(client, span, asked.collect(), steps)
}

/// Two lists; transactions 1 and 2 overlap, and all is read at the end.
fn good() -> Vec<Operation> {
    vec![
        txn(1, (0, 10), vec![append("x", 1), append("y", 1)]),
        txn(1, (20, 40), vec![append("x", 2), append("x", 3), append("y", 3)]),
        txn(2, (20, 40), vec![read("x", &[1]), append("y", 2)]),
        txn(3, (50, 60), vec![read("x", &[1, 2, 3]), append("x", 4), read("x", &[1, 2, 3, 4])]),
        txn(1, (70, 80), vec![read("x", &[1, 2, 3, 4]), read("y", &[1, 2, 3])]),
    ]
}

fn set(history: &mut [Operation], at: usize, step: usize, elements: &[u64]) {
    if let Step::Read { elements: read, .. } = &mut reply(&mut history[at])[step] {
        *read = Some(elements.to_vec());
    }
}

pub(super) fn rows() -> usize {
    let rows: [Row<Vec<Operation>>; 13] = [
        ("two transactions' writes are woven into each other", Rule::G0, |h| {
            set(h, 3, 0, &[2, 3, 1]);
            set(h, 3, 2, &[2, 3, 1, 4]);
            set(h, 4, 0, &[2, 3, 1, 4]);
            set(h, 2, 0, &[]);
        }),
        ("two transactions read each other's writes", Rule::G1c, |h| {
            h[1] = txn(
                1,
                (20, 40),
                vec![append("x", 2), append("x", 3), append("y", 3), read("y", &[1, 2, 3])],
            );
            set(h, 2, 0, &[1, 2, 3]);
        }),
        ("a transaction sees half of another one", Rule::GSingle, |h| set(h, 4, 0, &[1])),
        ("a lost update: two read the same list and both append", Rule::GSingle, |h| {
            h.push(txn(4, (50, 60), vec![read("y", &[1]), append("y", 4)]));
            set(h, 4, 1, &[1, 2, 3, 4]);
        }),
        ("write skew: each misses the other's append", Rule::G2, |h| {
            h[3] = txn(3, (20, 60), vec![append("x", 4), read("w", &[])]);
            h.push(txn(4, (20, 60), vec![append("w", 1), read("x", &[1, 2, 3])]));
            h.push(txn(4, (90, 95), vec![read("w", &[1])]));
        }),
        ("a stale read, serializable but late", Rule::GRealTime, |h| {
            h.push(txn(4, (90, 95), vec![read("x", &[1, 2, 3])]));
        }),
        ("an acknowledged append is lost", Rule::GRealTime, |h| {
            h.push(txn(4, (82, 85), vec![append("y", 9)]));
            h.push(txn(4, (90, 95), vec![read("y", &[1, 2, 3])]));
            h.push(txn(4, (100, 105), vec![read("y", &[1, 2, 3, 9])]));
        }),
        ("an aborted append is read", Rule::G1a, |h| h[1].outcome = Outcome::Failed),
        ("an element that nobody appended", Rule::G1a, |h| set(h, 4, 1, &[1, 2, 3, 8])),
        ("the middle of a transaction is read", Rule::G1b, |h| set(h, 2, 0, &[1, 2])),
        ("two reads of one list contradict each other", Rule::ListOrder, |h| {
            set(h, 4, 0, &[1, 3, 2, 4]);
        }),
        ("an append is carried out twice", Rule::ListOrder, |h| set(h, 4, 1, &[1, 2, 3, 2])),
        ("a transaction does not see its own append", Rule::Internal, |h| set(h, 3, 2, &[1, 2, 3])),
    ];
    convict(&good(), &rows, |history| cycles::check(history).unwrap())
}
