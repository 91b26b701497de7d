//! How likely does a change matter to an answer that is not read again?
//!
//! A standing question is not asked again for each edit: most edits have nothing to do with it. What
//! a change *pulls* is told without the model that answers, by what is cheap to know:
//!
//! - *closeness*: how close to the question is what was said anew, and what is not said any more,
//!   sentence by sentence (by meaning and by words);
//! - *lead*: how much closer that is than the closest sentences that stand before and after. Where all
//!   documents are about one thing, everything is close to everything; and what another sentence says
//!   still, or said already, need not matter;
//! - *passage lead*: how much closer the passages are in which something changed than the closest
//!   other: a sentence alone often does not say what it is about;
//! - *lost*: the share of the answer's words that no document says any more;
//! - *mass*: how much the answer depends on the passages that went or were replaced
//!   ([`dependency`](crate::dependency)), in units of what it depends on a passage on average.
//!
//! All are functions of the question, its passages and its answer, and of nothing else, so that what
//! is left unread does not depend on what other questions there are.
//!
//! A [`Profile`] makes of them what the answer's regret would be if it were read
//! ([`Profile::expected_regret`]); audits hold that against the truth. Each decoder has a profile of its own,
//! or takes the default. Its coefficients are fitted ([`fit`]) to answers of which it is known whether
//! they had to change, and a [`Curve`] says how well they tell.

mod closeness;
mod curve;
pub mod fit;
mod known;
mod profile;
mod shelf;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::before::{LayoutDelta, Written};
use crate::embed::Embed;
use crate::provenance::sub_paragraphs;
use closeness::{Asked, Text};
use known::Known;

pub use curve::Curve;
use perennial_bank::document::LayoutPassage;
use perennial_bank::id::PassageId;
pub use profile::{Coefficients, DecoderName, FittedOn, Profile};
pub use shelf::{ProfileError, Profiles};

/// What is kept of texts, of this many at least: some 2 KB each where vectors have 384 elements.
const MAX_TEXTS: usize = 1 << 14;
/// What is kept of passages, of this many at least: some 20 KB each.
const MAX_PASSAGES: usize = 1 << 11;
/// A change of more sentences than this is read.
const MAX_SENTENCES: usize = 64;
/// With so many of those that stand is compared what changed.
const N_RIVALS: usize = 3;

/// What a change has to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pulled {
    /// Of the changed sentence that is closest to the question: cosine, and what their words have in
    /// common.
    pub closeness: f32,
    /// How much more that is than the mean closeness of the three closest sentences that stand.
    pub lead: f32,
    /// How much closer than the closest other is the closest passage of which anything changed.
    pub passage_lead: f32,
    /// Share of the answer's words, without those of the question, that stood in what went and stand
    /// nowhere now, 0 to 1.
    pub lost: f32,
    /// The answer's dependency on the passages that went or were replaced, in those on an average
    /// passage.
    pub mass: f32,
}

/// A passage, as it is compared.
struct Passage {
    whole: Arc<Text>,
    /// Its title, and its sentences, in order.
    sentences: Vec<Arc<Text>>,
}

/// Judges changes by an embedding model, and by words.
pub struct Pull {
    embedder: Arc<dyn Embed>,
    profile: Arc<Profile>,
    seen: Mutex<Seen>,
}

/// What was seen of texts.
struct Seen {
    /// By the digest of the text: of questions, passages and sentences.
    texts: Known<[u8; 32], Arc<Text>>,
    passages: Known<PassageId, Arc<Passage>>,
}

impl Pull {
    /// Judges by the vectors of `embedder`, which is asked when something is to be judged, for the decoder
    /// of `profile`.
    pub fn new(embedder: Arc<dyn Embed>, profile: Arc<Profile>) -> Self {
        Self {
            embedder,
            profile,
            seen: Mutex::new(Seen {
                texts: Known::new(MAX_TEXTS),
                passages: Known::new(MAX_PASSAGES),
            }),
        }
    }

    /// What makes an expected regret of what a change pulls.
    pub fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// Looks at a question and its passages, so that the first change does not wait for that.
    pub fn prepare(&self, question: &str, passages: &[LayoutPassage]) {
        // One by one: who judges meanwhile waits for one passage, not for all.
        for passage in passages {
            if self.look_at(question, std::iter::once(passage)).is_err() {
                // It is told when something is judged by it.
                return;
            }
        }
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
        let gone = delta.removed.iter().map(|place| &before[*place]);
        let come = delta.added.iter().map(|place| &after[*place]);
        if n_changed(gone, come) > MAX_SENTENCES {
            return Ok(None);
        }
        let (question, passages) = self.look_at(&written.question, before.iter().chain(after))?;
        let (old, new) = passages.split_at(before.len());
        let (old_sentences, new_sentences) = (distinct(old), distinct(new));
        // What is superseded now, or no more, says what it said, and counts as news.
        let is_marked = |place: &&usize| {
            let passage = &after[**place];
            let is_other = |before: &LayoutPassage| before.is_superseded != passage.is_superseded;
            before
                .iter()
                .any(|before| before.id == passage.id && is_other(before))
        };
        let marked: Vec<Arc<Passage>> = delta
            .added
            .iter()
            .filter(is_marked)
            .map(|place| new[*place].clone())
            .collect();
        let marked = distinct(&marked);
        let stays = |sentence: &&Text| {
            let text = &*sentence.text;
            new_sentences.contains_key(text) && !marked.contains_key(text)
        };
        let (standing, gone): (Vec<&Text>, Vec<&Text>) =
            old_sentences.values().copied().partition(stays);
        let is_new = |sentence: &&Text| !old_sentences.contains_key(&*sentence.text);
        let come = new_sentences.values().copied().filter(is_new);
        let changed: Vec<&Text> = gone.iter().copied().chain(come).collect();
        let asked = Asked::new(&question, standing.iter().chain(&changed).copied());
        let closeness = closest(&asked, changed.into_iter());
        let rivals = standing.iter().map(|sentence| asked.closeness(sentence));
        let removed = delta.removed.iter().map(|place| &old[*place]);
        let touched = removed.chain(delta.added.iter().map(|place| &new[*place]));
        let is_kept = |(_, before): &(&Arc<Passage>, &Option<usize>)| before.is_some();
        let others = new.iter().zip(&delta.kept).filter(is_kept);
        let of_touched = closest(&asked, touched.map(|passage| &*passage.whole));
        let of_others = closest(&asked, others.map(|(passage, _)| &*passage.whole));
        let answer = Text::new(&written.answer.text, Vec::new());
        Ok(Some(Pulled {
            closeness,
            lead: closeness - mean_of_highest(rivals.collect()),
            passage_lead: of_touched - of_others,
            lost: lost(&answer, &question, &gone, new),
            mass: mass(written, &delta.removed),
        }))
    }

    /// What is compared of a question, and of each passage.
    fn look_at<'a>(
        &self,
        question: &str,
        passages: impl Iterator<Item = &'a LayoutPassage> + Clone,
    ) -> Result<(Arc<Text>, Vec<Arc<Passage>>), String> {
        // Held: who asks for the same texts meanwhile finds them.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let of_passage = |passage: &LayoutPassage| seen.passages.get(&passage.id);
        let found: Vec<Option<Arc<Passage>>> = passages.clone().map(of_passage).collect();
        let missing = passages.clone().zip(&found);
        let missing = missing.filter(|(_, found)| found.is_none());
        let whole_and_parts = |(passage, _): (&'a LayoutPassage, _)| {
            let mut texts = vec![&*passage.text];
            texts.extend(said(passage));
            texts
        };
        let cut: Vec<Vec<&str>> = missing.map(whole_and_parts).collect();
        let texts = std::iter::once(question).chain(cut.iter().flatten().copied());
        let texts: Vec<&str> = texts.collect();
        let mut texts = seen.texts_of(&*self.embedder, &texts)?.into_iter();
        let left_out = "the embedding model left the question out";
        let question = texts.next().ok_or(left_out)?;
        let mut cut = cut.iter().map(Vec::len);
        let mut compared = Vec::with_capacity(found.len());
        for (passage, found) in passages.zip(found) {
            let mut make = || {
                let mut of_passage = texts.by_ref().take(cut.next()?);
                Some(Arc::new(Passage {
                    whole: of_passage.next()?,
                    sentences: of_passage.collect(),
                }))
            };
            let of_passage = match found {
                Some(found) => found,
                None => {
                    let made = make().ok_or(left_out)?;
                    seen.passages.put(passage.id, made.clone());
                    made
                }
            };
            compared.push(of_passage);
        }
        Ok((question, compared))
    }
}

impl Seen {
    /// What is compared of some texts, that of those which were not seen yet made together.
    fn texts_of(&mut self, embedder: &dyn Embed, texts: &[&str]) -> Result<Vec<Arc<Text>>, String> {
        let digests: Vec<[u8; 32]> = texts
            .iter()
            .map(|text| blake3::hash(text.as_bytes()).into())
            .collect();
        let mut missing: BTreeMap<[u8; 32], &str> = BTreeMap::new();
        let mut found: HashMap<[u8; 32], Arc<Text>> = HashMap::new();
        for (digest, text) in digests.iter().zip(texts) {
            match self.texts.get(digest) {
                Some(text) => drop(found.insert(*digest, text)),
                None => drop(missing.insert(*digest, text)),
            }
        }
        if !missing.is_empty() {
            let wanted: Vec<&str> = missing.values().copied().collect();
            let vectors = embedder
                .embed(&wanted)
                .map_err(|failure| failure.to_string())?;
            for ((digest, text), vector) in missing.into_iter().zip(vectors) {
                let text = Arc::new(Text::new(text, vector));
                self.texts.put(digest, text.clone());
                found.insert(digest, text);
            }
        }
        let found = digests.iter().map(|digest| found.get(digest).cloned());
        let found: Option<Vec<_>> = found.collect();
        found.ok_or_else(|| "the embedding model left texts out".to_owned())
    }
}

/// What a passage says: its title, and its sentences, trimmed.
fn said(passage: &LayoutPassage) -> impl Iterator<Item = &str> {
    let ranges = sub_paragraphs(&passage.text).into_iter();
    let sentences = ranges.map(|range| passage.text[range].trim());
    let said = std::iter::once(passage.title.trim()).chain(sentences);
    said.filter(|sentence| !sentence.is_empty())
}

/// Number of sentences that only those say which are gone, or only those which have come.
fn n_changed<'a>(
    gone: impl Iterator<Item = &'a LayoutPassage>,
    come: impl Iterator<Item = &'a LayoutPassage>,
) -> usize {
    let gone: BTreeSet<&str> = gone.flat_map(said).collect();
    let come: BTreeSet<&str> = come.flat_map(said).collect();
    gone.symmetric_difference(&come).count()
}

/// The sentences of some passages by their text, each once.
fn distinct(passages: &[Arc<Passage>]) -> BTreeMap<&str, &Text> {
    let sentences = passages.iter().flat_map(|passage| &passage.sentences);
    sentences
        .map(|sentence| (&*sentence.text, &**sentence))
        .collect()
}

/// How close the closest of some texts is; of none, zero.
fn closest<'a>(asked: &Asked<'_>, texts: impl Iterator<Item = &'a Text>) -> f32 {
    texts.map(|text| asked.closeness(text)).fold(0.0, f32::max)
}

/// Share of the answer's words, without those of the question, that stood in sentences which are gone
/// and stand nowhere after.
fn lost(answer: &Text, question: &Text, gone: &[&Text], after: &[Arc<Passage>]) -> f32 {
    let own = answer.words.iter().filter(|word| !question.has(word));
    let own: Vec<&str> = own.map(|word| &**word).collect();
    let is_lost = |word: &&&str| {
        gone.iter().any(|sentence| sentence.has(word))
            && !after.iter().any(|passage| passage.whole.has(word))
    };
    own.iter().filter(is_lost).count() as f32 / own.len().max(1) as f32
}

/// The mean of the highest few of some values; of none, zero.
fn mean_of_highest(mut values: Vec<f32>) -> f32 {
    values.sort_by(|a, b| b.total_cmp(a));
    values.truncate(N_RIVALS);
    values.iter().sum::<f32>() / values.len().max(1) as f32
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
            copies: Arc::default(),
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
            is_exact: true,
            n_from_scratch: 0,
        }
    }

    fn pull(embedder: Arc<ScriptedEmbedder>) -> Pull {
        Pull::new(embedder, Arc::new(Profile::default()))
    }

    /// What the default expects.
    fn expected(pulled: &Pulled) -> f32 {
        Profile::default().expected_regret(pulled)
    }

    fn pulled(written: &Written, after: &[LayoutPassage]) -> Pulled {
        let pull = pull(Arc::default());
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
        assert!(ferry.closeness > library.closeness, "{ferry:?} {library:?}");
        assert!(ferry.lead > library.lead + 0.5, "{ferry:?} {library:?}");
        assert!(expected(&ferry) > expected(&library));
    }

    #[test]
    fn what_another_passage_says_as_well_is_no_news() {
        let before = [
            passage("hours", "The library opens at nine. Dogs wait outside."),
            passage("ferry", "The ferry leaves at noon."),
            passage("copy", "Dogs wait outside. The ferry leaves at noon."),
        ];
        let written = written("When does the ferry leave?", &before, &[0.1, 0.1, 0.1]);
        // Moved, split and said twice, but nothing is said that was not, nor the other way round.
        let after = [
            passage("hours", "The library opens at nine."),
            passage("copy", "Dogs wait outside."),
            passage(
                "ferry",
                "The ferry leaves at noon. The library opens at nine.",
            ),
        ];
        let nothing = pulled(&written, &after);
        assert_eq!(nothing.closeness.to_bits(), 0f32.to_bits());
        assert!(nothing.lead < 0.0, "{nothing:?}");
        let gone = pulled(&written, &after[..2]);
        assert!(
            gone.closeness > nothing.closeness && gone.lead > 0.0,
            "{gone:?}"
        );
    }

    #[test]
    fn what_a_sentence_stands_beside_says_what_it_is_about() {
        let before = [
            passage("library", "The library is large. It opens at nine."),
            passage("ferry", "The ferry is slow. It leaves at noon."),
        ];
        let written = written("How slow is the ferry?", &before, &[0.1, 0.1]);
        let with_news = |place: usize| {
            let mut after = before.to_vec();
            let text = format!("{} Nobody knows why.", before[place].text);
            after[place] = passage(after[place].document.clone().as_str(), &text);
            pulled(&written, &after)
        };
        let [library, ferry] = [0, 1].map(with_news);
        // The sentence is the same, and as close to the question.
        assert!((library.closeness - ferry.closeness).abs() < 0.05);
        assert!(library.passage_lead < 0.0 && ferry.passage_lead > 0.0);
        assert!(expected(&ferry) > expected(&library));
    }

    #[test]
    fn a_title_is_news_and_so_is_what_is_superseded_now() {
        let before = [
            passage("prices of 2023", "A ticket costs four crowns."),
            passage("ferry", "The ferry leaves at noon."),
        ];
        let written = written("What does a ticket cost in 2024?", &before, &[0.1, 0.1]);
        let with = |edit: fn(&mut LayoutPassage)| {
            let mut after = before.clone();
            edit(&mut after[0]);
            pulled(&written, &after)
        };
        let titled = with(|passage| {
            passage.title = "prices of 2024".into();
            passage.id = PassageId::of("prices of 2024", &passage.text);
        });
        let superseded = with(|passage| passage.is_superseded = true);
        assert!(titled.closeness > 0.0 && superseded.closeness > 0.0);
        assert!(superseded.lead > 0.0, "{superseded:?}");
    }

    #[test]
    fn words_of_the_answer_that_nothing_says_any_more_are_lost() {
        let before = [
            passage("hours", "The library opens at nine. Dogs wait outside."),
            passage("ferry", "The ferry leaves at noon."),
        ];
        // The answer is "At nine.".
        let written = written("When does the library open?", &before, &[0.1, 0.1]);
        let lost = |hours: &str| {
            let after = [passage("hours", hours), before[1].clone()];
            pulled(&written, &after).lost
        };
        assert!((lost("Dogs wait outside.") - 0.5).abs() < 1e-6);
        assert!((lost("The library opens by ten. Dogs wait outside.") - 0.5).abs() < 1e-6);
        assert_eq!(lost("At nine the library opens.").to_bits(), 0f32.to_bits());
        assert_eq!(lost("The library opens at nine.").to_bits(), 0f32.to_bits());
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
        let shares = [2.0, 2.0 / 3.0, 1.0 / 3.0];
        let is_near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
        assert!(masses.iter().zip(&shares).all(is_near), "{masses:?}");
        assert!(expected(&without(0)) > expected(&without(2)));
    }

    #[test]
    fn texts_are_embedded_once_and_too_many_changes_are_not_judged() {
        let embedder = Arc::new(ScriptedEmbedder::default());
        let pull = pull(embedder.clone());
        let before = [passage("a", "One."), passage("b", "Two.")];
        let after = [passage("a", "One."), passage("b", "Two, too.")];
        let written = written("Which?", &before, &[0.5, 0.5]);
        let delta = LayoutDelta::between(&before, &after);
        for _ in 0..3 {
            assert!(pull.of(&written, &after, &delta).expect("embeds").is_some());
        }
        // The question, the titles, "One.", "Two." and "Two, too.": passages of one sentence are that
        // sentence.
        assert_eq!(embedder.n_texts(), 6);
        let many: String = (0..=MAX_SENTENCES)
            .map(|i| format!("Number {i} is here. "))
            .collect();
        let after = [passage("a", "One."), passage("b", &many)];
        let delta = LayoutDelta::between(&before, &after);
        assert_eq!(pull.of(&written, &after, &delta), Ok(None));
    }
}
