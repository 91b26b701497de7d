//! A repair edits one layout: never a fragment, never another layout.

use std::sync::Arc;

use perennial_model::cancel::Cancel;
use perennial_model::decoder::{Decoder, Logits, Rows};
use perennial_model::seeded::{tiny, tiny_config};
use proptest::prelude::*;

use super::*;

fn decoder() -> Decoder {
    let config = tiny_config();
    Decoder::load(config.clone(), &tiny(&config, 5), 1, &mut |_, _| {}).expect("loads")
}

fn encoded(decoder: &Decoder, passages: &[Vec<u32>]) -> Layout {
    let mut layout = Layout::new();
    for tokens in passages {
        let mut tail = decoder.new_tail(layout.end());
        let rows = Rows {
            layout: &layout,
            pending: &[],
            tail: &mut tail,
            tokens,
            logits: Logits::None,
            mass: false,
        };
        decoder.forward(&mut [rows], &Cancel::new()).expect("valid");
        layout.push(Arc::new(tail.freeze()));
    }
    layout
}

fn logits(decoder: &Decoder, layout: &Layout) -> Vec<f32> {
    let mut tail = decoder.new_tail(layout.end());
    let rows = Rows {
        layout,
        pending: &[],
        tail: &mut tail,
        tokens: &[7, 8, 9],
        logits: Logits::Last,
        mass: false,
    };
    let mut output = decoder.forward(&mut [rows], &Cancel::new()).expect("valid");
    output.swap_remove(0).logits
}

fn repairs() -> Vec<Repair> {
    let mut repairs = vec![Repair::Evict, Repair::Hide];
    for part in [Part::Whole, Part::Header, Part::Body, Part::FirstTenth] {
        for band in [Band::All, Band::UpperTwoThirds] {
            let extent = Extent { part, band };
            repairs.push(Repair::ZeroValues(extent));
            repairs.push(Repair::ZeroKeys(extent));
            repairs.push(Repair::ZeroBoth(extent));
        }
    }
    repairs
}

#[test]
fn repairs_are_typed() {
    for text in [
        "evict",
        "hide",
        "zero-values",
        "zero-keys:header",
        "zero-both:first-tenth",
        "ZERO_BOTH(first tenth)",
    ] {
        assert!(text.parse::<Repair>().is_ok(), "{text}");
    }
    for wrong in [
        "",
        "zero",
        "evict:body",
        "evict()",
        "zero-values:half",
        "zero-values:",
        "zero-values(whole, lower third)",
        "zero-values(whole",
    ] {
        assert!(wrong.parse::<Repair>().is_err(), "{wrong}");
    }
    for repair in repairs() {
        assert_eq!(repair.to_string().parse(), Ok(repair), "{repair}");
    }
}

#[test]
fn every_repair_has_an_effect_of_its_own() {
    let decoder = decoder();
    let passages: Vec<Vec<u32>> = (0..4).map(|i| (i..i + 20).collect()).collect();
    let layout = encoded(&decoder, &passages);
    let stale = [Stale {
        segment: 1,
        n_tokens: 20,
        n_header: 5,
    }];
    let n_layers = decoder.config().n_layers;
    let mut seen = vec![logits(&decoder, &layout)];
    // With two layers, the upper two thirds are all.
    for repair in repairs()
        .into_iter()
        .filter(|r| !format!("{r}").contains("thirds"))
    {
        let repaired = logits(&decoder, &repair.apply(&layout, &stale, n_layers));
        assert!(!seen.contains(&repaired), "{repair} does what another does");
        seen.push(repaired);
    }
}

/// The passage in the middle stands by its first five tokens, and by what is left of all.
#[test]
fn a_passage_that_stands_by_two_segments_is_repaired_as_a_whole_one() {
    let decoder = decoder();
    let passages: Vec<Vec<u32>> = (0..3).map(|i| (i..i + 20).collect()).collect();
    let whole = encoded(&decoder, &passages);
    let (n_header, n_tokens) = (7, 20);
    let stale = |segment| Stale {
        segment,
        n_tokens,
        n_header,
    };
    let mut joined = Layout::new();
    for (place, segment) in whole.segments().iter().enumerate() {
        if place == 1 {
            joined.push(Arc::new(segment.kv.slice(0..5)));
            joined.push_rest(segment.kv.clone(), 5, joined.end());
        } else {
            joined.push(segment.kv.clone());
        }
    }
    assert_eq!(joined.end(), whole.end());
    let n_layers = decoder.config().n_layers;
    for repair in repairs() {
        let one = repair.apply(&whole, &[stale(1)], n_layers);
        let two = repair.apply(&joined, &[stale(1), stale(2)], n_layers);
        let (one, two) = (logits(&decoder, &one), logits(&decoder, &two));
        let furthest = one.iter().zip(&two).map(|(a, b)| (a - b).abs());
        let furthest = furthest.fold(0.0, f32::max);
        assert!(furthest < 4e-3, "{repair}: {furthest}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_repair_leaves_fragments_and_other_layouts_alone(
        passages in prop::collection::vec(prop::collection::vec(0u32..96, 1..30), 2..5),
        stale in prop::collection::vec(any::<bool>(), 4),
        n_header in 0usize..40,
        which in any::<prop::sample::Index>(),
    ) {
        let decoder = decoder();
        let layout = encoded(&decoder, &passages);
        let digests = |layout: &Layout| -> Vec<_> {
            layout.segments().iter().map(|s| s.kv.content_digest()).collect()
        };
        let (before, answer) = (digests(&layout), logits(&decoder, &layout));
        let stale: Vec<Stale> = (0..passages.len())
            .filter(|i| stale[*i])
            .map(|segment| Stale {
                segment,
                n_tokens: passages[segment].len(),
                n_header,
            })
            .collect();
        let repairs = repairs();
        let repair = *which.get(&repairs);
        let repaired = repair.apply(&layout, &stale, decoder.config().n_layers);
        let first = logits(&decoder, &repaired);
        prop_assert_eq!(digests(&layout), before);
        prop_assert_eq!(logits(&decoder, &layout), answer, "{}", repair);
        prop_assert_eq!(logits(&decoder, &repaired), first);
        for segment in repaired.segments() {
            let is_shared = |s: &perennial_model::layout::Segment| Arc::ptr_eq(&s.kv, &segment.kv);
            prop_assert!(layout.segments().iter().any(is_shared));
        }
    }
}
