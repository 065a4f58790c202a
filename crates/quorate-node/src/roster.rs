//! Which data directory each member speaks from.
//!
//! A vote and an acknowledgement are promises, kept in the data directory (Raft paper, figure 2: persistent state). A member
//! that starts again with an empty directory has forgotten them: it may vote twice in one term, and count for entries that it
//! has lost. So every directory draws a number at its first start, its [`DirectoryId`], and says it before anything else. A
//! [`Roster`] remembers the first one that it met for each member; any other speaks for a member that it is not, and counts
//! nowhere.
//!
//! Whoever keeps a roster makes it durable before it exchanges the first message with a member that it met
//! ([`Acquaintance::New`]). What the group agreed on in its log is added with [`Roster::learn`], so that a member knows
//! directories that it has never met itself.
//!
//! What it can't see: a directory that was put back to an older state keeps its number; and who has neither met a member nor
//! applied what the group knows of it takes any directory for the first.
//!
//! Source: Kafka's KIP-853, whose replicas are named by their id and a `directory.id`.

use std::collections::BTreeMap;

use quorate_raft::NodeId;

/// The number that a data directory drew at its first start. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(pub u64);

impl DirectoryId {
    /// The number for a drawn one.
    pub fn drawn(number: u64) -> Self {
        Self(number.max(1))
    }
}

/// What a member says of itself when it is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberCard {
    /// The directory that it speaks from.
    pub directory: DirectoryId,
    /// The newest version of commands that it can apply.
    pub command_version: u8,
}

/// The members as one of them knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    me: (NodeId, DirectoryId),
    /// What this member met itself.
    met: BTreeMap<NodeId, MemberCard>,
    /// What the group agreed on, as far as this member applied it.
    agreed: BTreeMap<NodeId, DirectoryId>,
}

/// Whether a member may be talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Admitted,
    /// It speaks from another directory than is known.
    OtherDirectory,
    /// It can't be remembered now, which is no fault of its own.
    Unavailable,
}

/// What a roster makes of a member that says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquaintance {
    /// The one that is known, and nothing is new about it.
    Known,
    /// The first one, or the known one of another version: it must be remembered, durably, before anything is exchanged with
    /// it.
    New,
    /// Another one than is known: nothing may be exchanged with it.
    Other,
}

impl Roster {
    /// Of a member that is `me` and met `met` before.
    pub fn new(
        me: (NodeId, DirectoryId),
        met: impl IntoIterator<Item = (NodeId, MemberCard)>,
    ) -> Self {
        Self { me, met: met.into_iter().collect(), agreed: BTreeMap::new() }
    }

    /// Whose roster it is.
    pub fn me(&self) -> NodeId {
        self.me.0
    }

    /// The directory that its owner speaks from.
    pub fn own(&self) -> DirectoryId {
        self.me.1
    }

    /// What a `member` with this card is to this one. Changes nothing.
    pub fn judge(&self, member: NodeId, card: MemberCard) -> Acquaintance {
        let own = Some(self.me).filter(|(me, _)| *me == member).map(|(_, own)| own);
        let met = self.met.get(&member);
        let agreed = self.agreed.get(&member).copied();
        let known = met.map(|met| met.directory).into_iter().chain(agreed).chain(own);
        if known.into_iter().any(|known| known != card.directory) {
            Acquaintance::Other
        } else if met == Some(&card) {
            Acquaintance::Known
        } else {
            Acquaintance::New
        }
    }

    /// Notes that this one was met. A directory that was known of the member stays; its version may change.
    pub fn meet(&mut self, member: NodeId, card: MemberCard) {
        if member != self.me.0 {
            let known = self.met.entry(member).or_insert(card);
            known.command_version = card.command_version;
        }
    }

    /// The newest version of commands that all of `members` can apply, if this one can apply `own`. `None`: one of them was
    /// never met.
    pub fn command_version<'a>(
        &self,
        members: impl IntoIterator<Item = &'a NodeId>,
        own: u8,
    ) -> Option<u8> {
        let version = |member: &NodeId| match self.met.get(member) {
            Some(card) => Some(card.command_version),
            None => (*member == self.me.0).then_some(own),
        };
        members.into_iter().map(version).try_fold(own, |least, version| Some(least.min(version?)))
    }

    /// Takes in what the group agreed on. Whether this very directory is another one than the group knows for its member:
    /// then it must end.
    pub fn learn(&mut self, agreed: impl IntoIterator<Item = (NodeId, DirectoryId)>) -> bool {
        for (member, directory) in agreed {
            self.agreed.entry(member).or_insert(directory);
        }
        self.agreed.get(&self.me.0).is_some_and(|known| *known != self.me.1)
    }

    /// What this member met itself, in order of ids: what has to be durable.
    pub fn met(&self) -> impl Iterator<Item = (NodeId, MemberCard)> {
        self.met.iter().map(|(member, card)| (*member, *card))
    }

    /// What this member knows, itself included, and the group has not agreed on.
    pub fn unagreed(&self) -> Vec<(NodeId, DirectoryId)> {
        let met = self.met().map(|(member, card)| (member, card.directory));
        let known = met.chain([self.me]);
        known.filter(|(member, _)| !self.agreed.contains_key(member)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: (NodeId, DirectoryId) = (NodeId(1), DirectoryId(100));
    const TWO: NodeId = NodeId(2);
    const THREE: NodeId = NodeId(3);

    fn card(directory: u64) -> MemberCard {
        MemberCard { directory: DirectoryId(directory), command_version: 2 }
    }

    #[test]
    fn the_first_directory_of_a_member_is_the_only_one() {
        let mut roster = Roster::new(ME, []);
        assert_eq!(roster.judge(TWO, card(7)), Acquaintance::New);
        roster.meet(TWO, card(7));
        roster.meet(TWO, card(8));
        assert_eq!(roster.judge(TWO, card(7)), Acquaintance::Known);
        assert_eq!(roster.judge(TWO, card(8)), Acquaintance::Other);
        let again = Roster::new(ME, roster.met());
        assert_eq!(again, roster);
        assert_eq!(again.judge(ME.0, card(101)), Acquaintance::Other);
    }

    #[test]
    fn what_the_group_agreed_on_is_known_without_a_meeting() {
        let mut roster = Roster::new(ME, []);
        assert!(!roster.learn([(THREE, DirectoryId(9)), ME]));
        assert_eq!(roster.judge(THREE, card(8)), Acquaintance::Other);
        // It is not remembered apart from the group's state before it is met.
        assert_eq!(roster.judge(THREE, card(9)), Acquaintance::New);
        assert!(!roster.learn([ME]));
    }

    #[test]
    fn a_directory_that_the_group_does_not_know_is_told() {
        let mut roster = Roster::new(ME, []);
        assert!(roster.learn([(ME.0, DirectoryId(5))]));
        assert!(roster.learn([]), "also when it is asked again");
    }

    #[test]
    fn what_contradicts_the_group_or_a_meeting_counts_nowhere() {
        let mut roster = Roster::new(ME, [(TWO, card(7))]);
        roster.learn([(TWO, DirectoryId(8))]);
        for directory in [7, 8, 9].map(card) {
            assert_eq!(roster.judge(TWO, directory), Acquaintance::Other);
        }
    }

    #[test]
    fn what_is_known_and_not_agreed_on_is_named() {
        let mut roster = Roster::new(ME, [(TWO, card(7))]);
        assert_eq!(roster.unagreed(), [(TWO, DirectoryId(7)), ME]);
        roster.learn([ME]);
        assert_eq!(roster.unagreed(), [(TWO, DirectoryId(7))]);
    }

    #[test]
    fn the_version_that_all_understand_is_the_least_and_unknown_before_all_were_met() {
        let mut roster = Roster::new(ME, [(TWO, card(7))]);
        let all = [ME.0, TWO, THREE];
        assert_eq!(roster.command_version(&all, 5), None);
        roster.meet(THREE, MemberCard { command_version: 9, ..card(8) });
        assert_eq!(roster.command_version(&all, 5), Some(2));
        let newer = MemberCard { command_version: 6, ..card(7) };
        assert_eq!(roster.judge(TWO, newer), Acquaintance::New);
        roster.meet(TWO, newer);
        assert_eq!(roster.command_version(&all, 5), Some(5));
    }
}
