//! Answers and their changes, for people.
//!
//! A first answer is shown whole. After a change, an answer that changed is shown with the
//! change marked; one that stands is only said to stand, unless its sources changed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Write};
use std::sync::Arc;

use perennial::ask::Rung;
use perennial::ask::provenance::sub_paragraphs;
use perennial::engine::{AnswerUpdate, ChangeKind, EpochStart, Progress, RowsUpdate};
use perennial::rows::Schema;

use super::diff::{self, Piece};
use super::follow::Display;
use super::live::{Answers, Live};
use super::paint::{Paint, Span, Style};
use super::report::{EpochReport, Totals};
use super::stderr;
use super::wording;

/// Columns before an answer.
const INDENT: usize = 2;
/// Warnings shown before the next epoch; more are counted.
const MOST_WARNINGS: usize = 10;
/// Distinct warnings remembered; above it, an old one may be told again.
const MOST_REMEMBERED: usize = 10_000;

/// Where people read.
pub(crate) struct Screen<W> {
    out: W,
    paint: Paint,
    live: Live,
    answers: Answers,
    told: HashSet<String>,
    n_warnings: usize,
    /// Documents that the shown answer of each context of each view comes from.
    shown: BTreeMap<(Arc<str>, String), BTreeSet<String>>,
    /// Views whose first answers were shown.
    answered: BTreeSet<Arc<str>>,
    /// Where the epoch that is shown is of a view of one question: the tokens that a rerun takes.
    n_rerun: Option<usize>,
    /// Whether there are several views, and what is shown says of which it is.
    names_views: bool,
    totals: Totals,
}

impl<W: Write> Screen<W> {
    /// A screen that writes to `out`.
    pub(crate) fn new(out: W, paint: Paint, live: Live) -> Self {
        Self {
            out,
            paint,
            answers: live.answers(),
            live,
            told: HashSet::new(),
            n_warnings: 0,
            shown: BTreeMap::new(),
            answered: BTreeSet::new(),
            n_rerun: None,
            names_views: false,
            totals: Totals::default(),
        }
    }

    /// The same for several views: what is shown says of which it is.
    pub(crate) fn naming_views(mut self) -> Self {
        self.names_views = true;
        self
    }

    /// What stands before a heading.
    fn of(&self, view: &str) -> String {
        match self.names_views {
            true => format!("{view}: "),
            false => String::new(),
        }
    }

    /// What all refreshes after the first answers came to.
    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Where the answers go.
    #[cfg(test)]
    pub(crate) fn into_out(self) -> W {
        self.out
    }

    /// Lines of the program's own, such as headings.
    ///
    /// # Errors
    /// A failed write.
    pub(crate) fn say(&mut self, style: Style, text: &str, indent: usize) -> io::Result<()> {
        self.answers.clear();
        self.write(&[Span::new(style, text)], indent)
    }

    /// A line as it is, blanks and all.
    ///
    /// # Errors
    /// A failed write.
    pub(crate) fn line(&mut self, style: Style, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", self.paint.line(style, text))
    }

    /// An empty line.
    ///
    /// # Errors
    /// A failed write.
    pub(crate) fn blank(&mut self) -> io::Result<()> {
        writeln!(self.out)
    }

    fn write(&mut self, spans: &[Span], indent: usize) -> io::Result<()> {
        for line in self.paint.lines(spans, indent) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    fn warn(&mut self, text: String) {
        if self.told.len() >= MOST_REMEMBERED {
            self.told.clear();
        }
        if !self.told.insert(text.clone()) {
            return;
        }
        self.n_warnings += 1;
        if self.n_warnings <= MOST_WARNINGS && stderr::is_log() {
            stderr::line(&format!("warning: {text}"));
        } else if self.n_warnings <= MOST_WARNINGS {
            let spans = [Span::new(Style::Warning, format!("warning: {text}"))];
            for line in self.paint.lines(&spans, 0) {
                self.live.show(&line);
            }
        }
    }

    fn tell_of_more_warnings(&mut self) {
        let n_more = std::mem::take(&mut self.n_warnings).saturating_sub(MOST_WARNINGS);
        if n_more > 0 {
            let more = wording::count(n_more, "more warning");
            self.live.say(&format!("{more}; --json tells them all"));
        }
    }

    fn answer(&mut self, update: &AnswerUpdate) -> io::Result<()> {
        let shown_as = (update.view.clone(), update.context.as_str().to_owned());
        let old_sources = self.shown.get(&shown_as).cloned();
        let sources: BTreeSet<String> = update
            .sub_paragraphs
            .iter()
            .flat_map(wording::sources)
            .map(str::to_owned)
            .collect();
        let has_moved = old_sources.is_some_and(|old| old != sources);
        self.write(&[Span::new(Style::Strong, &*update.question)], 0)?;
        let mut first_changed = None;
        match (update.kind(), &update.new) {
            (_, Some(Err(error))) => {
                let text = format!("no answer: {error}");
                self.write(&[Span::new(Style::Warning, text)], INDENT)?;
            }
            (ChangeKind::Gone, _) => {}
            (ChangeKind::Stands, _) if !has_moved => {}
            _ => first_changed = self.sentences(update)?,
        }
        match update.new {
            Some(_) => self.shown.insert(shown_as, sources),
            None => self.shown.remove(&shown_as),
        };
        self.costs(update, first_changed)?;
        self.blank()
    }

    /// The sentences of an answer, changes marked. Returns the first that changed.
    fn sentences(&mut self, update: &AnswerUpdate) -> io::Result<Option<usize>> {
        let (old, new) = (update.old_text(), update.new_text().unwrap_or_default());
        let ranges = sub_paragraphs(new);
        let pieces = match old {
            Some(old) => diff::by_sentence(old, new, &ranges),
            None => {
                let whole = |range: &std::ops::Range<usize>| {
                    vec![Piece::Same(new[range.clone()].to_owned())]
                };
                ranges.iter().map(whole).collect()
            }
        };
        for (index, pieces) in pieces.iter().enumerate() {
            let mut spans: Vec<Span> = pieces.iter().map(span).collect();
            let sources = update.sub_paragraphs.get(index).map(wording::sources);
            if let Some(sources) = sources.filter(|sources| !sources.is_empty()) {
                let text = format!(" [{}]", wording::list(&sources));
                spans.push(Span::new(Style::Faint, text));
            }
            self.write(&spans, INDENT)?;
        }
        let has_changed = |pieces: &Vec<Piece>| pieces.iter().any(|p| !matches!(p, Piece::Same(_)));
        Ok(pieces.iter().position(has_changed))
    }

    fn costs(&mut self, update: &AnswerUpdate, first_changed: Option<usize>) -> io::Result<()> {
        if update.kind() == ChangeKind::Gone || update.new.as_ref().is_some_and(Result::is_err) {
            return Ok(());
        }
        let mut facts = vec![wording::how(update, first_changed)];
        if update.rung != Rung::Keep {
            facts.push(wording::duration(update.elapsed));
        }
        let n_forwarded = update.work.n_forwarded();
        facts.push(match update.kind() {
            ChangeKind::New if !matches!(update.rung, Rung::Keep | Rung::Verify) => {
                format!("{} read and written", wording::count(n_forwarded, "token"))
            }
            _ => match self.n_rerun {
                Some(n_rerun) => wording::work(n_forwarded, n_rerun),
                // What it shares with others is not its own to save.
                None => wording::count(n_forwarded, "token"),
            },
        });
        facts.extend(wording::cost(&update.work));
        facts.extend(wording::left_out(update.passages));
        facts.extend(wording::provisional(update));
        facts.extend(wording::early(update).map(str::to_owned));
        facts.extend(wording::cut_off(update).map(str::to_owned));
        self.write(&[Span::new(Style::Faint, facts.join(" · "))], INDENT)
    }
}

fn span(piece: &Piece) -> Span {
    match piece {
        Piece::Same(text) => Span::new(Style::Plain, text),
        Piece::Removed(text) => Span::new(Style::Removed, text),
        Piece::Added(text) => Span::new(Style::Added, text),
    }
}

/// Whether an answer stands and was not read: of many questions, those are most.
fn is_left_unread(update: &AnswerUpdate) -> bool {
    update.rung == Rung::Skip && update.kind() == ChangeKind::Stands
}

impl<W: Write> Display for Screen<W> {
    fn started(&mut self, start: &EpochStart) -> io::Result<()> {
        self.tell_of_more_warnings();
        if self.answered.contains(&start.view) {
            let heading = format!("── {}{}", self.of(&start.view), wording::changes(start));
            self.say(Style::Strong, &heading, 0)?;
            self.out.flush()?;
        }
        Ok(())
    }

    fn progress(&mut self, progress: &Progress) -> io::Result<()> {
        self.answers.show(progress);
        Ok(())
    }

    fn early(&mut self, update: &AnswerUpdate) -> io::Result<()> {
        self.answers.clear();
        // What a rerun takes is known once the epoch is complete.
        self.n_rerun = None;
        self.answer(update)?;
        self.out.flush()
    }

    fn epoch(&mut self, report: &EpochReport) -> io::Result<()> {
        self.answers.clear();
        let view = &report.summary.view;
        if !self.answered.insert(view.clone()) {
            self.totals.add(report);
        } else if let Some(start) = &report.start {
            let documents = wording::count(start.n_documents, "document");
            self.live
                .say(&format!("{}{documents} read\n", self.of(view)));
            if self.names_views {
                self.say(Style::Strong, &format!("── {view}"), 0)?;
            }
        }
        let has_nothing = |start: &EpochStart| start.n_documents == 0;
        let is_answered = |update: &AnswerUpdate| matches!(update.new, Some(Ok(_)));
        if report.start.as_ref().is_some_and(has_nothing) && report.answers.iter().any(is_answered)
        {
            self.warn("there are no documents: answers come from the model alone".to_owned());
        }
        let is_alone = report.n_contexts() <= 1;
        self.n_rerun = is_alone.then_some(report.summary.n_rerun);
        let is_left = |update: &&AnswerUpdate| !is_alone && is_left_unread(update);
        let n_left = report.answers.iter().filter(is_left).count();
        for update in &report.answers {
            if is_alone || !is_left_unread(update) {
                self.answer(update)?;
            }
        }
        // Answers of an earlier run are shown, though nothing touched them.
        let is_shown = |update: &&AnswerUpdate| update.rung == Rung::Keep && update.new.is_some();
        let n_shown = report.answers.iter().filter(is_shown).count();
        let n_kept = report.summary.rungs.keep.saturating_sub(n_shown);
        let rungs = &report.summary.rungs;
        let is_of_query = report.start.is_none() && report.n_early == 0 && rungs.keep == 0;
        if report.answers.is_empty() && is_of_query {
            // A view of a query: its rows were shown, and what they cost is left to say.
            let n_asked = rungs.regenerate + rungs.failed;
            if n_asked > 0 {
                let n_tokens = wording::thousands(report.summary.work.n_forwarded());
                let asked = wording::count(n_asked, "row");
                let cost = wording::cost(&report.summary.work);
                let cost = cost.map_or_else(String::new, |cost| format!(" · {cost}"));
                let text = format!("asked about {asked} · {n_tokens} tokens{cost}");
                self.say(Style::Faint, &text, INDENT)?;
                self.blank()?;
            }
        } else if report.answers.is_empty() {
            let text = match n_kept {
                _ if report.n_early > 0 => "every answer is up to date".to_owned(),
                0 => "there is no question to answer".to_owned(),
                _ => format!(
                    "no answer is touched · {}",
                    wording::work(0, report.summary.n_rerun)
                ),
            };
            self.say(Style::Faint, &text, INDENT)?;
            self.blank()?;
        } else if n_kept + n_left > 0 {
            let text = wording::others(n_kept, n_left);
            self.say(Style::Faint, &text, INDENT)?;
            self.blank()?;
        }
        if let Some(read) = wording::read(report) {
            self.say(Style::Faint, &read, INDENT)?;
            self.blank()?;
        }
        let healing = report.start.as_ref().filter(|start| start.n_healed > 0);
        if let Some(start) = healing
            && let Some(told) = wording::healed(start, &report.summary.audits)
        {
            self.say(Style::Faint, &told, INDENT)?;
            self.blank()?;
        }
        self.out.flush()
    }

    fn rows(&mut self, update: &RowsUpdate, columns: &Schema) -> io::Result<()> {
        let names = columns.columns().iter().map(|column| &*column.name);
        let names: Vec<&str> = names.collect();
        let heading = format!(
            "── {}, epoch {}: {}",
            update.view,
            update.epoch,
            names.join(" | ")
        );
        self.say(Style::Strong, &heading, 0)?;
        for (tuple, count) in &update.rows {
            let (style, sign) = match *count > 0 {
                true => (Style::Added, '+'),
                false => (Style::Removed, '-'),
            };
            let cells = tuple.iter().map(|value| wording::cell(&value.to_string()));
            let cells = cells.collect::<Vec<_>>().join(" | ");
            let times = match count.unsigned_abs() {
                1 => String::new(),
                n => format!(" ({n} times)"),
            };
            self.line(style, &format!("{sign} {cells}{times}"))?;
        }
        self.out.flush()
    }

    fn rejected(&mut self, rejected: &perennial::connectors::Rejected) -> io::Result<()> {
        if !self.live.has_warnings() {
            self.warn(format!("left out: {rejected}"));
        }
        Ok(())
    }

    fn notice(&mut self, _source: &str, message: &str) -> io::Result<()> {
        if !self.live.has_warnings() {
            self.warn(message.to_owned());
        }
        Ok(())
    }

    fn failed(&mut self, _source: &str, _message: &str) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.answers.clear();
        self.tell_of_more_warnings();
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use perennial::engine::EpochSummary;

    use super::super::report::{Gathering, tests as sample};
    use super::*;

    fn shown(updates: Vec<AnswerUpdate>) -> String {
        let mut screen = Screen::new(Vec::new(), Paint::plain(), Live::new(true));
        for update in updates {
            let mut gathering = Gathering::default();
            gathering.answer(update);
            // Parts of passages are read twice under some scopes: a rerun takes more than the plain prompt.
            let summary = EpochSummary {
                n_rerun: 130,
                ..sample::summary()
            };
            let report = gathering.complete(summary);
            screen.epoch(&report).expect("a vector takes all");
        }
        let totals = wording::totals(screen.totals());
        screen
            .line(Style::Faint, &totals.unwrap_or_default())
            .expect("a vector takes all");
        String::from_utf8(screen.into_out()).expect("text")
    }

    #[test]
    fn a_change_is_marked_and_its_cost_compared_with_the_same_rerun_as_all_of_them() {
        let before = sample::answer("q", None, Some("It costs 12 crowns today."), 100);
        let after = sample::answer(
            "q",
            Some("It costs 12 crowns today."),
            Some("It costs 14 crowns today."),
            100,
        );
        let text = shown(vec![before, after]);
        assert!(
            text.contains("\n  It costs [-12-]{+14+} crowns today.\n"),
            "{text}"
        );
        let costs =
            "  rewritten from sentence 1 · 0.02 s · 10 of 130 tokens (13.0x less than a rerun)";
        assert!(text.contains(costs), "{text}");
        let of_all = "1 refresh: no tokens, where a rerun takes 130";
        assert!(text.contains(of_all), "{text}");
    }

    #[test]
    fn an_early_answer_is_marked_and_shown_once() {
        let mut screen = Screen::new(Vec::new(), Paint::plain(), Live::new(true));
        let mut gathering = Gathering::default();
        let mut update = sample::answer("q", None, Some("It costs 12 crowns."), 100);
        update.is_early = true;
        let news = gathering.early(update).expect("news");
        screen.early(&news).expect("a vector takes all");
        let report = gathering.complete(sample::summary());
        screen.epoch(&report).expect("a vector takes all");
        let text = String::from_utf8(screen.into_out()).expect("text");
        assert_eq!(text.matches("It costs 12 crowns.").count(), 1, "{text}");
        assert!(text.contains("· others follow\n"), "{text}");
        assert!(text.contains("every answer is up to date"), "{text}");
    }

    #[test]
    fn what_stands_is_not_repeated() {
        let answer = sample::answer("q", Some("It stands."), Some("It stands."), 100);
        assert!(!shown(vec![answer]).contains("It stands."));
    }
}
