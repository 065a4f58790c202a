//! `watch`: changes as they happen, for one range, or for several in interactive mode.
//!
//! A watch whose server goes away, or has lost its cluster, goes on at the next endpoint, with the first change that it has
//! not shown. [`Position`] knows which that is.

use std::{
    ffi::OsString,
    io::{self, BufRead},
    process::Command,
    sync::Arc,
    thread,
};

use clap::{Args, Parser};
use quorate_proto::{
    etcdserverpb::{
        WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
    mvccpb::{Event, event::EventType},
};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::{
    args::{bad_arguments, bytes, coded, no_end, prefix_end},
    exit, go, json,
    print::{Answer, Lines},
    session::{self, CallError, RESUME_PAUSE, Session, leader_required, within},
    txn,
};
use crate::{Failure, output};

/// `watch`
#[derive(Clone, Debug, Args)]
pub(super) struct WatchArgs {
    /// Key or prefix, and an end for a range
    arguments: Vec<OsString>,
    /// Interactive mode
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    options: WatchOptions,
    /// A command to run for each change
    #[arg(last = true)]
    exec: Vec<OsString>,
}

#[derive(Clone, Debug, Args)]
struct WatchOptions {
    /// Watch on a prefix
    #[arg(long)]
    prefix: bool,
    /// Get the previous key-value pair before the event happens
    #[arg(long)]
    prev_kv: bool,
    /// Get periodic watch progress notification from server
    #[arg(long)]
    progress_notify: bool,
    /// Revision to start watching
    #[arg(long, default_value_t = 0)]
    rev: i64,
}

/// One line of interactive mode.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct LineArgs {
    #[command(flatten)]
    watch: WatchArgs,
}

/// Watches until the server ends it.
pub(super) async fn run(session: &Session, args: WatchArgs) -> Result<(), Failure> {
    if args.interactive {
        return interactive(&Arc::new(session.clone())).await;
    }
    let request = request(args.arguments, &args.options)?;
    Watch::new(request, args.exec).run(session).await
}

fn request(
    arguments: Vec<OsString>,
    options: &WatchOptions,
) -> Result<WatchCreateRequest, Failure> {
    let mut arguments = arguments.into_iter().map(bytes);
    let (Some(key), end, None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err(bad_arguments("bad number of arguments"));
    };
    if options.prefix && end.is_some() {
        return Err(bad_arguments("`range_end` and `--prefix` are mutually exclusive"));
    }
    let range_end = if options.prefix { prefix_end(&key) } else { end.unwrap_or_default() };
    Ok(WatchCreateRequest {
        key: if key.is_empty() { no_end() } else { key },
        range_end,
        start_revision: options.rev,
        progress_notify: options.progress_notify,
        prev_kv: options.prev_kv,
        ..WatchCreateRequest::default()
    })
}

/// Reads `watch ...` and `progress` lines; each watch runs beside the others.
async fn interactive(session: &Arc<Session>) -> Result<(), Failure> {
    let mut lines = input_lines()?;
    let (failures, mut failed) = mpsc::unbounded_channel();
    let mut watches: Vec<mpsc::Sender<()>> = Vec::new();
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            Some(failure) = failed.recv() => return Err(failure),
        };
        let Some(line) = line else {
            return Err(coded(exit::INPUT, "error reading watch request line: EOF"));
        };
        match line_watch(&line)? {
            Line::Watch(mut watch) => {
                let (ask, asks) = mpsc::channel(1);
                watches.push(ask);
                watch.asks = Some(asks);
                let (session, failures) = (Arc::clone(session), failures.clone());
                tokio::spawn(async move {
                    if let Err(failure) = watch.run(&session).await {
                        // Nobody listens when the program ends.
                        let _ = failures.send(failure);
                    }
                });
            }
            Line::Progress => {
                for ask in &watches {
                    // One question is enough when one is under way already.
                    let _ = ask.try_send(());
                }
            }
            Line::Unknown(verb) => {
                output::complain(format_args!("Invalid command {verb} (only support watch)"));
            }
        }
    }
}

enum Line {
    Watch(Watch),
    Progress,
    Unknown(String),
}

fn line_watch(line: &str) -> Result<Line, Failure> {
    let mut words = txn::words(line).unwrap_or_default().into_iter();
    let verb = words.next().unwrap_or_default();
    match verb.to_str() {
        Some("watch") => {}
        Some("progress") => return Ok(Line::Progress),
        _ => return Ok(Line::Unknown(verb.display().to_string())),
    }
    let LineArgs { watch } =
        LineArgs::try_parse_from(words).map_err(|error| Failure::Usage(error.to_string()))?;
    let request = request(watch.arguments, &watch.options)?;
    Ok(Line::Watch(Watch::new(request, watch.exec)))
}

fn input_lines() -> io::Result<mpsc::UnboundedReceiver<String>> {
    let (sender, lines) = mpsc::unbounded_channel();
    let read = move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("input".to_owned()).spawn(read)?;
    Ok(lines)
}

/// From where a watch goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    /// A server has taken the watch.
    created: bool,
    /// The first revision that is still to be shown; 0: the first one after the watch is created.
    next_revision: i64,
}

impl Position {
    /// Everything in `answer` is about to be shown.
    ///
    /// A header's revision says how far the watch is only where nothing is on the way: in the answer to its creation, if it
    /// begins "now", and in reports of progress. The header of changes is the store's revision in etcd, and a watch that
    /// catches up gets a thousand revisions at a time: the last change counts there (etcd's client: `nextRev`).
    fn pass(&mut self, answer: &WatchResponse) {
        let header = answer.header.as_ref().map_or(0, |header| header.revision);
        let last =
            answer.events.last().and_then(|event| event.kv.as_ref()).map(|kv| kv.mod_revision);
        let begins_now = answer.created && self.next_revision == 0;
        let is_progress = !answer.created && last.is_none();
        let shown = last.or((begins_now || is_progress).then_some(header));
        self.created |= answer.created;
        if let Some(shown) = shown {
            self.next_revision = self.next_revision.max(shown.saturating_add(1));
        }
    }
}

/// One watch.
struct Watch {
    request: WatchCreateRequest,
    position: Position,
    exec: Vec<OsString>,
    /// Asks for its progress.
    asks: Option<mpsc::Receiver<()>>,
}

impl Watch {
    fn new(request: WatchCreateRequest, exec: Vec<OsString>) -> Self {
        let position = Position { created: false, next_revision: request.start_revision };
        Self { request, position, exec, asks: None }
    }

    async fn run(mut self, session: &Session) -> Result<(), Failure> {
        for turn in 0.. {
            let broken = match session.connect_from(turn).await {
                Ok(channel) => self.stream(session, channel).await?,
                // Not even a first connection: there is nothing to take up again.
                Err(error) if !self.position.created => return Err(error.into()),
                Err(error) => error,
            };
            if !self.position.created && turn + 1 >= session.endpoints().len() {
                return Err(broken.into());
            }
            tokio::time::sleep(RESUME_PAUSE).await;
        }
        Ok(())
    }

    /// Watches on one connection until it breaks; gives what broke it.
    async fn stream(&mut self, session: &Session, channel: Channel) -> Result<CallError, Failure> {
        let (requests, outgoing) = mpsc::channel(2);
        let start_revision = self.position.next_revision;
        let create = WatchCreateRequest { start_revision, ..self.request.clone() };
        // The channel has room for it.
        let _ = requests.send(ask(RequestUnion::CreateRequest(create))).await;
        let outgoing = leader_required(ReceiverStream::new(outgoing));
        let opening = async {
            let mut answers = session::watch(channel).watch(outgoing).await?.into_inner();
            Ok((answers.message().await?, answers))
        };
        let (mut answer, mut answers) = match within(session.global.command_timeout, opening).await
        {
            Ok(opened) => opened,
            Err(error) => return Ok(error),
        };
        while let Some(one) = answer {
            self.take(session, one).await?;
            answer = match self.next(&mut answers, &requests).await {
                Ok(answer) => answer,
                Err(status) => return Ok(status.into()),
            };
        }
        Ok(CallError { text: "the server ended the stream".to_owned() })
    }

    /// The next answer. Meanwhile the watch's progress may be asked for.
    async fn next(
        &mut self,
        answers: &mut Streaming<WatchResponse>,
        requests: &mpsc::Sender<WatchRequest>,
    ) -> Result<Option<WatchResponse>, Status> {
        loop {
            tokio::select! {
                answer = answers.message() => return answer,
                () = asked(&mut self.asks) => {
                    let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
                    // When the stream has broken, the next answer says so.
                    let _ = requests.send(ask(progress)).await;
                }
            }
        }
    }

    async fn take(&mut self, session: &Session, answer: WatchResponse) -> Result<(), Failure> {
        if answer.canceled {
            let reason = if answer.compact_revision != 0 {
                "etcdserver: mvcc: required revision has been compacted"
            } else {
                &answer.cancel_reason
            };
            output::complain(format_args!("watch was canceled ({reason})"));
            session.show(&answer)?;
            return Err(coded(exit::INTERRUPTED, "watch is canceled by the server"));
        }
        self.position.pass(&answer);
        if answer.created {
            return Ok(());
        }
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        if answer.events.is_empty() {
            output::line(format_args!("progress notify: {revision}"))?;
        }
        session.show(&answer)?;
        for event in answer.events.iter().filter(|_| !self.exec.is_empty()) {
            execute(&self.exec, revision, event).await?;
        }
        Ok(())
    }
}

fn ask(union: RequestUnion) -> WatchRequest {
    WatchRequest { request_union: Some(union) }
}

/// Returns when the watch's progress is asked for; never, when nobody can ask.
async fn asked(asks: &mut Option<mpsc::Receiver<()>>) {
    if let Some(asks) = asks
        && asks.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Runs the user's command for one change.
async fn execute(command: &[OsString], revision: i64, event: &Event) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let kv = event.kv.clone().unwrap_or_default();
    let mut run = Command::new(program);
    run.args(arguments)
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", format!("\"{}\"", kind(event)))
        .env("ETCD_WATCH_KEY", go::quoted(&kv.key))
        .env("ETCD_WATCH_VALUE", go::quoted(&kv.value));
    let outcome = tokio::task::spawn_blocking(move || run.status()).await;
    let problem = match outcome.map_err(anyhow::Error::from)? {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let program = program.display();
    Err(coded(1, format!("command {program} failed ({problem})")))
}

fn kind(event: &Event) -> &'static str {
    match event.r#type() {
        EventType::Put => "PUT",
        EventType::Delete => "DELETE",
    }
}

impl Answer for WatchResponse {
    fn simple(&self, out: &mut Lines) {
        for event in &self.events {
            out.line(kind(event));
            event.prev_kv.iter().chain(&event.kv).for_each(|kv| out.pair(kv));
        }
    }

    fn fields(&self, out: &mut Lines) {
        out.header(self.header.as_ref());
        for event in &self.events {
            out.field("Type", kind(event));
            event.prev_kv.iter().for_each(|kv| out.key_value("Prev", kv));
            event.kv.iter().for_each(|kv| out.key_value("", kv));
        }
    }

    fn json(&self) -> impl Serialize {
        WatchJson {
            header: json::header(self.header.as_ref()).unwrap_or_default(),
            events: (!self.canceled).then(|| self.events.iter().map(json::change).collect()),
            compact_revision: self.compact_revision,
            canceled: self.canceled,
            created: self.created,
            cancel_reason: self.cancel_reason.clone(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WatchJson {
    header: json::Header,
    events: Option<Vec<json::Change>>,
    compact_revision: i64,
    canceled: bool,
    created: bool,
    cancel_reason: String,
}

#[cfg(test)]
mod tests {
    use quorate_proto::{etcdserverpb::ResponseHeader, mvccpb::KeyValue};

    use super::*;

    fn answer(created: bool, header: i64, revisions: &[i64]) -> WatchResponse {
        let event = |&mod_revision: &i64| Event {
            kv: Some(KeyValue { mod_revision, ..KeyValue::default() }),
            ..Event::default()
        };
        WatchResponse {
            header: Some(ResponseHeader { revision: header, ..ResponseHeader::default() }),
            created,
            events: revisions.iter().map(event).collect(),
            ..WatchResponse::default()
        }
    }

    fn check(start_revision: i64, answers: &[WatchResponse], next_revision: i64) {
        let mut position = Position { created: false, next_revision: start_revision };
        for answer in answers {
            position.pass(answer);
        }
        assert_eq!(position.next_revision, next_revision, "from {start_revision}: {answers:?}");
    }

    #[test]
    fn a_watch_goes_on_with_the_first_change_that_it_has_not_shown() {
        let created = |revision| answer(true, revision, &[]);
        check(0, &[created(7)], 8);
        check(3, &[created(7)], 3);
        check(3, &[created(7), answer(false, 7, &[])], 8);
        // A store far ahead of a watch that catches up.
        check(3, &[created(9000), answer(false, 9000, &[3, 3, 5])], 6);
        // Taken up again, at a server that is behind.
        check(0, &[created(7), created(5)], 8);
        check(0, &[created(7), answer(false, 6, &[])], 8);
    }
}
