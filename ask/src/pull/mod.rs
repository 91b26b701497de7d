//! How likely does a change matter to an answer that is not read again?
//!
//! A standing question is not asked again for each edit: most edits have nothing to do with it. What
//! a change *pulls* is told without the model that answers, by what is cheap to know:
//!
//! - *nearness*: what was said anew, and what is not said any more, sentence by sentence, against the
//!   question, as vectors of an embedding model. What counts is not the cosine as such, which is high
//!   where all documents are about one thing, but how far it stands out among those of the
//!   question's passages, in units of their spread;
//! - *mass*: how much the answer depends on the passages that went or were replaced
//!   ([`dependency`](crate::dependency)), in units of what it depends on a passage on average.
//!
//! Both are functions of the question, its passages and its answer, and of nothing else, so that what
//! is left unread does not depend on what other questions there are.
//!
//! [`Pulled::expected_regret`] makes of them what the answer's regret would be if it were read; audits
//! hold that against the truth. The coefficients come from `cargo bench --bench many`, which reads
//! all answers after each edit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::before::{LayoutDelta, Written};
use crate::embed::Embed;
use crate::provenance::sub_paragraphs;
use perennial_bank::document::LayoutPassage;

/// Vectors that are kept, twice: 1.5 KB each for 384 elements.
const MAX_VECTORS: usize = 1 << 14;
/// Least spread of the similarities of a question's passages: few or equal passages have none.
const LEAST_SPREAD: f32 = 0.05;
/// A change of more sentences than this is read.
const MAX_SENTENCES: usize = 64;

/// What a change has to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pulled {
    /// How far the sentence nearest to the question stands out among the question's passages, in
    /// standard deviations of their similarity.
    pub nearness: f32,
    /// Its cosine.
    pub similarity: f32,
    /// The answer's dependency on the passages that went or were replaced, in those on an average
    /// passage.
    pub mass: f32,
}

impl Pulled {
    /// The regret of the answer that is expected if it were read, in nats a token.
    pub fn expected_regret(&self) -> f32 {
        let at = BIAS
            + NEARNESS * self.nearness
            + SIMILARITY * self.similarity
            + MASS * (1.0 + self.mass).ln();
        REGRET / (1.0 + (-at).exp())
    }
}

// Fitted on SQuAD dev, six articles of fourteen passages and forty questions each, for the answers whose
// gold answer an edit changes (`cargo bench --bench many -- --curve`).

/// Log-odds that a change gives an answer reason to change, where nothing pulls.
const BIAS: f32 = -7.9;
/// What each standard deviation of nearness adds to them.
const NEARNESS: f32 = 1.15;
/// What a cosine of one adds.
const SIMILARITY: f32 = 5.5;
/// And what the logarithm of one more than the mass is multiplied by.
const MASS: f32 = 0.68;
/// Regret of an answer that has reason to change, in nats a token.
const REGRET: f32 = 0.8;

/// Judges changes by an embedding model.
pub struct Pull {
    embedder: Arc<dyn Embed>,
    vectors: Mutex<Vectors>,
}

/// Vectors by the digest of their text. When the younger half is full, the older one goes.
#[derive(Default)]
struct Vectors {
    young: HashMap<[u8; 32], Arc<[f32]>>,
    old: HashMap<[u8; 32], Arc<[f32]>>,
}

impl Vectors {
    fn get(&mut self, text: &[u8; 32]) -> Option<Arc<[f32]>> {
        if let Some(vector) = self.young.get(text) {
            return Some(vector.clone());
        }
        let vector = self.old.remove(text)?;
        self.put(*text, vector.clone());
        Some(vector)
    }

    fn put(&mut self, text: [u8; 32], vector: Arc<[f32]>) {
        if self.young.len() >= MAX_VECTORS {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(text, vector);
    }
}

impl Pull {
    /// Judges by the vectors of `embedder`, which is asked when something is to be judged.
    pub fn new(embedder: Arc<dyn Embed>) -> Self {
        Self {
            embedder,
            vectors: Mutex::default(),
        }
    }

    /// Makes the vectors of a question and its passages, so that the first change does not wait for them.
    pub fn prepare(&self, question: &str, passages: &[LayoutPassage]) {
        let passages = passages.iter().map(|passage| &*passage.text);
        let texts: Vec<&str> = std::iter::once(question).chain(passages).collect();
        // What cannot be made is told when something is judged by it.
        let _ = self.vectors(&texts);
    }

    /// What the change from the layout of `written` to the passages `after` has to do with it;
    /// nothing where too much changed to say.
    ///
    /// # Errors
    /// What the embedding model reports, for people.
    pub fn of(
        &self,
        written: &Written,
        after: &[LayoutPassage],
        delta: &LayoutDelta,
    ) -> Result<Option<Pulled>, String> {
        let before = written.layout.passages();
        let sentences = changed(before, after, delta);
        if sentences.len() > MAX_SENTENCES {
            return Ok(None);
        }
        let mass = mass(written, &delta.removed);
        let passages = after.iter().map(|passage| &*passage.text);
        let texts: Vec<&str> = std::iter::once(&*written.question)
            .chain(sentences.iter().copied())
            .chain(passages)
            .collect();
        let vectors = self.vectors(&texts)?;
        let cosines: Vec<f32> = vectors[1..].iter().map(|v| dot(&vectors[0], v)).collect();
        let (of_sentences, of_passages) = cosines.split_at(sentences.len());
        let similarity = of_sentences.iter().copied().fold(-1.0, f32::max);
        let (mean, spread) = moments(of_passages);
        Ok(Some(Pulled {
            nearness: (similarity - mean) / spread.max(LEAST_SPREAD),
            similarity,
            mass,
        }))
    }

    /// The vectors of some texts, those that are not known yet made together.
    fn vectors(&self, texts: &[&str]) -> Result<Vec<Arc<[f32]>>, String> {
        let digests: Vec<[u8; 32]> = texts
            .iter()
            .map(|text| blake3::hash(text.as_bytes()).into())
            .collect();
        // Held: who asks for the same texts meanwhile finds them.
        let mut vectors = self.lock();
        let mut missing: Vec<usize> = Vec::new();
        for (i, digest) in digests.iter().enumerate() {
            let is_wanted = missing.iter().any(|other| digests[*other] == *digest);
            if !is_wanted && vectors.get(digest).is_none() {
                missing.push(i);
            }
        }
        if !missing.is_empty() {
            let wanted: Vec<&str> = missing.iter().map(|i| texts[*i]).collect();
            let made = self.embedder.embed(&wanted)?;
            for (i, vector) in missing.into_iter().zip(made) {
                vectors.put(digests[i], vector.into());
            }
        }
        let found: Option<Vec<_>> = digests.iter().map(|digest| vectors.get(digest)).collect();
        found.ok_or_else(|| "the embedding model left texts out".to_owned())
    }

    fn lock(&self) -> MutexGuard<'_, Vectors> {
        self.vectors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sentences that stand in one layout and not in the other, each once. Of a passage that took
/// another's place, those in which they differ; of others, all.
fn changed<'a>(
    before: &'a [LayoutPassage],
    after: &'a [LayoutPassage],
    delta: &LayoutDelta,
) -> Vec<&'a str> {
    let removed = delta.removed.iter().map(|place| &*before[*place].text);
    let added = delta.added.iter().map(|place| &*after[*place].text);
    let (old, new) = (sentences(removed), sentences(added));
    let only_old = old.iter().filter(|sentence| !new.contains(sentence));
    let only_new = new.iter().filter(|sentence| !old.contains(sentence));
    only_old.chain(only_new).copied().collect()
}

/// The sentences of some texts, each once, in order.
fn sentences<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut sentences: Vec<&str> = Vec::new();
    for text in texts {
        for range in sub_paragraphs(text) {
            let sentence = text[range].trim();
            if !sentence.is_empty() && !sentences.contains(&sentence) {
                sentences.push(sentence);
            }
        }
    }
    sentences
}

/// The answer's dependency on some of its passages, in those on an average one.
fn mass(written: &Written, places: &[usize]) -> f32 {
    let n_passages = written.layout.passages().len();
    let on = |place: usize| written.dependencies.on(place);
    let all: f32 = (0..n_passages).map(on).sum();
    let of_places: f32 = places.iter().map(|place| on(*place)).sum();
    match all > 0.0 {
        true => of_places / all * n_passages as f32,
        false => 0.0,
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Mean and standard deviation; of nothing, zero.
fn moments(values: &[f32]) -> (f32, f32) {
    let n = values.len().max(1) as f32;
    let mean = values.iter().sum::<f32>() / n;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n;
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use perennial_bank::document::{DocumentKey, PassageLayout};
    use perennial_bank::id::PassageId;

    use super::*;
    use crate::answer::{AnswerText, Finish};
    use crate::dependency::{Dependencies, Read};
    use crate::scripted::ScriptedEmbedder;

    fn passage(document: &str, text: &str) -> LayoutPassage {
        LayoutPassage {
            document: DocumentKey::new(document),
            ordinal: 0,
            id: PassageId::of(document, text),
            title: document.into(),
            text: text.into(),
            tokens: text.bytes().map(u32::from).collect(),
            is_superseded: false,
        }
    }

    /// An answer to `question`, which depends on each passage so much.
    fn written(question: &str, passages: &[LayoutPassage], mass: &[f32]) -> Written {
        let read = Read {
            mass: mass.to_vec(),
            least_margin: 1.0,
            n_tokens: 3,
        };
        Written {
            question: question.into(),
            layout: PassageLayout::new(passages.to_vec()),
            answer: AnswerText {
                text: "At nine.".into(),
                finish: Finish::Stop,
            },
            sub_paragraphs: Vec::new(),
            dependencies: Dependencies::of(&vec![0.0; mass.len()], &[read]),
            was_skipped: false,
            min_margin: 1.0,
            drift: 0.0,
            regret: 0.0,
        }
    }

    fn pulled(written: &Written, after: &[LayoutPassage]) -> Pulled {
        let pull = Pull::new(Arc::new(ScriptedEmbedder::default()));
        let delta = LayoutDelta::between(written.layout.passages(), after);
        let pulled = pull.of(written, after, &delta).expect("embeds");
        pulled.expect("not too much")
    }

    #[test]
    fn what_a_sentence_says_anew_is_compared_and_not_what_stands_beside_it() {
        let before = [
            passage("hours", "The library opens at nine. Dogs wait outside."),
            passage("ferry", "The ferry leaves at noon. It carries cars."),
            passage("fees", "A ticket costs four crowns. Children pay half."),
        ];
        let about = |question| written(question, &before, &[0.1, 0.1, 0.1]);
        let mut after = before.clone();
        after[1] = passage("ferry", "The ferry leaves at ten. It carries cars.");
        let [ferry, library] = [
            "When does the ferry leaves at noon",
            "When does the library opens",
        ]
        .map(|question| pulled(&about(question), &after));
        assert!(
            ferry.nearness > library.nearness + 1.0,
            "{ferry:?} {library:?}"
        );
        assert!(ferry.expected_regret() > library.expected_regret());
        // What stands in both is no news, wherever it stands.
        let texts = changed(&before, &after, &LayoutDelta::between(&before, &after));
        assert_eq!(
            texts,
            ["The ferry leaves at noon.", "The ferry leaves at ten."]
        );
    }

    #[test]
    fn what_the_answer_depends_on_counts_where_it_goes() {
        let before = [
            passage("a", "One."),
            passage("b", "Two."),
            passage("c", "Three."),
        ];
        let written = written("Which?", &before, &[0.6, 0.2, 0.1]);
        let without = |place: usize| {
            let mut after = before.to_vec();
            after.remove(place);
            pulled(&written, &after)
        };
        let masses: Vec<f32> = (0..3).map(|place| without(place).mass).collect();
        let expected = [2.0, 2.0 / 3.0, 1.0 / 3.0];
        let is_near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
        assert!(masses.iter().zip(&expected).all(is_near), "{masses:?}");
        assert!(without(0).expected_regret() > without(2).expected_regret());
    }

    #[test]
    fn texts_are_embedded_once_and_too_many_changes_are_not_judged() {
        let embedder = Arc::new(ScriptedEmbedder::default());
        let pull = Pull::new(embedder.clone());
        let before = [passage("a", "One."), passage("b", "Two.")];
        let after = [passage("a", "One."), passage("b", "Two, too.")];
        let written = written("Which?", &before, &[0.5, 0.5]);
        let delta = LayoutDelta::between(&before, &after);
        for _ in 0..3 {
            assert!(pull.of(&written, &after, &delta).expect("embeds").is_some());
        }
        // The question, "One.", "Two." and "Two, too.".
        assert_eq!(embedder.n_texts(), 4);
        let many: String = (0..=MAX_SENTENCES)
            .map(|i| format!("Number {i} is here. "))
            .collect();
        let after = [passage("a", "One."), passage("b", &many)];
        let delta = LayoutDelta::between(&before, &after);
        assert_eq!(pull.of(&written, &after, &delta), Ok(None));
    }
}
