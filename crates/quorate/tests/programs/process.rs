//! Starting programs, reading what they print, ending them.

use std::{
    io::{BufRead, BufReader, Read},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering::SeqCst},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Nothing that must happen takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program that is tested.
pub(crate) fn quorate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running program; killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) stdout: BufReader<ChildStdout>,
    pub(crate) stderr: BufReader<ChildStderr>,
}

impl Program {
    /// Starts `quorate` with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = quorate().args(arguments).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(mut self, signal: Signal) -> ExitStatus {
        kill(self.child.id(), signal);
        self.child.wait().unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    /// Asks it to stop; its output can still be read.
    pub(crate) fn tell_to_stop(&self) {
        kill(self.child.id(), Signal::TERM);
    }

    /// Waits until it ends by itself; gives how, and what it printed on standard error.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let mut text = String::new();
        self.stderr.read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap(), text)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads lines until one holds `wanted`; gives all of them.
pub(crate) fn lines_until(output: &mut impl BufRead, wanted: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert!(output.read_line(&mut line).unwrap() > 0, "no {wanted:?} in {lines:#?}");
        let found = line.contains(wanted);
        lines.push(line.trim_end().to_owned());
        if found {
            return lines;
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn kill(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).unwrap();
    kill_process(process, signal).unwrap();
}

/// Runs `quorate ctl` and gives what it printed, if it was content.
pub(crate) fn ctl(endpoint: &str, arguments: &[&str]) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        quorate().args(["ctl", "--endpoints", endpoint]).args(arguments).output().unwrap();
    if status.success() {
        Ok(String::from_utf8(stdout).unwrap())
    } else {
        Err(format!("{status}: {}", String::from_utf8_lossy(&stderr)))
    }
}

/// Runs `quorate ctl` until it is content: a cluster that has lost its leader needs a moment.
pub(crate) fn ctl_at_last(endpoint: &str, arguments: &[&str]) -> String {
    let began = Instant::now();
    loop {
        match ctl(endpoint, arguments) {
            Ok(text) => return text,
            Err(problem) => assert!(began.elapsed() < PATIENCE, "{arguments:?}: {problem}"),
        }
    }
}

/// Waits until nobody listens on the port.
pub(crate) fn wait_closed(port: u16) {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(began.elapsed() < PATIENCE, "port {port} is still served");
    }
}

/// Waits until a log holds `wanted`.
pub(crate) fn wait_logged(log: &Path, wanted: &str) {
    let began = Instant::now();
    while !std::fs::read_to_string(log).unwrap().contains(wanted) {
        assert!(began.elapsed() < PATIENCE, "no {wanted:?} in {}", log.display());
    }
}

/// A port such that this one, those 100 and 200 behind it, and the ones after each are free.
pub(crate) fn free_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Different runs begin at different places; all lie below the ports that systems give out by themselves.
    let start = u16::try_from(std::process::id() % 40).unwrap() * 300;
    loop {
        let step = NEXT.fetch_add(1, SeqCst);
        let port = 20_000 + (start + (step % 50) * 2) % 12_000;
        let needed = [0, 1, 100, 101, 200, 201].map(|more| port + more);
        if needed.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
    }
}

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
