//! What views say as JSON lines: a file that holds whole epochs, each once.
//!
//! ```json
//! {"perennial":"answers","format":1}
//! {"view":"answers","key":"q1","epoch":7,"question":"…","text":"…","rung":"verify","exact":true,…}
//! {"view":"answers","key":"q2","epoch":7,"gone":true}
//! {"end_of":{"origin":"00f1…","view":"answers","epoch":7,"rows":2}}
//! ```
//! The first line says whose file it is, and is the same for every view. An epoch counts once its
//! last line is there. What stands behind the last of these lines when the file is opened is the
//! beginning of an epoch that a crash cut off: it is removed, and the epoch is delivered again. An
//! epoch that is there is not written twice.
//!
//! Where an engine goes back in time, the file is read once more: keys that stand in it and no more in what
//! the engine says are told to be gone.
//!
//! Others may move the file away, remove or empty it while it is written, as those do who rotate logs:
//! the next epoch begins a new one.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Delivery, Replaced, Sink, Told};
use crate::identity::identity;
use crate::{Error, FaultPoint, StopFlag};

/// The fault points of this sink.
pub const FAULT_POINTS: &[FaultPoint] = points::ALL;

mod points {
    crate::fault_points! {
        /// What a failed write may have left is cut off, and nothing is written.
        CUT = "sink-file.cut";
        /// The lines are written, and not synced.
        WRITTEN = "sink-file.written";
        /// The lines are there for good.
        SYNCED = "sink-file.synced";
    }
}

/// The first line: a file that begins otherwise is left alone.
const HEAD: &[u8] = b"{\"perennial\":\"answers\",\"format\":1}\n";
/// A longer line is none of this sink's.
const LINE_LIMIT: u64 = 64 << 20;

/// A file of JSON lines as a sink.
#[derive(Debug)]
pub struct JsonLinesSink {
    name: String,
    path: PathBuf,
    /// Held open and locked.
    file: File,
    /// Behind the last whole epoch, in bytes.
    end: u64,
    /// The last whole epoch.
    last: Option<Last>,
}

/// Which epoch the file ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Last {
    origin: String,
    view: String,
    epoch: u64,
}

impl JsonLinesSink {
    /// Appends to a file, which is made if it is not there. Its name as a sink is its absolute
    /// path.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::ForeignOutput`] for a file that holds anything but epochs;
    /// [`Error::OutputInUse`] if another process writes it; [`Error::UnknownScheme`] for an address.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let address = path
            .as_ref()
            .to_str()
            .and_then(|path| path.split_once("://"));
        if let Some((scheme, _)) = address {
            let scheme = scheme.to_owned();
            return Err(Error::UnknownScheme { scheme });
        }
        let path = std::path::absolute(&path).unwrap_or_else(|_| path.as_ref().to_path_buf());
        let io = |action| {
            let path = path.clone();
            move |source| Error::Io {
                path,
                action,
                source,
            }
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(io("cannot be opened"))?;
        if file.try_lock().is_err() {
            return Err(Error::OutputInUse { path });
        }
        let (end, last) = scan(&path, &file)?;
        let mut sink = Self {
            name: path.display().to_string(),
            path: path.clone(),
            file,
            end,
            last,
        };
        let head = if end == 0 { HEAD } else { b"" };
        sink.write(head).map_err(io("cannot be written"))?;
        sync_folder(&path).map_err(io("cannot be written"))?;
        Ok(sink)
    }

    /// Goes on with what stands under the file's name now.
    fn settle(&mut self) -> Result<(), Error> {
        let io = |source| Error::Io {
            path: self.path.clone(),
            action: "cannot be read",
            source,
        };
        let held = self.file.metadata().map_err(io)?;
        if !is_there(&held, &self.path) {
            *self = Self::open(&self.path)?;
            return Ok(());
        }
        if held.len() < self.end {
            self.file.seek(SeekFrom::Start(0)).map_err(io)?;
            // Until it is known where its epochs end, nothing of it is cut off.
            self.end = u64::MAX;
            (self.end, self.last) = scan(&self.path, &self.file)?;
            if self.end == 0 {
                self.write(HEAD).map_err(|source| Error::Io {
                    path: self.path.clone(),
                    action: "cannot be written",
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// Reads the whole epochs that are there.
    fn look(&mut self, told: &mut Told<'_>) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let whole = std::io::Read::take(&self.file, self.end);
        let (mut reader, mut line) = (BufReader::new(whole), Vec::new());
        // By key, of the epoch whose end is not read yet.
        let mut of_epoch: Vec<(String, bool)> = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            // It was looked through when it was opened: what is no row is the first line.
            let Ok(value) = serde_json::from_slice::<Value>(&line) else {
                continue;
            };
            if let Some(end) = value.get("end_of") {
                let (view, origin) = (end["view"].as_str(), end["origin"].as_str());
                for (key, is_gone) in of_epoch.drain(..) {
                    told.hear(view, origin, &key, is_gone);
                }
            } else if let Some(key) = value["key"].as_str() {
                of_epoch.push((key.to_owned(), value.get("gone").is_some()));
            }
        }
    }

    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        // A write that failed may have left a part.
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        points::CUT.reach();
        self.file.write_all(lines)?;
        points::WRITTEN.reach();
        self.file.sync_data()?;
        points::SYNCED.reach();
        self.end += lines.len() as u64;
        Ok(())
    }
}

impl Sink for JsonLinesSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    fn deliver(&mut self, delivery: &Delivery, _stop: &StopFlag) -> Result<(), Error> {
        self.settle()?;
        let origin = delivery.origin_text();
        if let Some(last) = &self.last
            && (&last.origin, &last.view) == (&origin, &delivery.view)
            && delivery.epoch <= last.epoch
        {
            return Ok(());
        }
        let mut lines = Vec::new();
        for row in &delivery.rows {
            line(&mut lines, &delivery.row_json(row));
        }
        line(
            &mut lines,
            &json!({ "end_of": {
                "origin": origin,
                "view": delivery.view,
                "epoch": delivery.epoch,
                "rows": delivery.rows.len(),
            }}),
        );
        self.write(&lines).map_err(|source| Error::Io {
            path: self.path.clone(),
            action: "cannot be written",
            source,
        })?;
        self.last = Some(Last {
            origin,
            view: delivery.view.clone(),
            epoch: delivery.epoch,
        });
        Ok(())
    }

    fn replace(
        &mut self,
        delivery: &Delivery,
        former: &[u64],
        stop: &StopFlag,
    ) -> Result<Replaced, Error> {
        self.settle()?;
        let mut told = Told::of(delivery, former);
        self.look(&mut told).map_err(|source| Error::Io {
            path: self.path.clone(),
            action: "cannot be read",
            source,
        })?;
        let (whole, n_gone) = delivery.taking_back(&told.keys);
        self.deliver(&whole, stop)?;
        Ok(Replaced::TakenBack(n_gone))
    }
}

/// Whether this file is what stands under the name.
fn is_there(held: &Metadata, path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| identity(&found) == identity(held))
}

/// Makes the file's name outlive a crash of the machine.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|_| cfg!(unix)) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn line(lines: &mut Vec<u8>, value: &Value) {
    lines.extend_from_slice(value.to_string().as_bytes());
    lines.push(b'\n');
}

/// Where the last whole epoch ends, and which it is.
fn scan(path: &Path, file: &File) -> Result<(u64, Option<Last>), Error> {
    let io = |source| Error::Io {
        path: path.to_path_buf(),
        action: "cannot be read",
        source,
    };
    let foreign = |at: u64| Error::ForeignOutput {
        path: path.to_path_buf(),
        byte: at,
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let head = std::io::Read::take(&mut reader, HEAD.len() as u64);
    { head }.read_until(b'\n', &mut line).map_err(io)?;
    if line != HEAD {
        // The crash may have come before the first line was whole.
        return match HEAD.starts_with(&line) {
            true => Ok((0, None)),
            false => Err(foreign(0)),
        };
    }
    let (mut at, mut end, mut last) = (line.len() as u64, line.len() as u64, None);
    // Where a line stands that is none of ours: allowed behind the last whole epoch only, where a
    // crash may have left anything.
    let mut odd = None;
    loop {
        line.clear();
        let n_read = std::io::Read::take(&mut reader, LINE_LIMIT)
            .read_until(b'\n', &mut line)
            .map_err(io)?;
        if n_read == 0 {
            return Ok((end, last));
        }
        let begin = at;
        at += n_read as u64;
        let value: Option<Value> = line
            .strip_suffix(b"\n")
            .and_then(|whole| serde_json::from_slice(whole).ok());
        let marker = value.as_ref().and_then(|value| value.get("end_of"));
        let whole = marker.and_then(|marker| {
            Some(Last {
                origin: marker.get("origin")?.as_str()?.to_owned(),
                view: marker.get("view")?.as_str()?.to_owned(),
                epoch: marker.get("epoch")?.as_u64()?,
            })
        });
        let is_row = value
            .as_ref()
            .is_some_and(|v| v.get("view").is_some() && v.get("epoch").is_some());
        match whole {
            Some(whole) => {
                if let Some(odd) = odd {
                    return Err(foreign(odd));
                }
                end = at;
                last = Some(whole);
            }
            _ if is_row => {}
            _ => odd = odd.or(Some(begin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Output, OutputAnswer, OutputRow};
    use super::*;

    fn delivery(origin: u64, epoch: u64, n_rows: usize) -> Delivery {
        let row = |i: usize| OutputRow {
            key: format!("q{i}"),
            output: (i % 3 != 2)
                .then(|| OutputAnswer {
                    question: "Why?".to_owned(),
                    text: match i % 2 {
                        0 => Ok(format!("Because of {epoch}.\nAnd \u{2028} ü.")),
                        _ => Err("too long".to_owned()),
                    },
                    rung: "verify".to_owned(),
                    is_exact: true,
                    drift: 0.0,
                    sources: vec!["a.md".to_owned()],
                    passages: None,
                })
                .map(Output::Answer),
        };
        Delivery {
            origin,
            view: "answers".to_owned(),
            epoch,
            rows: (0..n_rows).map(row).collect(),
        }
    }

    fn deliver(path: &Path, deliveries: &[Delivery]) {
        let mut sink = JsonLinesSink::open(path).unwrap();
        for delivery in deliveries {
            sink.deliver(delivery, &StopFlag::new()).unwrap();
        }
    }

    fn read(path: &Path) -> Vec<u8> {
        std::fs::read(path).unwrap()
    }

    #[test]
    fn an_address_is_no_file() {
        let opened = JsonLinesSink::open("ftp://name:secret@host/answers");
        let said = opened.expect_err("refused").to_string();
        assert!(
            said.contains("ftp://") && !said.contains("secret"),
            "{said}"
        );
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        let end = r#"{"end_of":{"origin":"1","view":"v","epoch":1}}"#;
        let other = format!("{}Dear diary,\n{end}\n", String::from_utf8_lossy(HEAD));
        for foreign in ["Dear diary,\n", "{\"a\":1}\n", "{\"a\":1}", &other] {
            std::fs::write(&path, foreign).unwrap();
            let error = JsonLinesSink::open(&path).unwrap_err();
            assert!(matches!(error, Error::ForeignOutput { .. }), "{error}");
            assert_eq!(read(&path), foreign.as_bytes());
        }
    }

    #[test]
    fn a_file_that_is_moved_removed_or_emptied_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        let rotated = dir.path().join("out.jsonl.1");
        let mut sink = JsonLinesSink::open(&path).unwrap();
        let mut next = 1;
        let mut deliver = || {
            sink.deliver(&delivery(7, next, 2), &StopFlag::new())
                .unwrap();
            next += 1;
            let text = String::from_utf8(read(&path)).unwrap();
            assert!(text.as_bytes().starts_with(HEAD), "{text:?}");
            text.lines().count()
        };
        assert_eq!(deliver(), 4);
        std::fs::rename(&path, &rotated).unwrap();
        assert_eq!(deliver(), 4);
        assert_eq!(deliver(), 7);
        File::create(&path).unwrap();
        assert_eq!(deliver(), 4);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(deliver(), 4);
        assert_eq!(read(&rotated).iter().filter(|b| **b == b'\n').count(), 4);
        let other = JsonLinesSink::open(&path);
        assert!(matches!(other, Err(Error::OutputInUse { .. })));
    }

    #[test]
    fn two_writers_are_refused_and_another_origin_counts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        let open = JsonLinesSink::open(&path).unwrap();
        assert!(matches!(
            JsonLinesSink::open(&path),
            Err(Error::OutputInUse { .. })
        ));
        drop(open);
        deliver(
            &path,
            &[delivery(1, 5, 1), delivery(2, 0, 1), delivery(2, 0, 1)],
        );
        let text = String::from_utf8(read(&path)).unwrap();
        assert_eq!(text.matches("end_of").count(), 2);
    }

    #[test]
    fn what_was_told_before_its_engine_went_back_in_time_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        let said = |origin, epoch, rows: &[(&str, bool)]| {
            let answer = delivery(1, 1, 1).rows.remove(0).output;
            let row = |(key, is_there): &(&str, bool)| OutputRow {
                key: (*key).to_owned(),
                output: answer.clone().filter(|_| *is_there),
            };
            Delivery {
                rows: rows.iter().map(row).collect(),
                ..delivery(origin, epoch, 0)
            }
        };
        let all = [
            said(1, 5, &[("kept", true), ("later", true), ("left", true)]),
            said(1, 6, &[("left", false), ("new", true), ("other", true)]),
            // Of an engine that is none of its former lives.
            said(9, 0, &[("foreign", true), ("other", true)]),
        ];
        deliver(&path, &all);
        let now = said(2, 3, &[("kept", true), ("only now", true)]);
        let mut sink = JsonLinesSink::open(&path).unwrap();
        let replaced = sink.replace(&now, &[1], &StopFlag::new());
        assert_eq!(replaced.unwrap(), Replaced::TakenBack(2));
        let text = String::from_utf8(read(&path)).unwrap();
        let last = text.lines().rev().skip(1).take(4);
        let mut last: Vec<(String, bool)> = last
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|row| (row["key"].as_str().unwrap().to_owned(), row["gone"] == true))
            .collect();
        last.reverse();
        let expected = [
            ("kept", false),
            ("later", true),
            ("new", true),
            ("only now", false),
        ];
        assert_eq!(
            last,
            expected.map(|(key, is_gone)| (key.to_owned(), is_gone))
        );
        // After a crash the same is given again: it is there.
        let before = read(&path);
        let replaced = sink.replace(&now, &[1], &StopFlag::new());
        assert_eq!(replaced.unwrap(), Replaced::TakenBack(0));
        assert_eq!(read(&path), before);
    }

    proptest! {
        // The file is cut anywhere, as by a crash, and what may not have arrived is delivered
        // again: the file is as if nothing had happened.
        #[test]
        fn every_epoch_is_there_once_wherever_a_crash_cuts(
            n_rows in prop::collection::vec(0usize..4, 1..6), cut in 0.0..1.0f64, again in 0usize..6,
            junk in prop::collection::vec(prop::sample::select(b"\0\n{x".to_vec()), 0..9),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let all: Vec<Delivery> =
                n_rows.iter().zip(1..).map(|(n, epoch)| delivery(7, epoch, *n)).collect();
            let (whole, cut_path) = (dir.path().join("whole"), dir.path().join("cut"));
            deliver(&whole, &all);
            deliver(&cut_path, &all[..all.len() - 1]);
            let sure = read(&cut_path).len() as f64;
            let len = sure + cut * (read(&whole).len() as f64 - sure);
            let mut left = read(&whole)[..len as usize].to_vec();
            // What was not synced may be anything.
            if len > sure {
                left.extend(&junk);
            }
            std::fs::write(&cut_path, left).unwrap();
            deliver(&cut_path, &all[again.min(all.len() - 1)..]);
            prop_assert_eq!(read(&cut_path), read(&whole));
        }
    }
}
