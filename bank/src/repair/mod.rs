//! How is the influence of a stale passage suppressed where it stands, without encoding
//! anything again?
//!
//! A record that another supersedes stays in memory: others may still need it, and history
//! is asked for. A *repair* edits what one layout sees of its fragment; the fragment, and
//! every other layout, stay as they are. Fragments behind it were encoded while it stood there
//! and keep traces of it: a repair is never an erasure.
//!
//! | repair | what the question still sees |
//! | --- | --- |
//! | [`Repair::Evict`] | nothing; what follows moves up |
//! | [`Repair::Hide`] | nothing; a gap stays where it stood |
//! | [`Repair::ZeroValues`] | where it stood, not what it said |
//! | [`Repair::ZeroKeys`], [`Repair::ZeroBoth`] | baselines of the literature |
//!
//! Which is best is measured, per model, by `cargo bench --bench lineage`.
//!
//! Source: LineageKV (`cbun/lineagekv`) zeroes values, keys or both, over parts of a span and
//! bands of layers; hiding and eviction are named there as missing baselines.

mod evict;
mod hide;
mod zero;

use std::ops::Range;

use perennial_model::layout::{Layout, Overlay};
use serde::{Deserialize, Serialize};

use crate::choice;

/// An edit of what one layout sees of a stale passage.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[non_exhaustive]
pub enum Repair {
    /// The passage is taken out, and what follows closes the gap.
    #[default]
    Evict,
    /// The passage is not attended to; what follows stays where it is.
    Hide,
    /// Values of a part of it count as zero in a band of layers.
    ZeroValues(Extent),
    /// Keys of a part of it count as zero in a band of layers: they score alike.
    ZeroKeys(Extent),
    /// Both.
    ZeroBoth(Extent),
}

/// Which tokens and layers a repair by zeroes edits.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Extent {
    /// Which tokens of the passage.
    pub part: Part,
    /// Which layers.
    pub band: Band,
}

/// A part of a passage's tokens.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Part {
    /// All of them.
    #[default]
    Whole,
    /// Its header: what names it.
    Header,
    /// What follows the header.
    Body,
    /// The first tenth, at least one token.
    FirstTenth,
}

/// A band of a decoder's layers.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Band {
    /// All layers.
    All,
    /// All but the lower third.
    #[default]
    UpperTwoThirds,
}

/// A segment of a stale passage in a layout. Of a passage that stands by several there is one for each.
#[derive(Clone, Copy, Debug)]
pub struct Stale {
    /// The segment's place in the layout. Its first token is the passage's.
    pub segment: usize,
    /// Tokens of the passage; the segment may have the first of them only.
    pub n_tokens: usize,
    /// Leading tokens of it that are its header.
    pub n_header: usize,
}

impl Repair {
    /// The layout with every stale passage repaired. The fragments are shared with `layout`.
    /// `n_layers` is the number of the decoder's layers.
    pub fn apply(self, layout: &Layout, stale: &[Stale], n_layers: usize) -> Layout {
        match self {
            Self::Evict => evict::evict(layout, stale),
            Self::Hide => hide::hide(layout, stale),
            Self::ZeroValues(extent) => {
                zero::zero(layout, stale, extent, n_layers, &[zero::Of::Values])
            }
            Self::ZeroKeys(extent) => {
                zero::zero(layout, stale, extent, n_layers, &[zero::Of::Keys])
            }
            Self::ZeroBoth(extent) => {
                let both = [zero::Of::Keys, zero::Of::Values];
                zero::zero(layout, stale, extent, n_layers, &both)
            }
        }
    }

    /// Whether the passage need not be in the layout at all.
    pub fn takes_out(self) -> bool {
        self == Self::Evict
    }
}

/// The layout with further overlays on its stale segments, and everything in its place.
fn overlaid(layout: &Layout, stale: &[Stale], overlays: impl Fn(&Stale) -> Vec<Overlay>) -> Layout {
    let mut overlaid = Layout::new();
    for (place, segment) in layout.segments().iter().enumerate() {
        let mut all = segment.overlays.clone();
        if let Some(stale) = stale.iter().find(|stale| stale.segment == place) {
            all.extend(overlays(stale));
        }
        overlaid.push_at(segment.kv.clone(), segment.offset, all);
    }
    overlaid
}

impl Part {
    /// The tokens of a passage of `n` tokens, `n_header` of which are its header.
    fn span(self, n: usize, n_header: usize) -> Range<u32> {
        let n_header = n_header.min(n);
        let range = match self {
            Self::Whole => 0..n,
            Self::Header => 0..n_header,
            Self::Body => n_header..n,
            Self::FirstTenth => 0..n.div_ceil(10),
        };
        range.start as u32..range.end as u32
    }
}

impl Band {
    fn layers(self, n_layers: usize) -> Range<u32> {
        let first = match self {
            Self::All => 0,
            Self::UpperTwoThirds => n_layers / 3,
        };
        first as u32..n_layers as u32
    }
}

impl std::fmt::Display for Repair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, extent) = match self {
            Self::Evict => return f.write_str("EVICT"),
            Self::Hide => return f.write_str("HIDE"),
            Self::ZeroValues(extent) => ("ZERO_VALUES", extent),
            Self::ZeroKeys(extent) => ("ZERO_KEYS", extent),
            Self::ZeroBoth(extent) => ("ZERO_BOTH", extent),
        };
        let part = match extent.part {
            Part::Whole => "whole",
            Part::Header => "header",
            Part::Body => "body",
            Part::FirstTenth => "first tenth",
        };
        let band = match extent.band {
            Band::All => "all layers",
            Band::UpperTwoThirds => "upper two thirds",
        };
        write!(f, "{name}({part}, {band})")
    }
}

impl std::str::FromStr for Repair {
    type Err = String;

    /// `evict`, `hide`, or `zero-values`, `zero-keys`, `zero-both`, with `:whole`, `:header`,
    /// `:body` or `:first-tenth` behind it; also as it is printed, `ZERO_KEYS(header, all layers)`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.to_ascii_lowercase().replace('_', "-");
        let (name, argument) = choice::parts(&text);
        let extent = argument.map_or(Some(Extent::default()), extent);
        match (name, extent) {
            ("evict", _) if argument.is_none() => Some(Self::Evict),
            ("hide", _) if argument.is_none() => Some(Self::Hide),
            ("zero-values", Some(extent)) => Some(Self::ZeroValues(extent)),
            ("zero-keys", Some(extent)) => Some(Self::ZeroKeys(extent)),
            ("zero-both", Some(extent)) => Some(Self::ZeroBoth(extent)),
            _ => None,
        }
        .ok_or_else(|| {
            "expected evict, hide, zero-values, zero-keys or zero-both, the last three with \
             :whole, :header, :body or :first-tenth"
                .to_owned()
        })
    }
}

/// A part of a passage and, behind a comma, a band of layers: the default one where none is named.
fn extent(argument: &str) -> Option<Extent> {
    let (part, band) = match argument.split_once(',') {
        Some((part, band)) => (part.trim_end(), Some(band.trim_start())),
        None => (argument, None),
    };
    let part = match part {
        "whole" => Part::Whole,
        "header" => Part::Header,
        "body" => Part::Body,
        "first-tenth" | "first tenth" => Part::FirstTenth,
        _ => return None,
    };
    let band = match band {
        None => Band::default(),
        Some("all layers") => Band::All,
        Some("upper two thirds") => Band::UpperTwoThirds,
        Some(_) => return None,
    };
    Some(Extent { part, band })
}

#[cfg(test)]
mod tests;
