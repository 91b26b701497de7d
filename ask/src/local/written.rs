//! What became of a generation: its rung, its sources, its dependencies, its drift.

use std::sync::Arc;

use perennial_model::error::Error as ModelError;
use perennial_model::generation::{self, Generation};

use super::TensorModel;
use crate::answer::{AnswerRequest, AnswerText, CallError, Finish, Outcome, Rung, Work};
use crate::dependency::{Dependencies, Read};
use crate::provenance::{self, Part};
use perennial_bank::live_layout::LiveLayout;

use super::laid_out::LaidOut;

/// What an answer attended to, by passage of its request.
pub(super) struct Reading {
    /// By token.
    pub(super) mass: Vec<Vec<f32>>,
    /// Of the question.
    pub(super) question: Vec<f32>,
    /// As in [`Outcome::drift`].
    pub(super) drift: f32,
    /// Whether all of it is what a run from scratch reads.
    pub(super) is_exact: bool,
    /// What the next layout may borrow.
    pub(super) live: LiveLayout,
}

impl Reading {
    /// Of an answer over a layout of the request's passages.
    pub(super) fn of(laid_out: &LaidOut, generation: &Generation) -> Self {
        let rows = generation.mass.iter();
        let mass: Vec<Vec<f32>> = rows.map(|row| laid_out.by_passage(row)).collect();
        Self {
            drift: drift(&mass, &laid_out.is_stale),
            mass,
            question: laid_out.by_passage(&generation.prompt_mass),
            is_exact: !laid_out.is_stale.contains(&true),
            live: laid_out.live(),
        }
    }
}

impl TensorModel {
    pub(super) fn written(
        &self,
        request: &AnswerRequest<'_>,
        reading: Reading,
        generation: Generation,
        rung: Rung,
        mut work: Work,
    ) -> Result<Outcome, CallError> {
        let failed = |error: ModelError| CallError::Model {
            reason: error.to_string(),
        };
        let finish = match generation.finish {
            generation::Finish::Stop => Finish::Stop,
            generation::Finish::Length => Finish::Length,
            generation::Finish::Cancelled => {
                return Err(CallError::Model {
                    reason: "cancelled".to_owned(),
                });
            }
        };
        work.n_prompt += generation.work.n_prompt_rows;
        work.n_draft += generation.work.n_draft_rows;
        work.n_decoded += generation.work.n_decode_rows;
        work.n_passes += generation.work.n_passes;
        let text = self.codec.decode(&generation.tokens).map_err(failed)?;
        let text = match finish {
            Finish::Stop => text,
            Finish::Length => whole(text),
        };
        let ends = self.ends(&generation.tokens, text.len()).map_err(failed)?;
        let parts = provenance::parts(&text, &ends);
        let passages = request.layout.passages();
        let mass = &reading.mass;
        Ok(Outcome {
            rung,
            work,
            sub_paragraphs: provenance::attribute(&text, &parts, mass, passages),
            dependencies: dependencies(&generation, &parts, &reading),
            min_margin: generation
                .margins
                .iter()
                .copied()
                .fold(f32::INFINITY, f32::min),
            is_exact: reading.is_exact && !generation.is_tolerated,
            regret: generation.regret,
            draft: generation.draft,
            drift: reading.drift,
            live: Arc::new(reading.live),
            log: None,
            answer: AnswerText {
                text: text.into(),
                finish,
            },
            tokens: generation.tokens.into(),
        })
    }

    /// The number of an answer's tokens up to the end of each of its sub-paragraphs.
    pub(super) fn sub_paragraph_ends(&self, tokens: &[u32]) -> Result<Vec<usize>, ModelError> {
        let text = self.codec.decode(tokens)?;
        let ends = self.ends(tokens, text.len())?;
        let mut ends: Vec<usize> = provenance::parts(&text, &ends)
            .into_iter()
            .map(|part| part.tokens.end)
            .filter(|end| *end > 0)
            .collect();
        ends.dedup();
        // What is left of a character is the last one's.
        if let Some(last) = ends.last_mut() {
            *last = tokens.len();
        }
        Ok(ends)
    }

    /// The byte of the answer's text at which each token ends.
    ///
    /// # Errors
    /// Tokens that the tokenizer cannot decode.
    pub fn ends(&self, tokens: &[u32], n_bytes: usize) -> Result<Vec<usize>, ModelError> {
        let end = |n: usize| Ok(self.codec.decode(&tokens[..n])?.len().min(n_bytes));
        (1..=tokens.len()).map(end).collect()
    }
}

/// A text that was cut off anywhere, up to its last whole character: what the tokens hold of the next
/// one is decoded as U+FFFD.
pub(super) fn whole(mut text: String) -> String {
    text.truncate(text.trim_end_matches('\u{fffd}').len());
    text
}

/// The rung that a generation from a draft was.
pub(super) fn rung(draft: &[u32], is_patched: bool, generation: &Generation) -> Rung {
    if draft.is_empty() || generation.n_draft_accepted == 0 {
        Rung::Regenerate
    } else if *draft != generation.tokens[..] {
        Rung::Rewrite
    } else if is_patched {
        Rung::Patch
    } else {
        Rung::Verify
    }
}

fn dependencies(generation: &Generation, parts: &[Part], reading: &Reading) -> Dependencies {
    let (mass, n_passages) = (&reading.mass, reading.question.len());
    let read = |(i, part): (usize, &Part)| {
        let n_tokens = part.tokens.len().max(1) as f32;
        let mut mean = provenance::total(mass, &part.tokens, n_passages);
        mean.iter_mut().for_each(|m| *m /= n_tokens);
        let is_last = i + 1 == parts.len();
        // That the answer ends here was a choice, too.
        let end = part.tokens.end + usize::from(is_last);
        let margins = generation.margins.iter().take(end).skip(part.tokens.start);
        Read {
            n_tokens: part.tokens.len(),
            mass: mean,
            least_margin: margins.copied().fold(f32::INFINITY, f32::min),
        }
    };
    let mut read: Vec<Read> = parts.iter().enumerate().map(read).collect();
    if read.is_empty() {
        // That nothing is said depends on the question's reading.
        read.push(Read {
            n_tokens: 0,
            mass: vec![0.0; n_passages],
            least_margin: generation.margins.first().copied().unwrap_or_default(),
        });
    }
    Dependencies::of(&reading.question, &read)
}

/// Share of the answer's attention to passages that went to stale fragments.
fn drift(mass: &[Vec<f32>], is_stale: &[bool]) -> f32 {
    let (mut stale, mut all) = (0.0, 0.0);
    for row in mass {
        for (mass, is_stale) in row.iter().zip(is_stale) {
            all += mass;
            stale += if *is_stale { *mass } else { 0.0 };
        }
    }
    if all > 0.0 { stale / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_ends_with_a_whole_character() {
        for (cut, expected) in [
            ("The word is 𓀀\u{fffd}", "The word is 𓀀"),
            ("\u{fffd}\u{fffd}", ""),
            ("a\u{fffd}b", "a\u{fffd}b"),
            ("whole", "whole"),
        ] {
            assert_eq!(whole(cut.to_owned()), expected);
        }
    }
}
