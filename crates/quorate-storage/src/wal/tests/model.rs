//! Random rounds against the log in memory.

use proptest::prelude::*;

use super::*;

const GROUPS: u64 = 4;

#[derive(Clone, Debug)]
enum Act {
    /// Replace the last `back` entries by `sizes.len()` new ones.
    Save {
        group: u64,
        back: u64,
        sizes: Vec<usize>,
        vote: Option<u64>,
    },
    Compact {
        group: u64,
        ahead: u64,
    },
    Install {
        group: u64,
        ahead: u64,
    },
    Sync,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let group = 0..GROUPS;
    let sizes = prop::collection::vec(0_usize..1500, 0..5);
    prop_oneof![
        8 => (group.clone(), 0_u64..4, sizes, prop::option::of(1_u64..4))
            .prop_map(|(group, back, sizes, vote)| Act::Save { group, back, sizes, vote }),
        2 => (group.clone(), 0_u64..9).prop_map(|(group, ahead)| Act::Compact { group, ahead }),
        1 => (group, 0_u64..9).prop_map(|(group, ahead)| Act::Install { group, ahead }),
        3 => Just(Act::Sync),
        1 => Just(Act::Reopen),
    ]
}

/// The act as a record that fits what the model holds.
fn step(model: &MemoryLogStore, term: u64, act: &Act) -> Option<Step> {
    let ends = |group: u64| {
        let log = model.group(GroupId(group));
        let first = log.base.as_ref().map_or(1, |base| base.last.index.0 + 1);
        (first, first + log.entries.len() as u64)
    };
    match act {
        Act::Save { group, back, sizes, vote } => {
            let (first, next) = ends(*group);
            let hard_state = vote.map(|vote| hard_state(term, (vote != 3).then_some(vote)));
            let fill = u8::try_from(term % 251).unwrap();
            let entries = sizes.iter().map(|size| entry(term, fill, *size)).collect();
            let first = next.saturating_sub(*back).max(first);
            Some(Step::Save { group: *group, hard_state, first, entries })
        }
        Act::Compact { group, ahead } => {
            let (first, _) = ends(*group);
            Some(Step::Compacted {
                group: *group,
                base: base((first + ahead).saturating_sub(2), term),
            })
        }
        Act::Install { group, ahead } => {
            let (_, next) = ends(*group);
            let (hard_state, base) = (hard_state(term, None), base(next + ahead, term));
            Some(Step::Install { group: *group, hard_state, base })
        }
        Act::Sync | Act::Reopen => None,
    }
}

fn reopen(vfs: &MemoryVfs, model: &MemoryLogStore) -> Wal {
    let (wal, groups) = open(vfs).unwrap();
    assert_eq!(without_empty(groups), all_of(model, GROUPS));
    wal
}

fn run(acts: &[Act]) {
    let vfs = MemoryVfs::new();
    let mut model = MemoryLogStore::new();
    let mut wal = reopen(&vfs, &model);
    for (act, term) in acts.iter().zip(1..) {
        if let Some(step) = step(&model, term, act) {
            append(&mut wal, std::slice::from_ref(&step)).unwrap();
            append(&mut model, &[step]).unwrap();
        }
        match act {
            Act::Sync => wal.sync().unwrap(),
            Act::Reopen => {
                drop(wal);
                wal = reopen(&vfs, &model);
            }
            Act::Save { .. } | Act::Compact { .. } | Act::Install { .. } => {
                read_back(&mut wal, &all_of(&model, GROUPS)).unwrap();
            }
        }
    }
    drop(wal);
    reopen(&vfs, &model);
}

/// A record with small numbers, so that many fit what came before; sometimes with huge ones.
fn any_record() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![9 => 0_u64..9, 1 => any::<u64>()];
    let head = (1_u8..6, 0_u8..8, 0_u8..4, 0_u8..2);
    (head, prop::collection::vec(number, 0..8), 0_usize..3).prop_map(
        |((kind, flags, count, group), numbers, cut)| {
            let mut body: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            body.resize(body.len() + usize::from(count) * 20, 0);
            body.truncate(body.len().saturating_sub(cut));
            let [low, high] = u16::try_from(body.len()).unwrap().to_le_bytes();
            [vec![kind, flags, count, group, low, high], body].concat()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_rounds_agree_with_the_model(acts in prop::collection::vec(act(), 1..120)) {
        run(&acts);
    }

    #[test]
    fn any_bytes_are_read_without_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..6000), head: bool) {
        if head {
            let header = SegmentHeader { number: 1, size_bytes: 0, first_batch: 1, opening: 0, previous_end: 0, chain: 0, salt: 0 };
            let head = header.encode();
            let length = bytes.len().min(head.len());
            bytes[..length].copy_from_slice(&head[..length]);
        }
        let _ = decode_segment(&bytes);
        let _ = decode_records(&bytes);
        let _ = record::guess_name(&bytes);
    }

    #[test]
    fn any_records_are_replayed_without_harm(records in prop::collection::vec(any_record(), 0..40)) {
        let _ = decode_records(&records.concat());
    }
}
