//! What is one of LineageKV's cases?

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use crate::grade::Key;
use crate::rig::Error;

/// Records, some of which supersede others, and a question about what holds now.
#[derive(Deserialize)]
pub struct Case {
    /// Its name.
    pub id: String,
    /// Its kind.
    pub question_type: String,
    /// The records, in the prompt's order.
    #[serde(rename = "context_blocks")]
    pub blocks: Vec<Block>,
    /// The question.
    pub query: String,
    gold_answer: String,
    gold_evidence_ids: Vec<String>,
    stale_ids: Vec<String>,
    metadata: Metadata,
}

/// A record of memory.
#[derive(Deserialize)]
pub struct Block {
    id: String,
    /// When it was written.
    pub timestamp: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it says.
    pub text: String,
}

#[derive(Deserialize)]
struct Metadata {
    target_value: String,
    stale_value: String,
}

impl Case {
    /// Places of the blocks that are superseded.
    pub fn stale(&self) -> Vec<usize> {
        self.places(&self.stale_ids)
    }

    /// Places of the blocks that hold.
    pub fn current(&self) -> Vec<usize> {
        self.places(&self.gold_evidence_ids)
    }

    /// What is right; an id that was not in the prompt cannot be cited.
    pub fn key(&self, shows_stale: bool) -> Key {
        let names = |places: Vec<usize>| places.into_iter().map(name).collect();
        Key {
            targets: vec![self.metadata.target_value.clone(), self.gold_answer.clone()],
            stale_value: self.metadata.stale_value.clone(),
            current_ids: names(self.current()),
            stale_ids: match shows_stale {
                true => names(self.stale()),
                false => Vec::new(),
            },
        }
    }

    fn places(&self, ids: &[String]) -> Vec<usize> {
        let blocks = self.blocks.iter().enumerate();
        blocks
            .filter(|(_, block)| ids.contains(&block.id))
            .map(|(place, _)| place)
            .collect()
    }
}

/// What the prompt calls the block at a place: it does not tell which is stale.
pub fn name(place: usize) -> String {
    format!("m{place:03}")
}

/// The first `limit` cases of a JSON-lines file, or all.
pub fn read(path: &Path, limit: Option<usize>) -> Result<Vec<Case>, Error> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut cases = Vec::new();
    for (n, line) in BufReader::new(file).lines().enumerate() {
        if limit.is_some_and(|limit| cases.len() == limit) {
            break;
        }
        let at = |error: &dyn std::fmt::Display| {
            format!(
                "{}:{}: {error}; expected a case of LineageKV",
                path.display(),
                n + 1
            )
        };
        let case: Case =
            serde_json::from_str(&line.map_err(|error| at(&error))?).map_err(|error| at(&error))?;
        if case.stale().len() != case.stale_ids.len()
            || case.current().len() != case.gold_evidence_ids.len()
            || case.stale().is_empty()
        {
            return Err(at(&"stale_ids and gold_evidence_ids must name context_blocks").into());
        }
        cases.push(case);
    }
    Ok(cases)
}
