//! The keys of one text, in windows, and how they are written down.
//!
//! ```text
//! keys     head_dim u32  n_windows u32, then each window
//! window   n_tokens u32, then of each key/value head of the profile its codes and, as f16, its steps
//! ```
//! Numbers are little endian. Which model and which profile they are of is for others to know.

use super::{KeyStrips, LatentProfile};

/// Tokens that are read together: a longer text is read in several windows, each as if it stood alone.
pub const WINDOW_TOKENS: usize = 512;

/// What recall reads of one text.
#[derive(Clone, Debug, PartialEq)]
pub struct TextKeys {
    pub(super) windows: Vec<KeyStrips>,
}

impl TextKeys {
    /// Of a text in these windows.
    pub fn of(windows: Vec<KeyStrips>) -> Self {
        Self { windows }
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.windows.iter().map(KeyStrips::n_tokens).sum()
    }

    /// Bytes held.
    pub fn n_bytes(&self) -> usize {
        self.windows.iter().map(KeyStrips::n_bytes).sum()
    }

    /// As they are written.
    pub fn to_bytes(&self) -> Vec<u8> {
        let head_dim = self.windows.first().map_or(0, |strips| strips.head_dim);
        let mut bytes = Vec::with_capacity(self.n_bytes());
        bytes.extend((head_dim as u32).to_le_bytes());
        bytes.extend((self.windows.len() as u32).to_le_bytes());
        for strips in &self.windows {
            bytes.extend((strips.n_tokens as u32).to_le_bytes());
            strips.write(&mut bytes);
        }
        bytes
    }

    /// Those that were written for this profile and a model whose heads are `head_dim` wide; none of other
    /// bytes.
    pub fn from_bytes(mut bytes: &[u8], profile: &LatentProfile, head_dim: usize) -> Option<Self> {
        let mut number = || {
            let number = bytes.split_off(..4)?.first_chunk()?;
            Some(u32::from_le_bytes(*number) as usize)
        };
        let (of_head, n_windows) = (number()?, number()?);
        let mut windows = Vec::new();
        for _ in 0..n_windows {
            let n_tokens = u32::from_le_bytes(*bytes.split_off(..4)?.first_chunk()?) as usize;
            // One that says nothing takes no bytes: as many as are claimed could be made of none.
            if n_tokens == 0 || n_tokens > WINDOW_TOKENS {
                return None;
            }
            windows.push(KeyStrips::take(&mut bytes, n_tokens, head_dim, profile)?);
        }
        // Without windows none is as wide as that.
        let expected = if n_windows == 0 { 0 } else { head_dim };
        let is_whole = bytes.is_empty() && of_head == expected;
        is_whole.then_some(Self { windows })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{KeyBits, Units};
    use super::*;
    use crate::cancel::Cancel;
    use crate::decoder::{Decoder, QueryHead};
    use crate::layout::Layout;
    use crate::seeded::{tiny, tiny_config};

    fn keys(profile: &LatentProfile, lengths: &[usize]) -> TextKeys {
        let config = tiny_config();
        let decoder = Decoder::load(config.clone(), &tiny(&config, 7), 1, &mut |_, _| {}).unwrap();
        let texts: Vec<Vec<u32>> = lengths
            .iter()
            .map(|n| (0..*n as u32).map(|t| t * 11 % 96).collect())
            .collect();
        let texts: Vec<&[u32]> = texts.iter().map(|text| &text[..]).collect();
        let strips = decoder.key_strips(&Layout::new(), &texts, profile, &Cancel::new());
        TextKeys::of(strips.unwrap())
    }

    fn profile(bits: KeyBits) -> LatentProfile {
        let heads = [(1, 3), (0, 1)].map(|(layer, head)| QueryHead { layer, head });
        LatentProfile::new(heads.to_vec(), 2, bits, Units::PLAIN)
    }

    #[test]
    fn what_is_written_is_read_to_the_bit() {
        for bits in [KeyBits::Four, KeyBits::Eight] {
            let profile = profile(bits);
            for lengths in [&[][..], &[1], &[16, 17], &[40]] {
                let keys = keys(&profile, lengths);
                let bytes = keys.to_bytes();
                let read = TextKeys::from_bytes(&bytes, &profile, 16);
                assert_eq!(read.as_ref(), Some(&keys), "{lengths:?}");
                let longer = [&bytes[..], &[0]].concat();
                let other_width = [&[bytes[0] ^ 16][..], &bytes[1..]].concat();
                for other in [&bytes[..bytes.len() - 1], &longer, &other_width] {
                    assert_eq!(TextKeys::from_bytes(other, &profile, 16), None);
                }
            }
        }
        let bytes = keys(&profile(KeyBits::Four), &[16]).to_bytes();
        assert_eq!(
            TextKeys::from_bytes(&bytes, &profile(KeyBits::Eight), 16),
            None
        );
        assert_eq!(
            TextKeys::from_bytes(&bytes, &profile(KeyBits::Four), 32),
            None
        );
    }

    /// The layout of bytes stands: what earlier releases wrote is read.
    #[test]
    fn the_bytes_are_those_of_version_1() {
        let bytes = keys(&profile(KeyBits::Four), &[3, 20]).to_bytes();
        assert_eq!(bytes.len(), 8 + 2 * 4 + 2 * (3 * (8 * 16 + 32)));
        assert_eq!(bytes[..12], [16, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn whatever_bytes_come_nothing_but_keys_is_made_of_them(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            n_windows in 0u8..3,
        ) {
            let bytes = [&[16, 0, 0, 0, n_windows, 0, 0, 0][..], &bytes].concat();
            if let Some(keys) = TextKeys::from_bytes(&bytes, &profile(KeyBits::Four), 16) {
                prop_assert_eq!(keys.to_bytes(), bytes);
            }
        }
    }
}
