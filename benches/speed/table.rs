//! How do the measurements read side by side?

use std::fmt::Write;

use crate::measurement::Measurement;

/// One task of one model, measured on every side.
pub struct Line {
    /// Name of the model.
    pub model: String,
    /// What was done.
    pub task: String,
    /// Perennial's instructions and arithmetic.
    pub kernels: String,
    /// Threads of every side.
    pub n_threads: usize,
    /// Perennial's medians.
    pub ours: Measurement,
    /// The medians of the first kernels that were measured.
    pub first: Measurement,
    /// Seconds that the machine's peaks would need.
    pub limit: f64,
    /// llama.cpp's medians with and without flash attention; empty if not measured.
    pub peers: Vec<Measurement>,
}

/// A Markdown table: tokens a second, in parentheses per CPU-second; the ratio is
/// against the faster of llama.cpp's two settings on each clock. `of the limit` is the rate
/// as a share of what the machine's peaks allow.
pub fn markdown(lines: &[Line]) -> String {
    let mut table = String::from(
        "| model | task | kernels | threads | Perennial tokens/s (per CPU-s) \
         | to the first kernels (per CPU-s) | of the limit | llama.cpp, flash attention | llama.cpp, without | ratio (per CPU-s) |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for line in lines {
        write!(
            table,
            "| {} | {} | {} | {} | {} | {:.2} ({:.2}) | {:.0}% |",
            line.model,
            line.task,
            line.kernels,
            line.n_threads,
            rates(&line.ours),
            line.ours.rate() / line.first.rate(),
            line.ours.cpu_rate() / line.first.cpu_rate(),
            100.0 * line.limit / line.ours.wall_s,
        )
        .expect("writing to a string");
        match line.peers.as_slice() {
            [with, without] => {
                let wall = line.ours.rate() / with.rate().max(without.rate());
                let cpu = line.ours.cpu_rate() / with.cpu_rate().max(without.cpu_rate());
                writeln!(
                    table,
                    " {} | {} | {wall:.2} ({cpu:.2}) |",
                    rates(with),
                    rates(without)
                )
            }
            _ => writeln!(table, " - | - | - |"),
        }
        .expect("writing to a string");
    }
    table
}

fn rates(measurement: &Measurement) -> String {
    format!("{:.1} ({:.1})", measurement.rate(), measurement.cpu_rate())
}
