//! Which of some texts does a memory recall for a question?

use perennial::Engine;
use perennial::local_model::embedding_only;
use perennial::memory::{Bank, Memory, NewEntry, Recall};
use perennial::model::locator::{Locator, OnStderr, Progress, Settings};

use super::Error;
use super::question::TitledText;

/// A memory of numbered texts. It recalls by text: vectors and words.
pub struct Remembered {
    bank: Bank,
}

impl Remembered {
    /// Of nothing yet.
    pub fn new() -> Result<Self, Error> {
        let on_stderr = || Box::new(OnStderr::default()) as Box<dyn Progress>;
        let runtime = embedding_only(Locator::new(Settings::from_env()?), on_stderr);
        let engine = Engine::builder(runtime).table("texts").start()?;
        let bank = Bank::create(&engine, Memory::named("memory").from("texts"))?;
        Ok(Self { bank })
    }

    /// Stores texts under their numbers, later ones as newer; what had a number before is edited.
    pub fn store<'a>(
        &self,
        texts: impl IntoIterator<Item = (usize, &'a TitledText)>,
    ) -> Result<(), Error> {
        let entries = texts.into_iter().map(|(number, text)| {
            let entry = NewEntry::new(&*text.text).key(number.to_string());
            entry.titled(&*text.title).at(number as i64)
        });
        self.bank.store_all(entries)?;
        Ok(self.bank.flush()?)
    }

    /// Forgets the text of a number.
    pub fn delete(&self, number: usize) -> Result<(), Error> {
        self.bank.delete(&number.to_string())?;
        Ok(self.bank.flush()?)
    }

    /// The numbers of the `n` best texts, best first.
    pub fn best(&self, question: &str, n: usize) -> Result<Vec<usize>, Error> {
        let recalled = self.bank.recall(&Recall::new(question).best(n))?;
        let numbers = recalled
            .hits
            .iter()
            .map(|hit| hit.entry.key.parse::<usize>());
        Ok(numbers.collect::<Result<_, _>>()?)
    }
}

/// At most `n` of these, at even distances.
pub fn evenly<T: Clone>(all: &[T], n: usize) -> Vec<T> {
    let n = n.min(all.len());
    (0..n).map(|i| all[i * all.len() / n].clone()).collect()
}
