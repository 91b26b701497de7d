//! Why was an answer refreshed? What its request said otherwise than the one before it.

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial_bank::{DocumentKey, PassageId, PassageLayout};
use perennial_views::Epoch;

use super::current::CurrentAnswer;

/// Documents that are named of a cause.
const MAX_DOCUMENTS: usize = 32;

/// What made a request another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// Whether there was no request of this context before, in this process.
    pub is_first: bool,
    /// Whether the question is another.
    pub question_changed: bool,
    /// Documents of which passages came, and none went.
    pub came: Vec<DocumentKey>,
    /// Documents of which passages came and passages went.
    pub changed: Vec<DocumentKey>,
    /// Documents of which passages went, and none came.
    pub went: Vec<DocumentKey>,
    /// How many documents are not named.
    pub n_unnamed: usize,
}

/// How an answer came to be as it is.
#[derive(Clone, Debug)]
pub struct Why {
    /// What is asked.
    pub question: Arc<str>,
    /// The epoch of its last refresh.
    pub epoch: Epoch,
    /// Why it was refreshed; none where no call was made in this process.
    pub cause: Option<Cause>,
    /// The answer, with how it was reached and what it leans on.
    pub answer: CurrentAnswer,
}

/// The request that an answer was last given to, and why it was made.
#[derive(Clone, Debug)]
pub(super) struct LastRequest {
    question: Arc<str>,
    layout: PassageLayout,
    pub(super) cause: Cause,
}

impl LastRequest {
    /// A request that follows another, if there was one.
    pub(super) fn following(
        before: Option<&Self>,
        question: Arc<str>,
        layout: PassageLayout,
    ) -> Self {
        let cause = match before {
            None => Cause {
                is_first: true,
                ..Cause::default()
            },
            // The same request again: what was provisional was made exact. Its cause is that of before.
            Some(before) if before.question == question && before.layout == layout => {
                before.cause.clone()
            }
            Some(before) => Cause {
                question_changed: before.question != question,
                ..difference(&before.layout, &layout)
            },
        };
        Self {
            question,
            layout,
            cause,
        }
    }
}

/// A passage, and whether it is obsolete.
type Read = (DocumentKey, PassageId, bool);

/// Which documents differ between two layouts.
fn difference(before: &PassageLayout, after: &PassageLayout) -> Cause {
    let read = |layout: &PassageLayout| -> BTreeSet<Read> {
        let passages = layout.passages().iter();
        let read = passages.map(|p| (p.document.clone(), p.id, p.is_superseded));
        read.collect()
    };
    let (before, after) = (read(before), read(after));
    let documents = |of: &BTreeSet<Read>, other: &BTreeSet<Read>| -> BTreeSet<DocumentKey> {
        let differ = of.difference(other);
        differ.map(|(document, ..)| document.clone()).collect()
    };
    let (with_new, with_old) = (documents(&after, &before), documents(&before, &after));
    let mut cause = Cause::default();
    for document in with_new.union(&with_old).cloned() {
        let n_named = cause.came.len() + cause.changed.len() + cause.went.len();
        if n_named >= MAX_DOCUMENTS {
            cause.n_unnamed += 1;
            continue;
        }
        match (with_new.contains(&document), with_old.contains(&document)) {
            (true, true) => cause.changed.push(document),
            (true, false) => cause.came.push(document),
            _ => cause.went.push(document),
        }
    }
    cause
}

#[cfg(test)]
mod tests {
    use perennial_bank::document::LayoutPassage;

    use super::*;

    fn layout(passages: &[(&str, &str)]) -> PassageLayout {
        let passage = |(document, text): &(&str, &str)| LayoutPassage {
            document: DocumentKey::new(*document),
            ordinal: 0,
            id: PassageId::of(document, text),
            title: (*document).into(),
            text: (*text).into(),
            tokens: Arc::from([1]),
            is_superseded: false,
            copies: Arc::default(),
        };
        PassageLayout::new(passages.iter().map(passage).collect())
    }

    #[test]
    fn a_cause_is_what_differs_and_stays_where_nothing_does() {
        let first = LastRequest::following(None, "Why?".into(), layout(&[("a", "1"), ("b", "1")]));
        assert!(first.cause.is_first);
        let next = layout(&[("a", "2"), ("c", "1")]);
        let second = LastRequest::following(Some(&first), "Why?".into(), next.clone());
        let named = |keys: &[DocumentKey]| -> Vec<String> {
            keys.iter().map(ToString::to_string).collect()
        };
        let cause = &second.cause;
        assert_eq!(named(&cause.changed), ["a"]);
        assert_eq!(
            (named(&cause.came), named(&cause.went)),
            (vec!["c".into()], vec!["b".into()])
        );
        assert!(!cause.question_changed && !cause.is_first);
        let healed = LastRequest::following(Some(&second), "Why?".into(), next.clone());
        assert_eq!(healed.cause, second.cause);
        let asked = LastRequest::following(Some(&second), "Who?".into(), next);
        assert!(asked.cause.question_changed && asked.cause.changed.is_empty());
    }
}
