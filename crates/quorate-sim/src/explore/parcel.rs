//! Messages on their way: lent to a core, hashed, and named for people.

use quorate_raft::{AppendOutcome, EntryMeta, Message};

use super::hash::rename;
use super::member::Parcel;
use super::universe::Face;

type Sent = Message<Vec<EntryMeta>>;

/// The message as a core takes it.
pub(super) fn borrowed(message: &Sent) -> Message<&[EntryMeta]> {
    if let Message::AppendEntries { term, prev, entries, commit, round } = message {
        let (term, prev, commit, round) = (*term, *prev, *commit, *round);
        return Message::AppendEntries { term, prev, entries, commit, round };
    }
    message.clone().map_entries(|_| &[][..])
}

/// The entries it carries.
pub(super) fn entries(message: &Sent) -> &[EntryMeta] {
    if let Message::AppendEntries { entries, .. } = message { entries } else { &[] }
}

/// Writes out a message, members renamed.
pub(super) fn words(parcel: &Parcel, renaming: usize, out: &mut Vec<u64>) {
    out.extend([rename(renaming, parcel.from).0, rename(renaming, parcel.to).0]);
    let term = parcel.message.term().0;
    match &parcel.message {
        Message::RequestVote { pre_vote, last, transfer, .. } => {
            let flags = [u64::from(*pre_vote), u64::from(*transfer)];
            out.extend([1, term, flags[0], flags[1], last.term.0, last.index.0]);
        }
        Message::Vote { pre_vote, granted, .. } => {
            out.extend([2, term, u64::from(*pre_vote), u64::from(*granted)]);
        }
        Message::AppendEntries { prev, entries, commit, round, .. } => {
            out.extend([3, term, prev.term.0, prev.index.0, commit.0, *round]);
            out.push(entries.len() as u64);
            out.extend(entries.iter().flat_map(|entry| [entry.term.0, u64::from(entry.bytes)]));
        }
        Message::Appended { round, outcome: AppendOutcome::Matched(index), .. } => {
            out.extend([4, term, *round, index.0]);
        }
        Message::Appended { round, outcome: AppendOutcome::Rejected { prev, hint }, .. } => {
            out.extend([5, term, *round, prev.0, hint.term.0, hint.index.0]);
        }
        Message::Heartbeat { commit, round, .. } => out.extend([6, term, commit.0, *round]),
        Message::HeartbeatReply { round, .. } => out.extend([7, term, *round]),
        Message::InstallSnapshot { snapshot, .. } => {
            out.extend([8, term, snapshot.last.term.0, snapshot.last.index.0]);
            out.extend(parcel.state.iter().map(|term| term.0));
        }
        Message::ReadIndex { context, .. } => out.extend([9, term, context.0]),
        Message::ReadIndexReply { context, index, .. } => {
            out.extend([10, term, context.0, index.map_or(u64::MAX, |index| index.0)]);
        }
        Message::TimeoutNow { .. } => out.extend([11, term]),
    }
}

/// Whether this message can never again do anything at the member that has this face: an answer to what it will never ask again.
///
/// Answers and snapshots of a term that is over, on disk too, are passed over, whatever comes. Votes count only for a candidate of their
/// term, and nobody stands twice in one term.
pub(super) fn is_dead(message: &Sent, face: &Face) -> bool {
    let term = message.term().0;
    match message {
        Message::Vote { pre_vote: true, granted, .. } => *granted && term <= face.durable_term,
        Message::Vote { pre_vote: false, .. } => {
            term <= face.durable_term && !(face.stands && face.term == term)
        }
        Message::Appended { .. }
        | Message::HeartbeatReply { .. }
        | Message::InstallSnapshot { .. } => term < face.durable_term,
        Message::ReadIndexReply { index, .. } => index.is_none() && term < face.durable_term,
        Message::RequestVote { .. }
        | Message::AppendEntries { .. }
        | Message::Heartbeat { .. }
        | Message::ReadIndex { .. }
        | Message::TimeoutNow { .. } => false,
    }
}

/// What it says, in few words.
pub(super) fn label(message: &Sent) -> String {
    let term = message.term();
    match message {
        Message::RequestVote { pre_vote, last, transfer, .. } => {
            let name = if *pre_vote { "PreVote?" } else { "Vote?" };
            let handed = if *transfer { " transfer" } else { "" };
            format!("{name} t{term} last {last}{handed}")
        }
        Message::Vote { pre_vote, granted, .. } => {
            let name = if *pre_vote { "PreVote" } else { "Vote" };
            format!("{name} t{term} {}", if *granted { "yes" } else { "no" })
        }
        Message::AppendEntries { prev, entries, commit, round, .. } => {
            let terms: Vec<String> = entries.iter().map(|entry| entry.term.to_string()).collect();
            format!("Append t{term} {prev}+[{}] c{commit} r{round}", terms.join(" "))
        }
        Message::Appended { round, outcome: AppendOutcome::Matched(index), .. } => {
            format!("Matched t{term} {index} r{round}")
        }
        Message::Appended { round, outcome: AppendOutcome::Rejected { prev, hint }, .. } => {
            format!("Refused t{term} {prev} hint {hint} r{round}")
        }
        Message::Heartbeat { commit, round, .. } => format!("Beat t{term} c{commit} r{round}"),
        Message::HeartbeatReply { round, .. } => format!("Beaten t{term} r{round}"),
        Message::InstallSnapshot { snapshot, .. } => format!("Snapshot t{term} {}", snapshot.last),
        Message::ReadIndex { context, .. } => format!("Read? t{term} {context}"),
        Message::ReadIndexReply { context, index, .. } => match index {
            Some(index) => format!("Read t{term} {context} at {index}"),
            None => format!("Read t{term} {context} no"),
        },
        Message::TimeoutNow { .. } => format!("TimeoutNow t{term}"),
    }
}
