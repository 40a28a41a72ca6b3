//! What an author is told of a turn that failed.

use super::{CHUNK_NAME, PRELUDE_NAME, Vm, meter::Exceeded, pace, text::clean};
use crate::Failure;

impl Vm {
    /// The failure of a turn that has exceeded a limit.
    pub(super) fn verdict(&self, exceeded: Exceeded) -> Failure {
        match exceeded {
            Exceeded::Steps => Failure::Steps { limit: self.limits.steps },
            Exceeded::Time => Failure::Time { limit_ms: self.limits.turn_ms },
            Exceeded::Memory => Failure::Memory { limit_bytes: self.limits.turn_alloc_bytes as u64 },
        }
    }

    /// What an error of Lua's is to the author.
    pub(crate) fn failure(&self, error: &mlua::Error) -> Failure {
        if let Some(exceeded) = pace::exceeded() {
            return self.verdict(exceeded);
        }
        match error {
            mlua::Error::MemoryError(_) => self.verdict(Exceeded::Memory),
            mlua::Error::CallbackError { cause, .. } => self.failure(cause),
            other => Failure::Error(self.sentence(other)),
        }
    }

    /// The error's first line, moved to the author's line where it was raised in the prelude.
    pub(super) fn sentence(&self, error: &mlua::Error) -> String {
        let text = match error {
            mlua::Error::RuntimeError(text) | mlua::Error::SyntaxError { message: text, .. } => text.clone(),
            other => other.to_string(),
        };
        let (message, trace) = text.split_once("\nstack traceback:").unwrap_or((&text, ""));
        let prelude = PRELUDE_NAME.trim_start_matches('=');
        let script = CHUNK_NAME.trim_start_matches('=');
        let at = |line: &str, chunk: &str| {
            let rest = line.trim_start().strip_prefix(chunk)?.strip_prefix(':')?;
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            (digits > 0).then(|| rest.split_at(digits)).map(|(line, rest)| (line.to_owned(), rest.to_owned()))
        };
        let moved =
            at(message, prelude).map(|(_, rest)| match trace.lines().find_map(|line| at(line, script)) {
                Some((line, _)) => format!("{script}:{line}{rest}"),
                None => rest.trim_start_matches([':', ' ']).to_owned(),
            });
        clean(moved.as_deref().unwrap_or(message), self.limits.log_line_bytes)
    }
}
