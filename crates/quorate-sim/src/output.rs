//! Files that are written about seeds: charts, scripts, hashes.

use std::path::{Path, PathBuf};

use quorate_sim::chart::{Trace, Window, html, svg};
use quorate_sim::swarm::Options;

use crate::cli::Arguments;

/// Where charts and scripts of failing seeds go, unless `--out` says otherwise.
const OUT: &str = "target/sim";

/// Where something about a seed goes that nobody gave a name.
pub(crate) fn out_file(
    arguments: &Arguments,
    world: &str,
    options: &Options,
    seed: u64,
    ending: &str,
) -> PathBuf {
    let bug =
        if options.mutant == 0 { String::new() } else { format!("-mutant-{}", options.mutant) };
    Path::new(arguments.text("out").unwrap_or(OUT))
        .join(format!("{world}-seed-{seed}{bug}.{ending}"))
}

/// Writes a chart: an SVG if the name says so, and otherwise a page.
pub(crate) fn write_chart(
    file: &Path,
    trace: &Trace,
    window: Option<Window>,
) -> Result<(), String> {
    let window = window.unwrap_or_else(|| Window::of(trace));
    let is_svg = file.extension().is_some_and(|ending| ending == "svg");
    write_out(file, if is_svg { svg(trace, window) } else { html(trace, window) })
}

/// Writes a file, and makes the directory it lies in.
pub(crate) fn write_out(file: &Path, content: impl AsRef<[u8]>) -> Result<(), String> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    }
    std::fs::write(file, content).map_err(|why| format!("{}: {why}", file.display()))
}
