//! How do the policies read side by side?

use std::fmt::Write;
use std::path::Path;

use perennial::bank::Repair;
use perennial::bank::repair::{Band, Extent, Part};

use crate::case::Case;
use crate::grade::Grade;
use crate::policy::Policy;
use crate::rig::opened::Opened;

/// What the paper's 0.5B rows are of.
const PUBLISHED_SET: &str = "agent_memory_nonce_option";

/// The policies on one file's cases.
pub struct Table {
    name: String,
    model: String,
    is_published: bool,
    lines: Vec<Line>,
}

#[derive(Clone, Default)]
struct Line {
    n: usize,
    n_correct: usize,
    n_cites_current: usize,
    n_uses_stale: usize,
    n_encoded_again: usize,
}

impl Table {
    /// A table of a file's cases without answers.
    pub fn new(path: &Path, opened: &Opened, cases: &[Case]) -> Self {
        let name = path.file_stem().unwrap_or_default();
        let is_published = |case: &Case| case.question_type == PUBLISHED_SET;
        Self {
            name: name.to_string_lossy().into_owned(),
            model: format!("{} (`{}`)", opened.name, opened.file_name()),
            is_published: !cases.is_empty() && cases.iter().all(is_published),
            lines: vec![Line::default(); Policy::all().len()],
        }
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts one answer under policy number `row`.
    pub fn add(&mut self, row: usize, grade: &Grade, n_encoded_again: usize) {
        let line = &mut self.lines[row];
        line.n += 1;
        line.n_correct += usize::from(grade.is_correct);
        line.n_cites_current += usize::from(grade.cites_current);
        line.n_uses_stale += usize::from(grade.uses_stale);
        line.n_encoded_again += n_encoded_again;
    }

    /// Shares of all cases; in parentheses, the difference from the row without stale blocks,
    /// which is the floor.
    pub fn markdown(&self) -> String {
        let policies = Policy::all();
        let floor = policies.iter().position(|p| *p == Policy::Absent);
        let floor = floor
            .map(|row| self.lines[row].shares())
            .unwrap_or_default();
        let n = self.lines.first().map_or(0, |line| line.n);
        let mut text = format!("### {}: {n} cases, {}\n\n", self.name, self.model);
        if self.is_published {
            text.push_str(
                "Published rows are of Qwen2.5-0.5B-Instruct, f32: another checkpoint. What \
                 compares is how rows differ from one another.\n\n",
            );
        }
        text.push_str(
            "| policy | accuracy (- floor) | evidence (- floor) | stale use (- floor) | tokens \
             encoded again | published: accuracy / evidence / stale use |\n\
             | --- | ---: | ---: | ---: | ---: | --- |\n",
        );
        for (policy, line) in policies.iter().zip(&self.lines) {
            let _ = write!(text, "| {policy} |");
            for (share, floor) in line.shares().iter().zip(floor) {
                let _ = write!(text, " {share:.3} ({:+.3}) |", share - floor);
            }
            let again = line.n_encoded_again as f64 / line.n.max(1) as f64;
            let published = match self.is_published {
                true => published(*policy),
                false => "-",
            };
            let _ = writeln!(text, " {again:.0} | {published} |");
        }
        text
    }
}

impl Line {
    fn shares(&self) -> [f64; 3] {
        [self.n_correct, self.n_cites_current, self.n_uses_stale]
            .map(|count| count as f64 / self.n.max(1) as f64)
    }
}

/// LineageKV's numbers of Qwen2.5-0.5B-Instruct on the 80 nonce cases
/// (`kv_qwen25_0_5b_agent_memory_text_timestamp_decile1_full80`).
fn published(policy: Policy) -> &'static str {
    const WHOLE: Policy = Policy::Repaired(Repair::ZeroValues(Extent {
        part: Part::Whole,
        band: Band::UpperTwoThirds,
    }));
    match policy {
        Policy::Full => ".4625 / .4375 / .7375",
        Policy::Absent => ".45 / 1.0 / .40",
        Policy::SecondTenth => ".475 / 1.0 / .375",
        WHOLE => ".40 / .95 / .45",
        _ => "-",
    }
}
