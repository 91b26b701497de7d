//! What do tokens ask, in a few heads? Their queries, before rotation.
//!
//! Rows are computed as for any pass, but up to the last layer that is asked for, and without
//! anything behind its queries.

use super::forward::{Piece, Tap};
use super::{Decoder, Logits, Rows};
use crate::activations::Activations;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::kv::KvFragment;
use crate::layout::Layout;

/// A query head of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryHead {
    /// The layer, from 0.
    pub layer: usize,
    /// The query head, from 0.
    pub head: usize,
}

/// Queries of consecutive tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenQueries {
    heads: Vec<QueryHead>,
    n_tokens: usize,
    head_dim: usize,
    /// `[n_heads][n_tokens][head_dim]`, with the bias of their projection, not rotated; dimensions in
    /// the order in which the decoder has them.
    queries: Vec<f32>,
}

impl TokenQueries {
    /// The heads, in the order in which they were asked for.
    pub fn heads(&self) -> &[QueryHead] {
        &self.heads
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Width of one query.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The queries of head number `n` of [`Self::heads`]: `[n_tokens][head_dim]`.
    pub fn of_head(&self, n: usize) -> &[f32] {
        let len = self.n_tokens * self.head_dim;
        &self.queries[n * len..][..len]
    }

    /// The same of some of the heads, by their numbers.
    pub fn select(&self, numbers: &[usize]) -> Self {
        Self {
            heads: numbers.iter().map(|n| self.heads[*n]).collect(),
            queries: numbers
                .iter()
                .flat_map(|n| self.of_head(*n))
                .copied()
                .collect(),
            ..*self
        }
    }
}

/// What a pass up to some layer leaves of each text.
pub(crate) struct Read {
    pub queries: TokenQueries,
    /// Holds no state of layers behind the last that was read.
    pub kv: KvFragment,
}

impl Decoder {
    /// The queries of each text's tokens, read behind `layout`, in these heads.
    ///
    /// # Errors
    /// As [`Self::forward`], and [`Error::UnsupportedShape`] for a head that the model has not.
    pub fn queries(
        &self,
        layout: &Layout,
        texts: &[&[u32]],
        heads: &[QueryHead],
        cancel: &Cancel,
    ) -> Result<Vec<TokenQueries>, Error> {
        let n_layers = heads.iter().map(|head| head.layer + 1).max().unwrap_or(0);
        let read = self.read(layout, texts, heads, n_layers, cancel)?;
        Ok(read.into_iter().map(|read| read.queries).collect())
    }

    /// Reads each text behind `layout` through the first `n_layers` layers, which are all that state is
    /// kept of, and takes the queries of these heads.
    ///
    /// # Errors
    /// As [`Self::queries`].
    pub(crate) fn read(
        &self,
        layout: &Layout,
        texts: &[&[u32]],
        heads: &[QueryHead],
        n_layers: usize,
        cancel: &Cancel,
    ) -> Result<Vec<Read>, Error> {
        let c = &self.config;
        let foreign = |head: &&QueryHead| head.layer >= c.n_layers || head.head >= c.n_heads;
        if let Some(head) = heads.iter().find(foreign) {
            return Err(Error::UnsupportedShape {
                what: "query head",
                got: head.layer * c.n_heads + head.head,
                expected: "a head of one of the model's layers",
            });
        }
        let head_dim = c.head_dim;
        let nothing = |text: &&[u32]| TokenQueries {
            heads: heads.to_vec(),
            n_tokens: text.len(),
            head_dim,
            queries: vec![0.0; heads.len() * text.len() * head_dim],
        };
        let mut found: Vec<TokenQueries> = texts.iter().map(nothing).collect();
        let mut tails = vec![self.new_tail(layout.end()); texts.len()];
        if n_layers > 0 {
            let mut read = |layer: usize, pieces: &[Piece], queries: &Activations| {
                let here = heads.iter().enumerate().filter(|(_, h)| h.layer == layer);
                for (number, head) in here {
                    for piece in pieces {
                        let of_text = &mut found[piece.run];
                        let first = number * of_text.n_tokens;
                        for (i, row) in piece.rows.clone().enumerate() {
                            let to = &mut of_text.queries[(first + row) * head_dim..][..head_dim];
                            queries.read_row(piece.first_row + i, head.head * head_dim, to);
                        }
                    }
                }
            };
            let rows = |(tail, tokens)| Rows {
                layout,
                pending: &[],
                tail,
                tokens,
                logits: Logits::None,
                mass: false,
            };
            let mut batch: Vec<Rows<'_>> = tails
                .iter_mut()
                .zip(texts.iter().copied())
                .map(rows)
                .collect();
            let tap = Tap {
                n_layers: n_layers.min(c.n_layers),
                read: &mut read,
            };
            self.forward_tapped(&mut batch, cancel, |_, _, _| (), Some(tap))?;
        }
        let read = found.into_iter().zip(tails);
        let read = read.map(|(queries, tail)| Read {
            queries,
            kv: tail.freeze(),
        });
        Ok(read.collect())
    }
}
