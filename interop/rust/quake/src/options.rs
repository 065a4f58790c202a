//! The command line.

use std::{path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, Result, bail};

/// How to call it.
pub const USAGE: &str = "usage: quake --binary QUORATE [--members 3|5] [--seed N] [--seconds N] [--ops N] [--faults N]
             [--only FAULT[,FAULT...]] [--port N] [--report DIR] [--power-cut] [--wipe]
             [--break no-fsync|stale-reads|vote-not-persisted]

Runs real members under real clients, breaks what can be broken, and judges what the clients saw. The run ends after --seconds, once
--ops requests were answered or not and --faults faults are over; a machine that needs three times as long has failed.
--wipe lets members start with an empty directory, too: one that is let in may vote again where it has voted, and loses data.
--power-cut and --break need a server that was built with the feature `breakable`. A broken server has to be convicted: it is run with
one seed after the other until it is, for two minutes; then the end is 1, and 0 if it never was.";

/// A promise that the server is told to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// A sync does nothing.
    NoFsync,
    /// Linearizable reads do not ask anybody.
    StaleReads,
    /// Term and vote are forgotten with the process.
    VoteNotPersisted,
}

impl Break {
    /// Its name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoFsync => "no-fsync",
            Self::StaleReads => "stale-reads",
            Self::VoteNotPersisted => "vote-not-persisted",
        }
    }

    /// Whether a breach is what comes of breaking this promise, and not of something else.
    pub fn shows_in(self, breach: &str) -> bool {
        let signs: &[(&str, &str)] = match self {
            Self::NoFsync => &[("set: ", "acknowledged elements are lost")],
            Self::StaleReads => &[
                ("registers: Linearizable", ""),
                ("registers: RealTime", ""),
                ("keys: Linearizable", ""),
                ("keys: RealTime", ""),
            ],
            Self::VoteNotPersisted => &[
                ("seen: ", "a term has one leader"),
                ("keys: ", ""),
                ("hashes: ", ""),
                ("set: ", ""),
            ],
        };
        signs.iter().any(|(judge, words)| breach.starts_with(judge) && breach.contains(words))
    }
}

impl FromStr for Break {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::NoFsync, Self::StaleReads, Self::VoteNotPersisted];
        let found = all.into_iter().find(|one| one.name() == text);
        found.with_context(|| format!("{text:?} is nothing that can be broken"))
    }
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub binary: PathBuf,
    /// How many members.
    pub members: usize,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// How long the load goes on at least.
    pub duration: Duration,
    /// How many requests there have to be.
    pub ops: u64,
    /// How many faults there have to be.
    pub faults: u64,
    /// The faults to choose from; all if it is empty.
    pub only: Vec<String>,
    /// The first port.
    pub port: u16,
    /// Where pictures and logs of a breach go.
    pub report: PathBuf,
    /// Whether what was not synced is lost with the process.
    pub power_cut: bool,
    /// Whether members may lose their directories.
    pub wipe: bool,
    /// What the server is told to break.
    pub breaks: Option<Break>,
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// Which argument is wrong.
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            binary: PathBuf::new(),
            members: 3,
            seed: 1,
            duration: Duration::from_secs(100),
            ops: 100_000,
            faults: 30,
            only: Vec::new(),
            port: 24_800,
            report: PathBuf::from("quake-report"),
            power_cut: false,
            wipe: false,
            breaks: None,
        };
        while let Some(flag) = arguments.next() {
            if options.switch(&flag) {
                continue;
            }
            let value = arguments.next().with_context(|| format!("{flag} needs a value"))?;
            options.set(&flag, &value).with_context(|| format!("{flag} {value}"))?;
        }
        anyhow::ensure!(!options.binary.as_os_str().is_empty(), "--binary is missing");
        anyhow::ensure!([3, 5].contains(&options.members), "three members or five");
        Ok(options)
    }

    /// Takes a flag that has no value, if it is one.
    fn switch(&mut self, flag: &str) -> bool {
        match flag {
            "--power-cut" => self.power_cut = true,
            "--wipe" => self.wipe = true,
            _ => return false,
        }
        true
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<()> {
        match flag {
            "--binary" => self.binary = PathBuf::from(value),
            "--members" => self.members = value.parse()?,
            "--seed" => self.seed = value.parse()?,
            "--seconds" => self.duration = Duration::from_secs(value.parse()?),
            "--ops" => self.ops = value.parse()?,
            "--faults" => self.faults = value.parse()?,
            "--only" => self.only = value.split(',').map(str::to_owned).collect(),
            "--port" => self.port = value.parse()?,
            "--report" => self.report = PathBuf::from(value),
            "--break" => self.break_promise(value.parse()?),
            _ => bail!("no such flag"),
        }
        Ok(())
    }

    /// A broken promise needs only the faults that show it, and few of them.
    fn break_promise(&mut self, promise: Break) {
        let (only, seconds): (&[&str], u64) = match promise {
            Break::NoFsync => (&["kill-all"], 4),
            Break::StaleReads => (&["depose"], 4),
            Break::VoteNotPersisted => (&["vote-twice"], 8),
        };
        self.power_cut |= promise == Break::NoFsync;
        self.breaks = Some(promise);
        self.only = only.iter().map(|name| (*name).to_owned()).collect();
        self.duration = Duration::from_secs(seconds);
        (self.ops, self.faults) = (0, 2);
    }

    /// Whether a fault is among those to choose from.
    pub fn wants(&self, fault: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == fault)
    }

    /// What the server is told of all this.
    pub fn server_arguments(&self) -> Vec<String> {
        let cut = self.power_cut.then(|| "--power-cut=true".to_owned());
        let promise = self.breaks.map(|promise| format!("--break={}", promise.name()));
        cut.into_iter().chain(promise).collect()
    }
}
