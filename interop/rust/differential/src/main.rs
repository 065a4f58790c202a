//! Sends the same random requests to etcd and to Quorate, and compares everything they answer.
//!
//! usage: differential --etcd PATH --quorate PATH [--nodes N] [--requests N] [--seed N] [--differences-max N] [--plant N]
//!
//! Requests go to both sides at once and one by one, so every reply is determined: it is compared field by field, but
//! for ids and terms and what `accepted.rs` lists. Watchers come and go meanwhile; at intervals everything they got is
//! compared, progress is asked for, and `HashKV` of all members. A difference is printed with its request; the same seed shows it again.
//! `--quorate` may be a second etcd (a file named `etcd`). `--plant N` alters the answer to request N on the right, to see that it is found.
//!
//! The last line is `requests=N watches=N events=N differences=N`.

mod accepted;
mod call;
mod dice;
mod generate;
mod overlap;
mod server;
mod watch;
mod watchers;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context, Result, bail};
use call::{Answer, Call, send};
use generate::Generator;
use server::Cluster;
use watchers::{Members, Watchers, barrier};

/// Requests between two comparisons of everything.
const INTERVAL: u64 = 500;

/// Requests between two random acts of watchers.
const WATCH_INTERVAL: u64 = 7;

#[derive(Debug)]
struct Options {
    etcd: PathBuf,
    quorate: PathBuf,
    nodes: usize,
    requests: u64,
    seed: u64,
    differences_max: u64,
    plant: Option<u64>,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self {
            etcd: PathBuf::new(),
            quorate: PathBuf::new(),
            nodes: 1,
            requests: 100_000,
            seed: 1,
            differences_max: 1,
            plant: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--etcd" => options.etcd = value.into(),
                "--quorate" => options.quorate = value.into(),
                "--nodes" => options.nodes = value.parse()?,
                "--requests" => options.requests = value.parse()?,
                "--seed" => options.seed = value.parse()?,
                "--differences-max" => options.differences_max = value.parse()?,
                "--plant" => options.plant = Some(value.parse()?),
                _ => bail!("unknown flag {flag}"),
            }
        }
        if options.etcd.as_os_str().is_empty() || options.quorate.as_os_str().is_empty() {
            bail!(
                "usage: differential --etcd PATH --quorate PATH [--nodes N] [--requests N] [--seed N]"
            );
        }
        Ok(options)
    }
}

/// One run against both servers.
struct Run {
    options: Options,
    left: Cluster,
    right: Cluster,
    generator: Generator,
    watchers: Watchers,
    /// The member of the right side that did the last write: it has applied it.
    writer: usize,
    requests: u64,
    differences: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse()?;
    let home = tempfile::Builder::new().prefix("quorate-differential-").tempdir()?;
    let left = Cluster::start("etcd", &options.etcd, 1, home.path()).await?;
    let right = Cluster::start("quorate", &options.quorate, options.nodes, home.path()).await?;
    let generator = Generator::new(options.seed);
    let watchers = Watchers::default();
    let mut run =
        Run { options, left, right, generator, watchers, writer: 0, requests: 0, differences: 0 };
    let started = Instant::now();
    let outcome = run.all().await;
    println!(
        "seed={} nodes={} seconds={}",
        run.options.seed,
        run.options.nodes,
        started.elapsed().as_secs()
    );
    println!(
        "requests={} watches={} events={} differences={}",
        run.requests, run.watchers.watches, run.watchers.events, run.differences
    );
    if outcome.is_err() {
        eprintln!("{}", run.right.last_words());
    }
    outcome?;
    Ok(if run.differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Run {
    async fn all(&mut self) -> Result<()> {
        while self.requests < self.options.requests
            && self.differences < self.options.differences_max
        {
            self.requests += 1;
            self.request().await?;
            if self.requests % WATCH_INTERVAL == 0 {
                self.watch().await?;
            }
            if self.requests % INTERVAL == 0 {
                self.compare_all().await?;
            }
        }
        self.compare_all().await
    }

    /// One random request to both sides.
    async fn request(&mut self) -> Result<()> {
        let call = self.generator.call();
        if matches!(call, Call::Compact(_)) {
            if let Err(difference) = self.watchers.settle(self.generator.compacted).await {
                self.differs("before a compaction", &difference);
            }
        }
        let member = if call.is_local() {
            self.writer
        } else {
            self.generator.dice.below(self.options.nodes)
        };
        let (left, mut right) = tokio::join!(
            send(&self.left.channels[0], call.clone()),
            send(&self.right.channels[member], call.clone())
        );
        if call.is_write() && !matches!(right, Answer::Failed { .. }) {
            self.writer = member;
        }
        if self.options.plant == Some(self.requests) {
            right = planted(right);
        }
        if !accepted::agree(&call, &left, &right) {
            self.differs(
                &format!("{call:?} at member {member}"),
                &first_line_that_differs(&left, &right),
            );
        }
        self.generator.revision = self.generator.revision.max(left.revision());
        if let (Call::Compact(request), Answer::Compact(_)) = (&call, &left) {
            self.generator.compacted = request.revision;
        }
        Ok(())
    }

    async fn watch(&mut self) -> Result<()> {
        let member = self.generator.dice.below(self.options.nodes);
        let members = Members { left: &self.left.channels[0], right: &self.right.channels[member] };
        if let Err(difference) = self.watchers.step(&mut self.generator, members).await? {
            self.differs("watch", &difference);
        }
        Ok(())
    }

    /// Compares all watchers and the hash of each member.
    async fn compare_all(&mut self) -> Result<()> {
        if let Err(difference) = self.watchers.report(self.generator.compacted).await? {
            self.differs("watch", &difference);
        }
        let hash = Call::HashKv(self.generator.revision);
        let left = send(&self.left.channels[0], hash.clone()).await;
        for (member, channel) in self.right.channels.clone().iter().enumerate() {
            send(channel, Call::Range(barrier())).await;
            let right = send(channel, hash.clone()).await;
            if left != right {
                self.differs(
                    &format!("HashKV of member {member}"),
                    &first_line_that_differs(&left, &right),
                );
            }
        }
        Ok(())
    }

    fn differs(&mut self, what: &str, how: &str) {
        self.differences += 1;
        println!(
            "difference {} at request {} of seed {} (revision {}, compacted {}): {what}\n{how}\n",
            self.differences,
            self.requests,
            self.options.seed,
            self.generator.revision,
            self.generator.compacted
        );
    }
}

/// Both answers in full if they are short, and the first line in which they differ.
fn first_line_that_differs(left: &Answer, right: &Answer) -> String {
    let (left, right) = (format!("{left:#?}"), format!("{right:#?}"));
    let (left_lines, right_lines): (Vec<&str>, Vec<&str>) =
        (left.lines().collect(), right.lines().collect());
    let at = left_lines.iter().zip(&right_lines).take_while(|(one, other)| one == other).count();
    let context =
        |lines: &[&str]| lines[at.saturating_sub(4)..(at + 4).min(lines.len())].join("\n    ");
    format!(
        "  left, around line {at}:\n    {}\n  right:\n    {}",
        context(&left_lines),
        context(&right_lines)
    )
}

/// An answer with something wrong in it.
fn planted(answer: Answer) -> Answer {
    match answer {
        Answer::Range(mut it) => {
            it.count += 1;
            Answer::Range(it)
        }
        Answer::Failed { code, message } => Answer::Failed { code, message: message + "!" },
        _ => Answer::Failed { code: tonic::Code::Ok, message: "planted".to_owned() },
    }
}
