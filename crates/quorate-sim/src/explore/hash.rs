//! Fingerprints: 128 bits that stand for a part of the world, or for all of it.
//!
//! Parts are hashed once, in each of the ways that members can be renamed, when they are first seen. The whole is the sum of
//! its parts, so that the order of messages does not matter and a step changes the sum by what it adds and removes. Two worlds
//! that differ only in who is who have the same six sums in another order; the least of them is the world's fingerprint.
//!
//! With 10^8 worlds the odds that any two share a fingerprint are below 10^-22.

use quorate_raft::NodeId;

use super::MEMBERS;
use crate::dice::mix;

/// In how many ways three members can be renamed.
pub(super) const RENAMINGS: usize = 6;

/// Who is called what: the new name of members 1, 2 and 3. The first one changes nothing.
const NAMES: [[u64; MEMBERS]; RENAMINGS] =
    [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];

/// A fingerprint under every renaming.
pub(super) type Prints = [u128; RENAMINGS];

/// A member under another name; whoever is no member keeps the name.
pub(super) fn rename(renaming: usize, node: NodeId) -> NodeId {
    let names = NAMES.get(renaming).copied().unwrap_or([1, 2, 3]);
    let place = usize::try_from(node.0).unwrap_or(0).wrapping_sub(1);
    NodeId(names.get(place).copied().unwrap_or(node.0))
}

/// Hashes words. `kind` keeps parts of different kinds apart.
pub(super) fn print_of(kind: u64, words: &[u64]) -> u128 {
    let (mut high, mut low) = (mix(kind), mix(kind ^ 0x5851_f42d_4c95_7f2d));
    for word in words {
        high = mix(high ^ word);
        low = mix(low.rotate_left(29).wrapping_add(word.wrapping_mul(0xda94_2042_e4dd_58b5)));
    }
    let length = words.len() as u64;
    u128::from(mix(high ^ length)) << 64 | u128::from(mix(low.wrapping_add(length) ^ high))
}

/// Hashes something in every renaming; `write` writes its words in one.
pub(super) fn prints_of(kind: u64, write: impl Fn(usize, &mut Vec<u64>)) -> Prints {
    let mut words = Vec::new();
    let mut prints = [0; RENAMINGS];
    for (renaming, print) in prints.iter_mut().enumerate() {
        words.clear();
        write(renaming, &mut words);
        *print = print_of(kind, &words);
    }
    prints
}

/// Adds a part to the whole.
pub(super) fn add(sums: &mut Prints, part: &Prints) {
    for (sum, print) in sums.iter_mut().zip(part) {
        *sum = sum.wrapping_add(*print);
    }
}

/// Takes a part out of the whole.
pub(super) fn remove(sums: &mut Prints, part: &Prints) {
    for (sum, print) in sums.iter_mut().zip(part) {
        *sum = sum.wrapping_sub(*print);
    }
}

/// The fingerprint of a world: the same for all worlds that differ only in names.
pub(super) fn world_print(sums: &Prints, budgets: u64) -> u128 {
    let least = sums.iter().min().copied().unwrap_or(0);
    let high = u64::try_from(least >> 64).unwrap_or(0);
    let low = u64::try_from(least & u128::from(u64::MAX)).unwrap_or(0);
    print_of(budgets, &[high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renamings_are_all_the_permutations() {
        let mut seen: Vec<Vec<u64>> = (0..RENAMINGS)
            .map(|renaming| (1..=3).map(|node| rename(renaming, NodeId(node)).0).collect())
            .collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), RENAMINGS);
        assert_eq!(rename(0, NodeId(2)), NodeId(2));
        assert_eq!(rename(3, NodeId(0)), NodeId(0));
    }

    #[test]
    fn a_renamed_world_has_the_same_fingerprint() {
        let parts = |nodes: [u64; 3]| {
            let mut sums = [0; RENAMINGS];
            for (node, content) in nodes.into_iter().zip([10, 20, 30]) {
                let part = prints_of(1, |renaming, out| {
                    out.extend([rename(renaming, NodeId(node)).0, content]);
                });
                add(&mut sums, &part);
            }
            world_print(&sums, 0)
        };
        assert_eq!(parts([1, 2, 3]), parts([3, 1, 2]));
        assert_ne!(parts([1, 2, 3]), parts([1, 2, 2]));
    }
}
