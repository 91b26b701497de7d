//! What would a query ask now, and what would it cost?
//!
//! A dry run over the rows that stand. Questions are counted from the first to the last: where answers of
//! one are missing, what stands behind it is counted as if nothing had been ruled out by it
//! (`query::relax`), and so often until no other answer is missing. No language model is
//! asked; texts are embedded where a query asks about the nearest, or about texts that are similar, since which
//! pairs there are depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::AsCollection;
use perennial_ask::Cost;
use perennial_rows::Tuple;
use timely::dataflow::operators::ToStream;

use crate::bounds::{Bounds, Exceeded, Meter};
use crate::dataflow::Epoch;
use crate::evaluate::step_to_end;
use crate::outputs::Asking;
use crate::query::digest::part_digest;
use crate::query::relax::{Certainty, relaxed};
use crate::query::{ColumnId, Node, Promise, Query, Question, Subject};
use crate::render::{Evidence, Tallied, Tally, tally};

/// Bytes of prose a token, about.
const BYTES_A_TOKEN: usize = 4;

/// What the questions of a query would cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// From the result down, as its plan has them.
    pub questions: Vec<QuestionForecast>,
    /// By model.
    pub models: Vec<ModelForecast>,
}

/// What one question would cost.
#[derive(Clone, Debug, PartialEq)]
pub struct QuestionForecast {
    /// As SQL asks it.
    pub text: String,
    /// What it is asked about.
    pub subject: Subject,
    /// How well the numbers are known.
    pub certainty: Certainty,
    /// Rows, or pairs of rows, that it is about.
    pub n_rows: usize,
    /// Calls whose outputs are known.
    pub n_known: usize,
    /// Calls that are still to be made.
    pub n_new: usize,
    /// Tokens that a model would read in these, about.
    pub n_read: usize,
    /// Tokens that it would write, at most.
    pub n_written: usize,
    /// Who decides, where an embedding may.
    pub decided: Option<Decided>,
}

/// Who decides about the rows of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// There are no more values than the sample has: the model.
    AllInSample,
    /// Values that the model is asked about first, to see how many others it is to be asked about.
    SampleFirst {
        /// How many there are.
        n_sample: usize,
    },
    /// The model about all: of the rows that thresholds are fitted on it accepts too few for any.
    TooFew {
        /// How many there are.
        n_rows: usize,
        /// How many it accepts.
        n_accepted: usize,
        /// How many it would have to accept.
        n_needed: usize,
    },
    /// The model about all: no text of the sample could be embedded.
    Unseen,
    /// The embedding about some.
    Spared {
        /// How many values.
        n_values: usize,
    },
}

/// What one model would be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelForecast {
    /// By name; none is the one that is asked where none is named.
    pub model: Option<Arc<str>>,
    /// Whether these are all its calls, at most these, or not to be told.
    pub certainty: Certainty,
    /// Calls that are still to be made.
    pub n_calls: usize,
    /// Tokens that it would read and write in these, about and at most.
    pub n_tokens: usize,
    /// Tokens that it forwarded in a second of work until now; none if it was not asked yet.
    pub tokens_a_second: Option<f64>,
    /// What these would cost, as far as tokens are known, if it still knew none of what it reads; none
    /// of a model without prices.
    pub cost: Option<Cost>,
}

/// What a query would ask over these inputs, which are those of [`Query::inputs`], each row as often as
/// it stands.
///
/// # Errors
/// [`Exceeded`] where it takes more than the bounds allow.
///
/// # Panics
/// If there are not as many inputs as the query reads.
pub fn forecast(
    query: &Query,
    inputs: &[Vec<(Tuple, isize)>],
    asking: &Asking,
    bounds: &Bounds,
) -> Result<Forecast, Exceeded> {
    let mut unknown: BTreeSet<ColumnId> = BTreeSet::new();
    let mut relaxed_now = relaxed(query.root(), &unknown);
    loop {
        let asked = asked_in(&relaxed_now.roots);
        let tallied = dry_run(query, relaxed_now.roots, inputs, asking, bounds)?;
        let missing = tallied.iter().filter(|(_, tallied)| tallied.n_new > 0);
        unknown.extend(missing.map(|(question, _)| *question));
        relaxed_now = relaxed(query.root(), &unknown);
        if asked_in(&relaxed_now.roots) == asked {
            let certainty = &relaxed_now.certainty;
            return Ok(told(query.questions(), certainty, &tallied, asking));
        }
    }
}

/// Which questions are asked of what.
fn asked_in(roots: &[Node]) -> BTreeSet<[u8; 32]> {
    fn collect(node: &Node, all: &mut BTreeSet<[u8; 32]>) {
        let asks = match node {
            Node::Ask(_) | Node::Cascade(_) => true,
            Node::Clusters(clusters) => clusters.check.is_some(),
            _ => false,
        };
        if asks {
            all.insert(part_digest(node));
        }
        node.inputs()
            .into_iter()
            .for_each(|input| collect(input, all));
    }
    let mut all = BTreeSet::new();
    roots.iter().for_each(|root| collect(root, &mut all));
    all
}

fn dry_run(
    query: &Query,
    roots: Vec<Node>,
    inputs: &[Vec<(Tuple, isize)>],
    asking: &Asking,
    bounds: &Bounds,
) -> Result<BTreeMap<ColumnId, Tallied>, Exceeded> {
    let (query, inputs) = (query.clone(), inputs.to_vec());
    let (asking, bounds) = (asking.clone(), bounds.clone());
    timely::execute_directly(move |worker| {
        let (meter, counts) = (Rc::new(Meter::new(bounds)), Rc::new(Tally::default()));
        let dataflow = worker.next_dataflow_index();
        worker.dataflow::<Epoch, _, _>(|scope| {
            let inputs = inputs.into_iter().map(|rows| {
                let rows = rows.into_iter().map(|(tuple, count)| (tuple, 0, count));
                rows.to_stream(scope).container::<Vec<_>>().as_collection()
            });
            let inputs = inputs.collect();
            tally(scope, (&query, &roots), inputs, &asking, (&meter, &counts));
        });
        let done = step_to_end(worker, &meter);
        if done.is_err() {
            worker.drop_dataflow(dataflow);
        }
        done.map(|()| counts.take())
    })
}

fn told(
    questions: Vec<Question<'_>>,
    certainty: &BTreeMap<ColumnId, Certainty>,
    tallied: &BTreeMap<ColumnId, Tallied>,
    asking: &Asking,
) -> Forecast {
    let mut models: Vec<ModelForecast> = Vec::new();
    let mut all = Vec::new();
    for question in questions {
        let certainty = certainty.get(&question.output).copied();
        let certainty = certainty.unwrap_or(Certainty::Open);
        let tallied = tallied.get(&question.output).copied().unwrap_or_default();
        let Tallied {
            n_rows,
            n_known,
            n_new,
            n_bytes,
            ..
        } = tallied;
        let decided = question.promise.map(|promise| decided(promise, tallied));
        let certainty = match decided {
            Some(Decided::SampleFirst { .. }) => certainty.max(Certainty::AtMost),
            _ => certainty,
        };
        let n_read = n_bytes.div_ceil(BYTES_A_TOKEN);
        let max_tokens = question.task.output().max_tokens().unwrap_or(0);
        let n_written = n_new.saturating_mul(max_tokens);
        let place = models
            .iter()
            .position(|of| of.model.as_ref() == question.model);
        let outputs = asking.outputs(question.model);
        let prices = outputs.prices();
        let place = place.unwrap_or_else(|| {
            models.push(ModelForecast {
                model: question.model.cloned(),
                certainty: Certainty::Exact,
                n_calls: 0,
                n_tokens: 0,
                tokens_a_second: outputs.tokens_a_second(),
                cost: prices.map(|prices| prices.cost(0, 0, 0)),
            });
            models.len() - 1
        });
        let of_model = &mut models[place];
        of_model.certainty = of_model.certainty.max(match question.subject {
            Subject::Row | Subject::Pair => certainty,
            Subject::Rank | Subject::Group => Certainty::Open,
        });
        let is_counted = matches!(question.subject, Subject::Row | Subject::Pair);
        if is_counted && certainty < Certainty::Open {
            of_model.n_calls = of_model.n_calls.saturating_add(n_new);
            let n_tokens = n_read.saturating_add(n_written);
            of_model.n_tokens = of_model.n_tokens.saturating_add(n_tokens);
            if let (Some(sum), Some(prices)) = (&mut of_model.cost, prices) {
                *sum += prices.cost(n_read, 0, n_written);
            }
        }
        all.push(QuestionForecast {
            text: question.text,
            subject: question.subject,
            certainty,
            n_rows,
            n_known,
            n_new,
            n_read,
            n_written,
            decided,
        });
    }
    Forecast {
        questions: all,
        models,
    }
}

/// Who decides, by what is known of the sample.
fn decided(promise: Promise, tallied: Tallied) -> Decided {
    let n_sample = usize::try_from(promise.n_sample).unwrap_or(usize::MAX);
    let Tallied {
        n_known,
        n_new,
        n_spared,
        evidence,
        ..
    } = tallied;
    let n_values = n_known.saturating_add(n_new).saturating_add(n_spared);
    match evidence {
        _ if n_values <= n_sample => Decided::AllInSample,
        None if n_new == 0 => Decided::Unseen,
        None => Decided::SampleFirst { n_sample },
        Some(Evidence {
            n_rows,
            n_accepted,
            n_needed,
        }) if n_accepted < n_needed => Decided::TooFew {
            n_rows,
            n_accepted,
            n_needed,
        },
        Some(_) => Decided::Spared { n_values: n_spared },
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllInSample => {
                f.write_str("the model is asked about all, for the sample has room for them")
            }
            Self::SampleFirst { n_sample } => write!(
                f,
                "a sample of {n_sample} is asked about first, and says how many of the others are"
            ),
            Self::TooFew {
                n_rows,
                n_accepted,
                n_needed,
            } => write!(
                f,
                "the model is asked about all, for of {} of the sample that thresholds are fitted on it \
                 accepts {n_accepted}, and {n_needed} are needed",
                counted(*n_rows, "row")
            ),
            Self::Unseen => f.write_str(
                "the model is asked about all, for no text of the sample could be embedded",
            ),
            Self::Spared { n_values } => {
                write!(f, "the embedding decides {n_values} others")
            }
        }
    }
}

impl fmt::Display for QuestionForecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.text)?;
        let rows = match self.subject {
            Subject::Pair => counted(self.n_rows, "pair"),
            _ => counted(self.n_rows, "row"),
        };
        match self.certainty {
            Certainty::Exact => {}
            Certainty::AtMost => f.write_str("at most ")?,
            Certainty::Open => {
                return f.write_str("not to be told before answers that it depends on are there");
            }
        }
        match self.subject {
            Subject::Rank => return write!(f, "{rows}; who meets whom depends on what is said"),
            Subject::Group => {
                return write!(
                    f,
                    "{rows}; how they are read together depends on their groups"
                );
            }
            Subject::Row | Subject::Pair => {}
        }
        let (n_known, n_new) = (self.n_known, self.n_new);
        let calls = counted(n_known.saturating_add(n_new), "call");
        write!(f, "{rows}, {calls}: {n_known} known, {n_new} to be made")?;
        if n_new > 0 {
            write!(f, ", which read about {}", counted(self.n_read, "token"))?;
        }
        if self.n_written > 0 {
            write!(f, " and write up to {}", self.n_written)?;
        }
        match self.decided {
            Some(decided) => write!(f, "; {decided}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ModelForecast {
    /// Behind the name of the model.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.certainty {
            Certainty::Exact => {}
            Certainty::AtMost => f.write_str("at most ")?,
            Certainty::Open => f.write_str("besides what cannot be told, ")?,
        }
        let (calls, tokens) = (
            counted(self.n_calls, "call"),
            counted(self.n_tokens, "token"),
        );
        write!(f, "{calls} to be made")?;
        if self.n_calls == 0 {
            return Ok(());
        }
        match self.tokens_a_second {
            Some(speed) => {
                let seconds = (self.n_tokens as f64 / speed).ceil();
                write!(
                    f,
                    " over {tokens}, about {seconds} s at the {speed:.0} tokens a second measured"
                )?;
            }
            None => write!(
                f,
                " over {tokens}; how long that takes is not known, for it has not been measured yet"
            )?,
        }
        match self.cost {
            Some(cost) => write!(f, "; they cost about {cost} at most"),
            None => Ok(()),
        }
    }
}

fn counted(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use perennial_rows::Float;

    use super::*;

    #[test]
    fn who_decides_is_told_by_what_is_known_of_the_sample() {
        let promise = Promise {
            recall: Float::new(0.5),
            precision: Float::new(1.0),
            n_sample: 50,
        };
        let evidence = |n_accepted| {
            Some(Evidence {
                n_rows: 34,
                n_accepted,
                n_needed: 5,
            })
        };
        let told = |n_spared: usize, evidence: Option<Evidence>| {
            let tallied = Tallied {
                n_known: 60,
                n_new: if evidence.is_some() { 0 } else { n_spared },
                n_spared,
                evidence,
                ..Tallied::default()
            };
            decided(promise, tallied).to_string()
        };
        assert_eq!(
            told(0, None),
            "the model is asked about all, for no text of the sample could be embedded"
        );
        assert_eq!(
            told(40, None),
            "a sample of 50 is asked about first, and says how many of the others are"
        );
        assert_eq!(
            told(0, evidence(4)),
            "the model is asked about all, for of 34 rows of the sample that thresholds are fitted on it \
             accepts 4, and 5 are needed"
        );
        assert_eq!(told(70, evidence(5)), "the embedding decides 70 others");
    }
}
