//! `quorate-sim`: runs worlds and explorations from the command line.

#![allow(clippy::print_stdout, reason = "a tool for a terminal says what it found")]

mod cli;
mod explore_command;
mod mutants_command;
mod output;
mod replay_command;
mod run_command;
mod shrink_command;
mod worlds;

use std::process::ExitCode;

/// Worlds of servers allocate much, and small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One subcommand: its name, what it does, and the function that takes the arguments behind the name.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<ExitCode, String>,
}

/// All subcommands.
const COMMANDS: [Command; 6] = [
    Command { name: "help", about: "Say what there is", run: |_| Ok(help()) },
    Command {
        name: "explore",
        about: "See every state within a bound: --bound A|B|C|E|F",
        run: explore_command::run,
    },
    Command {
        name: "mutants",
        about: "Convict every bug of the catalogue (needs --features mutants): --only N --shrink DIR",
        run: mutants_command::run,
    },
    Command {
        name: "replay",
        about: "Step through a flight recording: FILE --from N --to N --state every|changes|none",
        run: replay_command::run,
    },
    Command {
        name: "run",
        about: "Run seeds: --world core|full --seeds N --first-seed N --also FILE --hashes FILE --atlas off | --seed S --chart FILE.html | --script FILE",
        run: run_command::run,
    },
    Command {
        name: "shrink",
        about: "Cut a failing run of the core world down and write its script: --seed S --mutant N --tries N --out DIR",
        run: shrink_command::shrink,
    },
];

fn help() -> ExitCode {
    println!("Usage: quorate-sim <command> [options]\n");
    for command in &COMMANDS {
        println!("  {:10} {}", command.name, command.about);
    }
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else { return help() };
    let Some(command) = COMMANDS.iter().find(|command| command.name == *name) else {
        println!("no command is called {name}");
        return ExitCode::from(2);
    };
    (command.run)(rest).unwrap_or_else(|problem| {
        println!("{problem}");
        ExitCode::from(2)
    })
}
