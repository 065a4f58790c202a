//! `quorate demo`: a whole cluster of real server processes on this machine.
//!
//! Node *i*, from 0, serves clients on PORT + 100 *i* and peers on the port after it. When all of them serve, each node's
//! process id and log file are printed, and then one line `ready endpoints=...` that programs wait for. Before that, each
//! node's own process has told through a pipe that the ports are its own: an answer there may be another cluster's.
//!
//! SIGINT, SIGTERM or SIGHUP stops them all; SIGUSR1 goes on to each of them (docs/flight-recorder.md). A directory that is
//! given is kept and used again; a temporary one is removed, unless the demo fails: then its logs say why.
//!
//! A node that dies is reported and not started again: whoever kills one wants to see what the others do. Nodes stop by
//! themselves when the demo is gone, however it went: they hold the other end of a pipe from it.

mod node;
mod probe;
mod signals;

use std::{
    ffi::OsString,
    io::{self, Read},
    net::TcpListener,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Parser;
use rustix::process::Signal;

use crate::{Failure, output};
use node::{Node, Plan};
use signals::{Signals, Task};

/// Nodes serve clients on ports this far apart.
const PORT_STEP: u16 = 100;
/// How often signals and children are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// A cluster that does not serve after this long will not.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);
/// What a node's process says to its demo when it has its ports.
const LISTENING: &str = "listening";
/// The variable that ties a node to the demo that started it.
const TIED: &str = "QUORATE_STOP_WITH_PARENT";

/// Start a whole cluster on this machine, to try it.
#[derive(Debug, Parser)]
#[command(name = "quorate demo")]
struct Arguments {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Where the first node serves clients; node i serves on PORT + 100 i, and peers on the port after it
    #[arg(long, default_value_t = 2379, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Where to keep data and logs; without it they go when the demo stops
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

/// Runs a demo until it is told to stop.
///
/// # Errors
/// When the cluster can't be started, or every node has died.
pub(crate) fn run(arguments: Vec<OsString>) -> Result<(), Failure> {
    let program = OsString::from("quorate demo");
    let arguments = match Arguments::try_parse_from([program].into_iter().chain(arguments)) {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => return Err(Failure::Usage(error.to_string())),
        Err(help) => return Ok(output::line(help)?),
    };
    let signals = Signals::listen()?;
    if let Some(home) = &arguments.data_dir {
        return Ok(run_in(home, &arguments, signals)?);
    }
    let temporary = tempfile::Builder::new().prefix("quorate-demo-").tempdir()?;
    let outcome = run_in(temporary.path(), &arguments, signals);
    // By now everything has stopped.
    let any_log = std::fs::read_dir(temporary.path()).is_ok_and(|mut files| files.next().is_some());
    match outcome {
        Err(error) if any_log => {
            let kept = temporary.keep();
            Err(error.context(format!("logs and data are kept in {}", kept.display())).into())
        }
        outcome => Ok(outcome?),
    }
}

fn run_in(home: &Path, arguments: &Arguments, signals: Signals) -> anyhow::Result<()> {
    let plans = plans(arguments, home)?;
    plans.iter().flat_map(Plan::ports).try_for_each(|(port, name)| check_free(port, name))?;
    Demo::start(&plans, home, signals)?.serve(&plans)
}

/// A port that is taken is told before anything is started.
fn check_free(port: u16, name: &str) -> anyhow::Result<()> {
    TcpListener::bind(("127.0.0.1", port)).map(drop).with_context(|| {
        format!(
            "port {port}, which {name} is to have, is in use, by another demo or etcd perhaps; --port takes others"
        )
    })
}

/// In a node that a demo started: tells it that this process has all of its ports.
pub(crate) fn tell_parent() {
    if std::env::var_os(TIED).is_some() {
        // A demo that is gone is noticed elsewhere.
        let _ = output::line(LISTENING);
    }
}

/// In a node that a demo started: ends the process when the demo is gone.
///
/// # Errors
/// When no thread can be started.
pub(crate) fn stop_with_parent() -> io::Result<()> {
    if std::env::var_os(TIED).is_none() {
        return Ok(());
    }
    let wait = || {
        // Nothing is ever written: any end of the reading is the end of the demo.
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        tracing::error!("the demo that started this node is gone");
        std::process::exit(1);
    };
    thread::Builder::new().name("demo-watch".to_owned()).spawn(wait).map(drop)
}

/// What each node gets.
fn plans(arguments: &Arguments, home: &Path) -> anyhow::Result<Vec<Plan>> {
    let port = |step: u16| {
        let client = arguments.port.checked_add(step.checked_mul(PORT_STEP)?)?;
        client.checked_add(1).map(|peer| (client, peer))
    };
    let ports = (0..arguments.nodes).map(port).collect::<Option<Vec<_>>>().with_context(|| {
        format!("--port {}: there are no ports for {} nodes", arguments.port, arguments.nodes)
    })?;
    Ok(Plan::all(home, &ports))
}

/// The running nodes.
struct Demo {
    nodes: Vec<Node>,
    signals: Signals,
}

impl Demo {
    fn start(plans: &[Plan], home: &Path, signals: Signals) -> anyhow::Result<Self> {
        std::fs::create_dir_all(home)
            .with_context(|| format!("make the directory {}", home.display()))?;
        let mut demo = Self { nodes: Vec::new(), signals };
        for plan in plans {
            demo.nodes.push(Node::start(plan, plans)?);
        }
        Ok(demo)
    }

    /// Waits for the cluster, says so, and looks after it until the end.
    fn serve(mut self, plans: &[Plan]) -> anyhow::Result<()> {
        if !self.wait_ready()? {
            return Ok(());
        }
        self.announce(plans)?;
        while !self.is_told_to_stop() {
            self.report_dead()?;
            if self.nodes.is_empty() {
                bail!("no node is left");
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Whether the cluster serves; `false`: it is to stop.
    fn wait_ready(&mut self) -> anyhow::Result<bool> {
        let began = Instant::now();
        let probes = probe::Probes::new()?;
        loop {
            if self.is_told_to_stop() {
                return Ok(false);
            }
            if let Some(dead) = self.nodes.iter_mut().find_map(Node::ended) {
                bail!("{dead}");
            }
            let serves = |node: &Node| node.listens() && probes.serves(node.endpoint());
            let waiting: Vec<&str> =
                self.nodes.iter().filter(|node| !serves(node)).map(Node::endpoint).collect();
            if waiting.is_empty() {
                return Ok(true);
            }
            if began.elapsed() > READY_WAIT_MAX {
                bail!("{} did not serve within {READY_WAIT_MAX:?}", waiting.join(", "));
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Passes on what is for the nodes.
    fn is_told_to_stop(&mut self) -> bool {
        for task in self.signals.take() {
            match task {
                Task::Stop => return true,
                Task::KeepRecordings => {
                    self.nodes.iter_mut().for_each(|node| node.signal(Signal::USR1));
                }
            }
        }
        false
    }

    fn announce(&self, plans: &[Plan]) -> io::Result<()> {
        for node in &self.nodes {
            output::line(node)?;
        }
        let endpoints: Vec<_> = plans.iter().map(Plan::endpoint).collect();
        output::line(format_args!("ready endpoints={}", endpoints.join(",")))
    }

    fn report_dead(&mut self) -> io::Result<()> {
        let mut dead = Vec::new();
        self.nodes.retain_mut(|node| match node.ended() {
            Some(text) => {
                dead.push(text);
                false
            }
            None => true,
        });
        dead.into_iter().try_for_each(output::line)
    }
}

impl Drop for Demo {
    /// Tells all nodes to stop, then waits for each.
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.signal(Signal::TERM));
        self.nodes.iter_mut().for_each(Node::wait_stopped);
    }
}
