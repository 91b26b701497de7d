//! Lines on standard error: what cannot be told there, because nobody reads it any more, is not told.

use std::io::{self, Write as _};

use super::wording;

/// A line, of which nothing is a command to a terminal.
pub(crate) fn line(text: &str) {
    drawn(&wording::plain(text));
}

/// A line as it is, with colours of this program's own.
pub(crate) fn drawn(line: &str) {
    let _nobody_reads_it = writeln!(io::stderr().lock(), "{line}");
}
