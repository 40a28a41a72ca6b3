//! The `comet-node` program, built beside the tests so that they can run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    comet_node::cli::main()
}
