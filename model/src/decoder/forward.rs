//! The forward pass: rows through the layers, a few hundred at a time.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::PoisonError;

use rayon::prelude::*;

use super::layers::{Layer, QkNorms};
use super::{Decoder, Logits, Pending, Rows, logits};
use crate::activations::Activations;
use crate::attention::{Run, Shape, Source, Span, attend, spans_of};
use crate::awake::keep_awake;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::kv::{Strip, Tail};
use crate::lanes::{Halves, Kernel, Lane, Lanes, WIDTH};
use crate::matmul::{PackedMatrix, Product, multiply, multiply_gated};
use crate::norm::{norm_head, rms_norm};
use crate::rope::{Rope, Turn};

/// Rows computed together, which bounds the scratch memory.
const CHUNK_ROWS: usize = 512;
/// Rows whose logits are held at once.
const LOGIT_ROWS: usize = 32;

/// A stretch of one run's rows within a chunk.
pub(super) struct Piece {
    pub run: usize,
    /// Rows of the run.
    pub rows: Range<usize>,
    /// Number of the first of them in the chunk.
    pub first_row: usize,
}

/// Reads queries on their way. Where there is one, rows are computed up to its last layer only.
pub(super) struct Tap<'a> {
    /// The number of layers whose queries are read.
    pub n_layers: usize,
    /// Is given the layer, the pieces of a chunk, and its queries, not rotated.
    pub read: &'a mut (dyn FnMut(usize, &[Piece], &Activations) + Send),
}

/// A row that wants logits.
struct Wanted {
    run: usize,
    /// Among the wanted rows of its run.
    number: usize,
    /// In the chunk.
    row: usize,
}

/// Results of one run.
pub(crate) struct Forwarded<T> {
    /// One a wanted row, in order.
    pub chosen: Vec<T>,
    /// As in [`RowsOutput::mass`](super::RowsOutput).
    pub mass: Vec<Vec<f32>>,
}

impl Decoder {
    /// Computes all rows, and of each row that wants logits what `choose` makes of them: it is
    /// given the number of the run, that of the row among the wanted ones of its run, and the
    /// logits, on any thread.
    pub(crate) fn forward_with<T: Send>(
        &self,
        batch: &mut [Rows<'_>],
        cancel: &Cancel,
        choose: impl Fn(usize, usize, &[f32]) -> T + Sync,
    ) -> Result<Vec<Forwarded<T>>, Error> {
        self.forward_tapped(batch, cancel, choose, None)
    }

    /// As [`Self::forward_with`]; with a tap, tails hold no state of layers behind its last, and
    /// no row may want logits or mass.
    pub(super) fn forward_tapped<T: Send>(
        &self,
        batch: &mut [Rows<'_>],
        cancel: &Cancel,
        choose: impl Fn(usize, usize, &[f32]) -> T + Sync,
        tap: Option<Tap<'_>>,
    ) -> Result<Vec<Forwarded<T>>, Error> {
        self.check(batch)?;
        let before: Vec<usize> = batch.iter().map(|rows| rows.tail.n_tokens()).collect();
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self
            .pool
            .install(|| keep_awake(|| self.all_chunks(batch, cancel, &choose, tap)));
        if result.is_err() {
            for (rows, n) in batch.iter_mut().zip(before) {
                rows.tail.truncate(n);
            }
        }
        result
    }

    /// What the forward pass would refuse.
    pub(crate) fn check(&self, batch: &[Rows<'_>]) -> Result<(), Error> {
        for (run, rows) in batch.iter().enumerate() {
            self.check_run(rows)?;
            let mut least = 0;
            for pending in rows.pending {
                let Pending { n_back, segment } = *pending;
                let segments = least..=rows.layout.segments().len();
                if !(1..=run).contains(&n_back) || !segments.contains(&segment) {
                    return Err(Error::PendingOutOfRange {
                        run,
                        n_back,
                        segment,
                    });
                }
                least = segment;
            }
        }
        Ok(())
    }

    fn check_run(&self, rows: &Rows<'_>) -> Result<(), Error> {
        if let Some(&token) = rows
            .tokens
            .iter()
            .find(|t| **t as usize >= self.config.n_vocab)
        {
            return Err(Error::TokenOutOfRange {
                token,
                n_vocab: self.config.n_vocab,
            });
        }
        let shape = self.kv_shape();
        let fragments = rows.layout.segments().iter().map(|s| s.kv.shape());
        if let Some(got) = fragments
            .chain([rows.tail.shape()])
            .find(|got| *got != shape)
        {
            return Err(Error::ForeignKv {
                expected: shape,
                got,
            });
        }
        let end = rows.tail.start() as usize + rows.tail.n_tokens() + rows.tokens.len();
        let end = end.max(rows.layout.end() as usize);
        if end > self.config.max_positions {
            return Err(Error::PositionOutOfRange {
                end,
                max: self.config.max_positions,
            });
        }
        Ok(())
    }

    fn all_chunks<T: Send>(
        &self,
        batch: &mut [Rows<'_>],
        cancel: &Cancel,
        choose: &(impl Fn(usize, usize, &[f32]) -> T + Sync),
        mut tap: Option<Tap<'_>>,
    ) -> Result<Vec<Forwarded<T>>, Error> {
        let layouts: Vec<_> = batch.iter().map(|rows| rows.layout).collect();
        let sources: Vec<Vec<Source<'_>>> = layouts
            .iter()
            .map(|layout| layout.segments().iter().map(Source::of).collect())
            .collect();
        let nothing = |_: &Rows<'_>| Forwarded {
            chosen: Vec::new(),
            mass: Vec::new(),
        };
        let mut forwarded: Vec<_> = batch.iter().map(nothing).collect();
        for pieces in cut(batch.iter().map(|rows| rows.tokens.len())) {
            let wanted = wanted(batch, &pieces);
            let (x, mass) = self.chunk(batch, &sources, &pieces, &wanted, cancel, tap.as_mut())?;
            for (wanted, chosen) in wanted.iter().zip(self.choose(&x, &wanted, choose)) {
                forwarded[wanted.run].chosen.push(chosen);
            }
            let mut mass = mass.into_iter();
            for piece in &pieces {
                let of_piece = mass.by_ref().take(piece.rows.len());
                if batch[piece.run].mass {
                    forwarded[piece.run].mass.extend(of_piece);
                } else {
                    of_piece.for_each(drop);
                }
            }
        }
        Ok(forwarded)
    }

    /// One chunk through all layers. Yields the residual stream of wanted rows, and a mass for
    /// every row, empty unless any run of the chunk wants it.
    fn chunk(
        &self,
        batch: &mut [Rows<'_>],
        sources: &[Vec<Source<'_>>],
        pieces: &[Piece],
        wanted: &[Wanted],
        cancel: &Cancel,
        mut tap: Option<&mut Tap<'_>>,
    ) -> Result<(Activations, Vec<Vec<f32>>), Error> {
        let c = &self.config;
        let n_rows = pieces.iter().map(|p| p.rows.len()).sum();
        let mut x = Activations::zeros(n_rows, c.d_model);
        for piece in pieces {
            for (i, row) in piece.rows.clone().enumerate() {
                let token = batch[piece.run].tokens[row] as usize;
                let mut embedding = self.layers.embedding.row(token);
                embedding.iter_mut().for_each(|e| *e *= c.scales.embedding);
                x.set_row(piece.first_row + i, &embedding);
            }
        }
        let firsts: Vec<usize> = pieces
            .iter()
            .map(|piece| batch[piece.run].tail.grow(piece.rows.len()))
            .collect();
        let spans: Vec<Vec<Span>> = {
            let tails = tails(batch);
            let of_piece = |(piece, first): (&Piece, &usize)| {
                let sources = with_pending(&sources[piece.run], batch, piece.run, &tails);
                spans_of(&sources, first + piece.rows.len())
            };
            pieces.iter().zip(&firsts).map(of_piece).collect()
        };
        let want_mass = pieces.iter().any(|piece| batch[piece.run].mass);
        let mass_layers = c.n_layers / 2..c.n_layers;
        let mut mass = vec![Vec::new(); n_rows];
        let d_attn = c.n_heads * c.head_dim;
        let d_kv = c.n_kv_heads * c.head_dim;
        let n_layers = tap.as_ref().map_or(c.n_layers, |tap| tap.n_layers);
        for (number, layer) in self.layers.layers[..n_layers].iter().enumerate() {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let last = number + 1 == n_layers;
            let mut queries = Activations::zeros(n_rows, d_attn);
            let mut keys = Activations::zeros(n_rows, d_kv);
            let mut values = Activations::zeros(n_rows, d_kv);
            let normed = self.normed(&layer.attn_norm, &x);
            let bias = |i: usize| layer.biases.as_ref().map(|b| &b[i][..]);
            let mut products = vec![
                Product {
                    weights: &layer.key,
                    bias: bias(1),
                    out: &mut keys,
                    add: None,
                },
                Product {
                    weights: &layer.value,
                    bias: bias(2),
                    out: &mut values,
                    add: None,
                },
            ];
            let of_layer = want_mass && mass_layers.contains(&number);
            let idle = last && wanted.is_empty() && !of_layer && tap.is_none();
            if !idle {
                let weights = &layer.query;
                products.push(Product {
                    weights,
                    bias: bias(0),
                    out: &mut queries,
                    add: None,
                });
            }
            multiply(self.isa, &normed, products);
            self.norm_keys(layer, &mut keys);
            for (piece, first) in pieces.iter().zip(&firsts) {
                let tail = &mut *batch[piece.run].tail;
                self.remember(tail, number, piece, *first, &keys, &values);
            }
            if idle {
                break;
            }
            self.norm_queries(layer, &mut queries);
            if let Some(tap) = &mut tap {
                (tap.read)(number, pieces, &queries);
                if last {
                    break;
                }
            }
            let tails = tails(batch);
            let runs: Vec<Run<'_>> = pieces
                .iter()
                .zip(firsts.iter().zip(&spans))
                .map(|(piece, (first, spans))| Run {
                    sources: with_pending(&sources[piece.run], batch, piece.run, &tails),
                    spans,
                    tail: batch[piece.run].tail,
                    first_row: piece.first_row,
                    n_rows: piece.rows.len(),
                    first_token: *first,
                })
                .collect();
            let mut attended = Activations::zeros(n_rows, d_attn);
            let sums = of_layer.then_some(&mut mass[..]);
            attend(
                self.isa,
                &self.shape(number),
                number,
                &runs,
                &queries,
                &mut attended,
                sums,
            );
            if last && wanted.is_empty() {
                break;
            }
            if last && wanted.len() < n_rows {
                let rows: Vec<usize> = wanted.iter().map(|wanted| wanted.row).collect();
                (x, attended) = (x.select(&rows), attended.select(&rows));
            }
            self.finish_layer(layer, &mut x, &attended);
        }
        let n_heads = (mass_layers.len() * c.n_heads) as f32;
        mass.iter_mut().flatten().for_each(|m| *m /= n_heads);
        Ok((x, mass))
    }

    /// What attention needs to know of a layer.
    fn shape(&self, layer: usize) -> Shape<'_> {
        let c = &self.config;
        Shape {
            group: c.n_heads / c.n_kv_heads,
            n_kv_heads: c.n_kv_heads,
            head_dim: c.head_dim,
            rope: self.ropes.of_layer(layer),
            scale: c.attention_scale(),
            cap: c.soft_caps.scores,
            window: c.window_of(layer),
        }
    }

    /// Output projection and feed-forward, added to the residual stream.
    fn finish_layer(&self, layer: &Layer, x: &mut Activations, attended: &Activations) {
        let c = &self.config;
        self.add(x, attended, &layer.attn_output, &layer.attn_post_norm);
        let normed = self.normed(&layer.ffn_norm, x);
        let mut inner = Activations::zeros(x.n_rows(), c.d_ff);
        let weights = [&layer.gate, &layer.up];
        multiply_gated(self.isa, &normed, c.activation, weights, &mut inner);
        self.add(x, &inner, &layer.down, &layer.ffn_post_norm);
    }

    /// The residual stream as a block reads it.
    fn normed<'a>(&self, norm: &Option<Vec<Lane>>, x: &'a Activations) -> Cow<'a, Activations> {
        let c = &self.config;
        match norm {
            Some(weights) => Cow::Owned(rms_norm(self.isa, x, weights, c.d_model, c.norm_eps)),
            None => Cow::Borrowed(x),
        }
    }

    /// Adds what a block makes of `inner` to the residual stream.
    fn add(
        &self,
        x: &mut Activations,
        inner: &Activations,
        weights: &PackedMatrix,
        norm: &Option<Vec<Lane>>,
    ) {
        let c = &self.config;
        let scale = c.scales.residual;
        let Some(norm) = norm else {
            let product = Product {
                weights,
                bias: None,
                out: x,
                add: Some(scale),
            };
            return multiply(self.isa, inner, vec![product]);
        };
        let mut made = Activations::zeros(x.n_rows(), c.d_model);
        let product = Product {
            weights,
            bias: None,
            out: &mut made,
            add: None,
        };
        multiply(self.isa, inner, vec![product]);
        let made = rms_norm(self.isa, &made, norm, c.d_model, c.norm_eps);
        x.add_scaled(&made, scale);
    }

    fn norm_queries(&self, layer: &Layer, queries: &mut Activations) {
        let n_heads = self.config.n_heads;
        match &layer.qk_norms {
            QkNorms::None => {}
            QkNorms::EachHead([weights, _]) => self.norm_heads(queries, n_heads, weights),
            QkNorms::AllHeads([weights, _]) => self.norm_all_heads(queries, n_heads, weights),
        }
    }

    fn norm_keys(&self, layer: &Layer, keys: &mut Activations) {
        let n_heads = self.config.n_kv_heads;
        match &layer.qk_norms {
            QkNorms::None => {}
            QkNorms::EachHead([_, weights]) => self.norm_heads(keys, n_heads, weights),
            QkNorms::AllHeads([_, weights]) => self.norm_all_heads(keys, n_heads, weights),
        }
    }

    fn norm_all_heads(&self, x: &mut Activations, n_heads: usize, weights: &[Lane]) {
        let c = &self.config;
        *x = rms_norm(self.isa, x, weights, n_heads * c.head_dim, c.norm_eps);
    }

    fn norm_heads(&self, x: &mut Activations, n_heads: usize, weight: &[f32]) {
        let head_dim = self.config.head_dim;
        let n_rows = x.n_rows();
        let panels = head_dim / WIDTH;
        let eps = self.config.norm_eps;
        x.lanes_mut()
            .par_chunks_mut(panels * n_rows)
            .take(n_heads)
            .for_each(|lanes| {
                let mut head = vec![0.0; head_dim];
                for row in 0..n_rows {
                    let of_row = || (row..panels * n_rows).step_by(n_rows);
                    for (x, i) in head.as_chunks_mut().0.iter_mut().zip(of_row()) {
                        *x = lanes[i].0;
                    }
                    norm_head(&mut head, weight, eps);
                    for (x, i) in head.as_chunks().0.iter().zip(of_row()) {
                        lanes[i].0 = *x;
                    }
                }
            });
    }

    /// Writes the keys (rotated) and values of a piece into its tail.
    fn remember(
        &self,
        tail: &mut Tail,
        layer: usize,
        piece: &Piece,
        first_token: usize,
        keys: &Activations,
        values: &Activations,
    ) {
        let (isa, head_dim) = (self.isa, self.config.head_dim);
        let rope = self.ropes.of_layer(layer);
        let store = |(kv_head, strip): (usize, &mut Strip)| {
            isa.run(Store {
                rope,
                head_dim,
                kv_head,
                strip,
                piece,
                first_token,
                keys,
                values,
            });
        };
        let strips = tail.strips_mut(layer);
        if piece.rows.len() < 8 {
            strips.iter_mut().enumerate().for_each(store);
        } else {
            strips.par_iter_mut().enumerate().for_each(store);
        }
    }

    /// What `choose` makes of the logits of wanted rows, of which `x` holds the residual
    /// stream.
    fn choose<T: Send>(
        &self,
        x: &Activations,
        wanted: &[Wanted],
        choose: &(impl Fn(usize, usize, &[f32]) -> T + Sync),
    ) -> Vec<T> {
        let mut chosen = Vec::with_capacity(wanted.len());
        if wanted.is_empty() {
            return chosen;
        }
        let c = &self.config;
        let normed = rms_norm(self.isa, x, &self.layers.output_norm, c.d_model, c.norm_eps);
        let weights = self.layers.head();
        for (number, wanted) in wanted.chunks(LOGIT_ROWS).enumerate() {
            let (first, n) = (number * LOGIT_ROWS, wanted.len());
            let rows: Vec<usize> = (first..first + n).collect();
            let mut out = Activations::zeros(n, c.n_vocab);
            let product = Product {
                weights,
                bias: None,
                out: &mut out,
                add: None,
            };
            multiply(self.isa, &normed.select(&rows), vec![product]);
            logits::finish(self.isa, c, &mut out);
            let of_row = wanted
                .par_iter()
                .with_max_len(1)
                .enumerate()
                .map(|(row, wanted)| {
                    let mut logits = vec![0.0; c.n_vocab];
                    out.read_row(row, 0, &mut logits);
                    choose(wanted.run, wanted.number, &logits)
                });
            chosen.par_extend(of_row);
        }
        chosen
    }
}

/// Cuts the runs, one after the other, into chunks of at most [`CHUNK_ROWS`].
fn cut(lengths: impl Iterator<Item = usize>) -> Vec<Vec<Piece>> {
    let mut chunks: Vec<Vec<Piece>> = Vec::new();
    let mut filled = CHUNK_ROWS;
    for (run, n_rows) in lengths.enumerate() {
        let mut first = 0;
        while first < n_rows {
            if filled == CHUNK_ROWS {
                chunks.push(Vec::new());
                filled = 0;
            }
            let n = (n_rows - first).min(CHUNK_ROWS - filled);
            let piece = Piece {
                run,
                rows: first..first + n,
                first_row: filled,
            };
            chunks.last_mut().expect("a chunk was begun").push(piece);
            first += n;
            filled += n;
        }
    }
    chunks
}

/// The tails of all runs.
fn tails<'a>(batch: &'a [Rows<'_>]) -> Vec<Source<'a>> {
    batch
        .iter()
        .map(|rows| Source::of_tail(rows.tail))
        .collect()
}

/// What run number `run` attends to, in order: its layout's sources, and among them the tails
/// of runs that are pending.
fn with_pending<'a>(
    of_layout: &'a [Source<'a>],
    batch: &[Rows<'_>],
    run: usize,
    tails: &'a [Source<'a>],
) -> Vec<&'a Source<'a>> {
    let pending = batch[run].pending;
    let mut sources = Vec::with_capacity(of_layout.len() + pending.len());
    let mut next = 0;
    for Pending { n_back, segment } in pending {
        sources.extend(&of_layout[next..*segment]);
        sources.push(&tails[run - n_back]);
        next = *segment;
    }
    sources.extend(&of_layout[next..]);
    sources
}

/// Every row that wants logits.
fn wanted(batch: &[Rows<'_>], pieces: &[Piece]) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for piece in pieces {
        let rows = &batch[piece.run];
        let from = match rows.logits {
            Logits::None => continue,
            Logits::Last => rows.tokens.len().saturating_sub(1),
            Logits::From(n) => n,
        };
        let of_piece = piece
            .rows
            .clone()
            .enumerate()
            .filter(|(_, row)| *row >= from);
        wanted.extend(of_piece.map(|(i, row)| Wanted {
            run: piece.run,
            number: row - from,
            row: piece.first_row + i,
        }));
    }
    wanted
}

/// Rotates and stores one head's keys and values.
struct Store<'a> {
    rope: &'a Rope,
    head_dim: usize,
    kv_head: usize,
    strip: &'a mut Strip,
    piece: &'a Piece,
    first_token: usize,
    keys: &'a Activations,
    values: &'a Activations,
}

impl Kernel for Store<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let mut turn = Turn::default();
        let mut head = vec![0.0; self.head_dim];
        let mut key = vec![Halves::ZERO; self.head_dim / WIDTH];
        let mut value = key.clone();
        for i in 0..self.piece.rows.len() {
            let (row, token) = (self.piece.first_row + i, self.first_token + i);
            self.keys
                .read_row(row, self.kv_head * self.head_dim, &mut head);
            self.rope.turn(token as i64, &mut turn);
            turn.apply(&mut head);
            for (half, x) in key.iter_mut().zip(head.as_chunks().0) {
                l.store_f16(l.load(&Lane(*x)), half);
            }
            self.values
                .read_row(row, self.kv_head * self.head_dim, &mut head);
            for (half, x) in value.iter_mut().zip(head.as_chunks().0) {
                l.store_f16(l.load(&Lane(*x)), half);
            }
            self.strip.set(token, &key, &value);
        }
    }
}
