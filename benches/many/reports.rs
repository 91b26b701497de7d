//! What do standing questions look like whose answers are long?
//!
//! Of a report of a dozen sentences an edit concerns one or two: the others are to stand, word for word.
//! Small models end after a sentence or two when they are asked for a summary; a numbered list whose length
//! is said they go on with.

use perennial::calibration::set::{Asked, Passage};

/// The instruction of reports.
pub const PROMPT: &str = "Write a report as a numbered list of at least ten items. Each item is one \
    complete sentence that tells one fact from the documents above. Go through the documents one after \
    the other, repeat no fact, and write nothing but the list.";

/// So many reports, each for who wants to know of what a document begins with, with the id of that document.
/// Nobody has written what they should say.
pub fn about(documents: &[Passage], n: usize) -> Vec<(String, Asked)> {
    let report = |document: &Passage| {
        let words = document.text.split_whitespace().take(12);
        let about = words.collect::<Vec<_>>().join(" ");
        let asked = Asked {
            question: format!(
                "Which ten facts do the documents tell, for who wants to know of this: {about} …"
            ),
            answers: Vec::new(),
        };
        (document.id.clone(), asked)
    };
    documents.iter().take(n).map(report).collect()
}
