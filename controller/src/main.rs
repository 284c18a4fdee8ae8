// SPDX-License-Identifier: Apache-2.0
//! The `windlass` program: arguments in, runtime up, exit code out. No logic.

use std::process::ExitCode;

use windlass_controller::cli;

fn main() -> ExitCode {
    cli::completion::answer_the_shell();
    let arguments = match cli::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(exit) => return exit.into(),
    };
    let mut runtime = match arguments.threads() {
        // A command line waits for one connection; starting threads would be most of its run time.
        cli::Threads::One => tokio::runtime::Builder::new_current_thread(),
        cli::Threads::Many => tokio::runtime::Builder::new_multi_thread(),
    };
    match runtime.enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(cli::run(arguments));
            // A blocked thread, such as one reading a terminal, must not hold up the end.
            runtime.shutdown_background();
            exit.into()
        }
        Err(error) => cli::report_start_failure(&error).into(),
    }
}
