//! The project's own source text, for the tests that hold it against the invariants of ARCHITECTURE.md.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One source file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path from the top of the repository, with `/` between the parts.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The top of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a workspace").to_owned()
}

/// Every file below `dir` with this extension, in order of path.
pub fn files(dir: &str, extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(dir), extension, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(dir: &Path, extension: &str, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden || path.ends_with("target") {
            continue;
        }
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension)
            && let Ok(text) = fs::read_to_string(&path)
        {
            let path = path.strip_prefix(root()).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            found.push(Source { path, text });
        }
    }
}

/// The part of a source file before its unit tests.
pub fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text)
}
