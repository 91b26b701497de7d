//! What views say as JSON lines: a file that holds whole epochs, each once.
//!
//! ```json
//! {"perennial":"answers","format":1}
//! {"view":"answers","key":"q1","epoch":7,"question":"…","text":"…","rung":"verify","exact":true,…}
//! {"view":"answers","key":"q2","epoch":7,"gone":true}
//! {"end_of":{"origin":"00f1…","view":"answers","epoch":7,"rows":2}}
//! ```
//! The first line is the same for every view. How the file stays whole is said where it is written
//! (`epoch_file.rs`). An epoch that is there is not written twice.
//!
//! Where an engine goes back in time, the file is read once more: keys that stand in it and no more in what
//! the engine says are told to be gone.

use std::path::Path;

use serde_json::json;

use super::epoch_file::{EpochFile, Last, line};
use super::{Delivery, Replaced, Sink, Told};
use crate::{Error, StopFlag};

/// The first line.
const HEAD: &[u8] = b"{\"perennial\":\"answers\",\"format\":1}\n";

/// A file of JSON lines as a sink.
#[derive(Debug)]
pub struct JsonLinesSink {
    name: String,
    file: EpochFile,
}

impl JsonLinesSink {
    /// Appends to a file, which is made if it is not there. Its name as a sink is its absolute
    /// path.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::ForeignOutput`] for a file that holds anything but epochs;
    /// [`Error::OutputInUse`] if it is written already; [`Error::UnknownScheme`] for an address.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let file = EpochFile::open(path.as_ref(), HEAD)?;
        Ok(Self {
            name: file.path().display().to_string(),
            file,
        })
    }

    /// Reads the whole epochs that are there.
    fn look(&mut self, told: &mut Told<'_>) -> Result<(), Error> {
        // By key, of the epoch whose end is not read yet.
        let mut of_epoch: Vec<(String, bool)> = Vec::new();
        self.file.read(|value| {
            if let Some(end) = value.get("end_of") {
                let (view, origin) = (end["view"].as_str(), end["origin"].as_str());
                for (key, is_gone) in of_epoch.drain(..) {
                    told.hear(view, origin, &key, is_gone);
                }
            } else if let Some(key) = value["key"].as_str() {
                of_epoch.push((key.to_owned(), value.get("gone").is_some()));
            }
        })
    }
}

impl Sink for JsonLinesSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_empty(&self) -> bool {
        self.file.last().is_none()
    }

    fn take_notices(&mut self) -> Vec<String> {
        self.file.take_notices()
    }

    fn deliver(&mut self, delivery: &Delivery, _stop: &StopFlag) -> Result<(), Error> {
        self.file.settle()?;
        let epoch = Last::of(delivery);
        if self.file.last().is_some_and(|last| last.covers(&epoch)) {
            return Ok(());
        }
        let mut lines = Vec::new();
        for row in &delivery.rows {
            line(&mut lines, &delivery.row_json(row));
        }
        line(
            &mut lines,
            &json!({ "end_of": {
                "origin": delivery.origin_text(),
                "view": delivery.view,
                "epoch": delivery.epoch,
                "rows": delivery.rows.len(),
            }}),
        );
        self.file.append(&lines, epoch)
    }

    fn replace(
        &mut self,
        delivery: &Delivery,
        former: &[u64],
        stop: &StopFlag,
    ) -> Result<Replaced, Error> {
        self.file.settle()?;
        let mut told = Told::of(delivery, former);
        self.look(&mut told)?;
        let (whole, n_gone) = delivery.taking_back(&told.keys);
        self.deliver(&whole, stop)?;
        Ok(Replaced::TakenBack(n_gone))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use proptest::prelude::*;
    use serde_json::Value;

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
    fn a_note_behind_the_last_epoch_is_moved_beside_the_file_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let (path, whole) = (dir.path().join("out.jsonl"), dir.path().join("whole"));
        let note = |text: &str| {
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        };
        let all = [delivery(7, 1, 2), delivery(7, 2, 2), delivery(7, 3, 2)];
        deliver(&whole, &all);
        deliver(&path, &all[..1]);
        #[cfg(unix)]
        {
            let only_mine = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, only_mine).unwrap();
        }
        note("seen by Ann\n");
        let mut sink = JsonLinesSink::open(&path).unwrap();
        let told = sink.take_notices();
        assert!(
            told.len() == 1 && told[0].contains("out.jsonl.rest: 1"),
            "{told:?}"
        );
        assert_eq!(sink.take_notices(), [""; 0]);
        // While it is written, too, behind the beginning of an epoch that failed.
        sink.deliver(&all[1], &StopFlag::new()).unwrap();
        note("{\"epoch\":3,\"view\":\"v\"}\nseen by Bea");
        sink.deliver(&all[2], &StopFlag::new()).unwrap();
        assert_eq!(sink.take_notices().len(), 1);
        assert_eq!(read(&path), read(&whole));
        let rest = dir.path().join("out.jsonl.rest");
        assert_eq!(read(&rest), b"seen by Ann\nseen by Bea\n");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&rest).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        // What cannot be moved is not cut off.
        std::fs::remove_file(&rest).unwrap();
        std::fs::create_dir(&rest).unwrap();
        note("seen by Cid\n");
        let error = sink
            .deliver(&delivery(7, 4, 1), &StopFlag::new())
            .unwrap_err();
        assert!(error.to_string().contains("out.jsonl.rest"), "{error}");
        assert!(read(&path).ends_with(b"seen by Cid\n"));
        std::fs::remove_dir(&rest).unwrap();
        sink.deliver(&delivery(7, 4, 1), &StopFlag::new()).unwrap();
        assert_eq!(read(&rest), b"seen by Cid\n");
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
