//! How does a Rust program write an expression?

use std::ops;

use perennial_rows::{Type, Value};
use sqlparser::ast::{self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, SelectItem};

/// A scalar expression.
#[derive(Clone, Debug)]
pub struct Term(pub(super) Expr);

/// An expression and the name of the column that it becomes.
#[derive(Clone, Debug)]
pub struct Named(pub(super) SelectItem);

/// An expression to sort by.
#[derive(Clone, Debug)]
pub struct Sort(pub(super) ast::OrderByExpr);
/// A column: `price`, or of a table among several `orders.price`.
pub fn col(name: &str) -> Term {
    Term(match name.split_once('.') {
        None => Expr::Identifier(ident(name)),
        Some((table, name)) => Expr::CompoundIdentifier(vec![ident(table), ident(name)]),
    })
}

/// A value.
pub fn lit(value: impl Into<Value>) -> Term {
    let number = |digits: String| match digits.strip_prefix('-') {
        None => literal(ast::Value::Number(digits, false)),
        Some(digits) => Expr::UnaryOp {
            op: ast::UnaryOperator::Minus,
            expr: Box::new(literal(ast::Value::Number(digits.to_owned(), false))),
        },
    };
    let text = |text: &str| literal(ast::Value::SingleQuotedString(text.to_owned()));
    Term(match value.into() {
        Value::Null => literal(ast::Value::Null),
        Value::Boolean(is) => literal(ast::Value::Boolean(is)),
        Value::Integer(n) => number(n.to_string()),
        // `Debug` of a finite float is the shortest text that is read as that float.
        Value::Float(x) if x.get().is_finite() => number(format!("{:?}", x.get())),
        Value::Float(x) => cast(text(&x.get().to_string()), Type::Float),
        Value::Text(of) => text(&of),
        Value::Timestamp(ms) => cast(number(ms.to_string()), Type::Timestamp),
        Value::Json(json) => cast(text(&json), Type::Json),
        vector @ Value::Vector(_) => cast(text(&vector.to_string()), Type::Vector),
    })
}

/// A function, by the name that SQL calls it.
pub fn call(function: &str, arguments: impl IntoIterator<Item = Term>) -> Term {
    let arguments = arguments
        .into_iter()
        .map(|term| FunctionArgExpr::Expr(term.0));
    function_of(function, arguments.collect(), None)
}

/// The number of rows.
pub fn count_all() -> Term {
    function_of("count", vec![FunctionArgExpr::Wildcard], None)
}

/// The number of values.
pub fn count(of: Term) -> Term {
    call("count", [of])
}

/// The number of different values.
pub fn count_distinct(of: Term) -> Term {
    let distinct = Some(ast::DuplicateTreatment::Distinct);
    function_of("count", vec![FunctionArgExpr::Expr(of.0)], distinct)
}

/// The sum of values.
pub fn sum(of: Term) -> Term {
    call("sum", [of])
}

/// The least value.
pub fn min(of: Term) -> Term {
    call("min", [of])
}

/// The greatest value.
pub fn max(of: Term) -> Term {
    call("max", [of])
}

/// The mean of values.
pub fn avg(of: Term) -> Term {
    call("avg", [of])
}

/// Whether a model says that something is so of a row; the prompt names columns in braces:
/// `"Is {text} about refunds?"`.
pub fn sem_filter(prompt: &str) -> Term {
    call("sem_filter", [lit(prompt)])
}

/// What may be lost, and wrongly held, where the embedding of a row decides in the place of a model. What
/// is not said is not given up.
///
/// ```
/// use perennial_views::query::builder::{Within, col, scan, sem_decider, sem_filter_within};
///
/// let within = Within::default().recall(0.9).precision(0.9);
/// let question = "The writer of {text} is unhappy.";
/// let complaints = scan("letters")
///     .filter(sem_filter_within(question, within))
///     .project([col("key").into(), sem_decider(question, within).named("who")]);
/// assert!(complaints.to_sql().contains("recall => 0.9, precision => 0.9"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Within {
    recall: Option<f64>,
    precision: Option<f64>,
    n_sample: Option<u32>,
}

impl Within {
    /// Of what the model would accept, at least this share is accepted.
    #[must_use]
    pub fn recall(mut self, share: f64) -> Self {
        self.recall = Some(share);
        self
    }

    /// Of what is accepted, at least this share the model would accept.
    #[must_use]
    pub fn precision(mut self, share: f64) -> Self {
        self.precision = Some(share);
        self
    }

    /// The model is always asked about a sample of so many rows.
    #[must_use]
    pub fn sample(mut self, n_rows: u32) -> Self {
        self.n_sample = Some(n_rows);
        self
    }

    fn arguments(self) -> impl Iterator<Item = FunctionArg> {
        let shares = [("recall", self.recall), ("precision", self.precision)].into_iter();
        let shares = shares.filter_map(|(name, share)| Some((name, lit(share?).0)));
        let sample = self.n_sample.map(|n| ("sample", lit(i64::from(n)).0));
        shares
            .chain(sample)
            .map(|(name, value)| named_argument(name, value))
    }
}

/// Whether something is so of a row, as in [`sem_filter`], but that a model is asked only where the
/// embedding of the row does not decide.
pub fn sem_filter_within(prompt: &str, within: Within) -> Term {
    decided("sem_filter", prompt, within)
}

/// Who says that of a row: `sample`, `model` or `embedding`.
pub fn sem_decider(prompt: &str, within: Within) -> Term {
    decided("sem_decider", prompt, within)
}

fn decided(function: &str, prompt: &str, within: Within) -> Term {
    let prompt = FunctionArg::Unnamed(FunctionArgExpr::Expr(lit(prompt).0));
    let arguments = std::iter::once(prompt).chain(within.arguments());
    function_with(function, arguments.collect(), None)
}

/// What a model writes about a row, in at most so many tokens: `"Translate {word} to French."`
pub fn sem_map(prompt: &str, max_tokens: u32) -> Term {
    written("sem_map", prompt, max_tokens)
}

/// What a model writes about the rows of a group, in at most so many tokens: `"Summarize {text}."`
/// Rows that are alike in the columns that the prompt names count once.
pub fn sem_agg(prompt: &str, max_tokens: u32) -> Term {
    written("sem_agg", prompt, max_tokens)
}

/// How much something is so of a row, from 0 to 1, as a model has it: `"How urgent is {text}?"`
pub fn sem_score(prompt: &str) -> Term {
    call("sem_score", [lit(prompt)])
}

/// An order of rows by a model that is shown two at a time, to be the first of [`top`](super::Rows::top):
/// `"Which {text} is more urgent?"`
pub fn sem_rank(prompt: &str) -> Sort {
    let Term(expr) = call("sem_rank", [lit(prompt)]);
    Sort(ast::OrderByExpr {
        expr,
        options: ast::OrderByOptions {
            sort: None,
            nulls_first: None,
        },
        with_fill: None,
    })
}

/// Whether a model says that two rows are a pair, in the condition of a
/// [`join`](super::Rows::join): `"Is {a.text} about {b.topic}?"`. `all_pairs` allows it to be asked about
/// every pair there is, where no other condition is an equality of both sides.
pub fn sem_match(prompt: &str, all_pairs: bool) -> Term {
    let prompt = FunctionArg::Unnamed(FunctionArgExpr::Expr(lit(prompt).0));
    let mut arguments = vec![prompt];
    if all_pairs {
        arguments.push(named_argument("all_pairs", lit(true).0));
    }
    function_with("sem_match", arguments, None)
}

/// The same, of the pairs of each left row with the `n` right rows whose texts are the nearest to its own.
pub fn sem_match_nearest(prompt: &str, n: u32) -> Term {
    let prompt = FunctionArg::Unnamed(FunctionArgExpr::Expr(lit(prompt).0));
    let nearest = named_argument("nearest", lit(i64::from(n)).0);
    function_with("sem_match", vec![prompt, nearest], None)
}

/// Which text stands for that of a row and those that mean the same: two do whose vectors have an inner
/// product of the threshold or more, and so do two that a third connects.
pub fn sem_dedup(text: Term, threshold: f64) -> Term {
    let text = FunctionArg::Unnamed(FunctionArgExpr::Expr(text.0));
    function_with("sem_dedup", vec![text, threshold_of(threshold)], None)
}

/// The same, where a model is asked about each two that are similar, too: `"Does each {text} report the
/// same fault?"`. The prompt names the column that is compared.
pub fn sem_dedup_checked(text: Term, prompt: &str, threshold: f64) -> Term {
    let listed = [text.0, lit(prompt).0];
    let listed = listed.map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)));
    let arguments = listed.into_iter().chain([threshold_of(threshold)]);
    function_with("sem_dedup", arguments.collect(), None)
}

/// What a model calls the texts that mean the same as that of a row, in at most so many tokens: `"Name in
/// three words what {text} are about."` Which these are is as in [`sem_dedup`] of the only column that
/// the prompt names.
pub fn sem_group(prompt: &str, threshold: f64, max_tokens: u32) -> Term {
    let prompt = FunctionArg::Unnamed(FunctionArgExpr::Expr(lit(prompt).0));
    let max_tokens = named_argument("max_tokens", lit(i64::from(max_tokens)).0);
    let arguments = vec![prompt, threshold_of(threshold), max_tokens];
    function_with("sem_group", arguments, None)
}

fn threshold_of(threshold: f64) -> FunctionArg {
    named_argument("threshold", lit(threshold).0)
}

/// The values of these types that a model reads out of a row, NULL where it does not say them:
/// several columns under their names. One of them alone is an expression: [`sem_extract_one`].
pub fn sem_extract<'a>(prompt: &str, columns: impl IntoIterator<Item = (&'a str, Type)>) -> Named {
    Named::from(extracted(prompt, columns))
}

/// The value of this type that a model reads out of a row.
pub fn sem_extract_one(prompt: &str, name: &str, of: Type) -> Term {
    extracted(prompt, [(name, of)])
}

fn extracted<'a>(prompt: &str, columns: impl IntoIterator<Item = (&'a str, Type)>) -> Term {
    let prompt = FunctionArg::Unnamed(FunctionArgExpr::Expr(lit(prompt).0));
    let columns = columns.into_iter().map(|(name, of)| {
        let of = ast::Ident::new(of.to_string());
        named_argument(name, Expr::Identifier(of))
    });
    function_with(
        "sem_extract",
        std::iter::once(prompt).chain(columns).collect(),
        None,
    )
}

fn named_argument(name: &str, value: Expr) -> FunctionArg {
    FunctionArg::Named {
        name: ast::Ident::new(name),
        arg: FunctionArgExpr::Expr(value),
        operator: ast::FunctionArgOperator::RightArrow,
    }
}

fn written(function: &str, prompt: &str, max_tokens: u32) -> Term {
    let max_tokens = named_argument("max_tokens", lit(i64::from(max_tokens)).0);
    let prompt = FunctionArg::Unnamed(FunctionArgExpr::Expr(lit(prompt).0));
    function_with(function, vec![prompt, max_tokens], None)
}

/// Which of these labels a model gives a row.
pub fn sem_classify(prompt: &str, labels: impl IntoIterator<Item = impl Into<String>>) -> Term {
    let labels = labels
        .into_iter()
        .map(|label| lit(Value::text(label.into())));
    call("sem_classify", std::iter::once(lit(prompt)).chain(labels))
}

impl Term {
    /// This expression as a column of this name.
    pub fn named(self, name: &str) -> Named {
        Named(SelectItem::ExprWithAlias {
            expr: self.0,
            alias: ident(name),
        })
    }

    /// `=`
    #[must_use]
    pub fn eq(self, other: Self) -> Self {
        self.binary(BinaryOperator::Eq, other)
    }

    /// `<>`
    #[must_use]
    pub fn ne(self, other: Self) -> Self {
        self.binary(BinaryOperator::NotEq, other)
    }

    /// `<`
    #[must_use]
    pub fn lt(self, other: Self) -> Self {
        self.binary(BinaryOperator::Lt, other)
    }

    /// `<=`
    #[must_use]
    pub fn le(self, other: Self) -> Self {
        self.binary(BinaryOperator::LtEq, other)
    }

    /// `>`
    #[must_use]
    pub fn gt(self, other: Self) -> Self {
        self.binary(BinaryOperator::Gt, other)
    }

    /// `>=`
    #[must_use]
    pub fn ge(self, other: Self) -> Self {
        self.binary(BinaryOperator::GtEq, other)
    }

    /// `AND`
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.binary(BinaryOperator::And, other)
    }

    /// `OR`
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.binary(BinaryOperator::Or, other)
    }

    /// `||`
    #[must_use]
    pub fn concat(self, other: Self) -> Self {
        self.binary(BinaryOperator::StringConcat, other)
    }

    /// `->`: a field or an element of JSON.
    #[must_use]
    pub fn field(self, which: Self) -> Self {
        self.binary(BinaryOperator::Arrow, which)
    }

    /// `IS NULL`
    #[must_use]
    pub fn is_null(self) -> Self {
        Self(Expr::IsNull(self.operand()))
    }

    /// `IS NOT NULL`
    #[must_use]
    pub fn is_not_null(self) -> Self {
        Self(Expr::IsNotNull(self.operand()))
    }

    /// `IN (…)`
    #[must_use]
    pub fn is_in(self, list: impl IntoIterator<Item = Self>) -> Self {
        Self(Expr::In {
            expr: self.operand(),
            target: ast::InTarget::List(list.into_iter().map(|term| term.0).collect()),
            negated: false,
            global: false,
        })
    }

    /// `BETWEEN … AND …`
    #[must_use]
    pub fn between(self, low: Self, high: Self) -> Self {
        Self(Expr::Between {
            expr: self.operand(),
            negated: false,
            low: low.operand(),
            high: high.operand(),
        })
    }

    /// `LIKE`
    #[must_use]
    pub fn like(self, pattern: &str) -> Self {
        Self(Expr::Like {
            negated: false,
            any: false,
            expr: self.operand(),
            pattern: Box::new(lit(pattern).0),
            escape_char: None,
        })
    }

    /// `ILIKE`
    #[must_use]
    pub fn ilike(self, pattern: &str) -> Self {
        Self(Expr::ILike {
            negated: false,
            any: false,
            expr: self.operand(),
            pattern: Box::new(lit(pattern).0),
            escape_char: None,
        })
    }

    /// `CAST(… AS …)`
    #[must_use]
    pub fn cast(self, to: Type) -> Self {
        Self(cast(self.0, to))
    }

    /// To sort by this, least first.
    pub fn asc(self) -> Sort {
        self.sort(ast::OrderBySort::Asc)
    }

    /// To sort by this, greatest first.
    pub fn desc(self) -> Sort {
        self.sort(ast::OrderBySort::Desc)
    }

    fn sort(self, sort: ast::OrderBySort) -> Sort {
        Sort(ast::OrderByExpr {
            expr: self.0,
            options: ast::OrderByOptions {
                sort: Some(sort),
                nulls_first: None,
            },
            with_fill: None,
        })
    }

    fn binary(self, op: BinaryOperator, other: Self) -> Self {
        Self(Expr::BinaryOp {
            left: self.operand(),
            op,
            right: other.operand(),
        })
    }

    /// In parentheses where SQL would need them.
    fn operand(self) -> Box<Expr> {
        let is_atom = matches!(
            self.0,
            Expr::Identifier(_)
                | Expr::CompoundIdentifier(_)
                | Expr::Value(_)
                | Expr::Function(_)
                | Expr::Cast { .. }
                | Expr::Nested(_)
        );
        match is_atom {
            true => Box::new(self.0),
            false => Box::new(Expr::Nested(Box::new(self.0))),
        }
    }
}

impl ops::Not for Term {
    type Output = Self;

    fn not(self) -> Self {
        Self(Expr::UnaryOp {
            op: ast::UnaryOperator::Not,
            expr: self.operand(),
        })
    }
}

impl ops::Add for Term {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.binary(BinaryOperator::Plus, other)
    }
}

impl ops::Sub for Term {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.binary(BinaryOperator::Minus, other)
    }
}

impl ops::Mul for Term {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        self.binary(BinaryOperator::Multiply, other)
    }
}

impl ops::Div for Term {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        self.binary(BinaryOperator::Divide, other)
    }
}

impl From<Term> for Named {
    /// A column keeps its name.
    fn from(term: Term) -> Self {
        Self(SelectItem::UnnamedExpr(term.0))
    }
}

/// A name as it is, in any case.
pub(super) fn ident(name: &str) -> ast::Ident {
    ast::Ident::with_quote('"', name)
}

pub(super) fn literal(value: ast::Value) -> Expr {
    Expr::Value(value.with_empty_span())
}

fn cast(expr: Expr, to: Type) -> Expr {
    let name = ast::ObjectNamePart::Identifier(ast::Ident::new(to.to_string()));
    Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(expr),
        data_type: ast::DataType::Custom(ast::ObjectName(vec![name]), Vec::new()),
        format: None,
    }
}

fn function_of(
    name: &str,
    arguments: Vec<FunctionArgExpr>,
    duplicate_treatment: Option<ast::DuplicateTreatment>,
) -> Term {
    let arguments = arguments.into_iter().map(FunctionArg::Unnamed);
    function_with(name, arguments.collect(), duplicate_treatment)
}

fn function_with(
    name: &str,
    arguments: Vec<FunctionArg>,
    duplicate_treatment: Option<ast::DuplicateTreatment>,
) -> Term {
    let name = ast::ObjectNamePart::Identifier(ast::Ident::new(name));
    Term(Expr::Function(ast::Function {
        name: ast::ObjectName(vec![name]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment,
            args: arguments,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }))
}
