//! `quorate-sim replay`: a live member's flight recording, step by step, every invariant checked.

use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;

use quorate_flight::Recording;
use quorate_sim::replay::{Shown, Telling, tell};

use crate::cli::Arguments;

/// The subcommand. Ends with 1 when something is violated, with 2 when the file is not whole.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let Some((path, rest)) = arguments.split_first().filter(|(path, _)| !path.starts_with("--"))
    else {
        return Err(
            "which file? replay FILE [--from N] [--to N] [--state every|changes|none]".into()
        );
    };
    let telling = telling(&Arguments::parse(rest, &["from", "to", "state"])?)?;
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let recording = Recording::read(&bytes).map_err(|error| format!("{path}: {error}"))?;
    let mut out = BufWriter::new(io::stdout().lock());
    let outcome = tell(&recording, telling, &mut out).and_then(|outcome| {
        if let Some(damage) = &recording.damage {
            writeln!(out, "{path}: {damage}")?;
        }
        let (steps, images) = (outcome.steps, outcome.images);
        writeln!(out, "steps={steps} images={images} violations={}", outcome.violation_count)?;
        out.flush()?;
        Ok(outcome)
    });
    match outcome {
        Ok(outcome) if outcome.violation_count > 0 => Ok(ExitCode::from(1)),
        Ok(_) if recording.damage.is_some() => Ok(ExitCode::from(2)),
        Ok(_) => Ok(ExitCode::SUCCESS),
        // Whoever read along has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.to_string()),
    }
}

fn telling(arguments: &Arguments) -> Result<Telling, String> {
    let all = Telling::default();
    Ok(Telling {
        from: arguments.number("from")?.unwrap_or(all.from),
        to: arguments.number("to")?.unwrap_or(all.to),
        shown: match arguments.text("state") {
            None | Some("changes") => Shown::Changes,
            Some("every") => Shown::Every,
            Some("none") => Shown::None,
            Some(other) => return Err(format!("--state {other}: every, changes or none")),
        },
    })
}
