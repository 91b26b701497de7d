//! A recording that is read: runs and whole epochs, in order.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use perennial_bank::ContextKey;

use super::error::RecordingError;
use super::format::{
    EndOf, EpochAnswer, FORMAT, HEAD, LINE_LIMIT, Line, RecordedEpoch, RecordedModel, Run,
};

/// What a recording is made of.
#[derive(Debug)]
pub(super) enum Group {
    /// Another engine goes on.
    Run(Box<Run>),
    /// An epoch of it, or what stood when it began.
    Epoch(RecordedEpoch),
}

/// Reads runs and epochs, and ends behind the last whole one.
pub(super) struct Reader<R> {
    path: PathBuf,
    lines: BufReader<R>,
    /// Lines read.
    n_lines: u64,
    /// Bytes read.
    at: u64,
    /// Bytes up to the end of the last run or epoch.
    end: u64,
    /// The run that is being read.
    run: Option<Run>,
    /// The last epoch of it.
    last: Option<u64>,
    is_over: bool,
}

/// What the next line is.
enum Next {
    Line(Line),
    /// Nothing more, or a line that was cut off.
    End,
    Bad(String),
}

impl Reader<File> {
    /// Opens a recording.
    ///
    /// # Errors
    /// [`RecordingError::Io`].
    pub(super) fn open(path: &Path) -> Result<Self, RecordingError> {
        let file = File::open(path).map_err(|source| RecordingError::Io {
            path: path.to_owned(),
            action: "cannot be opened",
            source,
        })?;
        Ok(Self::over(path, file))
    }
}

impl<R: Read> Reader<R> {
    /// Reads `lines`, which are those of `path`.
    pub(super) fn over(path: &Path, lines: R) -> Self {
        Self {
            path: path.to_owned(),
            lines: BufReader::new(lines),
            n_lines: 0,
            at: 0,
            end: 0,
            run: None,
            last: None,
            is_over: false,
        }
    }

    /// Bytes up to the end of the last run or epoch that was read.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether something stands behind the last whole epoch, once all are read: the beginning of
    /// one that a crash cut off.
    pub(super) fn is_cut(&self) -> bool {
        self.is_over && self.at > self.end
    }

    fn malformed(&self, reason: impl Into<String>) -> RecordingError {
        RecordingError::Malformed {
            path: self.path.clone(),
            line: self.n_lines,
            reason: reason.into(),
        }
    }

    fn line(&mut self) -> Result<Next, RecordingError> {
        let mut line = Vec::new();
        let mut limited = Read::take(&mut self.lines, LINE_LIMIT);
        let n_read = limited.read_until(b'\n', &mut line);
        let n_read = n_read.map_err(|source| RecordingError::Io {
            path: self.path.clone(),
            action: "cannot be read",
            source,
        })?;
        self.at += n_read as u64;
        if n_read > 0 {
            self.n_lines += 1;
        }
        if self.n_lines == 1 && !begins_like_a_recording(&line) {
            let path = self.path.clone();
            return Err(RecordingError::Foreign { path });
        }
        let Some(whole) = line.strip_suffix(b"\n") else {
            return Ok(match n_read as u64 >= LINE_LIMIT {
                true => Next::Bad(format!("longer than {LINE_LIMIT} bytes")),
                false => Next::End,
            });
        };
        let newer = |found| RecordingError::Newer {
            path: self.path.clone(),
            found,
            supported: FORMAT,
        };
        match serde_json::from_slice(whole) {
            Ok(Line::Run(run)) if run.recording > FORMAT => Err(newer(run.recording)),
            Ok(line) => Ok(Next::Line(line)),
            Err(error) => match format_of(whole) {
                Some(found) if found > FORMAT => Err(newer(found)),
                _ => Ok(Next::Bad(error.to_string())),
            },
        }
    }

    /// A line that cannot be: an error if something whole follows, else what a crash left.
    fn bad(&mut self, reason: impl Into<String>) -> Result<(), RecordingError> {
        let error = self.malformed(reason);
        loop {
            match self.line()? {
                Next::End => return Ok(()),
                Next::Line(Line::EndOf(_) | Line::Run(_)) => return Err(error),
                Next::Line(_) | Next::Bad(_) => {}
            }
        }
    }

    fn group(&mut self) -> Result<Option<Group>, RecordingError> {
        let mut epoch = RecordedEpoch::default();
        loop {
            let line = match self.line()? {
                Next::Line(line) => line,
                Next::End => return Ok(None),
                Next::Bad(reason) => return self.bad(reason).map(|()| None),
            };
            let reason = match self.take(line, &mut epoch) {
                Ok(None) => continue,
                Ok(Some(group)) => {
                    self.end = self.at;
                    return Ok(Some(group));
                }
                Err(reason) => reason,
            };
            return Err(self.malformed(reason));
        }
    }

    /// Adds a line to an epoch. The run or epoch that it completes, or what is wrong with it.
    fn take(&mut self, line: Line, epoch: &mut RecordedEpoch) -> Result<Option<Group>, String> {
        let is_begun = !(epoch.rows.is_empty() && epoch.answers.is_empty());
        if let Line::Run(run) = line {
            if is_begun {
                return Err("a run begins inside an epoch".to_owned());
            }
            self.run = Some(run.clone());
            self.last = None;
            return Ok(Some(Group::Run(Box::new(run))));
        }
        let Some(run) = &self.run else {
            return Err("a line of no run".to_owned());
        };
        let stream = |name: String| match run.streams.contains(&name) {
            true => Ok(Arc::from(name)),
            false => Err(format!("there is no stream {name:?} in this run")),
        };
        let view = |name: &str| {
            let plan = run.views.iter().find(|plan| &*plan.name == name);
            let plan = plan.ok_or_else(|| format!("there is no view {name:?} in this run"))?;
            Ok::<_, String>(plan.name.clone())
        };
        match line {
            Line::Row(line) => {
                let row = (stream(line.stream)?, line.key, Some(line.row.into()));
                epoch.rows.push(row);
            }
            Line::Gone(line) => epoch.rows.push((stream(line.stream)?, line.key, None)),
            Line::Answer(line) => epoch.answers.push(EpochAnswer {
                view: view(&line.view)?,
                context: ContextKey::new(line.context),
                now: Some(line.answer),
            }),
            Line::NoAnswer(line) => epoch.answers.push(EpochAnswer {
                view: view(&line.view)?,
                context: ContextKey::new(line.context),
                now: None,
            }),
            Line::EndOf(end) => {
                self.end_of(&end, epoch)?;
                return Ok(Some(Group::Epoch(std::mem::take(epoch))));
            }
            Line::Run(_) => unreachable!("taken above"),
        }
        Ok(None)
    }

    fn end_of(&mut self, end: &EndOf, epoch: &mut RecordedEpoch) -> Result<(), String> {
        for (what, got, expected) in [
            ("rows", epoch.rows.len(), end.rows),
            ("answers", epoch.answers.len(), end.answers),
        ] {
            if got != expected {
                return Err(format!(
                    "epoch {} has {got} {what}, where {expected} are said",
                    end.epoch
                ));
            }
        }
        if let Some(last) = self.last
            && end.epoch <= last
        {
            return Err(format!("epoch {} after epoch {last}", end.epoch));
        }
        self.last = Some(end.epoch);
        epoch.epoch = end.epoch;
        epoch.at_ms = end.at_ms;
        Ok(())
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Group, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let group = self.group().transpose();
        self.is_over = !matches!(group, Some(Ok(_)));
        group
    }
}

/// Whether a first line is one, or the beginning of one that was cut off.
fn begins_like_a_recording(line: &[u8]) -> bool {
    let n = line.len().min(HEAD.len());
    line[..n] == HEAD.as_bytes()[..n]
}

/// The format that a run says it has, though nothing else of it may be known here.
fn format_of(line: &[u8]) -> Option<u64> {
    let line: serde_json::Value = serde_json::from_slice(line).ok()?;
    line.get("run")?.get("recording")?.as_u64()
}

/// The model that a recording begins with.
///
/// # Errors
/// [`RecordingError`]: not there, no recording, newer or malformed.
pub fn recorded_with(path: &Path) -> Result<RecordedModel, RecordingError> {
    let foreign = || RecordingError::Foreign {
        path: path.to_owned(),
    };
    match Reader::open(path)?.next() {
        Some(Ok(Group::Run(run))) => Ok(run.model),
        Some(Err(error)) => Err(error),
        Some(Ok(Group::Epoch(_))) | None => Err(foreign()),
    }
}
