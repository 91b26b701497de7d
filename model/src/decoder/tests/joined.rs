//! Passages that were encoded apart, each with its first tokens encoded again where it stands, against
//! plain loops.

use super::*;

/// How much further off than one fragment rows may be that stand behind several.
const SLACK: f64 = 2.0;

/// What is attended to: by the decoder, and by plain loops.
struct Both<'a> {
    decoder: &'a Decoder,
    naive: &'a Naive<'a>,
    layout: Layout,
    seen: Vec<Seen>,
}

impl Both<'_> {
    /// Tokens behind all that stands, as a segment of this number.
    fn encode(&self, tokens: &[u32], segment: usize) -> (Arc<KvFragment>, Vec<Seen>) {
        let start = self.layout.end();
        let mut tail = self.decoder.new_tail(start);
        run(self.decoder, &self.layout, &mut tail, tokens, false);
        let mut seen = self.seen.clone();
        for (i, token) in tokens.iter().enumerate() {
            self.naive
                .step(&mut seen, *token, i64::from(start), i as i64, segment);
        }
        (Arc::new(tail.freeze()), seen.split_off(self.seen.len()))
    }

    /// Appends what behind the first `n` tokens of a segment comes, and hides these.
    fn push_rest(&mut self, (kv, tokens): (Arc<KvFragment>, Vec<Seen>), n: usize, segment: usize) {
        let at = self.layout.end();
        let rest = tokens.into_iter().enumerate().skip(n);
        self.seen.extend(rest.map(|(i, token)| Seen {
            position: i64::from(at) + (i - n) as i64,
            segment,
            ..token
        }));
        self.layout.push_rest(kv, n as u32, at);
    }

    fn push(&mut self, (kv, tokens): (Arc<KvFragment>, Vec<Seen>)) {
        self.layout.push(kv);
        self.seen.extend(tokens);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn the_first_tokens_of_passages_that_were_encoded_apart_are_encoded_again_in_place(
        config in config(),
        seed in any::<u64>(),
        prefix in prop::collection::vec(0u32..96, 1..10),
        passages in prop::collection::vec(prop::collection::vec(0u32..96, 1..30), 1..4),
        prompt in prop::collection::vec(0u32..96, 1..10),
        n in 1usize..20,
    ) {
        let source = tiny(&config, seed);
        let decoder = load(Isa::best(), &config, seed, 2);
        let naive = Naive { config: &config, source: &source };
        let (decoder, naive) = (&decoder, &naive);
        let mut alone = Both { decoder, naive, layout: Layout::new(), seen: Vec::new() };
        alone.push(alone.encode(&prefix, 0));
        let mut joined = Both {
            layout: alone.layout.clone(),
            seen: alone.seen.clone(),
            ..alone
        };
        let mut segment = 1;
        for (place, passage) in passages.iter().enumerate() {
            let own = alone.encode(passage, segment);
            let n = n.min(passage.len());
            if place == 0 {
                joined.push_rest(own, 0, segment);
            } else {
                joined.push(joined.encode(&passage[..n], segment));
                if n < passage.len() {
                    segment += 1;
                    joined.push_rest(own, n, segment);
                }
            }
            segment += 1;
        }
        let n_tokens = prefix.len() + passages.iter().map(Vec::len).sum::<usize>();
        prop_assert_eq!(joined.layout.end() as usize, n_tokens);
        let mut tail = decoder.new_tail(joined.layout.end());
        let got = run(decoder, &joined.layout, &mut tail, &prompt, true);
        let mut seen = joined.seen;
        for (i, token) in prompt.iter().enumerate() {
            let want = naive.step(&mut seen, *token, n_tokens as i64, i as i64, segment);
            let got_logits = &got.logits[i * config.n_vocab..][..config.n_vocab];
            for (a, b) in got_logits.iter().zip(&want.logits) {
                let off = (f64::from(*a) - b).abs();
                prop_assert!(off < 4e-3 * SLACK * slack(&config), "row {}: {} is not {}", i, a, b);
            }
            prop_assert_eq!(got.mass[i].len(), segment + 1);
            for (a, b) in got.mass[i].iter().zip(&want.mass) {
                let off = (f64::from(*a) - b).abs();
                prop_assert!(off < 2e-3 * SLACK * slack(&config), "row {}: {} is not {}", i, a, b);
            }
        }
    }
}
