//! What is said to who asked: the answer, what its sentences lean on, and what it cost.

use perennial_ask::{CallError, Finish, PassagesRead, Rung};

use super::super::refusal::Refusal;
use crate::engine::{AnswerUpdate, Lineage};

/// What a view answers.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) text: String,
    pub(crate) finish: Finish,
    pub(crate) sentences: Vec<Sentence>,
    pub(crate) usage: Usage,
    pub(crate) epoch: u64,
    pub(crate) rung: Rung,
    pub(crate) is_exact: bool,
    /// How many passages it was written over, and of how many.
    pub(crate) passages: Option<PassagesRead>,
    /// Whether it was there before it was asked for.
    pub(crate) was_kept: bool,
}

/// A sentence that leans on documents.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sentence {
    /// Where it stands in the answer, in characters (Unicode code points).
    pub(crate) start: usize,
    /// Where it ends.
    pub(crate) end: usize,
    /// What it leans on, strongest first.
    pub(crate) citations: Vec<Citation>,
}

/// A passage that a sentence leans on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Citation {
    pub(crate) document: String,
    /// The passage, counted from 0.
    pub(crate) ordinal: u32,
    pub(crate) title: String,
    /// The part of the sentence's attention to passages that went there.
    pub(crate) share: f32,
}

/// Tokens, as they are counted for who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Of a plain prompt: documents, instruction, question.
    pub(crate) prompt: usize,
    /// Those of them that were not forwarded for this, as far as that is this asker's to know.
    pub(crate) cached: usize,
    /// Of the answer.
    pub(crate) completion: usize,
}

impl Answered {
    /// What is said of an answer; `is_new` is whether it was written for who asks, and `sees_shared` whether
    /// they may know what was read before for others.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn of(
        update: &AnswerUpdate,
        lineage: Option<&Lineage>,
        is_new: bool,
        sees_shared: bool,
    ) -> Result<Self, Refusal> {
        let answer = match &update.new {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => return Err(unanswered(error)),
            None => return Err(Refusal::busy()),
        };
        // It may be of a later answer by now.
        let lineage = lineage.filter(|of| of.answer.new_text() == Some(&*answer.text));
        let title = |document: &str| {
            let mut passages = lineage.into_iter().flat_map(|of| &of.passages);
            let passage = passages.find(|passage| *passage.document == *document);
            passage.map_or_else(|| document.to_owned(), |of| of.title.to_string())
        };
        let mut sentences = Vec::new();
        let (mut bytes, mut characters) = (0, 0);
        for part in &update.sub_paragraphs {
            let sentence = part.text.trim();
            let Some(at) = answer.text[bytes..].find(sentence) else {
                continue;
            };
            characters += answer.text[bytes..bytes + at].chars().count();
            let start = characters;
            characters += sentence.chars().count();
            bytes += at + sentence.len();
            let citations = part.sources.iter().map(|source| Citation {
                document: source.document.to_string(),
                ordinal: source.ordinal,
                title: title(source.document.as_str()),
                share: source.share,
            });
            sentences.push(Sentence {
                start,
                end: characters,
                citations: citations.collect(),
            });
        }
        let work = &update.work;
        let n_tokens = lineage.map_or(0, |of| of.n_tokens);
        let completion = match n_tokens {
            0 => work.n_decoded,
            n_tokens => n_tokens,
        };
        let prompt = work.n_from_scratch.saturating_sub(completion);
        let cached = match (is_new, sees_shared) {
            // What is kept costs who asks again nothing.
            (false, _) => prompt,
            (true, true) => prompt.saturating_sub(work.n_encoded + work.n_prompt),
            (true, false) => 0,
        };
        Ok(Self {
            text: answer.text.to_string(),
            finish: answer.finish,
            sentences,
            usage: Usage {
                prompt,
                cached,
                completion,
            },
            epoch: update.epoch,
            rung: update.rung,
            is_exact: update.is_exact,
            passages: update.passages,
            was_kept: !is_new,
        })
    }
}

/// Why there is no answer, for who asked.
fn unanswered(error: &CallError) -> Refusal {
    let said = error.to_string();
    let (what, todo) = said.split_once("; ").unwrap_or((&said, ""));
    match error {
        CallError::DoesNotFit { .. } | CallError::NothingFits { .. } => {
            let hint = match todo {
                "" => "ask less, or give the view a larger token budget",
                todo => todo,
            };
            Refusal::bad(what, hint).with("code", "context_length_exceeded")
        }
        CallError::NoDocuments => {
            let hint = "post documents, or declare the view to answer without";
            Refusal::bad(what, hint).with("code", "no_documents")
        }
        _ => Refusal::broken(said).with("code", "model_failed"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use perennial_ask::{AnswerText, Source, SubParagraph, Work};
    use perennial_bank::{ContextKey, DocumentKey};

    use super::*;

    fn update(text: &str, parts: &[&str], work: Work) -> AnswerUpdate {
        let part = |text: &&str| SubParagraph {
            text: (*text).to_owned(),
            sources: vec![Source {
                document: DocumentKey::new("hours"),
                ordinal: 0,
                share: 1.0,
            }],
        };
        AnswerUpdate {
            view: "answers".into(),
            context: ContextKey::new("c"),
            question: "?".into(),
            epoch: 3,
            old: None,
            new: Some(Ok(AnswerText {
                text: text.into(),
                finish: Finish::Stop,
            })),
            rung: Rung::Regenerate,
            sub_paragraphs: parts.iter().map(part).collect(),
            evidence: perennial_ask::Evidence::default(),
            work,
            elapsed: Duration::ZERO,
            is_exact: true,
            is_memoised: false,
            drift: 0.0,
            regret: 0.0,
            passages: None,
            is_early: false,
        }
    }

    #[test]
    fn sentences_are_found_by_characters_also_where_they_repeat() {
        let text = "Où? À neuf. À neuf. Да.";
        let of = update(
            text,
            &["Où? ", "À neuf. ", "À neuf. ", "Да."],
            Work::default(),
        );
        let answered = Answered::of(&of, None, true, true).expect("an answer");
        let characters: Vec<char> = text.chars().collect();
        let said: Vec<String> = answered
            .sentences
            .iter()
            .map(|of| characters[of.start..of.end].iter().collect())
            .collect();
        assert_eq!(said, ["Où?", "À neuf.", "À neuf.", "Да."]);
        assert_eq!(answered.sentences[2].start, 12);
        assert_eq!(answered.sentences[0].citations[0].title, "hours");
    }

    #[test]
    fn usage_is_the_work_of_who_asks() {
        let work = Work {
            n_encoded: 20,
            n_prompt: 15,
            n_decoded: 6,
            n_from_scratch: 180,
            ..Work::default()
        };
        let of = update("At nine.", &["At nine."], work);
        let first = Answered::of(&of, None, true, true)
            .expect("an answer")
            .usage;
        let expected = Usage {
            prompt: 174,
            cached: 139,
            completion: 6,
        };
        assert_eq!(first, expected);
        let usage = |is_new, sees_shared| {
            let answered = Answered::of(&of, None, is_new, sees_shared);
            answered.expect("an answer").usage
        };
        let again = usage(false, true);
        assert_eq!(again.cached, again.prompt);
        // What of it others had read before is not told to who sees nothing of theirs.
        let apart = usage(true, false);
        assert_eq!((apart.prompt, apart.cached), (174, 0));
        assert_eq!(usage(false, false), again);
    }

    #[test]
    fn who_cannot_be_answered_is_told_what_to_do() {
        let errors = [
            (CallError::NoDocuments, 400, "no_documents"),
            (
                CallError::DoesNotFit {
                    required: 9,
                    limit: 8,
                },
                400,
                "context_length_exceeded",
            ),
            (CallError::Lost, 500, "model_failed"),
        ];
        for (error, status, code) in errors {
            let mut of = update("", &[], Work::default());
            of.new = Some(Err(error));
            let refusal = Answered::of(&of, None, true, true).expect_err("no answer");
            assert_eq!(refusal.status(), status);
            assert_eq!(refusal.code(), Some(code));
            assert!(!refusal.hint().is_empty());
        }
    }
}
