//! Lines on standard error: what cannot be told there, because nobody reads it any more, is not told.
//!
//! Where standard error is a log of JSON (`log`), each is an event of it.

use std::io::{self, Write as _};

use tracing::{Level, enabled, error, info};

use super::wording;

/// What is said to people is an event of this, where it is one.
pub(crate) const SAID: &str = "perennial::said";

/// Whether what is said is an event of a log.
pub(crate) fn is_log() -> bool {
    enabled!(target: SAID, Level::INFO)
}

/// A line, of which nothing is a command to a terminal.
pub(crate) fn line(text: &str) {
    match is_log() {
        true => info!(target: SAID, "{}", text.trim_end()),
        false => drawn(&wording::plain(text)),
    }
}

/// Why a command cannot go on, and what can be done.
pub(crate) fn failure(what: &str, hint: Option<&str>) {
    if is_log() {
        error!(target: SAID, hint, "{what}");
        return;
    }
    drawn(&wording::plain(&format!("error: {what}")));
    if let Some(hint) = hint {
        drawn(&wording::plain(&format!("  try: {hint}")));
    }
}

/// A line as it is, with colours of this program's own. Not for where it may be a log.
pub(crate) fn drawn(line: &str) {
    let _nobody_reads_it = writeln!(io::stderr().lock(), "{line}");
}
