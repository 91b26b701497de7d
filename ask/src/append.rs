//! How does a conversation about documents go on when these change?
//!
//! A view that asks for it answers a change as one would in a conversation. Behind the question and the old
//! answer comes a turn which tells what is otherwise now, and asks again:
//!
//! ```text
//! [prompt: user]         documents, instruction, question        the base
//! [prompt: assistant]    the answer
//! [template: user]       The documents have changed since that answer.
//!
//!                        No longer among the documents:
//!
//!                        ## title
//!                        …
//!                        instruction, question
//! [template: assistant]  the answer now
//! ```
//!
//! What stands before the turn was read already, and is not read again: a refresh reads the turn, and
//! writes its answer. What all that is made of is the [`AppendLog`] of a context, which goes from one
//! answer to the next; a [`Turn`] is what a request adds to it.
//!
//! # Invariants
//! - A log begins with an exact answer. Its base, and what its turns told, are together the passages of the
//!   last request: whoever reads it all knows what stands.
//! - An answer that went on from another is never exact: its passages stand in the order of their changes,
//!   beside what they said before. Healing answers over the present ones alone, and so begins a new log.
//! - A log has at most [`MAX_TURNS`] turns, and a [share](is_full) of the model's window.
//!
//! Where a conversation does not go on, the request is answered as any other.

use std::collections::HashMap;
use std::sync::Arc;

use perennial_bank::KeptFragments;
use perennial_bank::document::{LayoutPassage, PassageLayout};
use perennial_bank::id::PassageId;
use perennial_bank::scope::Scope;

use crate::answer::AnswerRequest;
use crate::before::{LayoutDelta, Written};

/// Turns of a log, after which the documents are laid out anew.
pub const MAX_TURNS: usize = 8;
/// What part of the tokens that a model attends to may be said behind the documents.
const WINDOW_SHARE: usize = 4;

/// How a turn begins.
const CHANGED: &str = "The documents have changed since that answer.\n\n";
const WITHDRAWN: &str = "No longer among the documents:\n\n";
const CORRECTED: &str = "Corrected. The documents said:\n\n";
const CORRECTION: &str = "They now say:\n\n";
const ADDED: &str = "New among the documents:\n\n";

/// Whether a log that would have so many tokens behind its base, with the next answer, has more than its share
/// of the model's window.
pub fn is_full(n_tokens: usize, n_positions: usize) -> bool {
    n_tokens > n_positions / WINDOW_SHARE
}

/// Tokens of a conversation one after another, which are kept as one fragment.
#[derive(Clone, Debug)]
pub struct LogPiece {
    /// What is read.
    pub tokens: Arc<[u32]>,
    /// The passage whose words these are, if they are one's; it may be gone.
    pub tells: Option<PassageId>,
}

/// What was said about a context since its documents were laid out.
#[derive(Debug)]
pub struct AppendLog {
    /// The view's instruction.
    prompt: Arc<str>,
    base: Vec<LogPiece>,
    said: Vec<LogPiece>,
    unread: Vec<u32>,
    n_turns: usize,
    /// Their fragments, where there are any.
    _kept: Option<KeptFragments>,
}

impl AppendLog {
    /// A log that begins with an exact answer: what is `said` behind the documents, and the tokens of it
    /// that the model has not read itself yet.
    pub fn begun(
        request: &AnswerRequest<'_>,
        said: LogPiece,
        unread: Vec<u32>,
        kept: Option<KeptFragments>,
    ) -> Self {
        Self {
            prompt: request.prompt.into(),
            base: base_of(request.layout),
            said: vec![said],
            unread,
            n_turns: 0,
            _kept: kept,
        }
    }

    /// The log after another turn: what it told, what was said to it, and what of that is unread.
    pub fn gone_on(
        &self,
        told: Vec<LogPiece>,
        said: LogPiece,
        unread: Vec<u32>,
        kept: Option<KeptFragments>,
    ) -> Self {
        let before = self.said.iter().cloned();
        Self {
            prompt: self.prompt.clone(),
            base: self.base.clone(),
            said: before.chain(told).chain([said]).collect(),
            unread,
            n_turns: self.n_turns + 1,
            _kept: kept,
        }
    }

    /// The passages that it began over.
    pub fn base(&self) -> &[LogPiece] {
        &self.base
    }

    /// What stands behind them: the question, answers and turns.
    pub fn said(&self) -> &[LogPiece] {
        &self.said
    }

    /// Turns since it began.
    pub fn n_turns(&self) -> usize {
        self.n_turns
    }

    /// Tokens behind the base.
    pub fn n_said(&self) -> usize {
        n_tokens(&self.said) + self.unread.len()
    }
}

/// The passages of a layout as pieces of a log.
pub(crate) fn base_of(layout: &PassageLayout) -> Vec<LogPiece> {
    let passages = layout.passages().iter();
    passages
        .map(|passage| LogPiece {
            tokens: passage.tokens.clone(),
            tells: Some(passage.id),
        })
        .collect()
}

/// Tokens of all these pieces.
pub(crate) fn n_tokens(pieces: &[LogPiece]) -> usize {
    pieces.iter().map(|piece| piece.tokens.len()).sum()
}

/// Whether a request's answer may be gone on from: over passages that the model reads as they are, a fragment
/// each.
pub fn may_begin(request: &AnswerRequest<'_>) -> bool {
    if matches!(request.scope, Scope::Boundary { .. }) {
        return false;
    }
    let mut passages = request.layout.passages().iter();
    let is_edited = passages.any(|passage| passage.is_superseded);
    request.keeps_log && !request.layout.passages().is_empty() && !is_edited
}

/// What a request adds to the conversation before it.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The conversation.
    pub log: &'a AppendLog,
    /// Its last answer, and the request that this was given to.
    pub written: &'a Written,
    /// How the documents differ.
    pub delta: LayoutDelta,
    parts: Vec<Part<'a>>,
}

/// Words of a passage, and what is said about them.
#[derive(Debug)]
struct Part<'a> {
    heading: &'static str,
    passage: &'a LayoutPassage,
}

impl<'a> Turn<'a> {
    /// The turn of a request; nothing where it must not, or cannot, go on from the answer before: if there was
    /// none or it said nothing, if another question was asked, if no document is left, if superseded passages
    /// are edited where they stand, or after too many turns.
    pub fn of(request: &AnswerRequest<'a>) -> Option<Self> {
        let before = request.before;
        let (log, written) = (before.log.as_deref()?, before.written.as_deref()?);
        let is_same = *written.question == *request.question && *log.prompt == *request.prompt;
        let may_go_on = request.tolerance.appends && may_begin(request);
        if !may_go_on || !is_same || before.tokens.is_empty() || log.n_turns >= MAX_TURNS {
            return None;
        }
        let (old, new) = (written.layout.passages(), request.layout.passages());
        let delta = LayoutDelta::between(old, new);
        let parts = parts(&delta, old, new);
        Some(Self {
            log,
            written,
            delta,
            parts,
        })
    }

    /// Whether there is nothing to tell: passages have changed places only.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What it tells, as it is read behind the last answer: first what is `opening` the turn, and texts by
    /// `continued`.
    ///
    /// # Errors
    /// That of a text that cannot be encoded.
    pub fn told<E>(
        &self,
        opening: &[u32],
        continued: impl Fn(&str) -> Result<Vec<u32>, E>,
    ) -> Result<Vec<LogPiece>, E> {
        let mut first = self.log.unread.clone();
        first.extend(opening);
        first.extend(continued(CHANGED)?);
        let parts = self.parts.iter();
        let pieces = parts.map(|part| {
            let mut tokens = std::mem::take(&mut first);
            if !part.heading.is_empty() {
                tokens.extend(continued(part.heading)?);
            }
            tokens.extend(&*part.passage.tokens);
            Ok(LogPiece {
                tokens: tokens.into(),
                tells: Some(part.passage.id),
            })
        });
        pieces.collect()
    }
}

/// What is told of a difference: first what is gone, then what was corrected, and what is new last.
fn parts<'a>(
    delta: &LayoutDelta,
    old: &'a [LayoutPassage],
    new: &'a [LayoutPassage],
) -> Vec<Part<'a>> {
    let is_replaced = |place: &&usize| delta.replaced.iter().any(|(gone, _)| gone == *place);
    let is_correction = |place: &&usize| delta.replaced.iter().any(|(_, came)| came == *place);
    let gone = delta.removed.iter().filter(|place| !is_replaced(place));
    let came = delta.added.iter().filter(|place| !is_correction(place));
    let mut parts = listed(WITHDRAWN, gone.map(|place| &old[*place]));
    for (was, now) in &delta.replaced {
        parts.extend(listed(CORRECTED, [&old[*was]]));
        parts.extend(listed(CORRECTION, [&new[*now]]));
    }
    parts.extend(listed(ADDED, came.map(|place| &new[*place])));
    parts
}

/// Passages under one heading.
fn listed<'a>(
    heading: &'static str,
    passages: impl IntoIterator<Item = &'a LayoutPassage>,
) -> Vec<Part<'a>> {
    let headings = std::iter::once(heading).chain(std::iter::repeat(""));
    let parts = passages.into_iter().zip(headings);
    parts
        .map(|(passage, heading)| Part { heading, passage })
        .collect()
}

/// Where the words of a piece stand now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// They are no passage's.
    Nowhere,
    /// They are those of a passage of the layout.
    Passage(usize),
    /// They were a passage's that is gone.
    Gone,
}

/// Where the words of pieces stand in the layout of a request, in order.
pub(crate) fn places<'a>(
    pieces: impl IntoIterator<Item = &'a LogPiece>,
    layout: &PassageLayout,
) -> Vec<Place> {
    let passages = layout.passages().iter().enumerate();
    // Of passages that say the same, the first.
    let by_id: HashMap<PassageId, usize> = passages.rev().map(|(at, p)| (p.id, at)).collect();
    let place = |piece: &LogPiece| match piece.tells {
        None => Place::Nowhere,
        Some(id) => by_id.get(&id).map_or(Place::Gone, |at| Place::Passage(*at)),
    };
    pieces.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use perennial_bank::document::DocumentKey;
    use perennial_bank::repair::Repair;
    use perennial_model::cancel::Cancel;
    use perennial_model::passes::Priority;
    use perennial_model::sampling::Sampling;

    use super::*;
    use crate::answer::{AnswerText, Finish, Tolerance};
    use crate::before::Before;
    use crate::dependency::Dependencies;

    fn passage(document: &str, ordinal: u32, text: &str) -> LayoutPassage {
        LayoutPassage {
            document: DocumentKey::new(document),
            ordinal,
            id: PassageId::of(document, text),
            title: document.into(),
            text: text.into(),
            tokens: bytes(&format!("## {document}\n{text}\n\n")).into(),
            is_superseded: false,
            copies: Arc::default(),
        }
    }

    fn bytes(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    fn text(pieces: &[LogPiece]) -> String {
        let tokens = pieces.iter().flat_map(|piece| piece.tokens.iter());
        tokens.map(|token| char::from(*token as u8)).collect()
    }

    const QUESTION: &str = "Why?";

    fn request<'a>(layout: &'a PassageLayout, before: &'a Before) -> AnswerRequest<'a> {
        AnswerRequest {
            scope: Scope::Causal,
            prompt: "Say.",
            question: QUESTION,
            layout,
            repair: Repair::default(),
            before,
            tolerance: Tolerance {
                appends: true,
                ..Tolerance::EXACT
            },
            keeps_log: true,
            reencode: 0,
            turnover: 1.0,
            max_tokens: 9,
            sampling: Sampling::Greedy,
            priority: Priority::Fresh,
            cancel: Cancel::new(),
        }
    }

    fn said(text: &str) -> LogPiece {
        LogPiece {
            tokens: bytes(text).into(),
            tells: None,
        }
    }

    /// An answer over these passages that may be gone on from.
    fn answered(layout: &PassageLayout) -> Before {
        let nothing = Before::default();
        let log = AppendLog::begun(&request(layout, &nothing), said("A."), bytes("!"), None);
        Before {
            tokens: bytes("A.").into(),
            log: Some(Arc::new(log)),
            written: Some(Arc::new(Written {
                question: QUESTION.into(),
                layout: layout.clone(),
                answer: AnswerText {
                    text: "A.".into(),
                    finish: Finish::Stop,
                },
                sub_paragraphs: Vec::new(),
                dependencies: Dependencies::default(),
                was_skipped: false,
                min_margin: 0.0,
                drift: 0.0,
                regret: 0.0,
                is_exact: true,
                n_from_scratch: 0,
            })),
            ..Before::default()
        }
    }

    fn layout(passages: &[LayoutPassage]) -> PassageLayout {
        PassageLayout::new(passages.to_vec())
    }

    fn told(before: &Before, after: &PassageLayout) -> Option<String> {
        let request = request(after, before);
        let turn = Turn::of(&request)?;
        let continued = |text: &str| Ok::<_, ()>(bytes(text));
        Some(text(&turn.told(&bytes("|"), continued).expect("bytes")))
    }

    #[test]
    fn nothing_is_gone_on_from_where_a_passage_is_more_than_one_fragment() {
        let (layout, before) = (layout(&[passage("a", 0, "one")]), Before::default());
        let causal = request(&layout, &before);
        assert!(may_begin(&causal));
        assert!(!may_begin(&AnswerRequest {
            scope: Scope::Boundary { tokens: 8 },
            ..causal
        }));
    }

    #[test]
    fn a_turn_tells_what_is_gone_corrected_and_new_with_their_words() {
        let old = layout(&[
            passage("a", 0, "one"),
            passage("b", 0, "two"),
            passage("c", 0, "three"),
            passage("d", 0, "four"),
        ]);
        let new = layout(&[
            passage("d", 0, "four"),
            passage("b", 0, "deux"),
            passage("e", 0, "five"),
            passage("f", 0, "six"),
        ]);
        let expected = "!|The documents have changed since that answer.\n\n\
            No longer among the documents:\n\n## a\none\n\n## c\nthree\n\n\
            Corrected. The documents said:\n\n## b\ntwo\n\n\
            They now say:\n\n## b\ndeux\n\n\
            New among the documents:\n\n## e\nfive\n\n## f\nsix\n\n";
        assert_eq!(told(&answered(&old), &new).as_deref(), Some(expected));
        // What only moved is not told of.
        let moved = layout(&[passage("b", 0, "two"), passage("a", 0, "one")]);
        let before = answered(&layout(&[passage("a", 0, "one"), passage("b", 0, "two")]));
        let request = request(&moved, &before);
        assert!(Turn::of(&request).expect("goes on").is_empty());
    }

    #[test]
    fn a_conversation_does_not_go_on_from_nothing_or_to_something_else() {
        let old = layout(&[passage("a", 0, "one")]);
        let new = layout(&[passage("a", 0, "two")]);
        let before = answered(&old);
        assert!(told(&before, &new).is_some());
        assert!(told(&Before::default(), &new).is_none());
        assert!(told(&before, &layout(&[])).is_none());
        let without = |change: fn(&mut Before)| {
            let mut before = before.clone();
            change(&mut before);
            told(&before, &new)
        };
        assert!(without(|before| before.log = None).is_none());
        assert!(without(|before| before.written = None).is_none());
        assert!(without(|before| before.tokens = Arc::default()).is_none());
        let is_none = |change: fn(&mut AnswerRequest<'_>)| {
            let mut request = request(&new, &before);
            change(&mut request);
            Turn::of(&request).is_none()
        };
        assert!(is_none(|request| request.question = "Who?"));
        assert!(is_none(|request| request.prompt = "Tell."));
        assert!(is_none(|request| request.tolerance = Tolerance::EXACT));
        assert!(is_none(|request| request.keeps_log = false));
        let superseded = LayoutPassage {
            is_superseded: true,
            ..passage("a", 0, "two")
        };
        assert!(told(&before, &layout(&[superseded])).is_none());
    }

    #[test]
    fn a_log_has_an_end() {
        let (old, new) = (
            layout(&[passage("a", 0, "one")]),
            layout(&[passage("a", 0, "two")]),
        );
        let mut before = answered(&old);
        let mut n_turns = 0;
        while told(&before, &new).is_some() {
            let log = before.log.as_deref().expect("there");
            let log = log.gone_on(vec![said("t")], said("a"), Vec::new(), None);
            assert_eq!(log.n_said(), 2 + 2 * (n_turns + 1));
            before.log = Some(Arc::new(log));
            n_turns += 1;
        }
        assert_eq!(n_turns, MAX_TURNS);
        assert!(!is_full(1024, 4096) && is_full(1025, 4096));
    }

    #[test]
    fn words_are_placed_where_they_stand_now() {
        let old = layout(&[passage("a", 0, "one"), passage("b", 0, "two")]);
        let new = layout(&[passage("c", 0, "three"), passage("b", 0, "two")]);
        let before = answered(&old);
        let log = before.log.as_deref().expect("there");
        let pieces = log.base().iter().chain(log.said());
        let expected = [Place::Gone, Place::Passage(1), Place::Nowhere];
        assert_eq!(places(pieces, &new), expected);
    }
}
