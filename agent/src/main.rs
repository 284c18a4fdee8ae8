// SPDX-License-Identifier: Apache-2.0
//! The agent's program: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    windlass_agent::cli::run()
}
