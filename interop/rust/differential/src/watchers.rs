//! The same watchers on both servers, and whether they got the same.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use quorate_proto::etcdserverpb::{
    self as pb, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest,
    watch_create_request::FilterType, watch_request::RequestUnion,
};
use tonic::transport::Channel;

use crate::{
    accepted,
    call::{self, Call},
    generate::Generator,
    watch::{Item, Lane, Lanes, Stream},
};

/// Streams open at a time.
const STREAMS: usize = 6;

/// Watchers of one stream at most.
const WATCHERS: usize = 12;

/// How long both sides may take to deliver the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// etcd takes up to 100 ms, more on a busy machine, until a watcher that starts in the past is in step. Until then what
/// it does at a compaction or a progress request is a matter of luck.
const SETTLE: Duration = Duration::from_millis(300);

/// A stream on both servers.
#[derive(Debug)]
struct Pair {
    left: Stream,
    right: Stream,
    /// Where the right stream is.
    member: Channel,
    /// Ids of watchers not yet canceled.
    living: BTreeSet<i64>,
    /// Of those, the ones that ended because of compaction. etcd answers no progress request while it has one.
    ended: BTreeSet<i64>,
    /// What was asked for last, for reports.
    last_request: String,
}

/// All streams on both servers.
#[derive(Debug, Default)]
pub struct Watchers {
    pairs: Vec<Pair>,
    last_past_start: Option<Instant>,
    /// Watchers created.
    pub watches: u64,
    /// Events compared.
    pub events: u64,
}

/// Two members, one of each server, that the next request goes to.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a> {
    pub left: &'a Channel,
    pub right: &'a Channel,
}

impl Watchers {
    /// Does something random: opens, closes, creates, cancels. `Err` in the result is a difference.
    pub async fn step(
        &mut self,
        generator: &mut Generator,
        members: Members<'_>,
    ) -> Result<Result<(), String>> {
        if self.pairs.len() < STREAMS {
            self.pairs.push(Pair {
                left: Stream::open(members.left),
                right: Stream::open(members.right),
                member: members.right.clone(),
                living: BTreeSet::new(),
                ended: BTreeSet::new(),
                last_request: String::new(),
            });
        }
        let at = generator.dice.below(self.pairs.len());
        match generator.dice.weighted(&[60, 20, 2]) {
            0 if self.pairs[at].living.len() < WATCHERS => self.create(at, generator).await,
            0 | 1 => self.cancel(at, generator).await,
            _ => {
                let equal = self.compare(generator.compacted).await;
                self.pairs.swap_remove(at);
                Ok(equal)
            }
        }
    }

    async fn create(&mut self, at: usize, generator: &mut Generator) -> Result<Result<(), String>> {
        let request = self.request(at, generator);
        if request.start_revision > 0 && request.start_revision <= generator.revision {
            self.last_past_start = Some(Instant::now());
        }
        self.watches += 1;
        self.ask(at, RequestUnion::CreateRequest(request), generator.compacted).await
    }

    fn request(&self, at: usize, generator: &mut Generator) -> WatchCreateRequest {
        let (key, range_end) = generator.bounds();
        let filters = match generator.dice.weighted(&[80, 8, 8, 4]) {
            0 => vec![],
            1 => vec![FilterType::Noput.into()],
            2 => vec![FilterType::Nodelete.into()],
            _ => vec![FilterType::Noput.into(), FilterType::Nodelete.into()],
        };
        let taken = self.pairs[at].living.first().copied().unwrap_or(0);
        WatchCreateRequest {
            key,
            range_end,
            start_revision: if generator.dice.percent(50) { 0 } else { generator.some_revision() },
            filters,
            prev_kv: generator.dice.percent(50),
            watch_id: match generator.dice.weighted(&[85, 10, 5]) {
                0 => 0,
                1 => generator.dice.between(1, 40),
                _ => taken,
            },
            fragment: generator.dice.percent(20),
            progress_notify: generator.dice.percent(20),
        }
    }

    async fn cancel(&mut self, at: usize, generator: &mut Generator) -> Result<Result<(), String>> {
        if let Err(difference) = self.compare(generator.compacted).await {
            return Ok(Err(difference));
        }
        let living: Vec<i64> = self.pairs[at].living.iter().copied().collect();
        if living.is_empty() || generator.dice.percent(5) {
            self.send(at, RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 999 }))
                .await?;
            return self.refused(at, generator.compacted).await;
        }
        self.cancel_one(at, generator.dice.one(&living), generator.compacted).await
    }

    async fn cancel_one(
        &mut self,
        at: usize,
        watch_id: i64,
        compacted: i64,
    ) -> Result<Result<(), String>> {
        self.pairs[at].living.remove(&watch_id);
        self.pairs[at].ended.remove(&watch_id);
        self.ask(at, RequestUnion::CancelRequest(WatchCancelRequest { watch_id }), compacted).await
    }

    /// Waits until every watcher is in step, compares, and asks each stream for progress.
    pub async fn report(&mut self, compacted: i64) -> Result<Result<(), String>> {
        if let Err(difference) = self.settle(compacted).await {
            return Ok(Err(difference));
        }
        for at in 0..self.pairs.len() {
            while let Some(watch_id) = self.pairs[at].ended.pop_first() {
                if let Err(difference) = self.cancel_one(at, watch_id, compacted).await? {
                    return Ok(Err(difference));
                }
            }
            self.send(at, RequestUnion::ProgressRequest(WatchProgressRequest {})).await?;
            if let Err(difference) = self.refused(at, compacted).await? {
                return Ok(Err(difference));
            }
        }
        Ok(Ok(()))
    }

    /// A request that is sure to be answered, behind one that may be not.
    async fn refused(&mut self, at: usize, compacted: i64) -> Result<Result<(), String>> {
        let create = WatchCreateRequest { start_revision: -1, ..WatchCreateRequest::default() };
        self.ask(at, RequestUnion::CreateRequest(create), compacted).await
    }

    /// Sends a request that is sure to be answered, waits for the answer of both sides, and compares.
    async fn ask(
        &mut self,
        at: usize,
        request: RequestUnion,
        compacted: i64,
    ) -> Result<Result<(), String>> {
        let pair = &self.pairs[at];
        let answers = |stream: &Stream| stream.look(|lanes| lanes.answers);
        let (left, right) = (answers(&pair.left), answers(&pair.right));
        self.send(at, request).await?;
        let pair = &self.pairs[at];
        let deadline = Instant::now() + PATIENCE;
        while answers(&pair.left) == left || answers(&pair.right) == right {
            if Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(self.compare(compacted).await)
    }

    /// Sends a request to both sides, once the member on the right has applied everything acknowledged so far.
    async fn send(&mut self, at: usize, request: RequestUnion) -> Result<()> {
        let pair = &mut self.pairs[at];
        call::send(&pair.member, Call::Range(barrier())).await;
        pair.last_request = format!("{request:?}");
        pair.left.send(request.clone()).await?;
        pair.right.send(request).await
    }

    /// Waits until no watcher that started in the past can still be behind, and compares.
    pub async fn settle(&mut self, compacted: i64) -> Result<(), String> {
        if let Some(since) = self.last_past_start.take() {
            tokio::time::sleep(SETTLE.saturating_sub(since.elapsed())).await;
        }
        self.compare(compacted).await
    }

    /// Waits until both sides have delivered the same, and forgets it. The difference if they don't in time.
    pub async fn compare(&mut self, compacted: i64) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        for pair in &mut self.pairs {
            loop {
                match pair.compare(compacted) {
                    Ok(events) => break self.events += events,
                    Err(difference) if Instant::now() > deadline => {
                        pair.forget();
                        return Err(difference);
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        }
        Ok(())
    }
}

impl Pair {
    /// Compares the two sides; if they are equal, forgets what they got and gives the number of events, else says how
    /// they differ.
    fn compare(&mut self, compacted: i64) -> Result<u64, String> {
        let Self { left, right, living, ended, last_request, .. } = self;
        left.look(|left| {
            right.look(|right| {
                let mut ids: BTreeSet<i64> = left.by_id.keys().copied().collect();
                ids.extend(right.by_id.keys());
                let unlike = ids.into_iter().find_map(|id| {
                    let items = |lanes: &Lanes| {
                        lanes.by_id.get(&id).map_or_else(Vec::new, |lane| lane.items.clone())
                    };
                    unlike(id, &items(left), &items(right), compacted)
                });
                if let Some(how) = unlike {
                    return Err(format!("{how}\n  last request on this stream: {last_request}"));
                }
                right.by_id.values_mut().for_each(|lane| lane.items.clear());
                Ok(left.by_id.iter_mut().map(|(id, lane)| settle(*id, lane, living, ended)).sum())
            })
        })
    }

    /// Empties both sides after a difference.
    fn forget(&mut self) {
        let clear =
            |lanes: &mut Lanes| lanes.by_id.values_mut().for_each(|lane| lane.items.clear());
        self.left.look(clear);
        self.right.look(clear);
    }
}

/// Empties a lane, notes a watcher that was created or ended, and gives the number of events.
fn settle(id: i64, lane: &mut Lane, living: &mut BTreeSet<i64>, ended: &mut BTreeSet<i64>) -> u64 {
    let mut events = 0;
    for item in lane.items.drain(..) {
        match item {
            Item::Event(_) => events += 1,
            Item::Created { .. } => drop(living.insert(id)),
            Item::Canceled { compact_revision: 1.., .. } => drop(ended.insert(id)),
            _ => {}
        }
    }
    events
}

/// How two watchers differ, in words.
fn unlike(id: i64, left: &[Item], right: &[Item], compacted: i64) -> Option<String> {
    let common =
        left.iter().zip(right).take_while(|(l, r)| accepted::same_item(l, r, compacted)).count();
    let broken = |items: &[Item]| items.iter().position(|item| matches!(item, Item::Broken(_)));
    let at = broken(left).or_else(|| broken(right));
    if at.is_none() && common == left.len() && common == right.len() {
        return None;
    }
    let at = at.unwrap_or(common);
    Some(format!(
        "watcher {id}, item {at} of {} / {}\n  left:  {:?}\n  right: {:?}",
        left.len(),
        right.len(),
        left.get(at),
        right.get(at),
    ))
}

/// A read that makes sure that a member has applied everything acknowledged so far.
pub fn barrier() -> pb::RangeRequest {
    pb::RangeRequest { key: "barrier".into(), ..pb::RangeRequest::default() }
}
