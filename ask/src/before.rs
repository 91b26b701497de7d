//! What is known of a context's last answer, for the next.
//!
//! It changes what the next answer costs and, where that may be provisional, what it says;
//! an exact answer never depends on it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::answer::{AnswerText, Outcome, Rung, SubParagraph, Work};
use crate::append::AppendLog;
use crate::dependency::Dependencies;
use crate::provenance;
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
    /// What the next answer may go on from, of a view that goes on.
    pub log: Option<Arc<AppendLog>>,
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
    /// As in [`Outcome::is_exact`].
    pub is_exact: bool,
    /// As in [`Work::n_from_scratch`].
    pub n_from_scratch: usize,
}

impl Before {
    /// What an outcome leaves for the next refresh of its context.
    pub fn of(question: Arc<str>, layout: PassageLayout, outcome: &Outcome) -> Self {
        Self {
            tokens: outcome.tokens.clone(),
            live: outcome.live.clone(),
            log: outcome.log.clone(),
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
                is_exact: outcome.is_exact,
                n_from_scratch: outcome.work.n_from_scratch,
            })),
        }
    }

    /// The answer before, if it is the one to a question over a layout, too: where the model would read
    /// what it has read, in documents of other names perhaps. Its sources are named as they stand now.
    ///
    /// Nothing where the answer was not exact: what is borrowed or left unread is looked at again.
    pub fn standing(&self, question: &str, layout: &PassageLayout) -> Option<Outcome> {
        let written = self.written.as_deref()?;
        let is_it = written.is_exact && *written.question == *question;
        if !is_it || !written.layout.reads_as(layout) {
            return None;
        }
        let (before, after) = (written.layout.passages(), layout.passages());
        let places: Vec<Option<usize>> = (0..after.len()).map(Some).collect();
        Some(Outcome {
            answer: written.answer.clone(),
            tokens: self.tokens.clone(),
            rung: Rung::Keep,
            work: Work {
                n_from_scratch: written.n_from_scratch,
                ..Work::default()
            },
            sub_paragraphs: provenance::moved(&written.sub_paragraphs, before, after, &places),
            min_margin: written.min_margin,
            is_exact: true,
            regret: written.regret,
            draft: None,
            drift: written.drift,
            dependencies: written.dependencies.clone(),
            live: self.live.clone(),
            log: self.log.clone(),
        })
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
    use crate::answer::Finish;
    use perennial_bank::document::{DocumentKey, PassageCopy};

    fn passage(document: &str, ordinal: u32, text: &str) -> LayoutPassage {
        LayoutPassage {
            document: DocumentKey::new(document),
            ordinal,
            id: PassageId::of(document, text),
            title: document.into(),
            text: text.into(),
            tokens: text.bytes().map(u32::from).collect(),
            is_superseded: false,
            copies: Arc::default(),
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

    /// An answer to "Why?" over these passages, which leans on the first.
    fn answered(passages: &[LayoutPassage], is_exact: bool) -> Before {
        let layout = PassageLayout::new(passages.to_vec());
        let mass = [[1.0].as_slice(), &vec![0.0; passages.len() - 1]].concat();
        let parts = provenance::parts("One.", &[4]);
        let outcome = Outcome {
            answer: AnswerText {
                text: "One.".into(),
                finish: Finish::Stop,
            },
            tokens: [1].into(),
            rung: Rung::Regenerate,
            work: Work {
                n_from_scratch: 9,
                ..Work::default()
            },
            sub_paragraphs: provenance::attribute("One.", &parts, &[mass], passages),
            min_margin: 1.0,
            is_exact,
            regret: 0.0,
            draft: None,
            drift: 0.0,
            dependencies: Dependencies::default(),
            live: Arc::default(),
            log: None,
        };
        Before::of("Why?".into(), layout, &outcome)
    }

    fn held(passage: LayoutPassage, document: &str, copies: &[&str]) -> LayoutPassage {
        let copy = |document: &&str| PassageCopy {
            document: DocumentKey::new(*document),
            ordinal: 0,
        };
        LayoutPassage {
            document: DocumentKey::new(document),
            copies: copies.iter().map(copy).collect(),
            ..passage
        }
    }

    #[test]
    fn what_is_read_elsewhere_stands_with_its_sources_there() {
        let (one, two) = (passage("a", 0, "one"), passage("b", 0, "two"));
        let copied = [held(one.clone(), "a", &["c", "d"]), two.clone()];
        let before = answered(&copied, true);
        let sources = |outcome: &Outcome| -> Vec<(String, f32)> {
            let sources = outcome.sub_paragraphs[0].sources.iter();
            let told = sources.map(|source| (source.document.to_string(), source.share));
            told.collect()
        };
        let names = |names: &[&str]| -> Vec<(String, f32)> {
            names
                .iter()
                .map(|name| (String::from(*name), 1.0))
                .collect()
        };
        for (document, copies, told) in [
            ("a", &["c", "d"][..], &["a", "c", "d"][..]),
            ("a", &["d"][..], &["a", "d"][..]),
            ("c", &["d"][..], &["c", "d"][..]),
            ("z", &[][..], &["z"][..]),
        ] {
            let layout = vec![held(one.clone(), document, copies), two.clone()];
            let standing = before.standing("Why?", &PassageLayout::new(layout));
            let standing = standing.expect("it reads the same");
            assert_eq!(sources(&standing), names(told));
            assert_eq!((standing.rung, standing.is_exact), (Rung::Keep, true));
            assert_eq!(
                (standing.work.n_forwarded(), standing.work.n_from_scratch),
                (0, 9)
            );
        }
        let same = PassageLayout::new(copied.to_vec());
        let other = PassageLayout::new(vec![two.clone(), one.clone()]);
        assert!(before.standing("Why not?", &same).is_none());
        assert!(before.standing("Why?", &other).is_none(), "another order");
        assert!(answered(&copied, false).standing("Why?", &same).is_none());
        assert!(Before::draft([1].into()).standing("Why?", &same).is_none());
    }
}
