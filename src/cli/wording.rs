//! How are numbers, rungs and changes put into plain words?

use std::borrow::Cow;
use std::time::Duration;

use perennial::AuditStats;
use perennial::ask::{Finish, PassagesRead, Rung, SubParagraph, Work};
use perennial::engine::{AnswerUpdate, ChangeKind, DocumentChange, DocumentChangeKind, EpochStart};

use super::report::{EpochReport, Totals};

/// Changed documents that are named in one line.
const MOST_NAMED: usize = 4;

/// `12345` as `12,345`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Characters of a cell of a table; answers and documents are longer.
const MOST_OF_A_CELL: usize = 200;

/// A text of which nothing is a command to a terminal: what documents, keys, file names and answers
/// hold could move the cursor, set its title, or turn the order of what follows about. White space
/// stays.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    let is_command = |c: char| {
        let is_white = matches!(c, '\n' | '\t');
        let turns_about = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        c.is_control() && !is_white || turns_about
    };
    match text.contains(is_command) {
        true => text.replace(is_command, "\u{fffd}").into(),
        false => text.into(),
    }
}

/// A value in one line, cut where it is long.
pub(crate) fn cell(text: &str) -> String {
    let blank = |c: char| if c.is_whitespace() { ' ' } else { c };
    let cut: String = text.chars().take(MOST_OF_A_CELL).map(blank).collect();
    let mut line = plain(&cut).into_owned();
    if text.chars().nth(MOST_OF_A_CELL).is_some() {
        line.push('…');
    }
    line
}

/// `1 document`, `20 documents`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(number))
}

/// `0.42 s`, `12.3 s`, `2 min 5 s`.
pub(crate) fn duration(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.2} s", time.as_secs_f64()),
        10..100 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Bytes as `98 MB`, and as `98 kB` what has less than one of these.
pub(crate) fn megabytes(n_bytes: u64) -> String {
    match n_bytes {
        1..1_000_000 => format!("{} kB", n_bytes.div_ceil(1_000)),
        _ => format!("{} MB", n_bytes.div_ceil(1_000_000)),
    }
}

/// What a refresh cost, beside a rerun: `412 of 2,310 tokens (5.6x less than a rerun)`.
pub(crate) fn work(n_forwarded: usize, n_rerun: usize) -> String {
    let ratio = n_rerun as f64 / n_forwarded.max(1) as f64;
    let of = format!(
        "{} of {} tokens",
        thousands(n_forwarded),
        thousands(n_rerun)
    );
    if n_forwarded == 0 {
        format!("no tokens, where a rerun takes {}", thousands(n_rerun))
    } else if ratio >= 1.05 {
        format!("{of} ({ratio:.1}x less than a rerun)")
    } else if ratio > 0.95 {
        format!("{} tokens, as many as a rerun", thousands(n_forwarded))
    } else {
        let times = 1.0 / ratio;
        format!(
            "{} tokens ({times:.1}x those of a rerun)",
            thousands(n_forwarded)
        )
    }
}

/// What was paid for it, of a model with prices.
pub(crate) fn cost(work: &Work) -> Option<String> {
    work.cost.told().map(|_| work.cost.to_string())
}

/// Answers that are not shown: those that nothing touched, and those that were not read.
pub(crate) fn others(n_kept: usize, n_unread: usize) -> String {
    let mut words = Vec::new();
    if n_kept > 0 {
        words.push(format!("{} not touched", count(n_kept, "other answer")));
    }
    if n_unread > 0 {
        let unread = count(n_unread, "other answer");
        words.push(format!(
            "{unread} not read: the change is unlikely to matter"
        ));
    }
    words.join(" · ")
}

/// How many of several questions an epoch read, and what that cost beside a rerun of all.
pub(crate) fn read(report: &EpochReport) -> Option<String> {
    let (n_read, n_contexts) = (report.n_read(), report.n_contexts());
    let is_first = report.answers.iter().any(|a| a.kind() == ChangeKind::New);
    (n_contexts > 1 && !is_first && report.summary.n_rerun > 0).then(|| {
        let cost = work(report.summary.work.n_forwarded(), report.summary.n_rerun);
        format!(
            "read {} of {}: {cost}",
            thousands(n_read),
            count(n_contexts, "question")
        )
    })
}

/// What a watch came to; nothing if nothing was refreshed.
pub(crate) fn totals(totals: Totals) -> Option<String> {
    let times = match totals.n_epochs {
        0 => return None,
        1 => "1 refresh".to_owned(),
        n => format!("{} refreshes", thousands(n)),
    };
    let cost = totals.cost.told().map(|_| format!(" · {}", totals.cost));
    Some(format!(
        "{times}: {}{}",
        work(totals.n_forwarded, totals.n_rerun),
        cost.unwrap_or_default()
    ))
}

/// How an answer was reached, in words that need no glossary.
pub(crate) fn how(update: &AnswerUpdate, first_changed: Option<usize>) -> String {
    match (update.kind(), update.rung) {
        (ChangeKind::New, Rung::Keep) => "kept from the last run".to_owned(),
        (ChangeKind::New, Rung::Verify) => "kept from the last run, checked in one pass".to_owned(),
        (ChangeKind::New, _) => "written".to_owned(),
        (ChangeKind::Gone, _) => "gone, with its question".to_owned(),
        (ChangeKind::Stands, Rung::Keep) => "not touched".to_owned(),
        (ChangeKind::Stands, Rung::Verify) => "checked in one pass and stands".to_owned(),
        (ChangeKind::Stands, Rung::Skip) => "not read: the change is unlikely to matter".to_owned(),
        (ChangeKind::Stands, Rung::Patch) => "checked with its words exchanged".to_owned(),
        (ChangeKind::Stands, Rung::Rewrite) => "checked in parts and stands".to_owned(),
        (ChangeKind::Stands, Rung::Regenerate) => "written anew, and the same".to_owned(),
        (ChangeKind::Stands, Rung::Append) => "told what changed, it says the same".to_owned(),
        (ChangeKind::Changed, Rung::Patch) => "words exchanged, and checked".to_owned(),
        (ChangeKind::Changed, Rung::Append) => "told what changed, it answered again".to_owned(),
        (ChangeKind::Changed, Rung::Rewrite | Rung::Verify | Rung::Keep | Rung::Skip) => {
            match first_changed {
                Some(index) => format!("rewritten from sentence {}", index + 1),
                None => "rewritten".to_owned(),
            }
        }
        (ChangeKind::Changed, Rung::Regenerate) => "written anew".to_owned(),
    }
}

/// A remark on an answer that an exact one will follow.
pub(crate) fn provisional(update: &AnswerUpdate) -> Option<String> {
    let percent = (update.drift * 100.0).ceil();
    let regret = update.regret;
    let is_borrowed = update.drift > 0.0;
    let words = match (update.rung, is_borrowed) {
        (Rung::Skip, _) => format!("expected regret {regret:.4} nats a token"),
        (Rung::Append, false) => "provisional: it goes on from the answer before".to_owned(),
        (Rung::Append, true) => format!(
            "provisional: it goes on from the answer before, and {percent}% of it leans on passages that \
             are gone"
        ),
        (_, false) => format!("another is likelier by {regret:.3} nats a token"),
        (_, true) => {
            format!("provisional: {percent}% of it leans on passages as they were read before")
        }
    };
    let is_final = update.is_exact || (update.is_memoised && update.regret == 0.0);
    (!is_final).then_some(words)
}

/// A remark on an answer that was not written over all passages.
pub(crate) fn left_out(passages: Option<PassagesRead>) -> Option<String> {
    let passages = passages.filter(PassagesRead::leaves_out)?;
    let (read, of) = (thousands(passages.read), thousands(passages.of));
    Some(format!("{read} of {of} passages read"))
}

/// A remark on an answer that is told before all of its epoch are there.
pub(crate) fn early(update: &AnswerUpdate) -> Option<&'static str> {
    update.is_early.then_some("others follow")
}

/// What exact answers that take the place of provisional ones came to, once that is known.
pub(crate) fn healed(start: &EpochStart, stats: &AuditStats) -> Option<String> {
    match start.n_compacted > 0 {
        true => Some(compacted(stats)),
        false => audits(stats),
    }
}

/// What compaction came to.
fn compacted(stats: &AuditStats) -> String {
    format!(
        "compacted {} of {}: {} changed",
        count(stats.n_healed, "provisional answer"),
        thousands(stats.n_provisional),
        thousands(stats.n_changed)
    )
}

/// What audits found of provisional answers, once there are any.
fn audits(stats: &AuditStats) -> Option<String> {
    (stats.n_audited > 0).then(|| {
        let audited = count(stats.n_audited, "provisional answer");
        let agreeing = (stats.mean_agreement * 100.0).floor();
        format!(
            "audited {audited} of {}: regret {:.4} nats a token, {agreeing}% of tokens agree",
            stats.n_provisional, stats.mean_regret
        )
    })
}

/// A remark where the limit of answer tokens cut an answer.
pub(crate) fn cut_off(update: &AnswerUpdate) -> Option<&'static str> {
    let text = update.new.as_ref()?.as_ref().ok()?;
    (text.finish == Finish::Length).then_some("cut at the limit, see --max-tokens")
}

/// What an epoch changed: `hours.md changed, fees.md deleted`.
pub(crate) fn changes(start: &EpochStart) -> String {
    let mut words: Vec<String> = start.changes.iter().take(MOST_NAMED).map(change).collect();
    let n_more = start.n_changes.saturating_sub(words.len());
    if n_more > 0 {
        words.push(format!("and {} more", thousands(n_more)));
    }
    match words.as_slice() {
        [] if start.n_compacted > 0 => "compaction: the documents laid out anew".to_owned(),
        [] if start.n_healed > 0 => "every passage read anew behind the change".to_owned(),
        [] => "questions changed".to_owned(),
        words => words.join(", "),
    }
}

fn change(change: &DocumentChange) -> String {
    let verb = match change.change {
        DocumentChangeKind::Inserted => "added",
        DocumentChangeKind::Updated => "changed",
        DocumentChangeKind::Deleted => "deleted",
    };
    format!("{} {verb}", change.key)
}

/// The documents that a sentence comes from, strongest first, each once.
pub(crate) fn sources(sentence: &SubParagraph) -> Vec<&str> {
    let mut documents: Vec<&str> = Vec::new();
    for source in &sentence.sources {
        if !documents.contains(&source.document.as_str()) {
            documents.push(source.document.as_str());
        }
    }
    documents
}

/// Documents that are named on one line.
const MAX_NAMED: usize = 5;

/// Names with commas between, and how many more there are.
pub(crate) fn list(names: &[impl AsRef<str>]) -> String {
    let named = names.iter().take(MAX_NAMED).map(AsRef::as_ref);
    let named = named.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMED) {
        0 => named,
        n_more => format!("{named} and {} more", thousands(n_more)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::answer;
    use super::*;

    #[test]
    fn what_an_earlier_run_wrote_is_not_said_to_be_written() {
        let by = |rung| {
            let new = answer("a", None, Some("A."), 100);
            how(&AnswerUpdate { rung, ..new }, None)
        };
        assert_eq!(by(Rung::Regenerate), "written");
        assert!(by(Rung::Keep).starts_with("kept from the last run"));
        assert!(by(Rung::Verify).starts_with("kept from the last run"));
    }

    #[test]
    fn of_many_names_the_first_are_told_and_the_others_counted() {
        let names: Vec<String> = (0..1_200).map(|i| i.to_string()).collect();
        assert_eq!(list(&names[..0]), "");
        assert_eq!(list(&names[..5]), "0, 1, 2, 3, 4");
        assert_eq!(list(&names[..6]), "0, 1, 2, 3, 4 and 1 more");
        assert_eq!(list(&names), "0, 1, 2, 3, 4 and 1,195 more");
    }

    #[test]
    fn nothing_that_is_shown_commands_the_terminal() {
        let hostile = "a\u{1b}]0;title\u{7}b\u{1b}[2J\0c\u{202e}d\u{85}\u{2028}e\r\n\tf";
        let shown = plain(hostile);
        assert_eq!(
            shown,
            "a\u{fffd}]0;title\u{fffd}b\u{fffd}[2J\u{fffd}c\u{fffd}d\u{fffd}\u{fffd}e\u{fffd}\n\tf"
        );
        assert!(matches!(plain("wórds, 漢字 👩‍👩"), Cow::Borrowed(_)));
        assert_eq!(cell("a\n\u{1b}b"), "a \u{fffd}b");
    }

    #[test]
    fn numbers_in_words() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(duration(Duration::from_millis(1234)), "1.23 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 5 s");
    }

    #[test]
    fn answers_that_are_not_shown_are_counted() {
        assert_eq!(others(2, 0), "2 other answers not touched");
        assert_eq!(
            others(1, 90),
            "1 other answer not touched · 90 other answers not read: the change is unlikely to matter"
        );
    }

    #[test]
    fn what_was_left_out_is_said_and_nothing_where_all_was_read() {
        assert_eq!(left_out(None), None);
        let all = PassagesRead::all(7);
        assert_eq!(left_out(Some(all)), None);
        let some = left_out(Some(all.chosen_from(Some(1_200))));
        assert_eq!(some.as_deref(), Some("7 of 1,200 passages read"));
    }

    #[test]
    fn what_is_not_exact_says_why() {
        let told = |rung, drift, regret| {
            let mut update = answer("a", Some("A."), Some("A."), 100);
            (update.rung, update.drift, update.regret) = (rung, drift, regret);
            update.is_exact = false;
            provisional(&update).expect("not exact")
        };
        assert_eq!(
            told(Rung::Skip, 0.2, 0.0123),
            "expected regret 0.0123 nats a token"
        );
        assert_eq!(
            told(Rung::Verify, 0.0, 0.0123),
            "another is likelier by 0.012 nats a token"
        );
        assert!(told(Rung::Verify, 0.201, 0.01).starts_with("provisional: 21% of it"));
        let goes_on = "provisional: it goes on from the answer before";
        assert_eq!(told(Rung::Append, 0.0, 0.0), goes_on);
        let leans = told(Rung::Append, 0.201, 0.0);
        assert!(
            leans.starts_with(goes_on) && leans.contains("21% of it"),
            "{leans}"
        );
        let exact = answer("a", Some("A."), Some("A."), 100);
        assert_eq!(provisional(&exact), None);
    }

    #[test]
    fn compaction_is_called_so_and_healing_as_before() {
        let start = |n_compacted| EpochStart {
            view: "answers".into(),
            epoch: 2,
            changes: Vec::new(),
            n_changes: 0,
            n_healed: 1,
            n_compacted,
            n_documents: 3,
        };
        let stats = AuditStats {
            n_provisional: 4,
            n_healed: 3,
            n_changed: 1,
            n_audited: 1,
            ..AuditStats::default()
        };
        assert_eq!(
            changes(&start(1)),
            "compaction: the documents laid out anew"
        );
        assert_eq!(
            healed(&start(1), &stats).as_deref(),
            Some("compacted 3 provisional answers of 4: 1 changed")
        );
        assert!(changes(&start(0)).starts_with("every passage read anew"));
        let told = healed(&start(0), &stats).expect("audited");
        assert!(
            told.starts_with("audited 1 provisional answer of 4"),
            "{told}"
        );
        assert_eq!(healed(&start(0), &AuditStats::default()), None);
    }

    #[test]
    fn several_questions_are_compared_with_a_rerun_that_shares() {
        use super::super::report::{Gathering, tests as sample};
        use perennial::engine::RungCounts;

        let read = |rungs: RungCounts, answer: Option<AnswerUpdate>| {
            let mut gathering = Gathering::default();
            answer
                .into_iter()
                .for_each(|answer| gathering.answer(answer));
            let mut summary = sample::summary();
            (summary.rungs, summary.n_rerun) = (rungs, 8858);
            summary.work.n_draft = 1204;
            read(&gathering.complete(summary))
        };
        let rungs = RungCounts {
            skip: 91,
            verify: 8,
            rewrite: 1,
            ..RungCounts::default()
        };
        let changed = answer("a", Some("A."), Some("B."), 100);
        assert_eq!(
            read(rungs, Some(changed)).as_deref(),
            Some("read 9 of 100 questions: 1,204 of 8,858 tokens (7.4x less than a rerun)")
        );
        let first = answer("a", None, Some("B."), 100);
        assert_eq!(read(rungs, Some(first)), None, "all of it is new");
        let one = RungCounts {
            verify: 1,
            ..RungCounts::default()
        };
        assert_eq!(read(one, None), None, "its answer has it beside it");
    }

    #[test]
    fn work_is_compared_with_a_rerun() {
        assert_eq!(
            work(412, 2310),
            "412 of 2,310 tokens (5.6x less than a rerun)"
        );
        assert_eq!(work(2300, 2310), "2,300 tokens, as many as a rerun");
        assert_eq!(work(4000, 2000), "4,000 tokens (2.0x those of a rerun)");
        assert_eq!(work(0, 2000), "no tokens, where a rerun takes 2,000");
    }
}
