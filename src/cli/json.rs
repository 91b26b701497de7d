//! The same for programs: one JSON object a line. The fields are promised in the help of
//! `perennial watch`; new ones may come, none goes.

use std::io::{self, Write};

use perennial::ask::Rung;
use perennial::connectors::Rejected;
use perennial::engine::{AnswerUpdate, ChangeKind, EpochStart, Progress, RowsUpdate};
use perennial::json::{self, WorkJson, milliseconds, row};
use perennial::rows::Schema;
use serde_json::{Value, json};

use super::follow::Display;
use super::report::EpochReport;

/// Where programs read.
pub(crate) struct JsonLines<W> {
    out: W,
    has_progress: bool,
}

impl<W: Write> JsonLines<W> {
    /// Lines to `out`; how far answers are only where `has_progress`.
    pub(crate) fn new(out: W, has_progress: bool) -> Self {
        Self { out, has_progress }
    }

    /// Each line is flushed: its reader waits for it.
    fn line(&mut self, object: &Value) -> io::Result<()> {
        writeln!(self.out, "{object}")?;
        self.out.flush()
    }
}

fn answer(update: &AnswerUpdate) -> Value {
    let is_kept = matches!(update.rung, Rung::Keep | Rung::Verify);
    let change = match update.kind() {
        // Of an earlier run, whose reader has it.
        ChangeKind::New if is_kept && update.new.is_some() => "stands",
        ChangeKind::New => "new",
        ChangeKind::Changed => "changed",
        ChangeKind::Stands => "stands",
        ChangeKind::Gone => "gone",
    };
    let (mut error, mut finish) = (None, None);
    match &update.new {
        Some(Ok(text)) => {
            finish = Some(json::finish(text.finish));
        }
        Some(Err(reason)) => error = Some(reason.to_string()),
        None => {}
    }
    json!({
        "event": "answer",
        "view": update.view,
        "context": update.context,
        "question": update.question,
        "epoch": update.epoch,
        "change": change,
        "text": update.new_text(),
        "old_text": update.old_text(),
        "error": error,
        "finish": finish,
        "rung": update.rung,
        "exact": update.is_exact,
        "memoised": update.is_memoised,
        "drift": update.drift,
        "regret": update.regret,
        "early": update.is_early,
        "passages_read": update.passages.map(|passages| passages.read),
        "passages_of": update.passages.map(|passages| passages.of),
        "sub_paragraphs": update.sub_paragraphs,
        "evidence": update.evidence,
        "work": WorkJson::from(&update.work),
        "elapsed_ms": milliseconds(update.elapsed),
    })
}

impl<W: Write> Display for JsonLines<W> {
    fn started(&mut self, _start: &EpochStart) -> io::Result<()> {
        Ok(())
    }

    fn progress(&mut self, progress: &Progress) -> io::Result<()> {
        if !self.has_progress {
            return Ok(());
        }
        let object = match progress {
            Progress::Embedding { done, total, .. } => {
                json!({"event": "progress", "stage": "embedding", "context": null, "done": done, "total": total, "text": null})
            }
            Progress::Asking { done, total, .. } => {
                json!({"event": "progress", "stage": "asking", "context": null, "done": done, "total": total, "text": null})
            }
            Progress::Encoding {
                context,
                done,
                total,
                ..
            } => {
                json!({"event": "progress", "stage": "encoding", "context": context, "done": done, "total": total, "text": null})
            }
            Progress::Writing { context, text, .. } => {
                json!({"event": "progress", "stage": "writing", "context": context, "done": null, "total": null, "text": text})
            }
            _ => return Ok(()),
        };
        self.line(&object)
    }

    fn early(&mut self, update: &AnswerUpdate) -> io::Result<()> {
        self.line(&answer(update))
    }

    fn epoch(&mut self, report: &EpochReport) -> io::Result<()> {
        for update in &report.answers {
            self.line(&answer(update))?;
        }
        let start = report.start.as_ref();
        let mut done = json!(WorkJson::from(&report.summary.work));
        done["rerun"] = report.summary.n_rerun.into();
        done["from_scratch"] = report.n_unshared.into();
        self.line(&json!({
            "event": "epoch",
            "view": report.summary.view,
            "epoch": report.summary.epoch,
            "documents": start.map_or(&[][..], |start| &start.changes),
            "n_changes": start.map(|start| start.n_changes),
            "n_healed": start.map(|start| start.n_healed),
            "n_documents": start.map(|start| start.n_documents),
            "rungs": report.summary.rungs,
            "audits": report.summary.audits,
            "work": done,
            "elapsed_ms": milliseconds(report.summary.elapsed),
        }))
    }

    fn rows(&mut self, update: &RowsUpdate, columns: &Schema) -> io::Result<()> {
        for (tuple, count) in &update.rows {
            self.line(&json!({
                "event": "row",
                "view": update.view,
                "epoch": update.epoch,
                "count": count,
                "row": row(columns, tuple),
            }))?;
        }
        Ok(())
    }

    fn rejected(&mut self, rejected: &Rejected) -> io::Result<()> {
        self.line(&json!({
            "event": "rejected",
            "source": rejected.source,
            "place": rejected.offset.to_string(),
            "key": rejected.key,
            "reason": rejected.reason.to_string(),
        }))
    }

    fn notice(&mut self, source: &str, message: &str) -> io::Result<()> {
        self.line(&json!({"event": "notice", "source": source, "message": message}))
    }

    /// The command fails by it: that is told last, with what can be done.
    fn failed(&mut self, _source: &str, _message: &str) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::{Gathering, tests as sample};
    use super::*;

    #[test]
    fn an_epoch_is_one_object_a_line_answers_first() {
        let mut lines = JsonLines::new(Vec::new(), false);
        let mut gathering = Gathering::default();
        gathering.answer(sample::answer("q", Some("Old.\n"), Some("New.\n"), 100));
        lines
            .epoch(&gathering.complete(sample::summary()))
            .expect("a vector takes all");
        let text = String::from_utf8(lines.out).expect("text");
        let objects: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(objects.len(), 2);
        assert_eq!(objects[0]["event"], "answer");
        assert_eq!(objects[0]["change"], "changed");
        assert_eq!(objects[0]["text"], "New.\n");
        assert_eq!(objects[0]["early"], false);
        assert_eq!(objects[0]["work"]["forwarded"], 10);
        assert_eq!(objects[1]["event"], "epoch");
        assert_eq!(objects[1]["work"]["from_scratch"], 100);
        assert_eq!(objects[1]["rungs"]["keep"], 0);
    }

    #[test]
    fn an_answer_of_an_earlier_run_stands() {
        let mut update = sample::answer("q", None, Some("It stands."), 100);
        assert_eq!(answer(&update)["change"], "new");
        for rung in [Rung::Keep, Rung::Verify] {
            update.rung = rung;
            assert_eq!(answer(&update)["change"], "stands");
        }
    }
}
