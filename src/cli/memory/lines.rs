//! Which entries does standard input hold, a JSON object a line?

use std::io::{self, BufRead, Read as _};

use perennial::memory::NewEntry;
use serde::Deserialize;

/// Bytes of a line: an entry's longest text, escaped, and what stands beside it.
const MAX_LINE: u64 = 1 << 20;

/// An entry as a line says it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: String,
    key: Option<String>,
    namespace: Option<String>,
    session: Option<String>,
    writer: Option<String>,
    title: Option<String>,
    #[serde(default)]
    pinned: bool,
    #[serde(default)]
    supersedes: Vec<String>,
    updated_at: Option<i64>,
}

/// What a line says over what is said of all.
///
/// # Errors
/// Why it is none, for people.
fn entry(line: &[u8], of_all: &NewEntry) -> Result<NewEntry, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let mut entry = of_all.clone().text(line.text);
    if let Some(key) = line.key {
        entry = entry.key(key);
    }
    if let Some(namespace) = line.namespace {
        entry = entry.namespace(namespace);
    }
    if let Some(session) = line.session {
        entry = entry.session(session);
    }
    if let Some(writer) = line.writer {
        entry = entry.writer(writer);
    }
    if let Some(title) = line.title {
        entry = entry.titled(title);
    }
    if line.pinned {
        entry = entry.pinned(true);
    }
    if !line.supersedes.is_empty() {
        entry = entry.superseding(line.supersedes);
    }
    Ok(match line.updated_at {
        Some(ms) => entry.at(ms),
        None => entry,
    })
}

/// Each line with its number: what it says, or why it is refused. Lines of blanks are passed over.
///
/// # Errors
/// A failed read.
pub(super) fn each(
    mut input: impl BufRead,
    of_all: &NewEntry,
    mut take: impl FnMut(usize, Result<NewEntry, String>) -> io::Result<()>,
) -> io::Result<()> {
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        let mut bounded = input.by_ref().take(MAX_LINE + 1);
        if bounded.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        number += 1;
        if line.len() as u64 > MAX_LINE {
            if line.last() != Some(&b'\n') {
                skip_line(&mut input)?;
            }
            take(
                number,
                Err(format!("the line has more than {MAX_LINE} bytes")),
            )?;
        } else if !line.trim_ascii().is_empty() {
            take(number, entry(&line, of_all))?;
        }
    }
}

/// Reads on behind the next line break, and keeps nothing of it.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                input.consume(at + 1);
                return Ok(());
            }
            None => {
                let n_bytes = buffer.len();
                input.consume(n_bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_none_is_refused_and_the_next_is_read() {
        let long = "x".repeat(MAX_LINE as usize + 10);
        let input = format!(
            "{{\"text\": \"a\", \"writer\": \"w\"}}\n\n{{\"txt\": 1}}\n{long}\n{{\"text\": \"b\"}}"
        );
        let of_all = NewEntry::new("").namespace("n").writer("v");
        let mut seen = Vec::new();
        each(input.as_bytes(), &of_all, |number, entry| {
            seen.push((number, entry));
            Ok(())
        })
        .expect("memory can be read");
        let numbers: Vec<usize> = seen.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 3, 4, 5]);
        let first = NewEntry::new("a").namespace("n").writer("w");
        assert_eq!(seen[0].1, Ok(first));
        assert!(seen[1].1.as_ref().is_err_and(|why| why.contains("txt")));
        assert!(
            seen[2]
                .1
                .as_ref()
                .is_err_and(|why| why.contains("more than"))
        );
        assert_eq!(seen[3].1, Ok(NewEntry::new("b").namespace("n").writer("v")));
    }
}
