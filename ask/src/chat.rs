//! The one prompt of every view: where documents, instruction and question stand.
//!
//! ```text
//! [template: system]  You answer from the documents that are given.
//! [template: user]    Documents:
//!
//!                     ## title
//!                     passage text
//!
//!                     …
//!                     instruction
//!
//!                     question
//! [template: assistant]
//! ```
//! The documents stand before the instruction, and nothing before them depends on the
//! view: one encoded fragment serves every view of the same model and scope. Text from
//! documents, instruction and question is tokenized as plain text: a special token's
//! spelling inside it is never one.

use perennial_model::error::Error;
use perennial_model::template::{ChatTemplate, Message, Role, SLOT};
use perennial_model::tokenizer::Tokenizer;

use crate::local::TextCodec;

pub(crate) const SYSTEM: &str =
    "You are a careful assistant. You answer from the documents you are given.";
pub(crate) const BEFORE_PASSAGES: &str = "Documents:\n\n";

/// Prompts by a checkpoint's own tokenizer and chat template.
pub struct ChatCodec {
    tokenizer: Tokenizer,
    prefix: Vec<u32>,
    closing: Vec<u32>,
    digest: [u8; 32],
}

impl ChatCodec {
    /// The codec of a checkpoint.
    ///
    /// # Errors
    /// What is wrong with the checkpoint's chat template.
    pub fn new(tokenizer: Tokenizer, template: &ChatTemplate) -> Result<Self, Error> {
        let messages = [
            Message::new(Role::System, SYSTEM),
            Message::new(Role::User, SLOT),
        ];
        let parts = template.cut(&messages)?;
        let (opening, closing) = (&parts[0], &parts[1]);
        if leaves_thinking(closing) {
            let reason = "it has the model think before it answers, and what it thinks would be \
                          taken for the answer; a checkpoint or template without thinking opens";
            return Err(Error::Template(reason.to_owned()));
        }
        let mut prefix = tokenizer.encode_template(opening)?;
        prefix.extend(tokenizer.encode_text(BEFORE_PASSAGES)?);
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 chat codec");
        // Formats by what they make of two words.
        let formats = [
            passage_text("title", "text"),
            suffix_text("prompt", "question"),
        ];
        let parts = [opening.as_str(), BEFORE_PASSAGES, closing];
        for text in parts.into_iter().chain(formats.iter().map(String::as_str)) {
            hash.update(&(text.len() as u64).to_le_bytes())
                .update(text.as_bytes());
        }
        let digest = *hash.finalize().as_bytes();
        let closing = tokenizer.encode_template(closing)?;
        Ok(Self {
            tokenizer,
            prefix,
            closing,
            digest,
        })
    }
}

/// Whether the answer would begin within what the model thinks.
fn leaves_thinking(closing: &str) -> bool {
    let (opened, closed) = (closing.rfind("<think>"), closing.rfind("</think>"));
    opened.is_some() && opened > closed
}

pub(crate) fn passage_text(title: &str, text: &str) -> String {
    format!("## {title}\n{text}\n\n")
}

pub(crate) fn suffix_text(prompt: &str, question: &str) -> String {
    let separator = if prompt.is_empty() { "" } else { "\n\n" };
    format!("{prompt}{separator}{question}")
}

impl TextCodec for ChatCodec {
    fn digest(&self) -> [u8; 32] {
        self.digest
    }

    fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    fn passage(&self, title: &str, text: &str) -> Result<Vec<u32>, Error> {
        self.tokenizer.encode_text(&passage_text(title, text))
    }

    fn suffix(&self, prompt: &str, question: &str) -> Result<Vec<u32>, Error> {
        let mut tokens = self.tokenizer.encode_text(&suffix_text(prompt, question))?;
        tokens.extend(&self.closing);
        Ok(tokens)
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, Error> {
        self.tokenizer.decode(tokens)
    }

    fn answer(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.tokenizer.encode_text(text)
    }

    fn stop(&self) -> &[u32] {
        self.tokenizer.stop_tokens()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_thinks_is_no_answer() {
        for (closing, leaves) in [
            ("<|im_end|>\n<|im_start|>assistant\n<think>\n", true),
            ("<|assistant|><think>\n\n</think>\n\n", false),
            ("<think>a</think><think>", true),
            ("<|im_start|>assistant\n", false),
        ] {
            assert_eq!(leaves_thinking(closing), leaves, "{closing}");
        }
    }
}
