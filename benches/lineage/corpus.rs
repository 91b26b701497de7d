//! Which passages does the curve stand on?

use perennial::ask::{AnswerModel, TensorModel};
use perennial::bank::{DocumentKey, LayoutPassage, PassageId, PassageLayout};

use crate::rig::{Error, towns};

/// Passages of about 64 tokens, one a document.
pub struct Corpus {
    passages: Vec<LayoutPassage>,
}

impl Corpus {
    /// As many passages as `n_tokens` tokens hold.
    pub fn new(model: &TensorModel, n_tokens: usize) -> Result<Self, Error> {
        let mut passages = Vec::new();
        let mut total = 0;
        for i in 0.. {
            let next = passage(model, i, i)?;
            total += next.tokens.len();
            if total > n_tokens && !passages.is_empty() {
                break;
            }
            passages.push(next);
        }
        Ok(Self { passages })
    }

    /// Number of passages.
    pub fn len(&self) -> usize {
        self.passages.len()
    }

    /// The layout of all passages.
    pub fn layout(&self) -> PassageLayout {
        PassageLayout::new(self.passages.clone())
    }

    /// The layout with another passage at a place.
    pub fn edited(&self, model: &TensorModel, place: usize) -> Result<PassageLayout, Error> {
        const OTHER: usize = 20_011;
        let mut passages = self.passages.clone();
        passages[place] = passage(model, place, OTHER + place)?;
        Ok(PassageLayout::new(passages))
    }
}

fn passage(model: &TensorModel, place: usize, i: usize) -> Result<LayoutPassage, Error> {
    let (title, text) = (format!("note {place:04}"), towns::passage(i));
    Ok(LayoutPassage {
        document: DocumentKey::new(title.as_str()),
        ordinal: 0,
        id: PassageId::of(&title, &text),
        tokens: model.passage_tokens(&title, &text)?.into(),
        title: title.into(),
        text: text.into(),
        is_superseded: false,
        copies: [].into(),
    })
}
