//! A swarm in a Python program of tests/rivals, which is asked line by line.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};

use super::{Operation, Outcome, PERIOD, Task};
use crate::compare::laps::Lap;

/// Where the programs are.
const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rivals");

/// How long a program may take to start its nodes, or for one task.
const PATIENCE: Duration = Duration::from_secs(120);

/// Lines that wait to be read: a program prints one, and then waits to be asked.
const LINES_MAX: usize = 1;

/// A swarm in another process. It is killed when dropped.
pub(super) struct Program {
    child: Child,
    questions: ChildStdin,
    answers: mpsc::Receiver<String>,
}

/// Why what a program printed says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum AnswerError {
    /// It is no JSON.
    #[error("it answered {0:?}")]
    NoJson(String),
    /// A figure is missing, or is no number of its kind.
    #[error("it answered without {figure:?}: {answer}")]
    NoFigure {
        /// What the figure is called.
        figure: &'static str,
        /// What was answered.
        answer: String,
    },
}

impl Program {
    /// Starts the program for a package of this name, if that is installed, and waits until its nodes know each other.
    pub(super) async fn start(python: &Path, package: &str, nodes: usize) -> anyhow::Result<Self> {
        let import = format!("import {package}");
        let asked = command(python, ["-c".as_ref(), OsStr::new(&import)]).stderr(Stdio::null()).status();
        let found = asked.with_context(|| format!("there is no program {}", python.display()))?.success();
        ensure!(found, "{} has no package {package}", python.display());

        let script = Path::new(TOP).join(format!("{package}_swarm.py"));
        let mut child = command(python, [script.as_os_str(), OsStr::new(&nodes.to_string())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("it cannot be started")?;
        let questions = child.stdin.take().context("its input is piped")?;
        let lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
        let (sender, answers) = mpsc::channel(LINES_MAX);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| sender.blocking_send(line))
        });
        let mut program = Self { child, questions, answers };
        program.answer().await?;
        Ok(program)
    }

    pub(super) async fn run(&mut self, task: &Task) -> anyhow::Result<Outcome> {
        self.questions.write_all(question(task).as_bytes()).context("it does not listen")?;
        Ok(outcome(&self.answer().await?)?)
    }

    async fn answer(&mut self) -> anyhow::Result<String> {
        let line = timeout(PATIENCE, self.answers.recv()).await.context("it does not answer")?;
        line.context("it ended early, for the reason it printed")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs Python so that it leaves nothing behind in the directory of the programs.
fn command<'a>(python: &Path, args: impl IntoIterator<Item = &'a OsStr>) -> Command {
    let mut command = Command::new(python);
    command.arg("-B").args(args);
    command
}

fn question(task: &Task) -> String {
    let operation = match task.operation {
        Operation::Put => "put",
        Operation::Get => "get",
    };
    format!("{operation} {} {} {}\n", task.in_flight, task.operations, PERIOD.as_secs())
}

/// Reads an answer to a question.
fn outcome(answer: &str) -> Result<Outcome, AnswerError> {
    let figures: Value = serde_json::from_str(answer).map_err(|_| AnswerError::NoJson(answer.into()))?;
    let missing = |figure| AnswerError::NoFigure { figure, answer: answer.into() };
    let number = |figure| figures[figure].as_f64().ok_or_else(|| missing(figure));
    let count = |figure| {
        let count = figures[figure].as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| missing(figure))
    };
    let lap = Lap { per_second: number("per_second")?, p50_ms: number("p50_ms")?, p99_ms: number("p99_ms")? };
    Ok(Outcome { lap, operations: count("operations")?, failed: count("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_installed_is_named() {
        let missing = async |python: &str| {
            let started = Program::start(Path::new(python), "opendht", 2).await;
            started.err().map(|why| why.to_string())
        };
        assert_eq!(missing("/nowhere/python").await, Some("there is no program /nowhere/python".into()));
        assert_eq!(missing("false").await, Some("false has no package opendht".into()));
    }

    #[test]
    fn a_question_says_what_and_how_much() {
        let task = Task { operation: Operation::Get, in_flight: 16, operations: 2_000 };
        assert_eq!(question(&task), "get 16 2000 5\n");
    }

    #[test]
    fn an_answer_has_five_figures() {
        let answer = r#"{"operations": 9, "failed": 1, "per_second": 450.5, "p50_ms": 2, "p99_ms": 3.5}"#;
        let lap = Lap { per_second: 450.5, p50_ms: 2.0, p99_ms: 3.5 };
        assert_eq!(outcome(answer), Ok(Outcome { lap, operations: 9, failed: 1 }));
    }

    #[test]
    fn what_is_no_answer_is_named() {
        let whole = r#"{"operations": 9, "failed": 0, "per_second": 1.5, "p50_ms": 2, "p99_ms": 3.5}"#;
        for (figure, right, wrong) in [
            ("operations", "9,", "-9,"),
            ("failed", r#""failed""#, r#""lost""#),
            ("per_second", "1.5", r#""fast""#),
            ("p50_ms", " 2,", " null,"),
            ("p99_ms", "3.5", "[3.5]"),
        ] {
            let answer = whole.replace(right, wrong);
            assert_eq!(outcome(&answer), Err(AnswerError::NoFigure { figure, answer: answer.clone() }));
        }
        assert_eq!(outcome("[1,"), Err(AnswerError::NoJson("[1,".into())));
    }
}
