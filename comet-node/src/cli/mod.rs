//! The command line: what can be asked of `comet-node`, and what its exit codes mean.
//!
//! `run` and `swarm` start nodes; every other command is a client of a node's HTTP interface. A command does
//! one thing, prints it for a person or, with `--json`, as one JSON document, and ends with a code.

mod app;
mod args;
mod client;
mod duration;
mod objects;
mod owner;
mod print;
mod publisher;
mod run;
mod session;
#[cfg(test)]
mod tests;
mod token;

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::Parser;
use serde_json::{Value as Json, json};

pub use self::args::Cli;
use self::{args::Command, print::Look, session::Session};
use crate::http::Problem;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    /// The node refused.
    #[error("{}", print::printable(&.0.detail))]
    Refused(Box<Problem>),
    /// The arguments do not go together.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers.
    #[error("cannot reach the node at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    /// Somebody answers who is not a node.
    #[error("{url} does not answer like a node of Comet: {reason}")]
    Foreign { url: String, reason: String },
    /// Something on this side failed.
    #[error("{0}")]
    Failed(String),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(problem) if problem.code == "not_found" => 3,
            Self::Refused(_) | Self::Failed(_) | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } | Self::Foreign { .. } => 4,
        }
    }

    /// The problem document for a program: the node's own, or one of the same members but the HTTP status.
    fn to_json(&self) -> Json {
        let (code, retryable) = match self {
            Self::Refused(problem) => return json!(problem),
            Self::Usage(_) => ("usage", false),
            Self::Unreachable { .. } => ("unreachable", true),
            Self::Foreign { .. } => ("unreachable", false),
            Self::Failed(_) | Self::Output(_) => ("failed", false),
        };
        let kind = format!("urn:comet:problem:{code}");
        json!({ "type": kind, "code": code, "detail": self.to_string(), "retryable": retryable })
    }

    /// True if the reader of the output went away, as `head` does; that is nobody's mistake.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Does what the process's arguments say and returns its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() && wants_json(std::env::args_os()) {
                let _ = writeln!(io::stdout(), "{}", misuse(&error).to_json());
            }
            // Whether it is help or a mistake, it goes where clap says; a closed pipe is no concern.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let output = io::stdout();
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let look = match (output.is_terminal(), colours) {
        (true, true) => Look::Colour,
        (true, false) => Look::Terminal,
        (false, _) => Look::Pipe,
    };
    let json = cli.command.wants_json();
    match execute(cli, look, &mut output.lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            if json {
                let _ = writeln!(io::stdout(), "{}", error.to_json());
            }
            let _ = writeln!(io::stderr(), "comet-node: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn execute(cli: Cli, look: Look, output: &mut dyn Write) -> Result<(), CommandError> {
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::Swarm(args) => run::swarm(args),
        Command::Put(args) => objects::put(&Session::new(&args.target, look), &args, output),
        Command::Get(args) => objects::get(&Session::new(&args.target, look), args, output),
        Command::Delete(args) => objects::delete(&Session::new(&args.target, look), args, output),
        Command::Lookup(args) => objects::lookup(&Session::new(&args.target, look), &args, output),
        Command::Inspect(args) => objects::inspect(&Session::new(&args.target, look), args, output),
        Command::Logs(args) => objects::logs(&Session::new(&args.target, look), args, output),
        Command::App(command) => app::app(&command, look, output),
        Command::Id(args) => owner::id(&Session::new(&args.target, look), &args, output),
        Command::Token(args) => token::token(&args.file, output),
        Command::Limits(args) => session::limits(&Session::new(&args.target, look), &args, output),
    }?;
    output.flush()?;
    Ok(())
}

/// True if the words of a command line that could not be parsed ask for JSON.
fn wants_json(words: impl Iterator<Item = OsString>) -> bool {
    words.take_while(|word| word != "--").any(|word| word == "--json")
}

/// What the parser says about the arguments, without its hints on usage.
fn misuse(error: &clap::Error) -> CommandError {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    let sentence = lines.collect::<Vec<_>>().join(" ");
    CommandError::Usage(sentence.strip_prefix("error: ").unwrap_or(&sentence).to_owned())
}
