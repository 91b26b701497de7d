//! How well does a decoder's profile tell which answers an edit concerns, and which profile tells best?
//!
//! A view under `BOUNDED` leaves answers unread that an edit is unlikely to concern: a guess, by the
//! decoder's [`Profile`]. To fit one takes passages with questions whose gold answers are known
//! ([`set`]): the questions are answered, the passages edited so that some gold answers change and others
//! do not ([`edit`]), and what is known of each answer is held against whether it had to change ([`measure`]).
//! `perennial calibrate` and the benchmark `many` both do it by this room.
//!
//! # Invariants
//! - The same file, model and options give the same profile, on any number of threads.
//! - What the curve of a profile says of an article was told by a fit without that article.
//!
//! It deliberately does not tune a bound: how much regret is too much is the view's to say.

pub mod edit;
mod error;
pub mod measure;
mod random;
pub mod set;

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial_ask::pull::fit::{self, Sample};
use perennial_ask::pull::{Curve, DecoderName, FittedOn};
use perennial_ask::{AnswerModel, Embed, Profile};

use edit::Kind;
use measure::{Measuring, Point, Reads};
use set::{Case, Set};

pub use error::CalibrationError;
pub use random::Random;

/// What every question is asked with.
pub const PROMPT: &str =
    "Answer the question with a short phrase from the documents above, nothing else.";

/// Articles, at least: each is judged by a fit to the others.
pub const MIN_ARTICLES: usize = 3;
/// Answers that had to change, at least, and others.
pub const MIN_ANSWERS: usize = 10;

/// How a decoder is calibrated.
#[derive(Clone, Copy, Debug)]
pub struct CalibrationOptions {
    /// Most articles or rows.
    pub articles: usize,
    /// Most passages of an article.
    pub documents: usize,
    /// Most questions about an article.
    pub questions: usize,
    /// Edits of each article, of each kind in turn.
    pub edits: usize,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// The bound at which the curve says what is read and missed, in nats a token.
    pub bound: f32,
    /// Where chance begins.
    pub seed: u64,
}

impl Default for CalibrationOptions {
    /// As the profiles that the program brings were fitted.
    fn default() -> Self {
        Self {
            articles: 22,
            documents: 14,
            questions: 40,
            edits: 25,
            max_tokens: 24,
            bound: 0.05,
            seed: 7,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// The profile of the decoder.
    pub profile: Profile,
    /// By kind of edit, how well articles are told by fits without them.
    pub by_kind: Vec<(Kind, Curve)>,
    /// How well the default tells all of them.
    pub by_default: Curve,
    /// Answers that had to change and were read, whose mean regret the profile has.
    pub n_read: usize,
}

/// What is measured of a set.
///
/// # Errors
/// Too few articles.
pub fn cases(set: &Set, options: &CalibrationOptions) -> Result<Vec<Case>, CalibrationError> {
    let cases = set.cases(options.articles, (options.documents, options.questions));
    match cases.len() < MIN_ARTICLES {
        true => Err(CalibrationError::TooFewArticles {
            path: set.path.clone(),
            found: cases.len(),
            needed: MIN_ARTICLES,
        }),
        false => Ok(cases),
    }
}

/// Fits the profile of a decoder. `progress` hears how many answers and edits of how many are done.
///
/// # Errors
/// Too few articles, or answers that had to change; what the model refuses.
pub fn calibrate(
    (decoder, model): (DecoderName, &dyn AnswerModel),
    embedder: Arc<dyn Embed>,
    set: &Set,
    options: &CalibrationOptions,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<Calibration, CalibrationError> {
    let cases = cases(set, options)?;
    let how = Measuring {
        edits: options.edits,
        max_tokens: options.max_tokens,
        seed: options.seed,
        reads: Reads::Concerned,
    };
    let points = measure::measure(model, embedder, (&cases, &set.passages), how, progress)?;
    fitted(decoder, set.name(), &points, options)
}

fn fitted(
    decoder: DecoderName,
    set: String,
    points: &[Point],
    options: &CalibrationOptions,
) -> Result<Calibration, CalibrationError> {
    let concerned = points.iter().filter(|point| point.is_concerned).count();
    if concerned < MIN_ANSWERS || points.len() - concerned < MIN_ANSWERS {
        return Err(CalibrationError::TooFewAnswers {
            answers: points.len(),
            concerned,
            needed: MIN_ANSWERS,
        });
    }
    let readings = points.iter().filter(|point| point.is_concerned);
    let regrets: Vec<f32> = readings.filter_map(|p| Some(p.read?.regret)).collect();
    let regret = regrets.iter().sum::<f32>() / regrets.len().max(1) as f32;
    let samples: Vec<Sample<'_>> = points.iter().map(Point::sample).collect();
    let scores: Vec<f32> = fit::cross_validated(&samples)
        .into_iter()
        .map(|chance| regret * chance)
        .collect();
    let curve = |scores: &[f32], kind: Option<Kind>| {
        let of = points.iter().zip(scores);
        let of = of.filter(|(point, _)| kind.is_none_or(|kind| point.kind == kind));
        Curve::of(
            of.map(|(point, score)| (*score, point.is_concerned)),
            options.bound,
        )
    };
    let groups: BTreeSet<&str> = points.iter().map(|point| &*point.group).collect();
    let fitted_on = FittedOn {
        set,
        articles: groups.len(),
        edits: groups.len() * options.edits,
    };
    let coefficients = fit::fitted(&samples);
    let profile = Profile::new(
        decoder,
        fitted_on,
        (coefficients, regret),
        curve(&scores, None),
    );
    Ok(Calibration {
        profile: profile.map_err(|reason| CalibrationError::Unsound { reason })?,
        by_kind: Kind::ALL
            .map(|kind| (kind, curve(&scores, Some(kind))))
            .into(),
        by_default: curve(&fit::expected(&Profile::default(), &samples), None),
        n_read: regrets.len(),
    })
}

#[cfg(test)]
mod tests;
