//! What may be done about stale blocks, and what does it cost?
//!
//! Repairs are the engine's own ([`perennial::bank::repair`]). Beside them stand the
//! prompt without the stale blocks, encoded from scratch or behind a prefix cache, and the
//! prompt that says the current record once more at its end.
//!
//! A block's part *body* is its text and line end; the paper's is without the line end.

use std::sync::Arc;

use perennial::bank::Repair;
use perennial::bank::repair::{Band, Extent, Part, Stale};
use perennial::model::error::Error;
use perennial::model::layout::{Layout, Overlay};

use crate::chain::Chain;
use crate::prompt::Prompt;

/// Something done about stale blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Nothing.
    Full,
    /// The prompt without them is encoded from nothing.
    Absent,
    /// Every block behind the first of them is encoded again without them: what a prefix cache
    /// saves of [`Policy::Absent`].
    SuffixAgain,
    /// The current blocks are said again, at the end.
    Erratum,
    /// The cache is repaired where it is.
    Repaired(Repair),
    /// Values of the tokens from a tenth to a fifth of each count as zero, in the upper two
    /// thirds of the layers: the paper's `decile_1`, counted from 0.
    SecondTenth,
}

/// What the question follows under a policy.
pub struct Seen {
    /// The fragments.
    pub layout: Arc<Layout>,
    /// Whether stale blocks were ever read.
    pub shows_stale: bool,
    /// Tokens encoded when the update comes.
    pub n_encoded_again: usize,
}

impl Policy {
    /// Every policy, in the table's order.
    pub fn all() -> Vec<Self> {
        let extent = |part, band| Extent { part, band };
        let upper = |part| extent(part, Band::UpperTwoThirds);
        let zero = |part| Self::Repaired(Repair::ZeroValues(upper(part)));
        vec![
            Self::Full,
            Self::Absent,
            Self::SuffixAgain,
            Self::Repaired(Repair::Evict),
            Self::Repaired(Repair::Hide),
            zero(Part::Whole),
            zero(Part::Header),
            zero(Part::Body),
            zero(Part::FirstTenth),
            Self::SecondTenth,
            Self::Repaired(Repair::ZeroValues(extent(Part::Whole, Band::All))),
            Self::Repaired(Repair::ZeroKeys(upper(Part::Whole))),
            Self::Repaired(Repair::ZeroBoth(upper(Part::Whole))),
            Self::Erratum,
        ]
    }

    /// The layout that the question is asked over.
    pub fn apply(self, prompt: &Prompt, chain: &mut Chain<'_>) -> Result<Seen, Error> {
        let places: Vec<usize> = (0..prompt.blocks.len()).collect();
        let n_tokens = |places: &[usize]| -> usize {
            let blocks = places.iter().map(|place| &prompt.blocks[*place]);
            blocks.map(|block| block.tokens.len()).sum()
        };
        let kept: Vec<usize> = places
            .iter()
            .copied()
            .filter(|place| !prompt.stale.contains(place))
            .collect();
        let (shown, n_encoded_again) = match self {
            Self::Full | Self::Repaired(_) | Self::SecondTenth => (places, 0),
            Self::Absent => {
                let n_encoded = prompt.prefix.len() + n_tokens(&kept);
                (kept, n_encoded)
            }
            Self::SuffixAgain => {
                let first = prompt.stale.iter().min().copied().unwrap_or_default();
                let behind = kept.partition_point(|place| *place < first);
                let n_encoded = n_tokens(&kept[behind..]);
                (kept, n_encoded)
            }
            Self::Erratum => {
                let shown = places.into_iter().chain(prompt.current.iter().copied());
                (shown.collect(), n_tokens(&prompt.current))
            }
        };
        let blocks = shown.iter().map(|place| &prompt.blocks[*place].tokens[..]);
        let pieces: Vec<&[u32]> = std::iter::once(&prompt.prefix[..]).chain(blocks).collect();
        let layout = chain.layout(&pieces)?;
        let n_layers = chain.n_layers();
        let layout = match self {
            Self::Repaired(repair) => repair.apply(&layout, &stale(prompt), n_layers),
            Self::SecondTenth => zero_second_tenth(&layout, prompt, n_layers),
            _ => layout,
        };
        Ok(Seen {
            layout: Arc::new(layout),
            shows_stale: !matches!(self, Self::Absent | Self::SuffixAgain),
            n_encoded_again,
        })
    }
}

/// The stale segments; segment 0 is the prefix.
fn stale(prompt: &Prompt) -> Vec<Stale> {
    let stale = |place: &usize| Stale {
        segment: place + 1,
        n_tokens: prompt.blocks[*place].tokens.len(),
        n_header: prompt.blocks[*place].n_header,
    };
    prompt.stale.iter().map(stale).collect()
}

fn zero_second_tenth(layout: &Layout, prompt: &Prompt, n_layers: usize) -> Layout {
    let mut zeroed = Layout::new();
    for (segment, place) in layout.segments().iter().zip(0..) {
        let mut overlays = segment.overlays.clone();
        if prompt.stale.iter().any(|stale| stale + 1 == place) {
            let n = segment.kv.n_tokens() as u32;
            overlays.push(Overlay::ZeroValues {
                span: n / 10..2 * n / 10,
                layers: (n_layers / 3) as u32..n_layers as u32,
            });
        }
        zeroed.push_at(segment.kv.clone(), segment.offset, overlays);
    }
    zeroed
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "full cache",
            Self::Absent => "stale absent, from scratch",
            Self::SuffixAgain => "stale absent, suffix encoded again",
            Self::Erratum => "current said again at the end",
            Self::SecondTenth => "ZERO_VALUES(second tenth, upper two thirds)",
            Self::Repaired(repair) => return repair.fmt(f),
        })
    }
}
