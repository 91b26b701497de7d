//! Who performs tasks, and what can it do?
//!
//! A [`Provider`] is a model behind any door: on this machine, or far away. It says what it can
//! ([`Capabilities`]), so that what it cannot is refused where a view is defined. A failure is no
//! output: what may succeed later is [`Failure::Retry`] and is tried again by the
//! [executor](crate::executor); only what never can is [`Failure::Final`], and becomes data.

use std::time::Duration;

use perennial_model::cancel::Cancel;
use perennial_model::passes::Priority;
use perennial_rows::Value;

use crate::answer::{CallError, Work};
use crate::cost::Prices;
use crate::task::Task;

/// Whether what names a model is the address of a server.
pub fn is_address(spec: &str) -> bool {
    spec.starts_with("http://") || spec.starts_with("https://")
}

/// What a provider can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Most positions that it attends to, in tokens: prompt and output together.
    pub n_positions: usize,
    /// Whether the same request always gives the same output. Without, what was said once stands
    /// until the request changes.
    pub is_exact: bool,
    /// Whether prompts are laid out of fragments here: other scopes than the plain prompt, and repairs
    /// of superseded passages, are had only then.
    pub edits_kv: bool,
}

/// A task over the values of one row.
#[derive(Clone, Debug)]
pub struct TaskCall<'a> {
    /// What is asked.
    pub task: &'a Task,
    /// The values of its columns, in their order; none is null.
    pub values: &'a [Value],
    /// Which other calls it goes before.
    pub priority: Priority,
    /// Raised when nobody wants the output any more.
    pub cancel: Cancel,
}

/// What a task gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Performed {
    /// The output, of the task's type.
    pub value: Value,
    /// What it cost.
    pub work: Work,
}

/// Why a call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It never will: the error is the outcome.
    #[error(transparent)]
    Final(#[from] CallError),
    /// It may, later: the provider was away, busy, or took too long.
    #[error("{reason}")]
    Retry {
        /// What happened.
        reason: String,
        /// When to ask again, where the provider said so.
        after: Option<Duration>,
    },
    /// Nothing failed: its limits allow no request before this pause has passed.
    #[error("its limits allow no request yet")]
    Wait(Duration),
}

/// A model that performs tasks.
///
/// # Contract
/// Where [`Capabilities::is_exact`], an output is a function of task and values, and `digest` covers
/// everything else that it depends on.
pub trait Provider: Send + Sync + 'static {
    /// A digest of what outputs depend on besides tasks and values.
    fn digest(&self) -> [u8; 32];

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// What its tokens cost, where that was said.
    fn prices(&self) -> Option<Prices> {
        None
    }

    /// Whether a task can be performed at all, whatever the row.
    ///
    /// # Errors
    /// Why it cannot, for people.
    fn check(&self, task: &Task) -> Result<(), String>;

    /// Performs a task.
    ///
    /// # Errors
    /// [`Failure`].
    fn perform(&self, call: &TaskCall<'_>) -> Result<Performed, Failure>;
}
