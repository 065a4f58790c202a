//! Histories that were broken by hand: each row says what was done to a good history and which promise the judge must miss.

mod cycles;
mod lease_lock;
mod registers;
mod revisions;
mod watches;

use std::fmt::Debug;

use quorate_check::{Operation, Outcome, Rule, Verdict};

/// What was broken, what must be found, and how it is broken.
type Row<H> = (&'static str, Rule, fn(&mut H));

/// The original holds; each broken copy does not, for the right reason. Gives the number of rows.
fn convict<H: Clone + PartialEq + Debug>(
    good: &H,
    rows: &[Row<H>],
    judge: impl Fn(&H) -> Verdict,
) -> usize {
    assert_eq!(judge(good), Verdict::Holds);
    for (what, rule, break_it) in rows {
        let mut broken = good.clone();
        break_it(&mut broken);
        assert_ne!(&broken, good, "{what}: nothing was broken");
        let verdict = judge(&broken);
        assert!(verdict.breaks(*rule), "{what}: {verdict}");
    }
    rows.len()
}

fn op<Q, R>(client: u64, (invoke, returned): (u64, u64), request: Q, reply: R) -> Operation<Q, R> {
    Operation { client, invoke, returned: Some(returned), request, outcome: Outcome::Ok(reply) }
}

fn reply<Q, R>(operation: &mut Operation<Q, R>) -> &mut R {
    match &mut operation.outcome {
        Outcome::Ok(reply) => reply,
        Outcome::Failed | Outcome::Unknown => panic!("it was not answered"),
    }
}

#[test]
fn every_broken_history_is_convicted() {
    let rows = registers::rows()
        + revisions::rows()
        + watches::rows()
        + lease_lock::rows()
        + cycles::rows();
    assert!(rows >= 50, "{rows}");
}
