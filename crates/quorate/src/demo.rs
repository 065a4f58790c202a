//! `quorate demo`: a whole cluster of real server processes on this machine.
//!
//! Node *i*, from 0, serves clients on PORT + 100 *i* and peers on the port after it. When all of them serve, each node's
//! process id and log file are printed, and then one line `ready endpoints=...` that programs wait for. SIGINT or SIGTERM
//! stops them all. A directory that is given is kept and used again; a temporary one is removed.
//!
//! A node that dies is reported and not started again: whoever kills one wants to see what the others do. Nodes stop by
//! themselves when the demo is gone, however it went: they hold the other end of a pipe from it.

mod node;
mod probe;

use std::{
    ffi::OsString,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{Failure, output};
use node::{Node, Plan};

/// Nodes serve clients on ports this far apart.
const PORT_STEP: u16 = 100;
/// How often signals and children are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// A cluster that does not serve after this long will not.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);
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
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stopping))?;
    }
    // Lives, and with it the directory, until everything has stopped.
    let temporary;
    let home = if let Some(home) = &arguments.data_dir {
        home
    } else {
        temporary = tempfile::Builder::new().prefix("quorate-demo-").tempdir()?;
        temporary.path()
    };
    let plans = plans(&arguments, home)?;
    Ok(Demo::start(&plans, home)?.serve(&plans, &stopping)?)
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
}

impl Demo {
    fn start(plans: &[Plan], home: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(home)
            .with_context(|| format!("make the directory {}", home.display()))?;
        let mut demo = Self { nodes: Vec::new() };
        for plan in plans {
            demo.nodes.push(Node::start(plan, plans)?);
        }
        Ok(demo)
    }

    /// Waits for the cluster, says so, and looks after it until the end.
    fn serve(mut self, plans: &[Plan], stopping: &AtomicBool) -> anyhow::Result<()> {
        if !self.wait_ready(plans, stopping)? {
            return Ok(());
        }
        self.announce(plans)?;
        while !stopping.load(SeqCst) {
            self.report_dead()?;
            if self.nodes.is_empty() {
                bail!("no node is left");
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Whether the cluster serves; `false`: it is to stop.
    fn wait_ready(&mut self, plans: &[Plan], stopping: &AtomicBool) -> anyhow::Result<bool> {
        let began = Instant::now();
        let probes = probe::Probes::new()?;
        let mut waiting: Vec<&Plan> = plans.iter().collect();
        while !waiting.is_empty() {
            if stopping.load(SeqCst) {
                return Ok(false);
            }
            if let Some(dead) = self.nodes.iter_mut().find_map(Node::ended) {
                bail!("{dead}");
            }
            let open: Vec<_> = waiting.iter().map(|plan| plan.endpoint()).collect();
            if began.elapsed() > READY_WAIT_MAX {
                bail!("{} did not serve within {READY_WAIT_MAX:?}", open.join(", "));
            }
            waiting.retain(|plan| !probes.serves(&plan.endpoint()));
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(true)
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
        self.nodes.iter_mut().for_each(Node::tell_to_stop);
        self.nodes.iter_mut().for_each(Node::wait_stopped);
    }
}
