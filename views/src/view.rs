//! What a user declares: a view, by a builder.

use std::time::Duration;

use perennial_ask::Money;
use perennial_bank::turnover::MAX_TURNOVER;
use perennial_bank::{PassageSizes, Repair, Scope, choice};
use serde::{Deserialize, Serialize};

use crate::pace::Pace;

/// Dependency score of a passage that an answer does not depend on: lower ones are no rows of the
/// dependency relation. Chosen by `cargo bench --bench dependencies` at 99 % recall.
pub const DEPENDENCY_FLOOR: f32 = 0.045;

/// Which promise the answers of a view keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Policy {
    /// Emits only what a run from scratch over the same collections would emit.
    #[default]
    Exact,
    /// Emits at once, over what can be borrowed of the layout before, an answer that is
    /// marked provisional with its drift; then heals it in the background, and emits the
    /// exact answer.
    Eventual,
    /// As `Stable`, but over what can be borrowed of the layout before, and an answer is left unread
    /// where what changed is unlikely to matter to it: where its expected regret is within the bound.
    /// Audits of a sample measure the regret of such answers. Past the bound, the view falls back to
    /// `Eventual` by itself.
    Bounded {
        /// Most regret of an answer, and of audited ones on average, in thousandths of a nat a token.
        millinats: u32,
    },
    /// An answer changes only when its documents give reason to: the old one stands while its regret
    /// is within the bound. That is the mean over its tokens of by how much the likeliest is
    /// likelier, in nats, where they are read over the present documents.
    Stable {
        /// Most regret of an answer, in thousandths of a nat a token.
        millinats: u32,
    },
    /// As `Eventual`, but the answer at once goes on from the one before: the model is told behind it what
    /// changed, and asked again. Healing lays the documents out anew.
    Append,
}

/// What a policy may be, for people.
const POLICIES: &str = "expected `exact`, `eventual`, `append`, `stable:REGRET` or `bounded:REGRET`, where \
                        REGRET is in nats a token, 0.001 or more, such as bounded:0.05";

impl Policy {
    /// `BOUNDED(regret)`, in nats a token; `None` for what is no bound.
    pub fn bounded(regret: f32) -> Option<Self> {
        millinats(regret).map(|millinats| Self::Bounded { millinats })
    }

    /// `STABLE(regret)`, in nats a token; `None` for what is no bound.
    pub fn stable(regret: f32) -> Option<Self> {
        millinats(regret).map(|millinats| Self::Stable { millinats })
    }

    /// Whether answers may be left unread.
    pub fn leaves_unread(&self) -> bool {
        matches!(self, Self::Bounded { .. })
    }

    /// The most regret with which an answer stands that decoding would not give, in nats a token.
    pub fn tolerated_regret(&self) -> f32 {
        match self {
            Self::Exact | Self::Eventual | Self::Append => 0.0,
            Self::Bounded { millinats } | Self::Stable { millinats } => *millinats as f32 / 1000.0,
        }
    }
}

/// In thousandths, if it is a bound.
fn millinats(regret: f32) -> Option<u32> {
    let millinats = (regret * 1000.0).round();
    (1.0..=1e6).contains(&millinats).then_some(millinats as u32)
}

impl std::str::FromStr for Policy {
    type Err = String;

    /// `exact`, `eventual`, `append`, `stable:REGRET` or `bounded:REGRET`; also as it is printed, `STABLE(REGRET)`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.to_ascii_lowercase();
        match choice::parts(&text) {
            ("exact", None) => Some(Self::Exact),
            ("eventual", None) => Some(Self::Eventual),
            ("append", None) => Some(Self::Append),
            ("stable", Some(regret)) => regret.parse().ok().and_then(Self::stable),
            ("bounded", Some(regret)) => regret.parse().ok().and_then(Self::bounded),
            _ => None,
        }
        .ok_or_else(|| POLICIES.to_owned())
    }
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact => f.write_str("EXACT"),
            Self::Eventual => f.write_str("EVENTUAL"),
            Self::Append => f.write_str("APPEND"),
            Self::Stable { millinats } => {
                write!(f, "STABLE({})", f64::from(*millinats) / 1000.0)
            }
            Self::Bounded { millinats } => {
                write!(f, "BOUNDED({})", f64::from(*millinats) / 1000.0)
            }
        }
    }
}

/// When the answers of a view are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// All answers of an epoch at once, when the last of them is there. The view takes its next
    /// epoch after that.
    #[default]
    Epoch,
    /// Every answer when it is there. The view takes newer epochs meanwhile: they overtake what
    /// has not begun, and what nobody wants any more is dropped.
    Each,
}

impl Delivery {
    /// Whether it is the default.
    pub fn is_epoch(&self) -> bool {
        *self == Self::Epoch
    }
}

impl std::str::FromStr for Delivery {
    type Err = String;

    /// `epoch` or `each`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "epoch" => Ok(Self::Epoch),
            "each" => Ok(Self::Each),
            _ => Err("expected each or epoch".to_owned()),
        }
    }
}

impl std::fmt::Display for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Epoch => "EPOCH",
            Self::Each => "EACH",
        })
    }
}

/// In which order passages stand in a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By the time of their document version, then by key: what changed last stands last.
    UpdatedAt,
    /// By document key: an edit stays where it is.
    Key,
}

impl std::str::FromStr for Order {
    type Err = String;

    /// `updated_at` or `key`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "updated_at" => Ok(Self::UpdatedAt),
            "key" => Ok(Self::Key),
            _ => Err("expected updated_at or key".to_owned()),
        }
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::UpdatedAt => "updated_at",
            Self::Key => "key",
        })
    }
}

/// A declaration that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A view without a context stream or document stream.
    #[error("view `{view}` has no {missing}; name one with .{method}(…)")]
    Incomplete {
        /// The view.
        view: String,
        /// What is missing.
        missing: &'static str,
        /// The builder's method that gives it.
        method: &'static str,
    },
    /// The window of the model is too small for the view's limits.
    #[error(
        "view `{view}` asks for answers of up to {max_tokens} tokens, but the model attends to \
         {n_positions} tokens in all; lower max_tokens"
    )]
    WindowTooSmall {
        /// The view.
        view: String,
        /// Its limit of answer tokens.
        max_tokens: usize,
        /// Positions of the model.
        n_positions: usize,
    },
    /// A value out of its range.
    #[error("view `{view}`: {field} must be {allowed}, not {given}")]
    OutOfRange {
        /// The view.
        view: String,
        /// The field.
        field: &'static str,
        /// What is allowed.
        allowed: &'static str,
        /// What was given.
        given: String,
    },
    /// A view lays out fragments, and its model reads plain prompts.
    #[error(
        "view `{view}` wants {what}, which only a model on this machine can give; a model behind HTTP \
         reads plain prompts: leave it out, or ask another model"
    )]
    PlainPromptsOnly {
        /// The view.
        view: String,
        /// What it wants.
        what: String,
    },
}

impl Pace {
    /// Whether a view of this name can keep it.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a budget of nothing: the view would never go on.
    pub fn check(&self, view: &str) -> Result<(), Error> {
        let is_nothing = [
            (
                "calls_per_hour",
                "at least 1",
                self.calls_per_hour == Some(0),
            ),
            (
                "tokens_per_hour",
                "at least 1",
                self.tokens_per_hour == Some(0),
            ),
            (
                "cost_per_hour",
                "more than 0",
                self.cost_per_hour == Some(Money::ZERO),
            ),
        ];
        match is_nothing.into_iter().find(|(.., is_nothing)| *is_nothing) {
            Some((field, allowed, _)) => Err(Error::OutOfRange {
                view: view.to_owned(),
                field,
                allowed,
                given: "0".to_owned(),
            }),
            None => Ok(()),
        }
    }
}

/// `LLM_GENERATE` over a context stream and a document stream, kept fresh.
///
/// ```
/// use perennial_views::{Order, View};
/// use perennial_bank::Scope;
///
/// let view = View::named("replies")
///     .prompt("Write a helpful reply.")
///     .context("conversations")
///     .data_source("support_docs")
///     .scope(Scope::Window { tokens: 128 })
///     .order_by(Order::Key)
///     .max_tokens(128);
/// assert_eq!(view.plan(8192, 12).unwrap().token_budget, 2048);
/// ```
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) name: String,
    pub(crate) model: Option<String>,
    pub(crate) prompt: String,
    pub(crate) context: Option<String>,
    pub(crate) data_source: Option<String>,
    pub(crate) matching: Vec<String>,
    pub(crate) scope: Scope,
    pub(crate) order: Option<Order>,
    pub(crate) policy: Policy,
    pub(crate) delivery: Delivery,
    pub(crate) pace: Pace,
    pub(crate) superseded: Repair,
    pub(crate) reencode: usize,
    pub(crate) turnover: f32,
    pub(crate) skip_below: Option<f32>,
    pub(crate) token_budget: usize,
    pub(crate) max_tokens: usize,
    pub(crate) passage_sizes: PassageSizes,
    pub(crate) seeded: Option<(u64, f32)>,
    pub(crate) answers_without_documents: bool,
}

impl View {
    /// A view of this name, with defaults: scope `CAUSAL`, policy `EXACT`, at most 2,048
    /// tokens of passages a context, answers of at most 128 tokens, greedy decoding.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            model: None,
            prompt: "Answer the question from the documents above, in one or two sentences.".into(),
            context: None,
            data_source: None,
            matching: Vec::new(),
            scope: Scope::Causal,
            order: None,
            policy: Policy::default(),
            delivery: Delivery::default(),
            pace: Pace::default(),
            superseded: Repair::default(),
            reencode: 0,
            turnover: MAX_TURNOVER,
            skip_below: None,
            token_budget: 2048,
            max_tokens: 128,
            passage_sizes: PassageSizes::default(),
            seeded: None,
            answers_without_documents: false,
        }
    }

    /// The model that writes the answers, of those that the engine has by name; without, it is the
    /// engine's own.
    #[must_use]
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.model = Some(name.into());
        self
    }

    /// The name of the model that it asks, if it names one.
    pub fn asked_model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// How many tokens of passages a context may have by its declaration, if its model has room.
    pub fn declared_token_budget(&self) -> usize {
        self.token_budget
    }

    /// The instruction, which the model reads after the documents and before the context.
    #[must_use]
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.prompt = prompt.into();
        self
    }

    /// Whether a context that sees no document is answered all the same, from what the model knows.
    /// Without, its answer is an error that says so.
    #[must_use]
    pub fn answer_without_documents(mut self, answers: bool) -> Self {
        self.answers_without_documents = answers;
        self
    }

    /// The stream of contexts: one answer is kept for each key.
    #[must_use]
    pub fn context(mut self, source: impl Into<String>) -> Self {
        self.context = Some(source.into());
        self
    }

    /// The stream of documents.
    #[must_use]
    pub fn data_source(mut self, source: impl Into<String>) -> Self {
        self.data_source = Some(source.into());
        self
    }

    /// The columns by which contexts and documents meet: a context sees the documents that hold
    /// the same values in all of them (its session's turns, its tenant's files). A document that
    /// lacks one is seen by none. Without columns every context sees every document.
    #[must_use]
    pub fn matching<N: Into<String>>(mut self, columns: impl IntoIterator<Item = N>) -> Self {
        self.matching = columns.into_iter().map(Into::into).collect();
        self
    }

    /// What a passage may attend to when it is encoded.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// The order of passages. Without it, `CAUSAL` and `BOUNDARY` order by `updated_at`, since what
    /// stands behind a change is read again, and the other scopes by `key`.
    #[must_use]
    pub fn order_by(mut self, order: Order) -> Self {
        self.order = Some(order);
        self
    }

    /// The promise that answers keep.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// When answers are told: all of an epoch at once, unless told otherwise, or each when it is
    /// there.
    #[must_use]
    pub fn deliver(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// How long changes wait before the view takes them, with all that came since: a burst of edits
    /// is one refresh. At once unless told. Who flushes, or asks for what is visible, waits for
    /// nothing.
    #[must_use]
    pub fn target_lag(mut self, lag: Duration) -> Self {
        self.pace.target_lag = Some(lag);
        self
    }

    /// How many calls the view may make in an hour. When those of the past hour are as many, it
    /// takes no further epoch until some of them are longer ago: it is stale, and says so.
    #[must_use]
    pub fn calls_per_hour(mut self, calls: u64) -> Self {
        self.pace.calls_per_hour = Some(calls);
        self
    }

    /// How many tokens the view may forward in an hour; see [`View::calls_per_hour`].
    #[must_use]
    pub fn tokens_per_hour(mut self, tokens: u64) -> Self {
        self.pace.tokens_per_hour = Some(tokens);
        self
    }

    /// How much money the view may spend in an hour, in the currency of its models, which have prices
    /// then; see [`View::calls_per_hour`].
    #[must_use]
    pub fn cost_per_hour(mut self, cost: Money) -> Self {
        self.pace.cost_per_hour = Some(cost);
        self
    }

    /// Target lag and budgets at once, in place of those that were said.
    #[must_use]
    pub fn paced(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// What becomes of passages whose document another one supersedes. By default they are
    /// evicted: not in the layout, though the documents stay and come back if what supersedes
    /// them goes.
    #[must_use]
    pub fn superseded(mut self, repair: Repair) -> Self {
        self.superseded = repair;
        self
    }

    /// How many passages behind each change a provisional answer reads again rather than
    /// borrows; none unless told. One more costs its encoding, and brings the answer nearer to
    /// exact after deletions (`cargo bench --bench edits`).
    #[must_use]
    pub fn reencode(mut self, passages: usize) -> Self {
        self.reencode = passages;
        self
    }

    /// How much of what borrowed passages attended to may have turned over before a provisional answer reads the
    /// worst of them again, from 0 to 1; [`MAX_TURNOVER`] unless told. At 1 all that can be is borrowed, at 0 nothing
    /// whose context changed ([`perennial_bank::turnover`]).
    #[must_use]
    pub fn turnover(mut self, bound: f32) -> Self {
        self.turnover = bound;
        self
    }

    /// Under policy `BOUNDED`, the expected regret below which an answer is left unread, in nats a
    /// token: the policy's bound, unless told.
    #[must_use]
    pub fn skip_below(mut self, regret: f32) -> Self {
        self.skip_below = Some(regret);
        self
    }

    /// Most tokens of passages in one context; above it, the most relevant are selected.
    #[must_use]
    pub fn token_budget(mut self, tokens: usize) -> Self {
        self.token_budget = tokens;
        self
    }

    /// Most tokens of an answer.
    #[must_use]
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = tokens;
        self
    }

    /// Lengths of passages.
    #[must_use]
    pub fn passage_sizes(mut self, sizes: PassageSizes) -> Self {
        self.passage_sizes = sizes;
        self
    }

    /// Samples at this temperature instead of decoding greedily. The seed makes the answer
    /// a function of the collections all the same.
    #[must_use]
    pub fn sampled(mut self, seed: u64, temperature: f32) -> Self {
        self.seeded = Some((seed, temperature));
        self
    }

    /// The view's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_policy_is_read_as_it_is_typed_and_as_it_is_printed() {
        let stable = Policy::stable(0.05).expect("a bound");
        for text in ["stable:0.05", "stable:.05", "STABLE(0.05)", "Stable( .05 )"] {
            assert_eq!(text.parse(), Ok(stable), "{text}");
        }
        for wrong in [
            "stable",
            "stable()",
            "stable(x)",
            "stable(0)",
            "exact()",
            "exact:1",
            "bounded(1",
        ] {
            assert!(wrong.parse::<Policy>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_of_an_option_is_that_option(millinats in 1u32..=1_000_000) {
            for policy in [
                Policy::Exact,
                Policy::Eventual,
                Policy::Append,
                Policy::Stable { millinats },
                Policy::Bounded { millinats },
            ] {
                prop_assert_eq!(policy.to_string().parse(), Ok(policy));
            }
            for delivery in [Delivery::Epoch, Delivery::Each] {
                prop_assert_eq!(delivery.to_string().parse(), Ok(delivery));
            }
            for order in [Order::UpdatedAt, Order::Key] {
                prop_assert_eq!(order.to_string().parse(), Ok(order));
            }
        }
    }
}
