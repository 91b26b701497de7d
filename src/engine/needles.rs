//! Does something of a text still stand somewhere? One pass over what is looked through, whatever the
//! number of texts.
//!
//! A text is sought by its lines, each in the spellings in which it may be written down: as it is, and
//! escaped as JSON does, in both of its ways. A long line is sought by its pieces. An automaton of
//! Aho and Corasick (1975) finds all of them at once; lines that would make it large are sought by
//! several, one after the other, so that memory is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use serde_json::Value;

/// A shorter line is found by chance.
const MIN_BYTES: usize = 12;
/// A longer line is sought by pieces of so many bytes.
const MAX_BYTES: usize = 4 << 10;
/// What one automaton looks for, in bytes.
const BATCH_BYTES: usize = 1 << 20;
/// What is looked through at once, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// Pieces of texts, each with the numbers of those whose it is.
#[derive(Default)]
pub(crate) struct Needles(BTreeMap<String, BTreeSet<usize>>);

impl Needles {
    /// Adds what a text is known by.
    pub(crate) fn add(&mut self, text: &str, owner: usize) {
        let pieces = text.lines().flat_map(pieces);
        for piece in pieces.filter(|piece| piece.len() >= MIN_BYTES) {
            self.0.entry(piece.to_owned()).or_default().insert(owner);
        }
    }

    /// Drops what one of these texts says as well: it is no trace of another.
    ///
    /// # Errors
    /// Pieces that no automaton holds.
    pub(crate) fn drop_said_in<'a>(
        &mut self,
        texts: impl Iterator<Item = &'a str> + Clone,
    ) -> io::Result<()> {
        let pieces: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let mut said = BTreeSet::new();
        for batch in batches(&pieces, |piece| piece.len()) {
            let (automaton, mut is_said) = (automaton(batch)?, vec![false; batch.len()]);
            for text in texts.clone() {
                for found in automaton.find_overlapping_iter(text) {
                    is_said[found.pattern().as_usize()] = true;
                }
            }
            let of_batch = batch.iter().zip(is_said).filter(|(_, is_said)| *is_said);
            said.extend(of_batch.map(|(piece, _)| (*piece).to_owned()));
        }
        self.0.retain(|piece, _| !said.contains(piece));
        Ok(())
    }

    /// Whose pieces stand in one of these files.
    ///
    /// # Errors
    /// A file that cannot be read; pieces that no automaton holds.
    pub(crate) fn found_in<'a>(
        &self,
        files: impl Iterator<Item = &'a Path> + Clone,
    ) -> io::Result<BTreeSet<usize>> {
        let spelled = self.spelled();
        let mut found = BTreeSet::new();
        for batch in batches(&spelled, |(spelling, _)| spelling.len()) {
            let automaton = automaton(batch.iter().map(|(spelling, _)| spelling))?;
            for file in files.clone() {
                let file = std::fs::File::open(file)?;
                look_through(file, &automaton, |piece| found.extend(batch[piece].1))?;
            }
        }
        Ok(found)
    }

    /// Whose pieces stand in which of these lines, by their numbers. `read` tells all lines, each time that it is called.
    ///
    /// # Errors
    /// What `read` says; pieces that no automaton holds.
    pub(crate) fn found_in_lines(
        &self,
        read: impl Fn(&mut dyn FnMut(usize, &[u8])) -> io::Result<()>,
    ) -> io::Result<BTreeMap<usize, BTreeSet<usize>>> {
        let spelled = self.spelled();
        let mut found: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for batch in batches(&spelled, |(spelling, _)| spelling.len()) {
            let automaton = automaton(batch.iter().map(|(spelling, _)| spelling))?;
            read(&mut |number: usize, line: &[u8]| {
                for piece in automaton.find_overlapping_iter(line) {
                    let owners = batch[piece.pattern().as_usize()].1;
                    found.entry(number).or_default().extend(owners);
                }
            })?;
        }
        Ok(found)
    }

    /// Every piece in each of its spellings, with whose it is.
    fn spelled(&self) -> Vec<(String, &BTreeSet<usize>)> {
        let spelled = self.0.iter().flat_map(|(piece, owners)| {
            let spellings = spellings(piece).into_iter();
            spellings.map(move |spelling| (spelling, owners))
        });
        spelled.collect()
    }
}

/// A line, in pieces that are not too long.
fn pieces(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let mut end = rest.len().min(MAX_BYTES);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, behind) = rest.split_at(end);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// How a piece may be written down.
fn spellings(piece: &str) -> BTreeSet<String> {
    let quoted = Value::from(piece).to_string();
    let escaped = quoted[1..quoted.len() - 1].to_owned();
    let mut ascii = String::new();
    for c in escaped.chars() {
        match c.is_ascii() {
            true => ascii.push(c),
            false => {
                let units = c.encode_utf16(&mut [0; 2]).to_vec();
                ascii.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            }
        }
    }
    [piece.to_owned(), escaped, ascii].into()
}

/// What finds these. Of the kinds there are, one whose size follows theirs.
fn automaton(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> io::Result<AhoCorasick> {
    let kind = Some(AhoCorasickKind::ContiguousNFA);
    let built = AhoCorasick::builder().kind(kind).build(pieces);
    built.map_err(io::Error::other)
}

/// Runs of these that are not too large in all; one alone may be.
fn batches<T>(all: &[T], n_bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut batches, mut begin, mut sum) = (Vec::new(), 0, 0);
    for (at, one) in all.iter().enumerate() {
        sum += n_bytes(one);
        if sum > BATCH_BYTES && at > begin {
            batches.push(&all[begin..at]);
            (begin, sum) = (at, n_bytes(one));
        }
    }
    if begin < all.len() {
        batches.push(&all[begin..]);
    }
    batches
}

/// Tells of each piece that stands in what is read, by its number; of one that stands there often,
/// more than once.
fn look_through(
    mut from: impl Read,
    automaton: &AhoCorasick,
    mut tell: impl FnMut(usize),
) -> io::Result<()> {
    // A piece may begin in one chunk and end in the next.
    let n_carried = automaton.max_pattern_len().saturating_sub(1);
    let mut chunk = vec![0; n_carried + CHUNK_BYTES];
    let mut n_held = 0;
    loop {
        match from.read(&mut chunk[n_held..]) {
            Ok(0) => return Ok(()),
            Ok(n_read) => n_held += n_read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        for found in automaton.find_overlapping_iter(&chunk[..n_held]) {
            tell(found.pattern().as_usize());
        }
        let n_kept = n_held.min(n_carried);
        chunk.copy_within(n_held - n_kept..n_held, 0);
        n_held = n_kept;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(needles: &Needles, bytes: &[u8]) -> BTreeSet<usize> {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        std::fs::write(&file, bytes).expect("writable");
        let files = [&*file];
        needles.found_in(files.into_iter()).expect("readable")
    }

    #[test]
    fn a_line_is_found_in_every_spelling_and_a_short_one_is_not_sought() {
        let mut needles = Needles::default();
        needles.add("too short\nsay \"café\" at noon 🦆, they said", 0);
        for written in [
            "…say \"café\" at noon 🦆, they said…",
            r#"{"text":"say \"café\" at noon 🦆, they said"}"#,
            r#"{"text":"say \"caf\u00e9\" at noon \ud83e\udd86, they said"}"#,
        ] {
            assert_eq!(found(&needles, written.as_bytes()), [0].into(), "{written}");
        }
        let other = "too short, say \"cafe\" at noon";
        assert!(found(&needles, other.as_bytes()).is_empty());
    }

    #[test]
    fn what_another_text_says_as_well_is_no_trace() {
        let mut needles = Needles::default();
        needles.add("the heron nests here\nthe pump house is old", 3);
        let others = ["before the heron nests here after", "something else"];
        needles.drop_said_in(others.into_iter()).expect("small");
        assert!(found(&needles, b"the heron nests here").is_empty());
        assert_eq!(found(&needles, b"the pump house is old"), [3].into());
    }

    #[test]
    fn of_many_lines_those_are_told_that_hold_a_piece_and_whose_it_is() {
        let mut needles = Needles::default();
        needles.add("the heron nests here\nthe pump house is old", 3);
        needles.add("the heron nests here", 5);
        let lines = [
            "nothing",
            "so the heron nests here",
            "the pump house is old",
        ];
        let read = |hear: &mut dyn FnMut(usize, &[u8])| {
            for (number, line) in lines.iter().enumerate() {
                hear(number, line.as_bytes());
            }
            Ok(())
        };
        let found = needles.found_in_lines(read).expect("small");
        assert_eq!(found, [(1, [3, 5].into()), (2, [3].into())].into());
    }

    #[test]
    fn a_piece_is_found_across_chunks_and_one_within_another_is_both() {
        let mut needles = Needles::default();
        needles.add("xx the heron nests here xx", 0);
        needles.add("the heron nests here", 1);
        let n_most = CHUNK_BYTES + 64;
        let mut bytes = vec![b'.'; n_most];
        bytes.extend(b"xx the heron nests here xx");
        for n_before in [
            CHUNK_BYTES - 10,
            CHUNK_BYTES,
            CHUNK_BYTES + 12,
            CHUNK_BYTES + 24,
        ] {
            let of = &bytes[n_most - n_before..];
            assert_eq!(found(&needles, of), [0, 1].into(), "{n_before}");
        }
    }

    #[test]
    fn a_long_line_is_sought_by_its_pieces_and_many_by_several_automata() {
        let line: String = (0..).map(|i| format!("{i:06}")).take(1_000).collect();
        let mut needles = Needles::default();
        needles.add(&line, 0);
        assert_eq!(found(&needles, &line.as_bytes()[5_000..]), BTreeSet::new());
        assert_eq!(found(&needles, &line.as_bytes()[4_000..]), [0].into());
        let pieces: Vec<String> = (0..300).map(|i| format!("{i:0>9000}")).collect();
        let batches = batches(&pieces, String::len);
        assert_eq!(batches.iter().map(|of| of.len()).sum::<usize>(), 300);
        assert_eq!(batches.len(), 3);
    }

    proptest! {
        /// As a search for each line alone says.
        #[test]
        fn all_are_found_that_are_there(
            texts in prop::collection::vec("[ab]{12,16}", 1..6),
            written in "[ab]{0,80}",
        ) {
            let mut needles = Needles::default();
            for (owner, text) in texts.iter().enumerate() {
                needles.add(text, owner);
            }
            let there = texts.iter().enumerate().filter(|(_, text)| written.contains(&**text));
            let there: BTreeSet<usize> = there.map(|(owner, _)| owner).collect();
            prop_assert_eq!(found(&needles, written.as_bytes()), there);
        }
    }
}
