//! How many calls would a question be, and how many of them are known?
//!
//! In place of asking: what a view was told already is said, all else is NULL, and both are counted.
//! Nobody is asked. For a dataflow of one epoch only.

use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use perennial_ask::Task;
use perennial_ask::task::Subject;
use perennial_rows::{Tuple, Value};

use crate::outputs::Outputs;
use crate::query::ColumnId;
use crate::render::ask::{Questions, Said};
use crate::render::cascade::Evidence;

/// Counts by the output of a question.
#[derive(Default)]
pub(crate) struct Tally(RefCell<Counts>);

#[derive(Default)]
struct Counts {
    tallied: BTreeMap<ColumnId, Tallied>,
    /// Rows of each question: one that stands in several places is about the same rows.
    rows: BTreeMap<ColumnId, isize>,
    /// Calls that an embedding spares.
    spared: BTreeMap<ColumnId, isize>,
    /// Calls that are counted.
    seen: HashSet<(ColumnId, Tuple)>,
}

/// What one question would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tallied {
    /// Rows, or pairs of rows, that it is about.
    pub(crate) n_rows: usize,
    /// Calls whose outputs are known.
    pub(crate) n_known: usize,
    /// Calls that are still to be made.
    pub(crate) n_new: usize,
    /// Bytes that a model reads in these.
    pub(crate) n_bytes: usize,
    /// Calls that an embedding spares.
    pub(crate) n_spared: usize,
    /// What its thresholds stand on, where it is known what is said of the sample.
    pub(crate) evidence: Option<Evidence>,
}

impl Tally {
    pub(crate) fn take(&self) -> BTreeMap<ColumnId, Tallied> {
        let mut counts = self.0.take();
        for (question, n) in counts.rows {
            let tallied = counts.tallied.entry(question).or_default();
            tallied.n_rows = usize::try_from(n).unwrap_or(0);
        }
        for (question, n) in counts.spared {
            let tallied = counts.tallied.entry(question).or_default();
            tallied.n_spared = usize::try_from(n).unwrap_or(0);
        }
        counts.tallied
    }

    /// Whether the rows of a question are still to be counted.
    pub(super) fn counts_rows(&self, question: ColumnId) -> bool {
        match self.0.borrow_mut().rows.entry(question) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(0);
                true
            }
        }
    }

    pub(super) fn rows(&self, question: ColumnId, count: isize) {
        *self.0.borrow_mut().rows.entry(question).or_default() += count;
    }

    /// Counts calls that an embedding spares.
    pub(super) fn spared(&self, question: ColumnId, count: isize) {
        *self.0.borrow_mut().spared.entry(question).or_default() += count;
    }

    /// Notes what thresholds stand on.
    pub(super) fn fitted(&self, question: ColumnId, evidence: Evidence) {
        let mut counts = self.0.borrow_mut();
        counts.tallied.entry(question).or_default().evidence = Some(evidence);
    }

    /// Counts a call, of which this is known.
    pub(super) fn call(
        &self,
        question: ColumnId,
        task: &Task,
        values: &Tuple,
        known: Option<&Value>,
    ) {
        let mut counts = self.0.borrow_mut();
        if !counts.seen.insert((question, values.clone())) {
            return;
        }
        let tallied = counts.tallied.entry(question).or_default();
        match known {
            Some(_) => tallied.n_known += 1,
            None => {
                tallied.n_new += 1;
                tallied.n_bytes += n_bytes(task, values);
            }
        }
    }
}

/// Who asks about some values, with what is known of these.
pub(super) fn tallied<'scope>(
    questions: Questions<'scope, Tuple>,
    (task, outputs): (Arc<Task>, Arc<Outputs>),
    question: ColumnId,
    tally: &Rc<Tally>,
) -> Said<'scope, Tuple> {
    if tally.counts_rows(question) {
        let tally = tally.clone();
        let count = move |count: isize| tally.rows(question, count);
        questions.clone().inspect(move |(_, _, n)| count(*n));
    }
    let tally = tally.clone();
    let values = questions.clone().map(|(values, _)| values).distinct();
    let known = values.map(move |values| {
        let known = outputs.known(&task, &values);
        tally.call(question, &task, &values, known.as_ref());
        (values, known.unwrap_or(Value::Null))
    });
    questions.join_map(known, |_, who, output| (who.clone(), output.clone()))
}

/// How much a model reads of a task over the values of a row, or of two; nothing is said of those whose
/// company is not known.
fn n_bytes(task: &Task, values: &Tuple) -> usize {
    let n_rows = match task.subject() {
        Subject::Row => 1,
        Subject::Pair => 2,
        Subject::Rows | Subject::Answers { .. } => return 0,
    };
    if values.len() != n_rows * task.columns().len() {
        return 0;
    }
    let rendered = task.rendered(values);
    let documents = rendered.documents.iter();
    let documents = documents.map(|(name, text)| name.len() + text.len());
    documents.sum::<usize>() + rendered.instruction.len()
}
