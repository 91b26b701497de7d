//! What is known of a context's last answer, for the next.
//!
//! It changes what the next answer costs and, where that may be provisional, what it says;
//! an exact answer never depends on it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::answer::{AnswerText, Outcome, Rung, SubParagraph};
use crate::dependency::Dependencies;
use perennial_bank::document::{LayoutPassage, PassageLayout};
use perennial_bank::id::PassageId;
use perennial_bank::live_layout::LiveLayout;

/// The last answer of a context and what it stood on.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// Its tokens: the draft of the next. Empty if there was none.
    pub tokens: Arc<[u32]>,
    /// The fragments it was written over.
    pub live: Arc<LiveLayout>,
    /// The rest; not there after a restart, which knows tokens only.
    pub written: Option<Arc<Written>>,
}

/// An answer with the request it was given to.
#[derive(Clone, Debug)]
pub struct Written {
    /// The question.
    pub question: Arc<str>,
    /// Its passages.
    pub layout: PassageLayout,
    /// The answer.
    pub answer: AnswerText,
    /// By sub-paragraphs, with their sources.
    pub sub_paragraphs: Vec<SubParagraph>,
    /// How much each sub-paragraph depends on each passage.
    pub dependencies: Dependencies,
    /// Whether it was left as it was, unread, for this request.
    pub was_skipped: bool,
    /// As in [`Outcome::min_margin`].
    pub min_margin: f32,
    /// As in [`Outcome::drift`].
    pub drift: f32,
    /// As in [`Outcome::regret`].
    pub regret: f32,
}

impl Before {
    /// What an outcome leaves for the next refresh of its context.
    pub fn of(question: Arc<str>, layout: PassageLayout, outcome: &Outcome) -> Self {
        Self {
            tokens: outcome.tokens.clone(),
            live: outcome.live.clone(),
            written: Some(Arc::new(Written {
                question,
                layout,
                answer: outcome.answer.clone(),
                sub_paragraphs: outcome.sub_paragraphs.clone(),
                dependencies: outcome.dependencies.clone(),
                was_skipped: outcome.rung == Rung::Skip,
                min_margin: outcome.min_margin,
                drift: outcome.drift,
                regret: outcome.regret,
            })),
        }
    }

    /// A draft and nothing else.
    pub fn draft(tokens: Arc<[u32]>) -> Self {
        Self {
            tokens,
            ..Self::default()
        }
    }
}

/// How one layout differs from the one before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayoutDelta {
    /// Passages of the layout before that are gone, by their place in it.
    pub removed: Vec<usize>,
    /// Passages that are new, by their place in the layout after.
    pub added: Vec<usize>,
    /// Pairs of a removed and an added passage that stand for one another: the same place
    /// of the same document.
    pub replaced: Vec<(usize, usize)>,
    /// By passage of the layout after: where it stood before.
    pub kept: Vec<Option<usize>>,
}

impl LayoutDelta {
    /// From the passages `before` to those `after`, each with its multiplicity. A passage that
    /// only moved is neither removed nor added.
    pub fn between(before: &[LayoutPassage], after: &[LayoutPassage]) -> Self {
        let name = |passage: &LayoutPassage| (passage.id, passage.is_superseded);
        let mut left: HashMap<(PassageId, bool), Vec<usize>> = HashMap::new();
        for (i, passage) in before.iter().enumerate().rev() {
            left.entry(name(passage)).or_default().push(i);
        }
        let place = |passage: &LayoutPassage| left.get_mut(&name(passage))?.pop();
        let kept: Vec<Option<usize>> = after.iter().map(place).collect();
        let added: Vec<usize> = (0..after.len()).filter(|i| kept[*i].is_none()).collect();
        let mut removed: Vec<usize> = left.into_values().flatten().collect();
        removed.sort_unstable();
        let mut replaced: Vec<(usize, usize)> = Vec::new();
        for old in &removed {
            let stands_for = |new: &usize| {
                let (old, new) = (&before[*old], &after[*new]);
                (&old.document, old.ordinal) == (&new.document, new.ordinal)
            };
            let free = |new: &usize| !replaced.iter().any(|(_, taken)| taken == new);
            if let Some(new) = added.iter().find(|new| stands_for(new) && free(new)) {
                replaced.push((*old, *new));
            }
        }
        Self {
            removed,
            added,
            replaced,
            kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perennial_bank::document::DocumentKey;

    fn passage(document: &str, ordinal: u32, text: &str) -> LayoutPassage {
        LayoutPassage {
            document: DocumentKey::new(document),
            ordinal,
            id: PassageId::of(document, text),
            title: document.into(),
            text: text.into(),
            tokens: text.bytes().map(u32::from).collect(),
            is_superseded: false,
        }
    }

    #[test]
    fn a_delta_names_what_is_gone_new_and_replaced() {
        let before = [
            passage("a", 0, "one"),
            passage("a", 1, "two"),
            passage("b", 0, "three"),
            passage("c", 0, "four"),
        ];
        let after = [
            passage("c", 0, "four"),
            passage("a", 0, "one"),
            passage("a", 1, "deux"),
            passage("d", 0, "five"),
        ];
        let delta = LayoutDelta::between(&before, &after);
        assert_eq!(delta.removed, [1, 2]);
        assert_eq!(delta.added, [2, 3]);
        assert_eq!(delta.replaced, [(1, 2)]);
        assert_eq!(delta.kept, [Some(3), Some(0), None, None]);
        let none = LayoutDelta::between(&before, &before);
        assert!(none.removed.is_empty() && none.added.is_empty() && none.replaced.is_empty());
    }
}
