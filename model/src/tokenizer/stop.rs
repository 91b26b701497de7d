//! At which tokens is an answer over?
//!
//! Checkpoints name one end of sequence, and often the wrong one of two: a base model's
//! end of text where a chat model ends its turn otherwise. The known ends of turns and
//! texts count too, where the vocabulary has them as special tokens: an answer never
//! contains them.

/// Spellings that end a turn or a text in the families that open here.
const ENDS: [&str; 9] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "<|return|>",
    "</s>",
];

/// The ends that the checkpoint names and those known, ascending.
pub(super) fn tokens(tokenizer: &tokenizers::Tokenizer, named: Vec<u32>) -> Vec<u32> {
    let added = tokenizer.get_added_vocabulary();
    let known = ENDS
        .iter()
        .filter(|end| added.is_special_token(end))
        .filter_map(|end| tokenizer.token_to_id(end));
    let mut stop: Vec<u32> = named.into_iter().chain(known).collect();
    stop.sort_unstable();
    stop.dedup();
    stop
}
