//! The `comet-node` program; [`comet_node::cli`] is all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    comet_node::cli::main()
}
