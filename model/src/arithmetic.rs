//! In which arithmetic does a decoder multiply, and with which instructions?
//!
//! The arithmetic decides the bits of every result, so it has a name that ids of fragments and
//! answers depend on. The instructions decide the speed and nothing else.

use std::fmt;
use std::str::FromStr;

use crate::lanes::Isa;

/// Integers that rows are rounded to where weights are stored as codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// Of sixteen bits, with a power of two for each 32 of them: next to no difference to f32.
    #[default]
    Int16,
    /// Of eight bits, with a scale for each 32 of them, as llama.cpp rounds rows: about half of the
    /// work in products, and as far from f32 as llama.cpp is.
    Int8,
}

impl Arithmetic {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Int16, Self::Int8];

    /// Names the arithmetic of forward passes: results of the same weights under the same name
    /// agree in every bit, under another they may not. Ids of what is stored depend on it, so that
    /// nothing that an older version computed is taken for what this one would.
    pub const fn kernel_class(self) -> &'static str {
        match self {
            Self::Int16 => {
                "codes by block floats of 16 bits, f32 fma, blocks of 128 keys, spans of 512"
            }
            Self::Int8 => "codes by blocks of 8 bits, f32 fma, blocks of 128 keys, spans of 512",
        }
    }

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Int16 => "int16",
            Self::Int8 => "int8",
        }
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Arithmetic {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|a| a.word() == word);
        found.ok_or_else(|| format!("{word:?} is no arithmetic: int16 or int8"))
    }
}

/// The instructions that kernels use.
#[derive(Clone, Copy, Debug)]
pub struct Instructions(pub(crate) Isa);

impl Instructions {
    /// All that this processor has, slowest first.
    pub fn available() -> Vec<Self> {
        Isa::available().into_iter().map(Self).collect()
    }

    /// The word for them.
    pub fn word(self) -> &'static str {
        self.0.word()
    }
}

impl Default for Instructions {
    /// The quickest that this processor has.
    fn default() -> Self {
        Self(Isa::best())
    }
}

impl FromStr for Instructions {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let available = Self::available();
        let found = available.iter().find(|i| i.word() == word);
        found.copied().ok_or_else(|| {
            let words: Vec<_> = available.iter().map(|i| i.word()).collect();
            format!(
                "{word:?} is nothing that this processor has: {}",
                words.join(", ")
            )
        })
    }
}

/// How a decoder computes.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelOptions {
    /// Decides the bits of results.
    pub arithmetic: Arithmetic,
    /// Decide how soon they are there.
    pub instructions: Instructions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for arithmetic in Arithmetic::ALL {
            assert_eq!(arithmetic.to_string().parse(), Ok(arithmetic));
        }
        assert!("int4".parse::<Arithmetic>().is_err());
        for instructions in Instructions::available() {
            let read: Instructions = instructions.word().parse().expect("is available");
            assert_eq!(read.word(), instructions.word());
        }
        assert!("abacus".parse::<Instructions>().is_err());
    }
}
