//! What would a cascade ask, and what would its embedding spare?
//!
//! For a dataflow of one epoch in which nobody is asked: what a view was told is known, all else is
//! missing. Where a verdict of the sample is missing, there is no fit, and everything is counted.

use std::rc::Rc;
use std::sync::Arc;

use perennial_ask::Task;
use perennial_rows::Tuple;

use crate::outputs::Outputs;
use crate::query::{ColumnId, Promise};
use crate::render::Tally;
use crate::render::cascade::{Evidence, Judge, Of, Verdicts};

/// Counts in place of asking.
pub(in crate::render) struct Dry {
    pub(in crate::render) tally: Rc<Tally>,
    /// The column of what the model says.
    pub(in crate::render) question: ColumnId,
    pub(in crate::render) task: Arc<Task>,
    pub(in crate::render) outputs: Arc<Outputs>,
    /// Whether another node that asks the same has counted its rows.
    pub(in crate::render) is_counted: bool,
}

impl Judge for Dry {
    fn judged<'scope>(&self, values: Of<'scope, Tuple>) -> Verdicts<'scope> {
        let (tally, question) = (self.tally.clone(), self.question);
        let (task, outputs) = (self.task.clone(), self.outputs.clone());
        values.consolidate().map(move |values| {
            let known = outputs.known(&task, &values);
            tally.call(question, &task, &values, known.as_ref());
            (values, known)
        })
    }

    fn count(&self, tuples: Of<'_, (Tuple, Tuple)>) {
        let (tally, question) = (self.tally.clone(), self.question);
        if !self.is_counted {
            tuples.inspect(move |(_, _, n)| tally.rows(question, *n));
        }
    }

    fn fitted(&self, sample: Of<'_, (u64, Option<bool>)>, promise: Promise) {
        let (tally, question) = (self.tally.clone(), self.question);
        let sample = sample.map(|row| ((), row));
        let evidence = sample.reduce_named("Evidence", move |(), rows, output| {
            let verdicts: Option<Vec<bool>> = rows.iter().map(|((_, is_so), _)| *is_so).collect();
            let evidence = verdicts.map(|verdicts| Evidence::of(verdicts.into_iter(), promise));
            output.push((evidence, 1isize));
        });
        evidence.inspect(move |(((), evidence), _, _)| {
            if let Some(evidence) = evidence {
                tally.fitted(question, *evidence);
            }
        });
    }

    fn spared(&self, values: Of<'_, Tuple>) {
        let (tally, question) = (self.tally.clone(), self.question);
        values.inspect(move |(_, _, n)| tally.spared(question, *n));
    }
}
