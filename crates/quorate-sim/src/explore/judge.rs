//! What must hold between members in every world (Raft paper, figure 3).
//!
//! - *Election safety*, *state machine safety* and linearizable reads: [`Past`] refuses to learn anything else.
//! - *Log matching*: two logs, in memory or on disk, that have the same term at a position are equal up to there.
//! - *Leader completeness*: who leads a term has all that was known to be committed in it or before.
//! - *Durability*: what is committed is on the disks of a quorum.
//! - *No way back*: nobody who lacks a committed entry has a log with which a quorum, as it would be after a crash of all, could
//!   elect it. This is leader completeness ahead of time, and speaks long before a wrong leader is elected.
//!
//! What must hold of one member alone is judged when the member is first seen.

use super::MEMBERS;
use super::past::Past;
use super::universe::{Face, Terms};

/// Judges three members after the one at `place` has changed.
pub(super) fn world(faces: &[&Face; MEMBERS], place: usize, past: &Past) -> Result<(), String> {
    log_matching(faces, place)?;
    let committed = past.committed;
    if committed.len() == 0 {
        return Ok(());
    }
    leader_completeness(faces, past)?;
    let holds = |log: Terms| log.first(committed.len()) == committed;
    if 2 * faces.iter().filter(|face| holds(face.disk)).count() <= MEMBERS {
        return Err("durability: a committed entry is not on the disks of a quorum".to_owned());
    }
    for (place, face) in faces.iter().enumerate() {
        let wins = |log: Terms| !holds(log) && could_win(faces, place, log);
        if wins(face.log) || wins(face.disk) {
            return Err(format!(
                "no way back: member {} lacks a committed entry and could win",
                place + 1
            ));
        }
    }
    Ok(())
}

fn log_matching(faces: &[&Face; MEMBERS], place: usize) -> Result<(), String> {
    let Some(changed) = faces.get(place) else { return Ok(()) };
    for (other, face) in faces.iter().enumerate().filter(|(other, _)| *other != place) {
        let pairs = [(changed.log, face.log), (changed.log, face.disk), (changed.disk, face.log)];
        if !pairs.into_iter().all(|(one, two)| match_each_other(one, two)) {
            return Err(format!(
                "log matching: members {} and {} differ before an equal entry",
                place + 1,
                other + 1
            ));
        }
    }
    Ok(())
}

/// Behind the first difference no term is the same.
fn match_each_other(one: Terms, two: Terms) -> bool {
    let (common, end) = (one.common(two), one.len().min(two.len()));
    (common + 1..=end).all(|index| one.at(index) != two.at(index))
}

fn leader_completeness(faces: &[&Face; MEMBERS], past: &Past) -> Result<(), String> {
    for (place, face) in faces.iter().enumerate().filter(|(_, face)| face.leads) {
        let lacks = |index: &u32| {
            past.committed_in.at(*index) <= face.term
                && face.log.at(*index) != past.committed.at(*index)
        };
        if (1..=past.committed.len()).any(|index| lacks(&index)) {
            return Err(format!(
                "leader completeness: leader {} lacks a committed entry",
                place + 1
            ));
        }
    }
    Ok(())
}

/// Whether a member with that log is as up-to-date as enough others' disks.
fn could_win(faces: &[&Face; MEMBERS], place: usize, log: Terms) -> bool {
    let others = faces.iter().enumerate().filter(|(other, _)| *other != place);
    let voters = others.filter(|(_, face)| face.disk.end() <= log.end()).count();
    2 * (voters + 1) > MEMBERS
}

#[cfg(test)]
mod tests {
    use quorate_raft::Term;

    use super::*;

    fn terms(log: &[u64]) -> Terms {
        Terms::of(log.iter().copied().map(Term))
    }

    fn face(log: &[u64]) -> Face {
        let log = terms(log);
        Face {
            term: 9,
            leads: false,
            stands: false,
            durable_term: 9,
            follows: false,
            commit: 0,
            log,
            disk: log,
            unsynced: 0,
            sending: 0,
            can_compact: false,
        }
    }

    fn verdict(logs: [&[u64]; MEMBERS], committed: &[u64]) -> Result<(), String> {
        let faces = logs.map(face);
        let [one, two, three] = &faces;
        world(&[one, two, three], 0, &Past::of(terms(committed)))
    }

    #[test]
    fn logs_that_meet_again_do_not_match() {
        assert_eq!(verdict([&[1, 1, 3], &[1, 2], &[]], &[]), Ok(()));
        assert!(verdict([&[1, 2, 3], &[1, 1, 3], &[]], &[]).is_err());
    }

    #[test]
    fn committed_entries_lie_on_a_quorum() {
        assert_eq!(verdict([&[1, 2], &[1, 2], &[1]], &[1, 2]), Ok(()));
        assert!(verdict([&[1, 2], &[1], &[1]], &[1, 2]).is_err());
    }

    /// Raft paper, figure 8: a majority has the entry of term 2, but one that lacks it can still win.
    #[test]
    fn an_entry_of_an_older_term_can_be_lost_although_a_majority_has_it() {
        assert!(
            verdict([&[1, 2, 4], &[1, 2], &[1, 3]], &[1, 2])
                .is_err_and(|why| why.contains("no way back"))
        );
        assert_eq!(verdict([&[1, 2, 4], &[1, 2, 4], &[1, 3]], &[1, 2]), Ok(()));
    }

    #[test]
    fn packed_terms_say_what_a_list_says() {
        let log = terms(&[1, 1, 2, 5]);
        assert_eq!((log.len(), log.at(3), log.at(5), log.end()), (4, 2, 0, (5, 4)));
        assert_eq!((log.first(2), log.common(terms(&[1, 1, 3]))), (terms(&[1, 1]), 2));
    }
}
