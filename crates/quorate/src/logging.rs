//! The server's log: structured lines as etcd writes them.
//!
//! JSON by default, one object a line, with `level`, `ts`, `caller` and `msg` first and then the event's own fields; or, for
//! people, the same parts separated by tabs. Libraries below us speak only when something is wrong, whatever the level.
//! Left out: rotation (from outside), journald's own protocol (its stderr is read), spans.

mod format;
mod timestamp;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;
use parking_lot::Mutex;
use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, filter::Targets, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt,
};

use format::ZapFormat;

/// Where the log goes and how much of it.
#[derive(Clone, Debug)]
pub(crate) struct LogConfig {
    /// The least important level that is written.
    pub(crate) level: Level,
    pub(crate) format: LogFormat,
    /// Each gets every line.
    pub(crate) outputs: Vec<LogOutput>,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For programs.
    Json,
    /// For people.
    Console,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogOutput {
    Stderr,
    Stdout,
    /// Appended to.
    File(PathBuf),
    Nowhere,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: Level::INFO, format: LogFormat::Json, outputs: vec![LogOutput::Stderr] }
    }
}

/// Sends the log of this process where `config` says, from now on.
///
/// # Errors
/// A file that can't be opened, or a second start.
pub(crate) fn start(config: &LogConfig) -> anyhow::Result<()> {
    let outputs = config.outputs.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let ours = LevelFilter::from_level(config.level);
    let others = LevelFilter::WARN.min(ours);
    let targets = Targets::new()
        .with_default(others)
        .with_target("quorate", ours)
        // What it warns of is what strangers do, a line each time.
        .with_target("h2", LevelFilter::ERROR.min(ours));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(ZapFormat { format: config.format })
        .fmt_fields(format::NoFields)
        .with_writer(Writers { outputs: Mutex::new(outputs) })
        .with_filter(targets);
    tracing_subscriber::registry().with(lines).try_init().context("start the log")
}

/// One open output.
#[derive(Debug)]
enum Output {
    Stderr,
    Stdout,
    File(File),
    Nowhere,
}

fn open(output: &LogOutput) -> anyhow::Result<Output> {
    Ok(match output {
        LogOutput::Stderr => Output::Stderr,
        LogOutput::Stdout => Output::Stdout,
        LogOutput::Nowhere => Output::Nowhere,
        LogOutput::File(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            Output::File(file.with_context(|| format!("--log-outputs {}", path.display()))?)
        }
    })
}

/// All outputs; a line goes to each as one write.
#[derive(Debug)]
struct Writers {
    outputs: Mutex<Vec<Output>>,
}

impl<'a> MakeWriter<'a> for Writers {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Writers {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for output in self.outputs.lock().iter_mut() {
            // An output that fails must not silence the others, and there is no better place to complain.
            let _ = match output {
                Output::Stderr => io::stderr().lock().write_all(line),
                Output::Stdout => io::stdout().lock().write_all(line),
                Output::File(file) => file.write_all(line),
                Output::Nowhere => Ok(()),
            };
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
