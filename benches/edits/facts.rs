//! Is the first answer after an edit the right one?
//!
//! Three edits of each row, each on the row as it stands in the set:
//!
//! - *replace*: the fact in the one passage that holds it becomes another;
//! - *delete*: that passage goes;
//! - *every passage*: the row begins with other passages, which become its own one after the
//!   other in random order. Nothing is healed in between, so most of what is left at the end
//!   was encoded beside neighbours that are gone.
//!
//! The first answer, over what is borrowed or as the conversation goes on, is compared with the exact
//! one. Tokens encoded again are those encoded for the edit beyond the new passages themselves, as a share
//! of the layout; forwarded are all, on average, of the last edit and of its exact answer.

use clap::ValueEnum;
use perennial::ask::{Before, LayoutDelta, Outcome, Tolerance};
use perennial::bank::PassageLayout;

use crate::rig::question::{Question, TitledText};
use crate::rig::{Error, Rig};
use crate::score::{self, Score};
use perennial::calibration::Random;

/// How the first answer comes about.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum First {
    /// Over borrowed passages.
    Eventual,
    /// As the conversation goes on.
    Append,
}

impl First {
    fn tolerance(self) -> Tolerance {
        match self {
            Self::Eventual => Tolerance::BORROWED,
            Self::Append => Tolerance::APPENDED,
        }
    }
}

/// The means of one task on one set.
#[derive(Default)]
struct Line {
    n: usize,
    n_agree: usize,
    n_gold: usize,
    n_gold_exact: usize,
    n_new: usize,
    n_new_exact: usize,
    encoded_again: f64,
    n_stale: usize,
    n_forwarded: usize,
    n_forwarded_exact: usize,
}

struct Seen<'a> {
    first: &'a str,
    exact: &'a Outcome,
    golds: &'a [String],
    new: Option<&'a str>,
    encoded_again: f64,
    is_exact: bool,
    n_forwarded: usize,
}

impl Line {
    fn add(&mut self, seen: &Seen<'_>) {
        let exact = &*seen.exact.answer.text;
        let has = |answer: &str, golds: &[String]| Score::of(answer, golds).contains > 0.0;
        let new: Vec<String> = seen.new.map(str::to_owned).into_iter().collect();
        let says_new = |answer| !new.is_empty() && has(answer, &new);
        self.n += 1;
        self.n_agree += usize::from(score::agree(seen.first, exact));
        self.n_gold += usize::from(has(seen.first, seen.golds));
        self.n_gold_exact += usize::from(has(exact, seen.golds));
        self.n_new += usize::from(says_new(seen.first));
        self.n_new_exact += usize::from(says_new(exact));
        self.encoded_again += seen.encoded_again;
        self.n_stale += usize::from(!seen.is_exact);
        self.n_forwarded += seen.n_forwarded;
        self.n_forwarded_exact += seen.exact.work.n_forwarded();
    }

    fn print(&self, rig: &Rig, by: First, set: &str, task: &str) {
        let (model, again_behind, turnover) = (&rig.name, rig.reencode, rig.turnover);
        let share = |n: usize| format!("{:.3}", n as f64 / self.n.max(1) as f64);
        let again = self.encoded_again / self.n.max(1) as f64;
        println!(
            "| {model} | {by:?} | {set} | {task} | {again_behind} | {turnover} | {} | {} | {} | {} | {} | {} | {} | {:.1}% | {} | {} |",
            self.n,
            self.n_stale,
            share(self.n_agree),
            share(self.n_gold),
            share(self.n_gold_exact),
            share(self.n_new),
            share(self.n_new_exact),
            again * 100.0,
            self.n_forwarded / self.n.max(1),
            self.n_forwarded_exact / self.n.max(1),
        );
    }
}

/// A table of all tasks on all sets.
pub fn measure(
    rig: &Rig,
    by: First,
    sets: &[(String, Vec<Question>)],
    seed: u64,
) -> Result<(), Error> {
    println!(
        "| model | policy | set | edit | read again behind it | turnover | rows | provisional | same as exact | old fact | old fact, exact | \
         new fact | new fact, exact | encoded again | forwarded | forwarded, exact |\n\
         | --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    for (set, rows) in sets {
        let mut random = Random(seed);
        let (mut replace, mut delete, mut every) = <(Line, Line, Line)>::default();
        for (n, row) in rows.iter().enumerate() {
            eprint!("\r{}, {set}: {} of {}", rig.name, n + 1, rows.len());
            let other = &rows[(n + 1) % rows.len()];
            if let Some((edited, place)) = fact(row) {
                let new = row.replacement.clone().unwrap_or(other.answers[0].clone());
                let mut passages = row.passages.clone();
                passages[place].text = edited.replace(&row.answers[0], &new);
                one_edit((rig, by), row, &passages, Some(&new), &mut replace)?;
                passages.remove(place);
                one_edit((rig, by), row, &passages, None, &mut delete)?;
            }
            every_passage((rig, by), row, other, &mut random, &mut every)?;
        }
        eprintln!();
        replace.print(rig, by, set, "replace the fact");
        delete.print(rig, by, set, "delete its passage");
        // Here the gold answer is the new fact: it must be given.
        every.print(rig, by, set, "replace every passage");
    }
    println!();
    Ok(())
}

/// The text that holds the answer and its place, if just one passage does.
fn fact(row: &Question) -> Option<(&str, usize)> {
    let holds = |passage: &&(usize, &TitledText)| passage.1.text.contains(&row.answers[0]);
    let passages: Vec<_> = row.passages.iter().enumerate().collect();
    let mut holders = passages.iter().filter(holds);
    match (holders.next(), holders.next()) {
        // "yes" and "no" are no facts of a passage.
        (Some((place, passage)), None) if row.answers[0].len() > 3 => Some((&passage.text, *place)),
        _ => None,
    }
}

fn one_edit(
    (rig, by): (&Rig, First),
    row: &Question,
    passages: &[TitledText],
    new: Option<&str>,
    line: &mut Line,
) -> Result<(), Error> {
    let question = format!("Question: {}", row.question);
    let before = rig.layout(&row.passages)?;
    let base = rig.answer(&question, &before, &Before::default(), by.tolerance())?;
    let base = Before::of(question.as_str().into(), before.clone(), &base);
    let after = rig.layout(passages)?;
    let first = rig.answer(&question, &after, &base, by.tolerance())?;
    let encoded_again = encoded_again(&before, &after, &first);
    finish(rig, &question, &after, &first, |text, exact| {
        line.add(&Seen {
            first: text,
            exact,
            golds: &row.answers,
            new,
            encoded_again,
            is_exact: first.is_exact,
            n_forwarded: first.work.n_forwarded(),
        });
    })
}

fn every_passage(
    (rig, by): (&Rig, First),
    row: &Question,
    other: &Question,
    random: &mut Random,
    line: &mut Line,
) -> Result<(), Error> {
    let question = format!("Question: {}", row.question);
    let n = row.passages.len();
    let mut passages = strangers(row, other);
    let mut layout = rig.layout(&passages)?;
    let mut last = rig.answer(&question, &layout, &Before::default(), by.tolerance())?;
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, random.below(i + 1));
    }
    let mut again = 0.0;
    for place in order {
        passages[place] = row.passages[place].clone();
        let next = rig.layout(&passages)?;
        let before = Before::of(question.as_str().into(), layout.clone(), &last);
        last = rig.answer(&question, &next, &before, by.tolerance())?;
        again += encoded_again(&layout, &next, &last);
        layout = next;
    }
    finish(rig, &question, &layout, &last, |text, exact| {
        line.add(&Seen {
            first: text,
            exact,
            golds: &[],
            new: Some(&row.answers[0]),
            encoded_again: again,
            is_exact: last.is_exact,
            n_forwarded: last.work.n_forwarded(),
        });
    })
}

/// Passages that stand where the row's own will: where all of a row's passages end in a fact of
/// the same kind (`… is X.`), the row's own with the facts moved around; else another row's.
fn strangers(row: &Question, other: &Question) -> Vec<TitledText> {
    let n = row.passages.len();
    let cut = |text: &str| {
        row.replacement
            .as_ref()
            .and(text.rfind(" is "))
            .map(|at| at + 4)
    };
    let stranger = |place: usize| {
        let own = &row.passages[place];
        let donor = &row.passages[(place + n / 2) % n].text;
        match (cut(&own.text), cut(donor)) {
            (Some(at), Some(from)) => TitledText {
                title: own.title.clone(),
                text: format!("{}{}", &own.text[..at], &donor[from..]),
            },
            _ => other.passages[place % other.passages.len()].clone(),
        }
    };
    (0..n).map(stranger).collect()
}

/// Tokens encoded that are not of new passages, by the layout's size.
fn encoded_again(before: &PassageLayout, after: &PassageLayout, outcome: &Outcome) -> f64 {
    let passages = after.passages();
    let added = LayoutDelta::between(before.passages(), passages).added;
    let n_new: usize = added
        .iter()
        .map(|place| passages[*place].tokens.len())
        .sum();
    let n_all: usize = passages.iter().map(|passage| passage.tokens.len()).sum();
    outcome.work.n_encoded.saturating_sub(n_new) as f64 / n_all.max(1) as f64
}

/// The exact answer to what was just answered.
fn finish(
    rig: &Rig,
    question: &str,
    layout: &PassageLayout,
    first: &Outcome,
    tell: impl FnOnce(&str, &Outcome),
) -> Result<(), Error> {
    let draft = Before::draft(first.tokens.clone());
    let exact = rig.answer(question, layout, &draft, Tolerance::EXACT)?;
    tell(&first.answer.text, &exact);
    rig.model.store().sweep();
    Ok(())
}
