//! Who hears of a view without a queue between?
//!
//! A [`Subscription`](super::Subscription) is a mailbox: what waits in it is bounded, so of a burst
//! that is larger some words are dropped, and answers merged. Whoever keeps what a view says for many
//! readers needs each word once, in order, and where it begins. It is told on the engine's own threads.

use std::sync::{Arc, Weak};

use perennial_bank::PassageCopy;
use perennial_rows::{Schema, Tuple};
use perennial_views::Epoch;

use super::relations::RelationKind;
use super::update::{AnswerUpdate, Update};

/// Hears all that subscribers of a view are told.
///
/// # Contract
/// 1. `begin` is told first and once; nothing is told between what it holds and the next word.
///    *(the engine's part)*
/// 2. All return at once, and ask nothing of the engine: they are called by the thread that keeps every
///    view, and those that call models. What breaks this stops the engine.
pub trait Follower: Send + Sync + 'static {
    /// What stands.
    fn begin(&self, standing: Standing);

    /// What subscribers are told, as they are.
    fn hear(&self, update: &Update);

    /// Something is to be forgotten: whatever tells of answers before the present ones is to be
    /// dropped. Returns how many such texts there were.
    fn forget(&self) -> usize;

    /// For how many readers it hears: what is provisional is made exact first where most read it.
    fn n_readers(&self) -> usize;

    /// Nothing comes any more.
    fn end(&self, ending: Ending<'_>);
}

/// Why nothing is told of a view any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending<'a> {
    /// The view was dropped.
    Dropped,
    /// The engine was told to end.
    Stopped,
    /// The engine cannot go on: why, and what to do.
    Failed(&'a str),
}

/// What a view says when somebody begins to follow.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Whose epochs these are: epochs of two engines can be compared where this is the same.
    pub origin: u64,
    /// What it is declared to say, as a digest.
    pub definition: [u8; 32],
    /// What kind of view it is.
    pub kind: RelationKind,
    /// Its columns.
    pub columns: Schema,
    /// The epoch that it stands at, as it will be known after a crash; none before its first.
    pub epoch: Option<Epoch>,
    /// The answers, each as new, with the epoch in which it was last told. Before the first epoch,
    /// those of an earlier process.
    pub answers: Vec<AnswerUpdate>,
    /// Answers that were told before their epoch was complete, which it is not yet.
    pub early: Vec<AnswerUpdate>,
    /// How often each tuple of a query's result stands.
    pub rows: Vec<(Tuple, isize)>,
}

/// A follower of a view, as the hub keeps it.
pub(super) struct Following {
    pub(super) view: Arc<str>,
    /// It ends with who holds it.
    pub(super) follower: Weak<dyn Follower>,
}

/// How an answer came to lean on what it leans on.
#[derive(Clone, Debug)]
pub struct Lineage {
    /// The answer, with the question, as it stands.
    pub answer: AnswerUpdate,
    /// The passages that it was written over, in the order of their layout; none where that is not
    /// known any more, as after a restart.
    pub passages: Vec<LineagePassage>,
    /// By sub-paragraph and passage: the score of [`perennial_ask::dependency`], which comes from
    /// [`AnswerUpdate::evidence`].
    pub scores: Vec<Vec<f32>>,
    /// Tokens of the answer; 0 where its model does not tell.
    pub n_tokens: usize,
}

/// A passage of a [`Lineage`].
#[derive(Clone, Debug)]
pub struct LineagePassage {
    /// The document it was cut from.
    pub document: Arc<str>,
    /// Its place there, from 0.
    pub ordinal: u32,
    /// The document's title.
    pub title: Arc<str>,
    /// Its text, as the model read it.
    pub text: Arc<str>,
    /// Whether a newer document makes it obsolete.
    pub is_superseded: bool,
    /// Where else it stands, with the same title and text.
    pub copies: Arc<[PassageCopy]>,
}
