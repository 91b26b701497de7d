//! Why is a row as it is? Which change made it so, how it was refreshed, and what it depends on.

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial_rows::{Schema, Tuple, Value};
use perennial_views::sql::RowName;
use perennial_views::{Bounds, Epoch};

use super::lineage::{Following, told};
use super::outcome::{At as _, Fault, Outcome};
use super::row_tree::{Branch, quoted};
use super::session::Session;
use crate::engine::{
    Cause, KeyChangeKind, RecentChanges, RelationInfo, RelationKind, TupleChange, Why,
};

/// Rows and changes that are named.
const MAX_NAMED: usize = 32;

impl Session {
    /// Why a row of a view is as it is.
    pub(super) fn explain_why(&self, row: &RowName, bounds: &Bounds) -> Result<Outcome, Fault> {
        let (name, span) = (&row.relation.of, row.relation.span);
        let stale = self.settle_or_say(&[name], span)?;
        let there = self.engine.relations().at(span)?;
        let relation = there.iter().find(|relation| relation.name == *name);
        let kind = relation.map(|relation| relation.kind);
        let mut tree = match kind {
            Some(RelationKind::Answers) => {
                let why = self.engine.why(name, &row.key.of).at(span)?;
                let Some(why) = why else {
                    let what = format!("{name} has no answer to {}", row.key.of);
                    return Err(Fault::said(what, row.key.span));
                };
                of_answer(row, &why)
            }
            _ => self.of_row(row, &there, bounds)?,
        };
        if let Some(stale) = stale {
            tree.line(stale);
        }
        Ok(Outcome::Plan(tree.told()))
    }

    fn of_row(
        &self,
        row: &RowName,
        there: &[RelationInfo],
        bounds: &Bounds,
    ) -> Result<Branch, Fault> {
        let (name, span) = (&row.relation.of, row.relation.span);
        let mut following = Following::new(self, span, bounds)?;
        let found = following.found(row)?;
        let schema = self.engine.snapshot(name).at(span)?.schema;
        let recent = match self.engine.recent(name).at(span)? {
            RecentChanges::Tuples(recent) => recent,
            _ => Vec::new(),
        };
        let mut tree = Branch::new(format!("{name}['{}']", row.key.of));
        for tuple in &found {
            let came = recent.iter().rev().find(|change| change.tuple == *tuple);
            match came.filter(|change| change.diff > 0) {
                None => tree.line("it has been so for longer than is remembered"),
                Some(came) => {
                    let of_view = (&schema, &recent[..]);
                    tree.push(self.change(row, there, of_view, came)?);
                }
            }
            let traced = following.trace(name, tuple)?;
            let mut depends = Branch::new("depends on");
            for (relation, tuple) in following.rows_of(&traced)?.iter().take(MAX_NAMED) {
                let called = following.called(relation, tuple)?;
                depends.line(called);
            }
            let n_more = traced.rows.len().saturating_sub(MAX_NAMED);
            if n_more > 0 || traced.is_cut {
                depends.line(format!("… and {n_more} more"));
            }
            tree.push(depends);
            traced.said.iter().for_each(|said| tree.line(told(said)));
        }
        Ok(tree)
    }

    /// How a row came to be, and what changed then of all that its view reads.
    fn change(
        &self,
        row: &RowName,
        there: &[RelationInfo],
        (schema, recent): (&Schema, &[TupleChange]),
        came: &TupleChange,
    ) -> Result<Branch, Fault> {
        let epoch = came.epoch;
        let mut branch = Branch::new(format!("so since epoch {epoch}"));
        // What went in the same epoch and begins alike is what it was before.
        let was = recent.iter().find(|change| {
            change.epoch == epoch && change.diff < 0 && change.tuple.first() == came.tuple.first()
        });
        if let Some(was) = was {
            branch.line(format!(
                "was {}",
                differing(schema, &was.tuple, &came.tuple)
            ));
            branch.line(format!("is {}", differing(schema, &came.tuple, &was.tuple)));
        }
        let mut because = Branch::new("what changed for it");
        let mut n_changes = 0;
        for stream in streams_of(there, &row.relation.of) {
            let RecentChanges::Keys(changes) = self.engine.recent(&stream).at(row.relation.span)?
            else {
                continue;
            };
            let is_new = |at: Epoch| Some(at) > came.after && at <= epoch;
            for change in changes.iter().filter(|change| is_new(change.epoch)) {
                n_changes += 1;
                if n_changes <= MAX_NAMED {
                    let how = match change.kind {
                        KeyChangeKind::Came => "came",
                        KeyChangeKind::Changed => "changed",
                        KeyChangeKind::Went => "went",
                    };
                    because.line(format!("{stream}['{}'] {how}", change.key));
                }
            }
        }
        if n_changes > MAX_NAMED {
            because.line(format!("… and {} more", n_changes - MAX_NAMED));
        }
        if n_changes > 0 {
            branch.push(because);
        }
        Ok(branch)
    }
}

/// The streams that a view reads, directly or not.
fn streams_of(there: &[RelationInfo], view: &Arc<str>) -> Vec<Arc<str>> {
    let (mut seen, mut all, mut next) = (BTreeSet::new(), Vec::new(), vec![view]);
    while let Some(name) = next.pop() {
        let relation = there.iter().find(|relation| relation.name == *name);
        let Some(relation) = relation.filter(|_| seen.insert(name)) else {
            continue;
        };
        match relation.kind.is_view() {
            true => next.extend(relation.reads.iter().rev()),
            false => all.push(relation.name.clone()),
        }
    }
    all
}

/// The columns of a row in which another is not the same.
fn differing(schema: &Schema, row: &Tuple, other: &Tuple) -> String {
    let columns = schema.columns().iter().zip(row.iter().zip(other.iter()));
    let differ = columns.filter(|(_, (value, other))| value != other);
    let told = differ.map(|(column, (value, _))| match value {
        Value::Text(text) => format!("{} = {}", column.name, quoted(text)),
        value => format!("{} = {value}", column.name),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// Why an answer is as it is.
fn of_answer(row: &RowName, why: &Why) -> Branch {
    let (name, key, now) = (&row.relation.of, &row.key.of, &why.answer);
    let mut tree = Branch::new(format!("{name}['{key}']"));
    let n_forwarded = now.work.n_forwarded();
    let n_reused = now.work.n_from_scratch.saturating_sub(n_forwarded);
    let mark = match (now.is_memoised, now.drift) {
        (true, _) => "as its model said it",
        (_, None) => "exact",
        _ => "provisional",
    };
    tree.line(format!(
        "so since epoch {}, by {} ({mark}): {n_forwarded} tokens forwarded, {n_reused} reused; {:.1} s",
        why.epoch,
        now.rung,
        now.elapsed.as_secs_f64()
    ));
    if let Some(passages) = now.passages {
        tree.line(passages.to_string());
    }
    let mut because = Branch::new("what changed for it");
    match &why.cause {
        None => because.line("not known: it was reached before this program was started, or what is known was forgotten"),
        Some(cause) => of_cause(cause, &mut because),
    }
    if !because.branches.is_empty() {
        tree.push(because);
    }
    match &now.answer {
        Err(error) => tree.line(format!("failed: {error}")),
        Ok(_) => {
            for part in &now.sub_paragraphs {
                let mut sentence = Branch::new(quoted(&part.text));
                for source in &part.sources {
                    let (document, ordinal) = (&source.document, source.ordinal);
                    sentence.line(format!(
                        "{:.2} passage {ordinal} of {document}",
                        source.share
                    ));
                }
                tree.push(sentence);
            }
        }
    }
    tree
}

fn of_cause(cause: &Cause, because: &mut Branch) {
    if cause.is_first {
        because.line("it was asked for the first time since the program was started");
    }
    if cause.question_changed {
        because.line("its question changed");
    }
    let all = [
        (&cause.came, "came"),
        (&cause.changed, "changed"),
        (&cause.went, "went"),
    ];
    for (documents, how) in all {
        documents
            .iter()
            .for_each(|document| because.line(format!("{document} {how}")));
    }
    if cause.n_unnamed > 0 {
        because.line(format!("… and {} documents more", cause.n_unnamed));
    }
}
