//! Ranges of keys, found by a key inside: a search tree over their bounds, in which each node knows how far the ranges below
//! it reach.
//!
//! Cost: with `n` different ranges of which `k` hold the key, a [visit](IntervalTree::visit) looks at `O(k log n)` nodes at
//! most, and never at more than `n`; an insertion or a removal at `O(log n)`. The tree is balanced by height (Adelson-Velsky
//! and Landis, 1962), so that no choice of ranges makes it deep.
//!
//! Source: Cormen et al., "Introduction to Algorithms", chapter "Augmenting Data Structures", interval trees.

#![allow(
    clippy::unnecessary_box_returns,
    reason = "parts of the tree are handed up in the boxes that they live in"
)]

use std::cmp::Ordering;

use bytes::Bytes;

/// A range of keys: from the first one up to but not including the second; without a second there is no upper bound.
pub(super) type Bounds = (Bytes, Option<Bytes>);

/// Values by the range of keys that they are for.
#[derive(Debug)]
pub(super) struct IntervalTree<V> {
    root: Link<V>,
}

type Link<V> = Option<Box<Node<V>>>;

/// Invariants: `height` and `reach` are those of the subtree; the heights of both sides differ by one at most.
#[derive(Debug)]
struct Node<V> {
    bounds: Bounds,
    value: V,
    /// The largest upper bound in this subtree.
    reach: Option<Bytes>,
    /// Of the longest way down, this node included.
    height: u8,
    left: Link<V>,
    right: Link<V>,
}

impl<V> Default for IntervalTree<V> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<V> IntervalTree<V> {
    /// The value for this range; `default` if there was none.
    pub(super) fn get_or_insert(&mut self, bounds: &Bounds, default: fn() -> V) -> Option<&mut V> {
        if !self.contains(bounds) {
            self.root =
                Some(insert(self.root.take(), Box::new(Node::new(bounds.clone(), default()))));
        }
        self.get_mut(bounds)
    }

    /// The value for this range.
    pub(super) fn get_mut(&mut self, bounds: &Bounds) -> Option<&mut V> {
        let mut link = &mut self.root;
        while let Some(node) = link {
            match order(bounds, &node.bounds) {
                Ordering::Equal => return Some(&mut node.value),
                Ordering::Less => link = &mut node.left,
                Ordering::Greater => link = &mut node.right,
            }
        }
        None
    }

    /// Forgets this range.
    pub(super) fn remove(&mut self, bounds: &Bounds) {
        self.root = remove(self.root.take(), bounds);
    }

    /// Calls `found` for each range with `key` inside.
    pub(super) fn visit(&self, key: &[u8], found: &mut impl FnMut(&V)) {
        visit(self.root.as_deref(), key, found);
    }

    fn contains(&self, bounds: &Bounds) -> bool {
        let mut link = &self.root;
        while let Some(node) = link {
            match order(bounds, &node.bounds) {
                Ordering::Equal => return true,
                Ordering::Less => link = &node.left,
                Ordering::Greater => link = &node.right,
            }
        }
        false
    }
}

impl<V> Node<V> {
    fn new(bounds: Bounds, value: V) -> Self {
        let reach = bounds.1.clone();
        Self { bounds, value, reach, height: 1, left: None, right: None }
    }

    /// How much higher the left side is.
    fn lean(&self) -> i16 {
        i16::from(height(self.left.as_deref())) - i16::from(height(self.right.as_deref()))
    }

    /// Makes the invariants of this node hold again, those below holding.
    fn renew(&mut self) {
        let below = [self.left.as_deref(), self.right.as_deref()];
        self.height = 1 + below.map(height).into_iter().fold(0, u8::max);
        let mut reach = self.bounds.1.as_ref();
        for node in below.into_iter().flatten() {
            if order_ends(reach, node.reach.as_ref()) == Ordering::Less {
                reach = node.reach.as_ref();
            }
        }
        self.reach = reach.cloned();
    }
}

fn height<V>(node: Option<&Node<V>>) -> u8 {
    node.map_or(0, |node| node.height)
}

/// No upper bound is above all others.
fn order_ends(one: Option<&Bytes>, other: Option<&Bytes>) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) => one.cmp(other),
        (one, other) => one.is_none().cmp(&other.is_none()),
    }
}

fn order(one: &Bounds, other: &Bounds) -> Ordering {
    one.0.cmp(&other.0).then_with(|| order_ends(one.1.as_ref(), other.1.as_ref()))
}

fn visit<V>(node: Option<&Node<V>>, key: &[u8], found: &mut impl FnMut(&V)) {
    let Some(node) = node.filter(|node| is_below(key, node.reach.as_ref())) else { return };
    visit(node.left.as_deref(), key, found);
    if node.bounds.0.as_ref() > key {
        return;
    }
    if is_below(key, node.bounds.1.as_ref()) {
        found(&node.value);
    }
    visit(node.right.as_deref(), key, found);
}

fn is_below(key: &[u8], end: Option<&Bytes>) -> bool {
    end.is_none_or(|end| key < end.as_ref())
}

/// Puts in a node whose range is not there yet.
fn insert<V>(link: Link<V>, new: Box<Node<V>>) -> Box<Node<V>> {
    let Some(mut node) = link else { return new };
    if order(&new.bounds, &node.bounds) == Ordering::Less {
        node.left = Some(insert(node.left.take(), new));
    } else {
        node.right = Some(insert(node.right.take(), new));
    }
    balance(node)
}

fn remove<V>(link: Link<V>, bounds: &Bounds) -> Link<V> {
    let mut node = link?;
    match order(bounds, &node.bounds) {
        Ordering::Less => node.left = remove(node.left.take(), bounds),
        Ordering::Greater => node.right = remove(node.right.take(), bounds),
        Ordering::Equal => return join(node.left.take(), node.right.take()),
    }
    Some(balance(node))
}

/// Makes one of both sides of a node that goes.
fn join<V>(left: Link<V>, right: Link<V>) -> Link<V> {
    let Some(right) = right else { return left };
    let (rest, mut first) = take_first(right);
    (first.left, first.right) = (left, rest);
    Some(balance(first))
}

/// Takes the smallest out.
fn take_first<V>(mut node: Box<Node<V>>) -> (Link<V>, Box<Node<V>>) {
    let Some(left) = node.left.take() else { return (node.right.take(), node) };
    let (rest, first) = take_first(left);
    node.left = rest;
    (Some(balance(node)), first)
}

/// Turns a node whose sides differ by two until they differ by one at most.
fn balance<V>(mut node: Box<Node<V>>) -> Box<Node<V>> {
    if node.lean() > 1 {
        node.left = node.left.map(|left| if left.lean() < 0 { turn_left(left) } else { left });
        return turn_right(node);
    }
    if node.lean() < -1 {
        node.right =
            node.right.map(|right| if right.lean() > 0 { turn_right(right) } else { right });
        return turn_left(node);
    }
    node.renew();
    node
}

/// The left side comes up.
fn turn_right<V>(mut node: Box<Node<V>>) -> Box<Node<V>> {
    let Some(mut up) = node.left.take() else { return node };
    node.left = up.right.take();
    node.renew();
    up.right = Some(node);
    up.renew();
    up
}

/// The right side comes up.
fn turn_left<V>(mut node: Box<Node<V>>) -> Box<Node<V>> {
    let Some(mut up) = node.right.take() else { return node };
    node.right = up.left.take();
    node.renew();
    up.left = Some(node);
    up.renew();
    up
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Numbers that look drawn, the same in each run.
    fn draws(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        }
    }

    fn key(number: u64) -> Bytes {
        Bytes::copy_from_slice(&u16::try_from(number).unwrap().to_be_bytes())
    }

    /// The heights of all nodes, and that everything below them is as their fields say.
    fn check<V>(node: Option<&Node<V>>) -> u8 {
        let Some(node) = node else { return 0 };
        let below = [node.left.as_deref(), node.right.as_deref()];
        let [left, right] = below.map(check);
        assert!(left.abs_diff(right) <= 1);
        assert_eq!(node.height, 1 + left.max(right));
        let ends = below.into_iter().flatten().map(|below| below.reach.as_ref());
        let ends = ends.chain([node.bounds.1.as_ref()]);
        let reach = ends.max_by(|one, other| order_ends(*one, *other)).unwrap();
        assert_eq!(node.reach.as_ref(), reach);
        node.height
    }

    #[test]
    fn what_a_key_lies_in_is_what_a_walk_through_all_finds() {
        for seed in 0..20 {
            let mut draw = draws(seed);
            let (mut tree, mut all) = (IntervalTree::default(), Vec::<(Bounds, u64)>::new());
            for step in 0..400 {
                let start = draw(60);
                let end = (draw(10) > 0).then(|| key(start + 1 + draw(20)));
                let bounds = (key(start), end);
                if draw(3) == 0 {
                    tree.remove(&bounds);
                    all.retain(|(known, _)| *known != bounds);
                } else {
                    *tree.get_or_insert(&bounds, || 0).unwrap() = step;
                    all.retain(|(known, _)| *known != bounds);
                    all.push((bounds, step));
                }
                check(tree.root.as_deref());
                let asked = key(draw(85));
                let mut found = BTreeSet::new();
                tree.visit(&asked, &mut |value| assert!(found.insert(*value), "twice"));
                let holds = |(start, end): &Bounds| {
                    *start <= asked && end.as_ref().is_none_or(|end| asked < *end)
                };
                let expected = all.iter().filter(|(bounds, _)| holds(bounds));
                assert_eq!(found, expected.map(|(_, value)| *value).collect());
            }
        }
    }

    /// A walk through all ranges that begin below the key looked at half of them.
    #[test]
    fn a_key_in_few_ranges_looks_at_few() {
        let mut tree = IntervalTree::default();
        for number in 0..10_000 {
            tree.get_or_insert(&(key(4 * number), Some(key(4 * number + 3))), || ());
        }
        assert!(check(tree.root.as_deref()) <= 20);
        let mut found = 0;
        tree.visit(&key(20_001), &mut |()| found += 1);
        assert_eq!((found, looked_at(tree.root.as_deref(), &key(20_001)) <= 40), (1, true));
    }

    /// How many nodes a visit looks at, those that it turns away from included.
    fn looked_at<V>(node: Option<&Node<V>>, key: &[u8]) -> usize {
        let Some(node) = node else { return 0 };
        if !is_below(key, node.reach.as_ref()) {
            return 1;
        }
        let right = node.right.as_deref().filter(|_| node.bounds.0.as_ref() <= key);
        1 + looked_at(node.left.as_deref(), key) + looked_at(right, key)
    }
}
