//! The four formats, and the parts that answers have in common.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
};

use quorate_proto::{etcdserverpb::ResponseHeader, mvccpb::KeyValue};
use serde::Serialize;

use super::{args::coded, exit, go};
use crate::Failure;

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// For people, and for the simplest scripts.
    Simple,
    /// One JSON object a line; byte strings in base64.
    Json,
    /// One field a line.
    Fields,
    /// A drawn table; some answers only.
    Table,
}

/// An answer that can be written in all formats.
pub(super) trait Answer {
    /// For people.
    fn simple(&self, out: &mut Lines);
    /// One field a line.
    fn fields(&self, out: &mut Lines);
    /// For programs.
    fn json(&self) -> impl Serialize;
    /// A table, when it has one.
    fn table(&self) -> Option<Table> {
        None
    }
}

/// Text on its way out.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    hex: bool,
}

impl Lines {
    /// No text yet; `hex`: byte strings are shown in hexadecimal.
    pub(super) fn new(hex: bool) -> Self {
        Self { bytes: Vec::new(), hex }
    }

    /// Adds a line.
    pub(super) fn line(&mut self, text: impl fmt::Display) {
        // Writing to memory does not fail.
        let _ = writeln!(self.bytes, "{text}");
    }

    /// Adds a line that holds a byte string, as it is or in hexadecimal.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if self.hex {
            let mut text = String::new();
            for byte in bytes {
                let _ = write!(text, "\\x{byte:02x}");
            }
            self.line(text);
        } else {
            self.bytes.extend_from_slice(bytes);
            self.bytes.push(b'\n');
        }
    }

    /// Adds a field.
    pub(super) fn field(&mut self, name: &str, value: impl fmt::Display) {
        self.line(format_args!("\"{name}\" : {value}"));
    }

    /// Adds a field that holds text.
    pub(super) fn quoted(&mut self, name: &str, value: &[u8]) {
        self.field(name, go::quoted(value));
    }

    /// Adds a field that holds an id: of a cluster or a member.
    pub(super) fn id(&mut self, name: &str, id: u64) {
        if self.hex { self.field(name, format_args!("{id:x}")) } else { self.field(name, id) }
    }

    /// Adds a field that holds a lease's id.
    pub(super) fn lease(&mut self, name: &str, id: i64) {
        if self.hex { self.field(name, format_args!("{id:016x}")) } else { self.field(name, id) }
    }

    /// Adds the fields of a header.
    pub(super) fn header(&mut self, header: Option<&ResponseHeader>) {
        let header = header.copied().unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        if header.revision > 0 {
            self.field("Revision", header.revision);
        }
        self.field("RaftTerm", header.raft_term);
    }

    /// Adds the fields of a key, their names behind `prefix`.
    pub(super) fn key_value(&mut self, prefix: &str, kv: &KeyValue) {
        self.quoted(&format!("{prefix}Key"), &kv.key);
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.field(&format!("{prefix}Version"), kv.version);
        self.quoted(&format!("{prefix}Value"), &kv.value);
        self.lease(&format!("{prefix}Lease"), kv.lease);
    }

    /// Adds a key and its value, a line each.
    pub(super) fn pair(&mut self, kv: &KeyValue) {
        self.bytes(&kv.key);
        self.bytes(&kv.value);
    }

    /// Writes everything to standard output.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(&self.bytes)?;
        self.bytes.clear();
        out.flush()
    }
}

/// Writes `answer` to standard output.
///
/// # Errors
/// For a table of what has none, and when the output fails.
pub(super) fn show(format: Format, hex: bool, answer: &impl Answer) -> Result<(), Failure> {
    Ok(render(format, hex, answer)?.flush()?)
}

/// Writes `answer` to memory.
///
/// # Errors
/// For a table of what has none.
fn render(format: Format, hex: bool, answer: &impl Answer) -> Result<Lines, Failure> {
    let mut out = Lines::new(hex);
    match format {
        Format::Simple => answer.simple(&mut out),
        Format::Fields => answer.fields(&mut out),
        Format::Json => out.line(json_text(&answer.json())?),
        Format::Table => match answer.table() {
            Some(table) => out.line(table),
            None => return Err(coded(exit::FEATURE, "table not supported as output format")),
        },
    }
    Ok(out)
}

/// JSON as Go writes it: three signs that browsers could take for markup are escaped.
fn json_text(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(value).map_err(anyhow::Error::from)?;
    Ok(text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
}

/// A table with a head: cells of the body to the right, those of the head in the middle.
#[derive(Debug)]
pub(super) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this head and these rows.
    pub(super) fn new(head: &[&'static str], rows: impl IntoIterator<Item = Vec<String>>) -> Self {
        Self { head: head.to_vec(), rows: rows.into_iter().collect() }
    }

    fn widths(&self) -> Vec<usize> {
        let cell_width = |row: &Vec<String>, column| {
            row.get(column).map_or(0, |cell: &String| cell.chars().count())
        };
        let width = |(column, head): (usize, &&str)| {
            let body = self.rows.iter().map(|row| cell_width(row, column)).max();
            body.unwrap_or_default().max(head.chars().count())
        };
        self.head.iter().enumerate().map(width).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let bars: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        writeln!(f, "┌{}┐", bars.join("┬"))?;
        let heads = self.head.iter().zip(&widths);
        let heads: Vec<String> = heads.map(|(head, width)| format!(" {head:^width$} ")).collect();
        writeln!(f, "│{}│", heads.join("│"))?;
        if !self.rows.is_empty() {
            writeln!(f, "├{}┤", bars.join("┼"))?;
        }
        for row in &self.rows {
            let cells = row.iter().zip(&widths);
            let cells: Vec<String> =
                cells.map(|(cell, width)| format!(" {cell:>width$} ")).collect();
            writeln!(f, "│{}│", cells.join("│"))?;
        }
        write!(f, "└{}┘", bars.join("┴"))
    }
}

#[cfg(test)]
mod tests;
