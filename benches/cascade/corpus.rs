//! Sentences of passages, some of which stand.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use crate::Error;
use perennial::calibration::Random;

/// Least and most characters of a sentence.
const LENGTHS: std::ops::RangeInclusive<usize> = 30..=400;

/// A line of a set.
#[derive(Deserialize)]
struct Passage {
    text: String,
}

/// Rows that stand, and sentences that may come.
#[derive(Clone)]
pub(crate) struct Rows {
    standing: BTreeMap<String, String>,
    left: Vec<String>,
    n_came: usize,
}

impl Rows {
    /// The first `n` different sentences of the passages of a file; all others may come.
    pub(crate) fn read(path: &Path, n: usize) -> Result<Self, Error> {
        let at = |line: usize, error: &dyn std::fmt::Display| {
            format!("{}:{line}: {error}", path.display())
        };
        let file = File::open(path).map_err(|error| at(0, &error))?;
        let mut sentences: Vec<String> = Vec::new();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|error| at(number + 1, &error))?;
            let passage: Passage =
                serde_json::from_str(&line).map_err(|error| at(number + 1, &error))?;
            let all = passage.text.split_inclusive(". ").map(str::trim);
            let all = all.filter(|sentence| LENGTHS.contains(&sentence.chars().count()));
            sentences.extend(all.map(str::to_owned));
        }
        if sentences.is_empty() {
            return Err(format!("{}: no sentence to ask about", path.display()).into());
        }
        // Of every article some: a walk with a step that shares no factor with their number.
        let n_all = sentences.len();
        let step = (n_all / 3 * 2..)
            .find(|step| gcd(*step, n_all) == 1)
            .unwrap_or(1);
        let mut left: Vec<String> = (0..n_all)
            .map(|at| sentences[at * step % n_all].clone())
            .collect();
        left.reverse();
        let mut rows = Self {
            standing: BTreeMap::new(),
            left,
            n_came: 0,
        };
        while rows.standing.len() < n && rows.come().is_some() {}
        Ok(rows)
    }

    pub(crate) fn standing(&self) -> impl Iterator<Item = (String, String)> {
        let all = self.standing.iter();
        all.map(|(key, text)| (key.clone(), text.clone()))
    }

    /// Another row comes, if there is one.
    pub(crate) fn come(&mut self) -> Option<(String, String)> {
        let text = self.left.pop()?;
        let key = format!("s{:05}", self.n_came);
        self.n_came += 1;
        self.standing.insert(key.clone(), text.clone());
        Some((key, text))
    }

    /// A row goes.
    pub(crate) fn go(&mut self, random: &mut Random) -> String {
        let key = self.any(random);
        self.standing.remove(&key);
        key
    }

    /// A row says something else, if there is anything left to say.
    pub(crate) fn change(&mut self, random: &mut Random) -> Option<(String, String)> {
        let (key, text) = (self.any(random), self.left.pop()?);
        self.standing.insert(key.clone(), text.clone());
        Some((key, text))
    }

    fn any(&self, random: &mut Random) -> String {
        let at = random.below(self.standing.len().max(1));
        let key = self.standing.keys().nth(at);
        key.cloned().unwrap_or_default()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        b => gcd(b, a % b),
    }
}
