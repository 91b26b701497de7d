//! The logical plan of a view: everything decided, nothing built.

use std::fmt;
use std::sync::Arc;

use perennial_ask::{MAX_OUTPUT_TOKENS, Sampling};
use perennial_bank::repair::{Band, Extent, Part};
use perennial_bank::turnover::MAX_TURNOVER;
use perennial_bank::{PassageSizes, Repair, Scope};

use serde::{Deserialize, Serialize};

use crate::pace::Pace;
use crate::view::{Delivery, Error, Order, Policy, View};

/// Tokens set aside for instruction and question where the window is the limit.
const QUESTION_ALLOWANCE: usize = 512;

/// A view with every default filled in for one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The view's name.
    pub name: Arc<str>,
    /// The model that writes the answers; the engine's own without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// Name of the context stream.
    pub context: Arc<str>,
    /// Name of the document stream.
    pub data_source: Arc<str>,
    /// Columns by which contexts and documents meet; none where every context sees every document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matching: Vec<Arc<str>>,
    /// The instruction.
    pub prompt: Arc<str>,
    /// What passages may attend to.
    pub scope: Scope,
    /// Their order in a layout.
    pub order: Order,
    /// The promise of the answers.
    pub policy: Policy,
    /// When they are told.
    #[serde(default, skip_serializing_if = "Delivery::is_epoch")]
    pub delivery: Delivery,
    /// When the view takes its epochs, as it was declared.
    #[serde(default, skip_serializing_if = "Pace::is_unlimited")]
    pub pace: Pace,
    /// What is laid on passages of superseded documents.
    pub superseded: Repair,
    /// Passages behind a change that a provisional answer encodes again.
    pub reencode: usize,
    /// Turnover of a layout from which on a provisional answer encodes again what it would borrow, the worst first.
    #[serde(default = "max_turnover", skip_serializing_if = "is_max_turnover")]
    pub turnover: f32,
    /// Expected regret below which an answer may be left unread, in nats a token; the policy's bound
    /// without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_below: Option<f32>,
    /// Most tokens of passages a context.
    pub token_budget: usize,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Lengths of passages.
    pub passage_sizes: PassageSizes,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Whether a context that sees no document is answered all the same.
    #[serde(default, skip_serializing_if = "is_false")]
    pub answers_without_documents: bool,
}

/// For fields that are written only where they say something.
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Plan {
    /// Whether plain prompts are all that it needs of its model.
    ///
    /// # Errors
    /// [`Error::PlainPromptsOnly`].
    pub fn check_plain(&self) -> Result<(), Error> {
        let what = match (self.scope, self.superseded) {
            (Scope::Causal, Repair::Evict) if self.policy == Policy::Append => {
                "the policy `append`"
            }
            (Scope::Causal, Repair::Evict) => return Ok(()),
            (Scope::Causal, _) => "superseded passages repaired where they stand",
            (Scope::Window { .. }, _) => "the scope `window`",
            (Scope::Independent, _) => "the scope `independent`",
            (Scope::Boundary { .. }, _) => "the scope `boundary`",
        };
        Err(Error::PlainPromptsOnly {
            view: self.name.to_string(),
            what: what.to_owned(),
        })
    }
}

impl View {
    /// The plan of this view for a model that attends to `n_positions` tokens, of which
    /// `n_prefix` stand before the documents.
    ///
    /// # Errors
    /// [`Error`] where the declaration is incomplete or does not fit the model.
    pub fn plan(&self, n_positions: usize, n_prefix: usize) -> Result<Plan, Error> {
        let required = |given: &Option<String>, missing, method| match given {
            Some(name) => Ok(Arc::from(name.as_str())),
            None => Err(Error::Incomplete {
                view: self.name.clone(),
                missing,
                method,
            }),
        };
        let out_of_range = |field, allowed, given: String| {
            Err(Error::OutOfRange {
                view: self.name.clone(),
                field,
                allowed,
                given,
            })
        };
        if !(1..=MAX_OUTPUT_TOKENS).contains(&self.max_tokens) {
            return out_of_range("max_tokens", "1 to 1000000", self.max_tokens.to_string());
        }
        if self.passage_sizes.max < 16 || self.passage_sizes.min > self.passage_sizes.max {
            let given = format!("{}..={}", self.passage_sizes.min, self.passage_sizes.max);
            return out_of_range(
                "passage_sizes",
                "min <= max, and max at least 16 bytes",
                given,
            );
        }
        let is_bound = |regret: &f32| regret.is_finite() && *regret >= 0.0;
        if let Some(regret) = self.skip_below.filter(|regret| !is_bound(regret)) {
            return out_of_range("skip_below", "0 or more", regret.to_string());
        }
        if !(0.0..=1.0).contains(&self.turnover) {
            return out_of_range("turnover", "0 to 1", self.turnover.to_string());
        }
        match self.scope {
            Scope::Window { tokens: 0 } => {
                let allowed = "WINDOW(1) or more (or INDEPENDENT)";
                return out_of_range("scope", allowed, self.scope.to_string());
            }
            Scope::Boundary { tokens: 0 } => {
                let allowed = "BOUNDARY(1) or more (or INDEPENDENT)";
                return out_of_range("scope", allowed, self.scope.to_string());
            }
            _ => {}
        }
        if let Some((_, temperature)) = self.seeded
            && !(temperature.is_finite() && temperature > 0.0)
        {
            return out_of_range("temperature", "above 0", temperature.to_string());
        }
        if let Some(twice) = (self.matching.iter().enumerate())
            .find(|(at, name)| self.matching[..*at].contains(name))
        {
            return out_of_range("matching", "columns, each named once", twice.1.clone());
        }
        self.pace.check(&self.name)?;
        let around = n_prefix.saturating_add(QUESTION_ALLOWANCE);
        let outside_passages = around.saturating_add(self.max_tokens);
        let Some(room) = n_positions
            .checked_sub(outside_passages)
            .filter(|room| *room > 0)
        else {
            return Err(Error::WindowTooSmall {
                view: self.name.clone(),
                max_tokens: self.max_tokens,
                n_positions,
            });
        };
        let default_order = match self.scope {
            // What stands behind a change is encoded again.
            Scope::Causal | Scope::Boundary { .. } => Order::UpdatedAt,
            Scope::Window { .. } | Scope::Independent => Order::Key,
        };
        Ok(Plan {
            name: self.name.as_str().into(),
            model: self.model.as_deref().map(Arc::from),
            context: required(&self.context, "context stream", "context")?,
            data_source: required(&self.data_source, "document stream", "data_source")?,
            matching: self
                .matching
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            prompt: self.prompt.as_str().into(),
            scope: self.scope,
            order: self.order.unwrap_or(default_order),
            policy: self.policy,
            delivery: self.delivery,
            pace: self.pace,
            superseded: self.superseded,
            reencode: self.reencode,
            turnover: self.turnover,
            skip_below: self.skip_below,
            token_budget: self.token_budget.min(room),
            max_tokens: self.max_tokens,
            passage_sizes: self.passage_sizes,
            sampling: match self.seeded {
                None => Sampling::Greedy,
                Some((seed, temperature)) => Sampling::Seeded {
                    seed,
                    temperature,
                    top_k: 0,
                    top_p: 1.0,
                },
            },
            answers_without_documents: self.answers_without_documents,
        })
    }
}

impl Plan {
    /// Digest of all that the answers depend on besides rows, under models of these digests. When
    /// they are asked for and told is no part of it.
    ///
    /// The text that is hashed is written out here, field by field, so that a field which is
    /// renamed or added changes no identity: state directories hold these digests.
    pub fn definition(&self, model: &[u8; 32], embedder: &[u8; 32]) -> [u8; 32] {
        let Self {
            name,
            // By its digest.
            model: _,
            context,
            data_source,
            matching,
            prompt,
            scope,
            order,
            policy,
            delivery: _,
            pace: _,
            superseded,
            reencode,
            turnover,
            skip_below,
            token_budget,
            max_tokens,
            passage_sizes,
            sampling,
            answers_without_documents,
        } = self;
        let scope = match scope {
            Scope::Causal => "Causal".to_owned(),
            Scope::Window { tokens } => format!("Window {{ tokens: {tokens} }}"),
            Scope::Independent => "Independent".to_owned(),
            Scope::Boundary { tokens } => format!("Boundary {{ tokens: {tokens} }}"),
        };
        let superseded = repair_text(*superseded);
        let order = match order {
            Order::UpdatedAt => "UpdatedAt",
            Order::Key => "Key",
        };
        let policy = match policy {
            Policy::Exact => "Exact".to_owned(),
            Policy::Eventual => "Eventual".to_owned(),
            Policy::Append => "Append".to_owned(),
            Policy::Bounded { millinats } => format!("Bounded {{ millinats: {millinats} }}"),
            Policy::Stable { millinats } => format!("Stable {{ millinats: {millinats} }}"),
        };
        // What it was before it could be left unsaid.
        let skip_below = skip_below.unwrap_or(0.045);
        let sizes = format!(
            "PassageSizes {{ min: {}, max: {} }}",
            passage_sizes.min, passage_sizes.max
        );
        let mut text = format!(
            "Plan {{ name: {name:?}, context: {context:?}, data_source: {data_source:?}, prompt: \
             {prompt:?}, scope: {scope}, order: {order}, policy: {policy}, superseded: \
             {superseded}, reencode: {reencode}, skip_below: {skip_below:?}, token_budget: \
             {token_budget}, max_tokens: {max_tokens}, passage_sizes: {sizes}, sampling: {} }}",
            sampling_text(sampling)
        );
        // Behind the rest, and only where it is said.
        if !matching.is_empty() {
            text.push_str(&format!(" matching {matching:?}"));
        }
        if !is_max_turnover(turnover) {
            text.push_str(&format!(" turnover {turnover:?}"));
        }
        if *answers_without_documents {
            text.push_str(" without documents too");
        }
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 view definition");
        hash.update(model).update(embedder).update(text.as_bytes());
        *hash.finalize().as_bytes()
    }
}

fn max_turnover() -> f32 {
    MAX_TURNOVER
}

fn is_max_turnover(turnover: &f32) -> bool {
    *turnover == MAX_TURNOVER
}

/// What is laid on superseded passages, as identities say it.
fn repair_text(repair: Repair) -> String {
    let (name, Extent { part, band }) = match repair {
        Repair::Evict => return "Evict".to_owned(),
        Repair::Hide => return "Hide".to_owned(),
        Repair::ZeroValues(extent) => ("ZeroValues", extent),
        Repair::ZeroKeys(extent) => ("ZeroKeys", extent),
        Repair::ZeroBoth(extent) => ("ZeroBoth", extent),
        other => return other.to_string(),
    };
    let part = match part {
        Part::Whole => "Whole",
        Part::Header => "Header",
        Part::Body => "Body",
        Part::FirstTenth => "FirstTenth",
    };
    let band = match band {
        Band::All => "All",
        Band::UpperTwoThirds => "UpperTwoThirds",
    };
    format!("{name}(Extent {{ part: {part}, band: {band} }})")
}

/// How tokens are chosen, as identities say it.
pub(crate) fn sampling_text(sampling: &Sampling) -> String {
    match sampling {
        Sampling::Greedy => "Greedy".to_owned(),
        Sampling::Seeded {
            seed,
            temperature,
            top_k,
            top_p,
        } => format!(
            "Seeded {{ seed: {seed}, temperature: {temperature:?}, top_k: {top_k}, top_p: \
             {top_p:?} }}"
        ),
    }
}

impl From<&Plan> for View {
    /// The declaration that has this plan under the same model: with every default said.
    fn from(plan: &Plan) -> Self {
        let view = Self::named(&*plan.name)
            .prompt(&*plan.prompt)
            .context(&*plan.context)
            .data_source(&*plan.data_source)
            .matching(plan.matching.iter().map(|name| name.to_string()))
            .scope(plan.scope)
            .order_by(plan.order)
            .policy(plan.policy)
            .deliver(plan.delivery)
            .paced(plan.pace)
            .superseded(plan.superseded)
            .reencode(plan.reencode)
            .turnover(plan.turnover)
            .token_budget(plan.token_budget)
            .max_tokens(plan.max_tokens)
            .passage_sizes(plan.passage_sizes)
            .answer_without_documents(plan.answers_without_documents);
        let view = match plan.skip_below {
            Some(regret) => view.skip_below(regret),
            None => view,
        };
        let view = match &plan.model {
            Some(model) => view.model(&**model),
            None => view,
        };
        match plan.sampling {
            Sampling::Greedy => view,
            Sampling::Seeded {
                seed, temperature, ..
            } => view.sampled(seed, temperature),
        }
    }
}

impl fmt::Display for Plan {
    /// The plan as `explain` prints it, answers at the top.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            name,
            context,
            data_source,
            scope,
            order,
            policy,
            ..
        } = self;
        write!(f, "answers of `{name}`, policy {policy}")?;
        if !self.delivery.is_epoch() {
            write!(f, ", delivery {}", self.delivery)?;
        }
        if !self.pace.is_unlimited() {
            write!(f, ", {}", self.pace)?;
        }
        if let Some(model) = &self.model {
            write!(f, ", by model {model}")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "└ LLM_GENERATE, at most {} tokens, {:?}",
            self.max_tokens, self.sampling
        )?;
        writeln!(
            f,
            "  ├ layout per context, scope {scope}, ordered by {order}"
        )?;
        writeln!(
            f,
            "  │ └ all passages, or the most relevant where they exceed {} tokens",
            self.token_budget
        )?;
        writeln!(
            f,
            "  │   └ passages of {} to {} bytes of `{data_source}`, superseded ones: {}",
            self.passage_sizes.min, self.passage_sizes.max, self.superseded
        )?;
        if !self.matching.is_empty() {
            writeln!(
                f,
                "  ├ of documents with the context's own {}",
                self.matching.join(", ")
            )?;
        }
        write!(f, "  └ contexts of `{context}`")?;
        if self.answers_without_documents {
            f.write_str(", without documents too")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use perennial_ask::Money;

    use super::*;

    fn view() -> View {
        View::named("v").context("questions").data_source("docs")
    }

    #[test]
    fn the_budget_yields_to_the_window() {
        let plan = view().token_budget(100_000).plan(4096, 30).expect("fits");
        assert_eq!(plan.token_budget, 4096 - 30 - 512 - 128);
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let refused = [
            View::named("v").plan(4096, 0),
            view().max_tokens(0).plan(4096, 0),
            view().max_tokens(4000).plan(4096, 0),
            view().max_tokens(usize::MAX).plan(4096, 30),
            view().max_tokens(MAX_OUTPUT_TOKENS + 1).plan(usize::MAX, 0),
            view().plan(4096, usize::MAX),
            view().scope(Scope::Window { tokens: 0 }).plan(4096, 0),
            view().scope(Scope::Boundary { tokens: 0 }).plan(4096, 0),
            view().sampled(1, f32::NAN).plan(4096, 0),
            view().calls_per_hour(0).plan(4096, 0),
            view().cost_per_hour(Money::ZERO).plan(4096, 0),
        ];
        for result in refused {
            let message = result.expect_err("refused").to_string();
            assert!(message.contains("`v`"), "{message}");
        }
    }

    #[test]
    fn what_only_fragments_give_is_refused_by_its_name_over_plain_prompts() {
        let refused = |view: View| {
            let plan = view.plan(4096, 0).expect("fits");
            plan.check_plain().map_err(|error| error.to_string())
        };
        assert_eq!(refused(view().policy(Policy::Eventual)), Ok(()));
        let of_append = refused(view().policy(Policy::Append)).expect_err("refused");
        assert!(
            of_append.contains("`v` wants the policy `append`"),
            "{of_append}"
        );
        let of_scope = refused(view().scope(Scope::Independent)).expect_err("refused");
        assert!(of_scope.contains("`independent`"), "{of_scope}");
    }

    #[test]
    fn a_plan_is_the_plan_of_its_declaration() {
        let views = [
            view(),
            view()
                .scope(Scope::Window { tokens: 64 })
                .policy(Policy::bounded(0.05).expect("a budget"))
                .superseded("zero-keys:header".parse().expect("a repair"))
                .token_budget(100_000)
                .skip_below(0.1)
                .turnover(0.25)
                .deliver(Delivery::Each)
                .target_lag(Duration::from_secs(30))
                .calls_per_hour(100)
                .cost_per_hour("0.5".parse().expect("money"))
                .model("small")
                .answer_without_documents(true)
                .sampled(7, 0.8),
        ];
        for view in views {
            let plan = view.plan(4096, 30).expect("fits");
            assert_eq!(View::from(&plan).plan(4096, 30), Ok(plan));
        }
    }

    /// State directories hold these: a change here makes every stored answer another view's.
    #[test]
    fn a_definition_is_the_same_in_every_release() {
        let hex = |view: View| {
            let plan = view.plan(4096, 30).expect("fits");
            let digest = plan.definition(&[1; 32], &[2; 32]);
            digest
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let special = view()
            .scope(Scope::Window { tokens: 64 })
            .policy(Policy::bounded(0.05).expect("a budget"))
            .superseded("zero-keys:header".parse().expect("a repair"))
            .sampled(7, 0.8);
        assert_eq!(
            hex(view()),
            "de6cb585a81bd383f3356bb48f056339ef901bb142256a2af8fa3b2160287f1b"
        );
        assert_eq!(
            hex(special.clone()),
            "110696b7afd0098238b1c48f032d9c3973281b5068b37092481b7105e1a345c2"
        );
        let joined = view().scope(Scope::Boundary { tokens: 16 });
        assert_ne!(hex(joined.clone()), hex(view().scope(Scope::Independent)));
        assert_ne!(
            hex(joined.clone()),
            hex(joined.scope(Scope::Boundary { tokens: 8 }))
        );
        assert_ne!(
            hex(special.clone().matching(["session"])),
            hex(special.clone())
        );
        // Whenever they are told, they are the same answers.
        let paced = special.clone().target_lag(Duration::from_secs(30));
        assert_eq!(hex(paced.tokens_per_hour(1)), hex(special.clone()));
        assert_eq!(hex(special.clone().deliver(Delivery::Each)), hex(special));
    }

    #[test]
    fn edits_move_least_by_default() {
        let order = |scope| view().scope(scope).plan(4096, 0).expect("fits").order;
        assert_eq!(order(Scope::Causal), Order::UpdatedAt);
        assert_eq!(order(Scope::Boundary { tokens: 16 }), Order::UpdatedAt);
        assert_eq!(order(Scope::Independent), Order::Key);
    }
}
