//! Yes or no, again and again, in as many bits as the answer was unexpected.
//!
//! An adaptive binary range coder (G. N. N. Martin, "Range encoding", 1979, with the carry as LZMA has it).
//! How likely a yes is, a [`Chance`] learns from the answers before: half of it quickly, half slowly. All of it is
//! integers, so encoder and decoder agree on every machine.

/// Bytes that an encoder writes beside its answers, at least.
pub(super) const LEAST_BYTES: usize = 5;
/// Below this a range is widened by a byte.
const LEAST_RANGE: u32 = 1 << 24;
/// How quickly the halves of a chance learn: by a part of 2 to this.
const RATES: (u32, u32) = (4, 7);

/// How likely a yes is, twice, of 65,536.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance(u16, u16);

impl Default for Chance {
    fn default() -> Self {
        Self(1 << 15, 1 << 15)
    }
}

impl Chance {
    /// The part of a range that is a yes.
    fn part(self, range: u32) -> u32 {
        (range >> 16) * ((u32::from(self.0) + u32::from(self.1)) >> 1)
    }

    // Neither half gets to 0 or to 65,536: the step toward them becomes nothing before.
    fn learn(&mut self, yes: bool) {
        for (chance, rate) in [(&mut self.0, RATES.0), (&mut self.1, RATES.1)] {
            match yes {
                true => *chance += ((65_536 - u32::from(*chance)) >> rate) as u16,
                false => *chance -= *chance >> rate,
            }
        }
    }
}

/// Writes answers, or reads them: so that one description of what is asked serves both.
pub(super) trait Answers {
    /// An answer that `chance` expects, and learns from. Who reads takes no notice of `yes`.
    fn expected(&mut self, chance: &mut Chance, yes: bool) -> bool;
    /// One that nothing is known of.
    fn plain(&mut self, yes: bool) -> bool;
}

/// Writes answers.
pub(super) struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    low: u64,
    range: u32,
    /// The byte before the low end, which a carry may still raise, and how many of `0xff` follow it.
    held: (u8, u64),
}

impl<'a> Encoder<'a> {
    /// Appends to `out`.
    pub fn to(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            low: 0,
            range: u32::MAX,
            held: (0, 1),
        }
    }

    /// Bytes that were written.
    pub fn n_bytes(&self) -> usize {
        self.out.len()
    }

    /// Writes what is left.
    pub fn finish(mut self) {
        for _ in 0..LEAST_BYTES {
            self.shift();
        }
    }

    fn widen(&mut self) {
        while self.range < LEAST_RANGE {
            self.range <<= 8;
            self.shift();
        }
    }

    fn shift(&mut self) {
        let carry = (self.low >> 32) as u8;
        // Where the byte at the end is 0xff, a later carry may go through it.
        if self.low < 0xff00_0000 || carry > 0 {
            let (byte, n) = self.held;
            self.out.push(byte.wrapping_add(carry));
            self.out.extend((1..n).map(|_| 0xffu8.wrapping_add(carry)));
            self.held = ((self.low >> 24) as u8, 0);
        }
        self.held.1 += 1;
        self.low = (self.low & 0x00ff_ffff) << 8;
    }
}

impl Answers for Encoder<'_> {
    #[inline(always)]
    fn expected(&mut self, chance: &mut Chance, yes: bool) -> bool {
        let part = chance.part(self.range);
        if yes {
            self.range = part;
        } else {
            self.low += u64::from(part);
            self.range -= part;
        }
        chance.learn(yes);
        self.widen();
        yes
    }

    #[inline(always)]
    fn plain(&mut self, yes: bool) -> bool {
        self.range >>= 1;
        if !yes {
            self.low += u64::from(self.range);
        }
        self.widen();
        yes
    }
}

/// Reads answers.
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
    value: u32,
    range: u32,
    is_cut: bool,
}

impl<'a> Decoder<'a> {
    /// Of bytes that begin with what an encoder wrote; `None` where they are too few.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let ([0, first @ ..], rest) = bytes.split_first_chunk::<LEAST_BYTES>()? else {
            return None;
        };
        Some(Self {
            rest,
            value: u32::from_be_bytes(*first),
            range: u32::MAX,
            is_cut: false,
        })
    }

    /// What stands behind the answers that were read; `None` if these needed more than there was.
    pub fn finish(self) -> Option<&'a [u8]> {
        (!self.is_cut).then_some(self.rest)
    }

    fn widen(&mut self) {
        while self.range < LEAST_RANGE {
            let next = match self.rest.split_first() {
                Some((next, rest)) => {
                    self.rest = rest;
                    *next
                }
                None => {
                    self.is_cut = true;
                    0
                }
            };
            self.value = self.value << 8 | u32::from(next);
            self.range <<= 8;
        }
    }

    fn take(&mut self, part: u32) -> bool {
        let yes = self.value < part;
        if yes {
            self.range = part;
        } else {
            self.value -= part;
            self.range -= part;
        }
        yes
    }
}

impl Answers for Decoder<'_> {
    #[inline(always)]
    fn expected(&mut self, chance: &mut Chance, _: bool) -> bool {
        let yes = self.take(chance.part(self.range));
        chance.learn(yes);
        self.widen();
        yes
    }

    #[inline(always)]
    fn plain(&mut self, _: bool) -> bool {
        // What is left over of an odd range is no answer's: only an encoder's bytes never stand there.
        let part = self.range >> 1;
        let yes = self.value < part;
        if !yes {
            self.value = self.value.wrapping_sub(part);
        }
        self.range = part;
        self.widen();
        yes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn answers_are_read_as_they_were_written(
            answers in prop::collection::vec((any::<bool>(), 0usize..5), 0..3000),
            bias in prop::collection::vec(any::<bool>(), 5),
        ) {
            // Some chances see one answer alone, which is where carries run far.
            let answers: Vec<(bool, usize)> = answers
                .into_iter()
                .map(|(yes, n)| (if n < 3 { bias[n] } else { yes }, n))
                .collect();
            let mut bytes = vec![7];
            let mut chances = [Chance::default(); 4];
            let mut encoder = Encoder::to(&mut bytes);
            for (yes, n) in &answers {
                match chances.get_mut(*n) {
                    Some(chance) => encoder.expected(chance, *yes),
                    None => encoder.plain(*yes),
                };
            }
            encoder.finish();
            let n_bytes = bytes.len();
            bytes.extend([1, 2, 3]);
            let mut chances = [Chance::default(); 4];
            let mut decoder = Decoder::of(&bytes[1..]).unwrap();
            for (yes, n) in &answers {
                let read = match chances.get_mut(*n) {
                    Some(chance) => decoder.expected(chance, false),
                    None => decoder.plain(false),
                };
                prop_assert_eq!(read, *yes);
            }
            // As many bytes are read as were written.
            prop_assert_eq!(decoder.finish(), Some(&[1, 2, 3][..]));
            if !answers.is_empty() {
                let cut = Decoder::of(&bytes[1..n_bytes - 1]).map(|mut cut| {
                    let mut chances = [Chance::default(); 4];
                    for (_, n) in &answers {
                        match chances.get_mut(*n) {
                            Some(chance) => cut.expected(chance, false),
                            None => cut.plain(false),
                        };
                    }
                    cut.finish()
                });
                prop_assert_eq!(cut.flatten(), None);
            }
        }
    }

    #[test]
    fn what_is_expected_takes_a_small_part_of_a_bit() {
        let mut bytes = Vec::new();
        let mut chance = Chance::default();
        let mut encoder = Encoder::to(&mut bytes);
        for n in 0..80_000 {
            encoder.expected(&mut chance, n % 100 == 0);
        }
        encoder.finish();
        // One in a hundred has .081 bits.
        assert!((750..1000).contains(&bytes.len()), "{}", bytes.len());
        assert!(Decoder::of(&[1, 0, 0, 0, 0]).is_none() && Decoder::of(&[0; 4]).is_none());
    }
}
