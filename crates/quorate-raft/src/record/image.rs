//! A core as words, and words as a core.
//!
//! The image is of the moment between two steps: nothing is staged then. What can be worked out from the rest is left out
//! (the counted form of the membership), and so is what no step reads.

use super::{IMAGE_ENTRIES_MAX, Reader, RecordError, Sink, put_fault, put_membership};
use crate::config::{INDEX_MAX, TERM_MAX};
use crate::durability::Durability;
use crate::election::{Ballot, Leadership, State};
use crate::flow::Inflights;
use crate::log::Log;
use crate::machine::{Core, Staged};
use crate::progress::{Progress, ProgressState};
use crate::quorum::Quorum;
use crate::random::Random;
use crate::read::Reads;
use crate::recover::membership_problem;
use crate::transfer::Transfer;
use crate::{Broken, Config};

impl Core {
    /// Writes out all that decides what this member does next. Says `false`, and writes nothing, if its log has more than
    /// [`IMAGE_ENTRIES_MAX`] entries. Takes time in proportion to the log.
    pub fn image(&self, out: &mut impl Sink) -> bool {
        if self.log.last().index.0 - self.log.base().index.0 > IMAGE_ENTRIES_MAX {
            return false;
        }
        put_config(&self.config, out);
        put_membership(&self.membership, out);
        out.put_all([self.term.0, self.commit.0, self.released.0]);
        out.put_option(self.vote.map(|node| node.0));
        out.put_option(self.leader.map(|node| node.0));
        out.put_all([self.leader_seen.0, self.armed.0, self.wait_ns]);
        out.put(u64::from(self.fault.is_some()));
        if let Some(fault) = self.fault {
            put_fault(fault, out);
        }
        self.random.image(out);
        self.log.image(out);
        self.durability.image(out);
        self.reads.image(out);
        put_state(&self.state, out);
        true
    }

    /// The member that an image is of.
    ///
    /// # Errors
    /// [`RecordError`] if the words are no image, or of no member whose invariants hold.
    pub fn from_image(words: &mut dyn Iterator<Item = u64>) -> Result<Self, RecordError> {
        let mut reader = Reader(words);
        let config = read_config(&mut reader)?;
        let membership = reader.membership()?;
        if let Some(problem) = membership_problem(&membership) {
            return Err(RecordError::Membership(problem));
        }
        let core = read_core(config, membership, &mut reader)?;
        core.check_bounds()?;
        core.check()?;
        Ok(core)
    }

    /// What arithmetic relies on, beside what [`Core::check`] looks at.
    fn check_bounds(&self) -> Result<(), Broken> {
        let bounded = self.term.0 <= TERM_MAX && self.log.last().index.0 <= INDEX_MAX;
        if bounded { Ok(()) } else { Err(Broken("terms and positions are within their bounds")) }
    }
}

fn read_core(
    config: Config,
    membership: crate::Membership,
    reader: &mut Reader<'_>,
) -> Result<Core, RecordError> {
    Ok(Core {
        quorum: Quorum::of(&membership),
        membership,
        term: reader.term()?,
        commit: reader.index()?,
        released: reader.index()?,
        vote: reader.some_node()?,
        leader: reader.some_node()?,
        leader_seen: reader.moment()?,
        armed: reader.moment()?,
        wait_ns: reader.word()?,
        fault: if reader.flag()? { Some(reader.fault()?) } else { None },
        random: Random::from_image(reader)?,
        log: Log::from_image(reader)?,
        durability: Durability::from_image(reader)?,
        reads: Reads::from_image(reader)?,
        state: read_state(reader)?,
        staged: Staged::default(),
        config,
    })
}

fn put_config(config: &Config, out: &mut impl Sink) {
    out.put_all([
        config.id.0,
        config.heartbeat_interval_ns,
        config.election_timeout_ns,
        config.append_bytes_max,
        config.append_entries_max,
        config.inflight_appends_max as u64,
        config.inflight_bytes_max,
        config.uncommitted_bytes_max,
        config.uncommitted_entries_max,
        config.reads_max as u64,
    ]);
}

fn read_config(reader: &mut Reader<'_>) -> Result<Config, RecordError> {
    let config = Config {
        id: reader.node()?,
        heartbeat_interval_ns: reader.word()?,
        election_timeout_ns: reader.word()?,
        append_bytes_max: reader.word()?,
        append_entries_max: reader.word()?,
        inflight_appends_max: reader.size("number of appends")?,
        inflight_bytes_max: reader.word()?,
        uncommitted_bytes_max: reader.word()?,
        uncommitted_entries_max: reader.word()?,
        reads_max: reader.size("number of reads")?,
        #[cfg(feature = "mutants")]
        mutant: 0,
    };
    config.problem().map_or(Ok(config), |problem| Err(RecordError::Config(problem)))
}

fn put_state(state: &State, out: &mut impl Sink) {
    match state {
        State::Follower => out.put(0),
        State::PreCandidate(ballot) => {
            out.put(1);
            ballot.image(out);
        }
        State::Candidate(ballot) => {
            out.put(2);
            ballot.image(out);
        }
        State::Leader(lead) => {
            out.put(3);
            put_leadership(lead, out);
        }
    }
}

fn read_state(reader: &mut Reader<'_>) -> Result<State, RecordError> {
    Ok(match reader.up_to("role", 3)? {
        0 => State::Follower,
        1 => State::PreCandidate(Ballot::from_image(reader)?),
        2 => State::Candidate(Ballot::from_image(reader)?),
        _ => State::Leader(read_leadership(reader)?),
    })
}

fn put_leadership(lead: &Leadership, out: &mut impl Sink) {
    out.put_all([lead.term_start.0, lead.uncommitted_bytes]);
    out.put_all([lead.heartbeat_due.0, lead.quorum_due.0, u64::from(lead.transfer.is_some())]);
    if let Some(Transfer { to, due }) = lead.transfer {
        out.put_all([to.0, due.0]);
    }
    out.put(lead.peers.len() as u64);
    for peer in &lead.peers {
        put_progress(peer, out);
    }
}

fn read_leadership(reader: &mut Reader<'_>) -> Result<Leadership, RecordError> {
    let term_start = reader.index()?;
    let uncommitted_bytes = reader.word()?;
    let heartbeat_due = reader.moment()?;
    let quorum_due = reader.moment()?;
    let transfer = if reader.flag()? {
        Some(Transfer { to: reader.node()?, due: reader.moment()? })
    } else {
        None
    };
    let count = reader.count("number of peers")?;
    let peers = reader.list(count, read_progress)?;
    Ok(Leadership { peers, term_start, uncommitted_bytes, heartbeat_due, quorum_due, transfer })
}

fn put_progress(peer: &Progress, out: &mut impl Sink) {
    let state = match peer.state {
        ProgressState::Probe => 0,
        ProgressState::Replicate => 1,
        ProgressState::Snapshot => 2,
    };
    let flags = [peer.paused, peer.nudge, peer.recent_active];
    out.put_all([peer.node.0, state, peer.match_index.0, peer.next_index.0]);
    out.put_all(flags.map(u64::from));
    out.put_all([peer.commit_sent.0, peer.round_acked]);
    peer.inflights.image(out);
}

fn read_progress(reader: &mut Reader<'_>) -> Result<Progress, RecordError> {
    let node = reader.node()?;
    let state = match reader.up_to("state of a peer", 2)? {
        0 => ProgressState::Probe,
        1 => ProgressState::Replicate,
        _ => ProgressState::Snapshot,
    };
    Ok(Progress {
        node,
        state,
        match_index: reader.index()?,
        next_index: reader.index()?,
        paused: reader.flag()?,
        nudge: reader.flag()?,
        recent_active: reader.flag()?,
        commit_sent: reader.index()?,
        round_acked: reader.word()?,
        inflights: Inflights::from_image(reader)?,
    })
}
