//! How are statements carried out for who sends them, and what is told of it?
//!
//! # Invariants
//! - What a request asks for is bounded as a whole: its statements, the rows that come of all of them, the pairs
//!   of rows that a join looks at, and the time that is spent on it. No model is hurried.
//! - Nobody looks for rows that nobody waits for.

use std::sync::Arc;
use std::time::Instant;

use perennial_ask::Cancel;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::admission::Caller;
use super::json::{self, ColumnJson};
use super::refusal::Refusal;
use super::served::{Served, blocking};
use crate::sql::{
    Bounds, Exceeded, Kind, Outcome, Script, SessionError, Spanned, Statement, parse,
};

/// What came of one statement.
#[derive(Serialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Executed {
    /// Something is there now.
    Created {
        /// `source`, `table`, `view`, `sink`, `model` or `memory`.
        kind: String,
        /// Its name.
        name: String,
        /// What whoever created it should know.
        notice: Option<String>,
    },
    /// A view takes its epochs otherwise from now on.
    Altered {
        /// Its name.
        name: String,
    },
    /// Something is there no more.
    Dropped {
        /// What it was.
        kind: String,
        /// Its name.
        name: String,
        /// Whether it was there.
        was_there: bool,
    },
    /// Rows of a table were changed.
    Done {
        /// How many.
        n_rows: usize,
    },
    /// Rows, in the order that was asked for.
    Rows {
        /// Their columns.
        #[schema(inline)]
        columns: Vec<ColumnJson>,
        /// Their values by column.
        #[schema(value_type = Vec<Object>)]
        rows: Vec<Value>,
        /// What whoever reads them should know.
        notices: Vec<String>,
    },
    /// How something would be carried out.
    Plan {
        /// In words.
        plan: String,
    },
    /// A record is forgotten.
    Forgotten {
        /// What that came to.
        #[schema(value_type = Object)]
        receipt: Value,
    },
    /// A reader may read a namespace of a memory, or may not any more.
    Granted {
        /// Which of the two.
        is_given: bool,
    },
}

/// What is told who may only look because of their token, and would do more.
pub(crate) const WITH_ADMIN: &str = "use a token with the role `admin`";

impl Served {
    /// Carries one statement or several out, in order. Where `only_looks`, they may do nothing else.
    /// It waits; see `Served::sql`.
    ///
    /// # Errors
    /// What is wrong with them, before any is carried out; else with the first that cannot be, and with what
    /// came of those before.
    pub fn execute(&self, sql: &str, only_looks: bool) -> Result<Vec<Executed>, Refusal> {
        self.carry_out(sql, only_looks.then_some(WITH_ADMIN), &Cancel::new())
    }

    /// The same, until nobody waits for it any more. `instead` is what is told who may only look, and would do
    /// more; where there is nothing, all may be done.
    fn carry_out(
        &self,
        sql: &str,
        instead: Option<&str>,
        cancel: &Cancel,
    ) -> Result<Vec<Executed>, Refusal> {
        let script = Script::new("sql", sql);
        let statements = parse(&script)?;
        if statements.is_empty() {
            let hint = "such as SELECT * FROM answers";
            return Err(Refusal::bad("there is no statement", hint));
        }
        let limit = self.limits.script;
        if statements.len() > limit {
            let error = format!("there are {} statements, over {limit}", statements.len());
            return Err(Refusal::too_large(error, "send fewer at a time"));
        }
        for statement in &statements {
            refuse_subscription(&statement.of)?;
            if let Some(instead) = instead.filter(|_| !looks(&statement.of)) {
                let error = "only what looks is carried out here: SELECT that asks no model, SHOW, EXPLAIN, \
                             LINEAGE and RECALL";
                return Err(Refusal::forbidden(error, instead));
            }
        }
        self.session.check(&script, &statements)?;
        let until = Instant::now() + self.limits.statement_time;
        let mut outcomes = Vec::new();
        // Of all statements together: what they give is held until the reply is written.
        let mut n_rows_left = self.limits.rows;
        for statement in &statements {
            let bounds = self.bounds_of(&statement.of, n_rows_left, until, cancel);
            match self.execute_one(&script, statement, &bounds) {
                Ok(outcome) => {
                    n_rows_left -= outcome.n_rows();
                    outcomes.push(outcome);
                }
                Err(refusal) => {
                    let before = serde_json::to_value(&outcomes).unwrap_or_default();
                    return Err(refusal.with("outcomes", before));
                }
            }
        }
        Ok(outcomes)
    }

    /// What looking for rows may take.
    fn bounds_of(
        &self,
        statement: &Statement,
        n_rows_left: usize,
        until: Instant,
        cancel: &Cancel,
    ) -> Bounds {
        Bounds {
            n_rows: match statement {
                // Rows that are changed are not told.
                Statement::Update(_) | Statement::Delete(_) => usize::MAX,
                _ => n_rows_left,
            },
            n_pairs: self.limits.pairs,
            // A model takes its time.
            until: (!statement.may_ask()).then_some(until),
            cancel: cancel.clone(),
        }
    }

    fn execute_one(
        &self,
        script: &Script,
        statement: &Spanned<Statement>,
        bounds: &Bounds,
    ) -> Result<Executed, Refusal> {
        let outcome = match self.session.execute_within(script, statement, bounds) {
            Err(SessionError::Exceeded(Exceeded::Rows { .. })) => return Err(self.too_many_rows()),
            outcome => outcome?,
        };
        self.follow_up(&outcome)?;
        if let Outcome::Rows { rows, .. } = &outcome
            && rows.len() > bounds.n_rows
        {
            return Err(self.too_many_rows());
        }
        executed(outcome)
    }

    fn too_many_rows(&self) -> Refusal {
        let error = format!("the reply would have more than {} rows", self.limits.rows);
        let hint = "add LIMIT, or a condition; of several statements, send one at a time";
        Refusal::too_large(error, hint)
    }

    /// The same, without waiting on the thread of who asks. Who drops it gives up what it looks for.
    ///
    /// # Errors
    /// As [`Served::execute`], and where too many statements are under way.
    pub(crate) async fn sql(
        self: &Arc<Self>,
        caller: &Caller,
        sql: String,
        instead: Option<&'static str>,
    ) -> Result<Vec<Executed>, Refusal> {
        let patience = self.limits.patience;
        let turn = self.statements.take(caller.asker(), patience).await?;
        let wanted = Wanted(Cancel::new());
        let (this, cancel) = (self.clone(), wanted.0.clone());
        blocking(move || {
            let _turn = turn;
            this.carry_out(&sql, instead, &cancel)
        })
        .await?
    }
}

/// What is given up when nobody waits for it any more.
struct Wanted(Cancel);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Executed {
    /// How many rows it tells.
    fn n_rows(&self) -> usize {
        match self {
            Self::Rows { rows, .. } => rows.len(),
            _ => 0,
        }
    }
}

/// What is told of what came of a statement.
fn executed(outcome: Outcome) -> Result<Executed, Refusal> {
    let word = |kind: Kind| kind.keyword().to_lowercase();
    Ok(match outcome {
        Outcome::Created { kind, name, notice } => Executed::Created {
            kind: word(kind),
            name: name.to_string(),
            notice,
        },
        Outcome::Altered { name } => Executed::Altered {
            name: name.to_string(),
        },
        Outcome::Dropped {
            kind,
            name,
            was_there,
        } => Executed::Dropped {
            kind: word(kind),
            name: name.to_string(),
            was_there,
        },
        Outcome::Done { n_rows } => Executed::Done { n_rows },
        Outcome::Rows {
            schema,
            rows,
            notices,
        } => Executed::Rows {
            columns: json::columns(&schema),
            rows: rows.iter().map(|row| json::row(&schema, row)).collect(),
            notices,
        },
        Outcome::Plan(plan) => Executed::Plan { plan },
        Outcome::Forgotten(receipt) => Executed::Forgotten {
            receipt: serde_json::to_value(&receipt).unwrap_or_default(),
        },
        Outcome::MemoryForgotten(receipt) => Executed::Forgotten {
            receipt: serde_json::to_value(&receipt).unwrap_or_default(),
        },
        Outcome::Granted { is_given } => Executed::Granted { is_given },
        // It is refused before.
        Outcome::Subscription { view, .. } => return Err(to_be_subscribed(&view)),
    })
}

fn to_be_subscribed(view: &str) -> Refusal {
    let error = "SUBSCRIBE has an endpoint of its own";
    Refusal::bad(error, format!("GET /v1/views/{view}/subscribe"))
}

fn refuse_subscription(statement: &Statement) -> Result<(), Refusal> {
    match statement {
        Statement::Subscribe(subscribe) => Err(to_be_subscribed(&subscribe.to.of)),
        _ => Ok(()),
    }
}

/// Whether a statement changes nothing, and asks no model.
fn looks(statement: &Statement) -> bool {
    match statement {
        Statement::Show(_) | Statement::Explain(_) | Statement::Recall(_) => true,
        Statement::AnalyzeView(_) | Statement::ExplainWhy(_) | Statement::Lineage(_) => true,
        Statement::Select(_) | Statement::ExplainCost(_) | Statement::AnalyzeQuery(_) => {
            !statement.may_ask()
        }
        _ => false,
    }
}
