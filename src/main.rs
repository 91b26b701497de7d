//! The program `perennial`: views over folders of documents, from a terminal.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
