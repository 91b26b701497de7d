//! How far is it? Told to a terminal as a bar of bytes, to anything else as lines.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

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
#[derive(Debug, Default)]
pub struct OnStderr {
    bar: Option<ProgressBar>,
}

impl Progress for OnStderr {
    fn begin(&mut self, label: &str, n_bytes: u64) {
        self.end();
        if !std::io::stderr().is_terminal() {
            eprintln!("{label} ({})", indicatif::HumanBytes(n_bytes));
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(n_bytes), ProgressDrawTarget::stderr());
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
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for OnStderr {
    fn drop(&mut self) {
        self.end();
    }
}
