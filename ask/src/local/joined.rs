//! How is a layout put together of passages that were encoded apart?
//!
//! Each passage is encoded alone, behind the prefix, and its fragment serves every layout. In a layout the
//! first tokens of each passage but the first are encoded once more where they stand: their fragment, the
//! *boundary*, comes before the rest of the passage's own, whose first tokens are hidden. The boundaries of
//! a layout are encoded together, in one forward pass where it has room for them.
//!
//! # Invariants
//! - What a layout consists of is a function of its plan: an exact layout has the plan's fragments, whatever
//!   was here before.
//! - A boundary behind something that only stands in for a fragment is not what the plan calls it, and is
//!   named by what it stands behind.

use perennial_bank::id::FragmentId;
use perennial_bank::live_layout::Lent;
use perennial_bank::scope::{FragmentPlan, Member, Piece};
use perennial_model::error::Error as ModelError;

use super::TensorModel;
use super::encoder::{Chain, Encoder};
use super::handed_over::StandIns;
use super::laid_out::{LaidOut, lent};

/// A passage as it is before its boundary.
enum Apart<'a> {
    /// All of it is encoded where it stands.
    InPlace(&'a Piece),
    /// What it is alone, whether that is not of a run from scratch, and what is encoded where it stands.
    Alone(Lent, bool, Option<&'a Piece>),
}

impl TensorModel {
    /// The layout of a plan with boundaries, with what stands in for its passages where it does.
    pub(super) fn joined(
        &self,
        plan: &FragmentPlan,
        stand_ins: &StandIns,
        instruction: &[u32],
        encoder: &mut Encoder<'_>,
    ) -> Result<LaidOut, ModelError> {
        let mut chain = Chain::default();
        let (mut laid_out, apart) = self.apart(plan, stand_ins, encoder, &mut chain)?;
        // What stands before the next piece, under its true names.
        let mut before = vec![plan.prefix.id];
        let mut wanted = Vec::new();
        let mut any_stale = false;
        let mut are_stale = Vec::new();
        for passage in &apart {
            let mut in_place = |piece: &Piece, before: &[FragmentId], any_stale: bool| {
                let id = match any_stale {
                    true => FragmentId::spliced(&self.identity, before, &piece.tokens),
                    false => piece.id,
                };
                wanted.push(id);
                let tokens = piece.tokens.clone();
                chain.want(Piece { id, tokens });
                id
            };
            let name = match passage {
                Apart::InPlace(piece) => in_place(piece, &before, any_stale),
                Apart::Alone(alone, is_stale, None) => {
                    chain.push(alone.kv.clone());
                    any_stale |= is_stale;
                    alone.id
                }
                Apart::Alone(alone, is_stale, Some(boundary)) => {
                    let id = in_place(boundary, &before, any_stale);
                    chain.push_rest(alone.kv.clone(), boundary.tokens.len());
                    any_stale |= is_stale;
                    FragmentId::joined(&id, &alone.id)
                }
            };
            before.push(name);
            are_stale.push(any_stale);
        }
        let instruction = self.instruction_piece(&before, instruction);
        encoder.instructed_by(instruction.as_ref());
        let is_instructed = instruction.is_some();
        wanted.extend(instruction.iter().map(|piece| piece.id));
        instruction.into_iter().for_each(|piece| chain.want(piece));
        let _claim = self.claim(&wanted);
        encoder.complete(std::slice::from_mut(&mut chain))?;
        let mut fragments: Vec<_> = chain.into_fragments().skip(1).collect();
        laid_out.instruction = fragments.pop_if(|_| is_instructed);
        let mut fragments = fragments.into_iter();
        let mut next = || {
            fragments
                .next()
                .expect("a slot of the chain for each fragment")
        };
        for ((passage, id), is_stale) in apart.into_iter().zip(before.drain(1..)).zip(are_stale) {
            let kv = next();
            match passage {
                Apart::Alone(alone, _, Some(_)) => {
                    next();
                    laid_out.push_joined(kv, alone, is_stale);
                }
                Apart::InPlace(_) => laid_out.push(Lent::new(id, kv), is_stale, None),
                Apart::Alone(alone, ..) => {
                    let codes_of = alone.codes_of;
                    laid_out.push(Lent { id, kv, codes_of }, is_stale, None);
                }
            }
        }
        Ok(laid_out)
    }

    /// The passages of a plan as each is alone, and a layout and a chain that begin with the prefix.
    fn apart<'p>(
        &self,
        plan: &'p FragmentPlan,
        stand_ins: &StandIns,
        encoder: &mut Encoder<'_>,
        chain: &mut Chain,
    ) -> Result<(LaidOut, Vec<Apart<'p>>), ModelError> {
        let own = |member: Member<'p>| match member {
            Member::InPlace(_) => None,
            Member::Own(own) | Member::Joined { own, .. } => Some(own),
        };
        let is_needed =
            |own: &&Piece| !stand_ins.contains_key(&own.id) || self.store.contains(&own.id);
        let needed: Vec<&Piece> = plan.members().filter_map(own).filter(is_needed).collect();
        let ids = needed.iter().map(|piece| piece.id);
        let ids: Vec<FragmentId> = ids.chain([plan.prefix.id]).collect();
        let _claim = self.claim(&ids);
        let prefix = encoder.prefix(&plan.prefix)?;
        chain.push(prefix.clone());
        let encoded = encoder.apart(&prefix, needed.iter().copied())?;
        let mut encoded = needed.into_iter().zip(encoded).peekable();
        let apart = plan.members().map(|member| {
            let (own, boundary) = match member {
                Member::InPlace(piece) => return Apart::InPlace(piece),
                Member::Own(own) => (own, None),
                Member::Joined { boundary, own } => (own, Some(boundary)),
            };
            match encoded.next_if(|(needed, _)| needed.id == own.id) {
                Some((_, kv)) => Apart::Alone(lent(own, kv), false, boundary),
                None => Apart::Alone(stand_ins[&own.id].clone(), true, boundary),
            }
        });
        let apart = apart.collect();
        let (laid_out, _) = LaidOut::new(plan, lent(&plan.prefix, prefix));
        Ok((laid_out, apart))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use perennial_bank::document::{DocumentKey, LayoutPassage, PassageLayout};
    use perennial_bank::fragment_store::FragmentStore;
    use perennial_bank::id::PassageId;
    use perennial_bank::scope::{self, Scope};
    use perennial_model::arithmetic::Arithmetic;
    use perennial_model::cancel::Cancel;
    use perennial_model::decoder::{Decoder, Logits, Rows};
    use perennial_model::kv::KvFragment;
    use perennial_model::layout::{Layout, Overlay};
    use perennial_model::passes::Priority;
    use perennial_model::seeded::tiny_config;
    use proptest::prelude::*;

    use super::super::tests::{Characters, model_in};
    use super::*;
    use crate::answer::{AnswerModel as _, AnswerRequest, Tolerance};

    const PREFIX: [u32; 3] = [1, 2, 3];

    fn model(store_bytes: usize) -> TensorModel {
        let codec = Characters {
            prefix: PREFIX.to_vec(),
            stop: vec![95],
            digest: 0,
        };
        let model = model_in(Arithmetic::default(), tiny_config(), codec).expect("loads");
        model.with_store(Arc::new(FragmentStore::new(store_bytes)))
    }

    /// Tokens behind a layout, one by one.
    fn encoded(decoder: &Decoder, layout: &Layout, tokens: &[u32]) -> Arc<KvFragment> {
        let mut tail = decoder.new_tail(layout.end());
        for token in tokens {
            let rows = Rows {
                layout,
                pending: &[],
                tail: &mut tail,
                tokens: &[*token],
                logits: Logits::None,
                mass: false,
            };
            decoder
                .forward(&mut [rows], &Cancel::new())
                .expect("is valid");
        }
        Arc::new(tail.freeze())
    }

    /// The layout as it is described: each passage alone behind the prefix, and its first `n` tokens
    /// behind all that stands before them.
    fn by_hand(decoder: &Decoder, passages: &[Arc<[u32]>], n: usize) -> Layout {
        let mut layout = Layout::new();
        layout.push(encoded(decoder, &layout, &PREFIX));
        let alone = layout.clone();
        for (place, passage) in passages.iter().enumerate() {
            let own = || encoded(decoder, &alone, passage);
            if place == 0 {
                layout.push(own());
            } else if passage.len() <= n {
                layout.push(encoded(decoder, &layout, passage));
            } else {
                let at = layout.end();
                layout.push(encoded(decoder, &layout, &passage[..n]));
                let hidden = Overlay::Hide { span: 0..n as u32 };
                layout.push_at(own(), at, vec![hidden]);
            }
        }
        layout
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// Whatever of it is in the store already, and where the store keeps nothing.
        #[test]
        fn a_layout_is_what_encoding_by_hand_gives(
            passages in prop::collection::vec(prop::collection::vec(0u32..95, 1..40), 0..6),
            others in prop::collection::vec(0usize..6, 0..4),
            n in 1u32..24,
            keeps in any::<bool>(),
        ) {
            let passages: Vec<Arc<[u32]>> = passages.into_iter().map(Into::into).collect();
            let model = model(if keeps { 1 << 24 } else { 0 });
            let prefix: Arc<[u32]> = PREFIX.into();
            let lay_out = |passages: &[Arc<[u32]>]| {
                let scope = Scope::Boundary { tokens: n };
                let plan = scope::plan(scope, &model.identity, &prefix, passages);
                let layout = model.lay_out(&plan, Priority::Fresh, &Cancel::new());
                (plan, layout.expect("is encoded"))
            };
            // Another order, with passages twice.
            let others = others.iter().filter_map(|place| passages.get(*place).cloned());
            let (other_plan, _) = lay_out(&others.collect::<Vec<_>>());
            let (plan, layout) = lay_out(&passages);
            let by_hand = by_hand(model.decoder(), &passages, n as usize);
            prop_assert_eq!(&*layout, &by_hand);
            let n_tokens = PREFIX.len() + passages.iter().map(|p| p.len()).sum::<usize>();
            prop_assert_eq!(layout.end() as usize, n_tokens);
            if keeps {
                // The store holds what the plans name, and nothing else.
                let named = plan.fragments().chain(other_plan.fragments());
                let named: BTreeSet<FragmentId> = named.map(|piece| piece.id).collect();
                prop_assert_eq!(model.store.ids(), named);
            }
        }
    }

    /// The tokens that an answer over these texts has encoded, of passages and their boundaries.
    fn n_encoded(model: &TensorModel, texts: &[&str], tolerance: Tolerance) -> usize {
        let passage = |text: &&str| LayoutPassage {
            document: DocumentKey::new(*text),
            ordinal: 0,
            id: PassageId::of("", text),
            title: "".into(),
            tokens: model.passage_tokens("", text).expect("tokens").into(),
            text: (*text).into(),
            is_superseded: false,
            copies: Arc::default(),
        };
        let layout = PassageLayout::new(texts.iter().map(passage).collect());
        let request = AnswerRequest {
            scope: Scope::Boundary { tokens: 8 },
            prompt: "Say.",
            question: "Why?",
            layout: &layout,
            repair: Default::default(),
            before: &Default::default(),
            tolerance,
            keeps_log: false,
            reencode: 0,
            turnover: 1.0,
            max_tokens: 4,
            sampling: Default::default(),
            priority: Priority::Fresh,
            cancel: Cancel::new(),
        };
        let outcome = model.answer(&request, &mut ()).expect("is answered");
        assert!(outcome.is_exact && outcome.drift == 0.0);
        let on_passages = (0..texts.len()).map(|place| outcome.dependencies.on(place));
        assert!(on_passages.sum::<f32>() > 0.0);
        outcome.work.n_encoded
    }

    #[test]
    fn a_change_costs_its_passage_and_the_boundaries_from_there_on() {
        for tolerance in [Tolerance::EXACT, Tolerance::BORROWED] {
            let model = model(1 << 24);
            let n_encoded = |texts: &[&str]| n_encoded(&model, texts, tolerance);
            let [a, b, c, d] = [
                "a is the first",
                "b comes behind",
                "c is here, too",
                "d is last",
            ];
            assert_eq!(n_encoded(&[a, b, c, d]), PREFIX.len() + 51 + 3 * 8);
            assert_eq!(n_encoded(&[a, b, c, d]), 0);
            // An edit in the middle, and at the beginning.
            assert_eq!(n_encoded(&[a, "B comes behind", c, d]), 14 + 3 * 8);
            assert_eq!(n_encoded(&["A is the first", b, c, d]), 14 + 3 * 8);
            // One that goes, and one that comes last.
            assert_eq!(n_encoded(&[a, b, d]), 8);
            assert_eq!(n_encoded(&[a, b, c]), 0);
            assert_eq!(n_encoded(&[a, b, c, d, "e"]), 1);
            // Others of the same collection, and another order.
            assert_eq!(n_encoded(&[c, a]), 8);
            assert_eq!(n_encoded(&[a, c, b, d]), 3 * 8);
            assert_eq!(n_encoded(&[d]), 0);
        }
    }

    #[test]
    fn behind_what_stands_in_a_boundary_has_a_name_of_its_own() {
        let model = model(1 << 24);
        let prefix: Arc<[u32]> = PREFIX.into();
        let passages: Vec<Arc<[u32]>> = (0..3).map(|i| (i..i + 20).collect()).collect();
        let scope = Scope::Boundary { tokens: 8 };
        let plan = scope::plan(scope, &model.identity, &prefix, &passages);
        // The second passage is said to be what the first is.
        let own: Vec<&Piece> = plan.pieces().collect();
        let apart = model.lay_out(&plan, Priority::Fresh, &Cancel::new());
        let first = apart.expect("is encoded").segments()[1].kv.clone();
        let model = model.with_store(Arc::new(FragmentStore::new(1 << 24)));
        let handed_over = perennial_bank::HandedOver::to(model.store.clone());
        handed_over.hold_stand_in(own[1].id, first.clone(), 20);
        let stand_ins = model.stand_ins(&plan).expect("one stands in");
        let (cancel, mut progress, mut work) = (Cancel::new(), (), Default::default());
        let mut encoder = Encoder::new(&model, Priority::Fresh, &cancel, &mut progress, &mut work);
        let joined = model.joined(&plan, &stand_ins, &[], &mut encoder);
        let joined = joined.expect("is laid out");
        assert_eq!(joined.is_stale, [false, true, true]);
        assert_eq!(joined.layout.segments()[3].kv, first);
        let held = model.store.ids();
        let holds = |piece: &Option<Piece>| piece.as_ref().is_some_and(|p| held.contains(&p.id));
        // The second's boundary stands before what stands in, the third's behind it.
        assert!(holds(&plan.boundaries[1]) && !holds(&plan.boundaries[2]));
        assert!(!held.contains(&own[1].id) && held.contains(&own[2].id));
        // What each passage has of a row: of two segments, their sum.
        let by_segment = [0.5, 0.125, 0.25, 0.0625, 0.03125, 0.015625, 0.015625];
        assert_eq!(joined.by_passage(&by_segment), [0.125, 0.3125, 0.046875]);
        assert!(joined.live().is_empty());
    }
}
