//! What a running member owes to whoever waits: its Raft side looks at what came in, nothing on the way there waits for the
//! disk, a leader whose disk hangs leads no longer, and every request gets some answer within the time of a request.

use quorate_etcd::backend::ServerError;
use quorate_raft::Role;
use quorate_storage::vfs::Counts;

use super::{
    HEALED_LEAST_NS,
    call::{Answer, Call},
    member::Member,
    plan::{MS, Plan, SECOND},
    session::Session,
    world::World,
};
use crate::world::{Conviction, Judge};

/// How long what came in may wait for the Raft side.
const UNHEARD_NS: u64 = SECOND;
/// How long a client waits longer than a member may take, for clocks that run slow and a round or two.
const SLACK_NS: u64 = 600 * MS;
/// How long a cluster that was mended may take to come to itself, before nothing may fail any more: some elections.
const CALM_ELECTIONS: u64 = 15;
/// How long it is looked at then.
const CALM_NS: u64 = 12 * SECOND;
/// A client that waits longer than this did not lack patience.
const GIVEN_UP_NS: u64 = 6 * SECOND;

impl Member {
    /// Notes whether clients are served.
    pub(super) fn note_service(&mut self, now: u64) {
        if self.running.as_ref().is_none_or(|running| !running.handle.serves()) {
            self.serves_since = now;
        }
    }

    /// Looks whether this member neglects anybody.
    ///
    /// # Errors
    /// Whom.
    pub(super) fn look_awake(&self, now: u64, plan: &Plan) -> Result<(), Conviction> {
        let Some(running) = &self.running else { return Ok(()) };
        let number = self.number;
        if let Some(since) = self.unheard_since.filter(|since| now > since + UNHEARD_NS) {
            let waited_ms = (now - since) / MS;
            let detail = format!("member {number} has not heard its peers for {waited_ms} ms");
            return Err(Conviction::new(Judge::Liveness, detail));
        }
        // Where there is nobody else, nobody else can lead.
        let leads = running.raft.view().is_some_and(|view| view.role == Role::Leader);
        let leads = leads && plan.members > 1;
        let since = self.writes_since.filter(|_| leads);
        let hung_ns = since.map_or(0, |since| now.saturating_sub(since.max(self.awake_since)));
        if hung_ns > 2 * plan.election_ns + SECOND {
            let hung_ms = hung_ns / MS;
            let detail = format!("member {number} leads, and its disk has hung for {hung_ms} ms");
            return Err(Conviction::new(Judge::Liveness, detail));
        }
        Ok(())
    }
}

impl Session {
    /// Looks whether a request has no answer after the time of a request, though its member served clients and ran without
    /// standing still.
    ///
    /// # Errors
    /// Which.
    pub(super) fn look_patient(
        &self,
        now: u64,
        member: &Member,
        plan: &Plan,
    ) -> Result<(), Conviction> {
        let Some(call) = &self.call else { return Ok(()) };
        let limit_ns = 5 * SECOND + 2 * plan.election_ns;
        let limit_ns = limit_ns + limit_ns * plan.drift_ppm / 1_000_000 + SLACK_NS;
        let begin = call.invoke.max(member.serves_since);
        if now < begin + limit_ns || call.invoke < member.awake_since {
            return Ok(());
        }
        let waited_ms = (now - call.invoke) / MS;
        let detail = format!(
            "client {} has waited {waited_ms} ms for an answer of member {} to {:?}",
            self.who.client, self.member, call.ask
        );
        Err(Conviction::new(Judge::Liveness, detail))
    }
}

impl Plan {
    /// How long after everything was mended nothing may fail any more; zero where that is not looked at.
    fn calm_after_ns(&self) -> u64 {
        if self.is_far() { CALM_ELECTIONS * self.election_ns } else { 0 }
    }
}

impl World {
    /// What stands still until then has not neglected anybody before.
    pub(super) fn excuse_until(&mut self, member: usize, until: u64) {
        if let Some(one) = self.members.get_mut(member) {
            (one.awake_since, one.unheard_since) = (until + SECOND, None);
        }
    }

    /// Looks whether somebody for whom heartbeats and votes wait has used the disk since `before`, which may hang at any call.
    ///
    /// # Errors
    /// Who has.
    pub(super) fn look_at_calls(
        &self,
        member: usize,
        before: Counts,
        who: &str,
    ) -> Result<(), Conviction> {
        let after = self.members.get(member).map(|one| one.disk.counts()).unwrap_or_default();
        if after.total <= before.total {
            return Ok(());
        }
        let (calls, reads) = (after.total - before.total, after.reads - before.reads);
        let detail =
            format!("{who} of member {member} waited for {calls} calls of its disk, {reads} reads");
        Err(Conviction::new(Judge::Contract, detail))
    }

    /// Clients whose members are far apart must get their answers, once all is well: no request ends with an error of the
    /// cluster, and nobody gives up after a long time.
    ///
    /// # Errors
    /// Who did not.
    pub(super) fn stay_calm(&mut self) -> Result<(), Conviction> {
        if !self.plan.is_far_and_able() {
            return Ok(());
        }
        let calm_at = self.now;
        while self.now < calm_at + CALM_NS {
            self.step()?;
        }
        let failed = |session: &Session| {
            let (invoke, what) = session.failure.clone()?;
            (invoke >= calm_at).then(|| format!("client {}: {what}", session.who.client))
        };
        match self.sessions.iter().find_map(failed) {
            Some(what) => Err(Conviction::new(Judge::Liveness, format!("all is well, but {what}"))),
            None => Ok(()),
        }
    }

    /// How long a mended world goes on at least.
    pub(super) fn healed_least_ns(&self) -> u64 {
        HEALED_LEAST_NS.max(self.plan.calm_after_ns())
    }
}

impl Session {
    /// Looks whether a request was refused for want of a leader although it still had time: in nobody's log, it can wait.
    ///
    /// # Errors
    /// Which.
    pub(super) fn look_refused(&mut self, plan: &Plan) -> Result<(), Conviction> {
        let Some((waited_ns, what)) = self.refusal.take() else { return Ok(()) };
        let limit_ns = 5 * SECOND + 2 * plan.election_ns;
        let least_ns = limit_ns - limit_ns * plan.drift_ppm / 1_000_000;
        if waited_ns >= least_ns {
            return Ok(());
        }
        let detail = format!("client {}: {what}", self.who.client);
        Err(Conviction::new(Judge::Contract, detail))
    }

    /// Notes how a request ended, if it was not answered as it should be.
    pub(super) fn note_failure(
        &mut self,
        now: u64,
        call: &Call,
        outcome: Option<&Result<Answer, ServerError>>,
    ) {
        let what = match outcome {
            Some(Err(
                error @ (ServerError::Timeout
                | ServerError::NoLeader
                | ServerError::TimeoutDueToLeaderFail
                | ServerError::LeaderChanged),
            )) => error.to_string(),
            None if now - call.invoke > GIVEN_UP_NS => "gave up".to_owned(),
            Some(_) | None => return,
        };
        let waited_ns = now - call.invoke;
        let waited_ms = waited_ns / MS;
        let detail =
            format!("{what} after {waited_ms} ms at member {}: {:?}", self.member, call.ask);
        if matches!(outcome, Some(Err(ServerError::NoLeader))) {
            self.refusal = Some((waited_ns, detail.clone()));
        }
        self.failure = Some((call.invoke, detail));
    }
}
