//! How is a text split that stands behind other text?
//!
//! Tokenizers of the SentencePiece family put a blank before a text, so that its first word is the
//! token that it is within a sentence. A prompt is encoded in pieces here, and only before the first
//! of them there is a beginning: each further blank would be one that the plain prompt does not have.
//! So a piece that stands behind text is encoded without it, up to its first token that is written out
//! (`</s>`, say); what follows such a token is treated as in the whole prompt.

use tokenizers::{
    AddedVocabulary, NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential,
    OffsetType, PreTokenizedString, PreTokenizerWrapper, normalizers, pre_tokenizers,
    pre_tokenizers::metaspace::PrependScheme,
};

/// The first steps of a tokenizer, without what puts a blank before a text.
pub(super) struct Continuing {
    /// None where the tokenizer has none, or it did nothing else.
    normalizer: Option<NormalizerWrapper>,
    /// None where the tokenizer's own puts nothing before a text.
    pub(super) splitting: Option<PreTokenizerWrapper>,
}

/// Normalizes what stands at the very beginning as what goes on, all else as the tokenizer does.
struct ByPlace<'a> {
    at_start: Option<&'a NormalizerWrapper>,
    elsewhere: Option<&'a NormalizerWrapper>,
}

impl Normalizer for ByPlace<'_> {
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        let by = match text.offsets_original().0 {
            0 => self.at_start,
            _ => self.elsewhere,
        };
        by.map_or(Ok(()), |normalizer| normalizer.normalize(text))
    }
}

impl Continuing {
    pub(super) fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        Self {
            normalizer: tokenizer.get_normalizer().and_then(without_prepending),
            splitting: tokenizer.get_pre_tokenizer().and_then(without_blank),
        }
    }

    /// The written-out tokens of a text that goes on, and the normalized text between them.
    pub(super) fn extract(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        added: &AddedVocabulary,
        text: &str,
    ) -> PreTokenizedString {
        let normalizer = ByPlace {
            at_start: self.normalizer.as_ref(),
            elsewhere: tokenizer.get_normalizer(),
        };
        added.extract_and_normalize(Some(&normalizer), text)
    }
}

/// The byte at which the first written-out token stands.
pub(super) fn first_token(extracted: &PreTokenizedString) -> Option<usize> {
    let splits = extracted.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let mut tokens = splits.into_iter().filter(|(_, _, tokens)| tokens.is_some());
    tokens.next().map(|(_, (start, _), _)| start)
}

fn without_prepending(normalizer: &NormalizerWrapper) -> Option<NormalizerWrapper> {
    match normalizer {
        NormalizerWrapper::Prepend(_) => None,
        NormalizerWrapper::Sequence(steps) => {
            let steps = steps.as_ref().iter().filter_map(without_prepending);
            Some(normalizers::Sequence::new(steps.collect()).into())
        }
        other => Some(other.clone()),
    }
}

/// The same splitting without a blank before all, if it puts one there. Behind another step it would
/// stand before every word of that one, in a text that goes on, too.
fn without_blank(splitting: &PreTokenizerWrapper) -> Option<PreTokenizerWrapper> {
    match splitting {
        PreTokenizerWrapper::Metaspace(step) if step.prepend_scheme != PrependScheme::Never => {
            let mut step = step.clone();
            step.set_prepend_scheme(PrependScheme::Never);
            Some(step.into())
        }
        PreTokenizerWrapper::ByteLevel(step) if step.add_prefix_space => {
            Some(step.add_prefix_space(false).into())
        }
        PreTokenizerWrapper::Sequence(steps) => {
            let (first, others) = steps.as_ref().split_first()?;
            let mut steps = vec![without_blank(first)?];
            steps.extend(others.iter().cloned());
            Some(pre_tokenizers::sequence::Sequence::new(steps).into())
        }
        _ => None,
    }
}
