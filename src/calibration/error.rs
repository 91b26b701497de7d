//! Why is a model not calibrated?

use std::io;
use std::path::PathBuf;

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// The file of passages cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of it is no passage and no row.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Too few articles: each is to be judged by a fit to others.
    #[error(
        "{}: {found} of its articles have questions and passages to be edited, and {needed} are needed: \
         each is judged by a fit to the others", path.display()
    )]
    TooFewArticles {
        /// Which file.
        path: PathBuf,
        /// How many there are.
        found: usize,
        /// How many there should be.
        needed: usize,
    },
    /// Too few answers that had to change, or none that had not.
    #[error(
        "{concerned} of {answers} answers had to change after an edit, and to fit a profile takes {needed} \
         of them and as many others"
    )]
    TooFewAnswers {
        /// Answers after an edit.
        answers: usize,
        /// Those that had to change.
        concerned: usize,
        /// How many of either are needed.
        needed: usize,
    },
    /// The model, or what embeds, failed on a question.
    #[error("the question {question:?} of {article} cannot be judged: {reason}")]
    Model {
        /// Of which article.
        article: String,
        /// The question.
        question: String,
        /// Why, for people.
        reason: String,
    },
    /// A passage cannot become tokens.
    #[error("the passage {id} cannot be read: {reason}")]
    Passage {
        /// Which.
        id: String,
        /// Why, for people.
        reason: String,
    },
    /// What was fitted is no profile.
    #[error("what was fitted cannot be used: {reason}")]
    Unsound {
        /// Which number.
        reason: String,
    },
}
