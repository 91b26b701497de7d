//! Which copy of a passage's text and tokens do all views share?
//!
//! A passage that stands in one view is not tokenized again for another, nor when it is
//! retracted. The shelf itself keeps nothing alive: what no view holds any more is gone, and
//! its place is swept up when as many again have come.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use perennial_ask::AnswerModel;
use perennial_bank::PassageId;

/// Places before the first sweep.
const MIN_PLACES: usize = 1024;

/// A model, and a title and text under it.
type Place = ([u8; 32], PassageId);

/// The texts and tokens of passages that stand in any view.
#[derive(Default)]
pub struct PassageShelf {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    places: HashMap<Place, (Weak<str>, Weak<[u32]>)>,
    /// Of what came and could not be tokenized: how often it stands, and why. It is not tried again while it
    /// does, so that what goes is what came.
    refused: HashMap<Place, (usize, Arc<str>)>,
    /// Places that are filled before the next sweep.
    n_swept: usize,
}

/// What a passage says, and how a model reads it.
pub(crate) type Shelved = (Arc<str>, Arc<[u32]>);

impl PassageShelf {
    /// The text and tokens of a passage, shared with whoever holds them.
    ///
    /// It runs on a worker of the dataflow, so a tokenizer that panics costs its passage alone.
    ///
    /// # Errors
    /// What the model reports, for people.
    pub(crate) fn take(
        &self,
        model: &dyn AnswerModel,
        id: PassageId,
        title: &str,
        text: &str,
    ) -> Result<Shelved, String> {
        let place = (model.digest(), id);
        let known = self.held().find(&place);
        if let Some(shelved) = known {
            return Ok(shelved);
        }
        if let Some((n, reason)) = self.held().refused.get_mut(&place) {
            *n += 1;
            return Err(reason.to_string());
        }
        // What it has half done, if anything, is its own: it is not asked for that again.
        let read = catch_unwind(AssertUnwindSafe(|| model.passage_tokens(title, text)));
        let tokens = read.unwrap_or_else(|_| Err("the tokenizer panicked".to_owned()));
        match tokens {
            Ok(tokens) => Ok(self.held().put(place, (text.into(), tokens.into()))),
            Err(reason) => {
                let mut held = self.held();
                let refused = held.refused.entry(place);
                refused.or_insert((0, reason.as_str().into())).0 += 1;
                Err(reason)
            }
        }
    }

    /// The same of a passage that goes: what was made of it when it came, which is not tokenized again while
    /// any view holds it.
    ///
    /// # Errors
    /// What the model reported then.
    pub(crate) fn take_again(
        &self,
        model: &dyn AnswerModel,
        id: PassageId,
        title: &str,
        text: &str,
    ) -> Result<Shelved, String> {
        let place = (model.digest(), id);
        let mut held = self.held();
        if let Entry::Occupied(mut refused) = held.refused.entry(place) {
            let (n, reason) = refused.get_mut();
            let reason = reason.to_string();
            *n -= 1;
            if *n == 0 {
                refused.remove();
            }
            return Err(reason);
        }
        drop(held);
        self.take(model, id, title, text)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn find(&self, place: &Place) -> Option<Shelved> {
        let (text, tokens) = self.places.get(place)?;
        Some((text.upgrade()?, tokens.upgrade()?))
    }

    /// Shelves a copy, unless another stands there meanwhile; gives the one that stands.
    fn put(&mut self, place: Place, copy: Shelved) -> Shelved {
        if self.places.len() >= self.n_swept.max(MIN_PLACES) {
            let stands = |(text, tokens): &(Weak<str>, Weak<[u32]>)| {
                text.strong_count() > 0 && tokens.strong_count() > 0
            };
            self.places.retain(|_, copy| stands(copy));
            self.n_swept = 2 * self.places.len();
        }
        let weak = (Arc::downgrade(&copy.0), Arc::downgrade(&copy.1));
        match self.places.entry(place) {
            Entry::Vacant(entry) => {
                entry.insert(weak);
            }
            Entry::Occupied(mut entry) => {
                let (text, tokens) = entry.get();
                if let (Some(text), Some(tokens)) = (text.upgrade(), tokens.upgrade()) {
                    return (text, tokens);
                }
                entry.insert(weak);
            }
        }
        copy
    }
}

#[cfg(test)]
mod tests {
    use perennial_ask::scripted::{Scripted, UNREADABLE_WORD};

    use super::*;

    fn take(shelf: &PassageShelf, text: &str) -> Shelved {
        let id = PassageId::of("title", text);
        let taken = shelf.take(&Scripted::new(), id, "title", text);
        taken.expect("a scripted model reads all texts")
    }

    #[test]
    fn equal_passages_are_one_copy_as_long_as_one_is_held() {
        let shelf = PassageShelf::default();
        let (one, two) = (take(&shelf, "text"), take(&shelf, "text"));
        assert!(Arc::ptr_eq(&one.0, &two.0) && Arc::ptr_eq(&one.1, &two.1));
        let other = take(&shelf, "other text");
        assert_eq!((&*one.0, &*other.0), ("text", "other text"));
        let gone = Arc::downgrade(&one.0);
        drop((one, two));
        assert!(gone.upgrade().is_none());
        assert_eq!(&*take(&shelf, "text").0, "text");
    }

    #[test]
    fn a_tokenizer_that_panics_costs_one_passage() {
        let shelf = PassageShelf::default();
        let text = format!("this is {UNREADABLE_WORD}");
        let id = PassageId::of("title", &text);
        let model = Scripted::new();
        for _ in 0..2 {
            let taken = shelf.take(&model, id, "title", &text);
            taken.expect_err("it panics");
        }
        // As it came twice, it goes twice, and is as little of a passage: then it may be tried again.
        for n_left in [1, 0] {
            let taken = shelf.take_again(&model, id, "title", &text);
            taken.expect_err("it panicked");
            assert_eq!(shelf.held().refused.len(), n_left);
        }
        let other = take(&shelf, "another");
        let id = PassageId::of("title", "another");
        let again = shelf.take_again(&model, id, "title", "another");
        assert!(Arc::ptr_eq(&again.expect("it stands").1, &other.1));
    }

    #[test]
    fn what_nobody_holds_is_swept() {
        let shelf = PassageShelf::default();
        let kept: Vec<Shelved> = (0..10).map(|i| take(&shelf, &i.to_string())).collect();
        for i in 0..10 * MIN_PLACES {
            take(&shelf, &format!("gone {i}"));
        }
        assert!(shelf.held().places.len() <= MIN_PLACES);
        for (i, held) in kept.iter().enumerate() {
            assert!(Arc::ptr_eq(&take(&shelf, &i.to_string()).0, &held.0));
        }
    }
}
