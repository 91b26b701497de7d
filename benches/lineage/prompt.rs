//! Which tokens does LineageKV's prompt have, and whose are they?
//!
//! No chat template. Each piece of text is tokenized by itself and the ids are joined, so that
//! spans of blocks and headers are known: a block is header, text and line end; the question is
//! lead, query and instruction. The ids are those of the published runs.

use perennial::model::error::Error;
use perennial::model::tokenizer::Tokenizer;

use crate::case::{self, Block, Case};

const PREFIX: &str = "You answer questions from a cached agent memory prefix.\n\
    Resolve conflicts using the memory contents and timestamps.\n\
    Context blocks:\n";

const INSTRUCTION: &str = "Return JSON only with keys: \"answer\", \"evidence_ids\", \
    \"used_stale_fact\", \"confidence\", \"abstain\", \"reasoning_summary\". \
    Put context block IDs only in evidence_ids. Keep reasoning_summary under 8 words.";

/// The prompt of a case.
pub struct Prompt {
    /// What stands before the blocks.
    pub prefix: Vec<u32>,
    /// The blocks in order.
    pub blocks: Vec<BlockTokens>,
    /// Places of superseded blocks.
    pub stale: Vec<usize>,
    /// Places of the blocks that hold.
    pub current: Vec<usize>,
    /// Question and instruction.
    pub suffix: Vec<u32>,
}

/// A block's tokens.
pub struct BlockTokens {
    /// Header, text and line end.
    pub tokens: Vec<u32>,
    /// Leading tokens that are the header.
    pub n_header: usize,
}

impl Prompt {
    /// The prompt of a case with all of its blocks.
    pub fn of(case: &Case, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let blocks = case.blocks.iter().enumerate();
        let question = [
            "\nQuestion: ",
            &case.query,
            &format!("\n{INSTRUCTION}\nJSON:"),
        ];
        Ok(Self {
            prefix: tokenizer.encode_text(PREFIX)?,
            blocks: blocks
                .map(|(place, block)| BlockTokens::of(place, block, tokenizer))
                .collect::<Result<_, _>>()?,
            stale: case.stale(),
            current: case.current(),
            suffix: joined(&question, tokenizer)?,
        })
    }
}

impl BlockTokens {
    fn of(place: usize, block: &Block, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let header = format!(
            "\n[block_id={}; timestamp={}; type={}]\n",
            case::name(place),
            block.timestamp,
            block.kind
        );
        let mut tokens = tokenizer.encode_text(&header)?;
        let n_header = tokens.len();
        tokens.extend(joined(&[&block.text, "\n"], tokenizer)?);
        Ok(Self { tokens, n_header })
    }
}

/// The ids of pieces tokenized one by one.
fn joined(pieces: &[&str], tokenizer: &Tokenizer) -> Result<Vec<u32>, Error> {
    let mut tokens = Vec::new();
    for piece in pieces {
        tokens.extend(tokenizer.encode_text(piece)?);
    }
    Ok(tokens)
}
