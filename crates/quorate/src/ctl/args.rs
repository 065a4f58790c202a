//! Flags of all commands, and arguments as bytes.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, time::Duration};

use bytes::Bytes;
use clap::Args;

use super::{exit, print::Format};
use crate::{Failure, flags};

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
pub(super) struct Global {
    /// gRPC endpoints, separated by commas
    #[arg(long, global = true, env = "ETCDCTL_ENDPOINTS", default_value = "127.0.0.1:2379")]
    pub(super) endpoints: String,
    /// Output format: fields, json, simple or table
    #[arg(short, long, global = true, env = "ETCDCTL_WRITE_OUT", default_value = "simple")]
    pub(super) write_out: String,
    /// Print byte strings as hex encoded strings
    #[arg(long, global = true, env = "ETCDCTL_HEX")]
    pub(super) hex: bool,
    /// How long to wait for a connection
    #[arg(long, global = true, env = "ETCDCTL_DIAL_TIMEOUT", default_value = "2s", value_parser = duration)]
    pub(super) dial_timeout: Duration,
    /// How long a short command may take
    #[arg(long, global = true, env = "ETCDCTL_COMMAND_TIMEOUT", default_value = "5s", value_parser = duration)]
    pub(super) command_timeout: Duration,
    /// Time between two pings of a quiet connection
    #[arg(long, global = true, default_value = "2s", value_parser = duration)]
    pub(super) keepalive_time: Duration,
    /// How long to wait for a ping's answer
    #[arg(long, global = true, default_value = "6s", value_parser = duration)]
    pub(super) keepalive_timeout: Duration,
}

impl Global {
    /// The output format.
    ///
    /// # Errors
    /// For one that is not known.
    pub(super) fn format(&self) -> Result<Format, Failure> {
        match self.write_out.as_str() {
            "simple" => Ok(Format::Simple),
            "json" => Ok(Format::Json),
            "fields" => Ok(Format::Fields),
            "table" => Ok(Format::Table),
            _ => Err(coded(exit::FEATURE, "unsupported output format")),
        }
    }
}

/// The failure with this code and text.
pub(super) fn coded(code: u8, text: impl Into<String>) -> Failure {
    Failure::Coded(code, text.into())
}

/// The failure for wrong arguments.
pub(super) fn bad_arguments(text: impl Into<String>) -> Failure {
    coded(exit::ARGUMENTS, text)
}

/// An argument, whatever bytes it has.
pub(super) fn bytes(argument: OsString) -> Bytes {
    Bytes::from(argument.into_vec())
}

/// A lease's id, in hexadecimal. `what` it is, for the error.
pub(super) fn lease_id(text: &str, what: &str) -> Result<i64, Failure> {
    i64::from_str_radix(text, 16).map_err(|_| {
        bad_arguments(format!(
            "bad {what} (strconv.ParseInt: parsing {text:?}: invalid syntax), expecting ID in Hex"
        ))
    })
}

/// The first key behind all keys with this prefix; for none, the mark of "no end".
pub(super) fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    no_end()
}

/// A range's end that means: all keys from the first on.
pub(super) fn no_end() -> Bytes {
    Bytes::from_static(b"\0")
}

fn duration(text: &str) -> Result<Duration, String> {
    flags::duration(text)
}
