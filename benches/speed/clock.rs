//! What did a piece of work cost, on the wall and on the processor?

use std::time::Instant;

use cpu_time::ProcessTime;

use crate::measurement::Measurement;

/// Runs `work` on `n_tokens` tokens and reads both clocks. Processor time is that of
/// all threads of this process.
pub fn timed<T>(n_tokens: usize, work: impl FnOnce() -> T) -> (Measurement, T) {
    let wall = Instant::now();
    let cpu = ProcessTime::now();
    let result = work();
    let measurement = Measurement {
        tokens: n_tokens,
        wall_s: wall.elapsed().as_secs_f64(),
        cpu_s: cpu.elapsed().as_secs_f64(),
    };
    (measurement, result)
}
