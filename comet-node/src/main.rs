//! The `comet-node` program; [`comet_node::cli`] is all of it.

use std::process::ExitCode;

/// A get makes some forty short-lived allocations, and the system's allocator took a tenth of its time for them. Built
/// without huge pages, of which an idle node would hold twenty megabytes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    comet_node::cli::main()
}
