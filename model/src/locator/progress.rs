//! How far is it? Told to a terminal as a bar of bytes, to anything else as lines.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Hears how work on bytes goes on.
pub trait Progress: Send {
    /// Work on `n_bytes` begins.
    fn begin(&mut self, label: &str, n_bytes: u64);
    /// So many bytes are done; may fall when a source was given up for another.
    fn at(&mut self, n_bytes: u64);
    /// Something that the user may want to know.
    fn note(&mut self, text: &str);
    /// The work begun last is over, done or given up.
    fn end(&mut self);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: &str, _: u64) {}
    fn at(&mut self, _: u64) {}
    fn note(&mut self, _: &str) {}
    fn end(&mut self) {}
}

/// Tells standard error: a bar where it is a terminal, else one line for each beginning.
#[derive(Debug)]
pub struct OnStderr {
    /// Where bars are drawn; none where lines are written.
    region: Option<MultiProgress>,
    bar: Option<ProgressBar>,
}

impl OnStderr {
    /// Bars in this region, beside what else it draws.
    #[must_use]
    pub const fn within(region: MultiProgress) -> Self {
        Self {
            region: Some(region),
            bar: None,
        }
    }
}

impl Default for OnStderr {
    fn default() -> Self {
        let is_drawn = std::io::stderr().is_terminal();
        Self {
            region: is_drawn.then(MultiProgress::new),
            bar: None,
        }
    }
}

/// A line on standard error, unless nobody reads it any more.
fn say(line: &str) {
    let _nobody_reads_it = writeln!(std::io::stderr(), "{line}");
}

impl Progress for OnStderr {
    fn begin(&mut self, label: &str, n_bytes: u64) {
        self.end();
        let Some(region) = &self.region else {
            say(&format!("{label} ({})", indicatif::HumanBytes(n_bytes)));
            return;
        };
        let bar = region.add(ProgressBar::new(n_bytes));
        let style = ProgressStyle::with_template(
            "{msg} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        )
        .expect("a constant template")
        .progress_chars("=> ");
        bar.set_style(style);
        bar.set_message(label.to_owned());
        self.bar = Some(bar);
    }

    fn at(&mut self, n_bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(n_bytes);
        }
    }

    fn note(&mut self, text: &str) {
        match &self.region {
            Some(region) => region.suspend(|| say(text)),
            None => say(text),
        }
    }

    fn end(&mut self) {
        if let (Some(bar), Some(region)) = (self.bar.take(), &self.region) {
            bar.finish_and_clear();
            region.remove(&bar);
        }
    }
}

impl Drop for OnStderr {
    fn drop(&mut self) {
        self.end();
    }
}
