//! What is a model asked, about which columns?
//!
//! `sem_filter('…{column}…')` and its like are columns that a model makes. They are bound where they
//! stand, as aggregates are, and put into the tree below what reads them: those of WHERE behind all
//! that is cheaper, those of a grouped query above its groups, unless a key or an aggregate reads
//! them. The same question is asked once.

use std::sync::Arc;

use perennial_ask::task::{Subject, TaskError};
use perennial_ask::{MAX_OUTPUT_TOKENS, Output, Task};
use perennial_rows::Type;
use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, Ident, Spanned};
use sqlparser::tokenizer::{Location, Span};

use crate::query::bind::Binder;
use crate::query::bind::cascade::Decided;
use crate::query::bind::error::did_you_mean;
use crate::query::bind::expression::{AsksAbout, Place, place_of};
use crate::query::bind::rank::Ranked;
use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{Ask, Cascade, MAX_PARTS, Node, Promise, Scalar};

/// Most tokens of a text that a model writes, unless told.
const MAX_TOKENS: usize = 128;
/// Most tokens of a name that a model gives, unless told.
const NAME_TOKENS: usize = 16;

/// The functions that ask a model.
pub const SEM_FUNCTIONS: [&str; SemFunction::ALL.len()] = {
    let mut names = [""; SemFunction::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = SemFunction::ALL[at].name();
        at += 1;
    }
    names
};

/// What a function asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SemFunction {
    Filter,
    /// Who says what `sem_filter` says: the model, or an embedding.
    Decider,
    Map,
    Classify,
    Aggregate,
    Extract,
    /// Of a text, several rows.
    ExtractAll,
    Score,
    /// Of pairs of rows, in ON.
    Match,
    /// Of two rows at a time, in ORDER BY.
    Rank,
    /// Of all rows together: which of them mean the same.
    Dedup,
    /// Of all rows together: what those that mean the same are called.
    Group,
}

impl SemFunction {
    const ALL: [Self; 12] = [
        Self::Filter,
        Self::Decider,
        Self::Map,
        Self::Classify,
        Self::Aggregate,
        Self::Extract,
        Self::ExtractAll,
        Self::Score,
        Self::Match,
        Self::Rank,
        Self::Dedup,
        Self::Group,
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|function| function.name().eq_ignore_ascii_case(name))
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Filter => "sem_filter",
            Self::Decider => "sem_decider",
            Self::Map => "sem_map",
            Self::Classify => "sem_classify",
            Self::Aggregate => "sem_agg",
            Self::Extract => "sem_extract",
            Self::ExtractAll => "sem_extract_all",
            Self::Score => "sem_score",
            Self::Match => "sem_match",
            Self::Rank => "sem_rank",
            Self::Dedup => "sem_dedup",
            Self::Group => "sem_group",
        }
    }
}

/// A model that is to be asked.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) output: ColumnId,
    pub(super) question: Question,
    pub(super) arguments: Vec<Scalar>,
    /// Where an embedding may decide, too.
    pub(super) decided: Option<Decided>,
}

impl Pending {
    fn promise(&self) -> Option<Promise> {
        self.decided.map(|decided| decided.promise)
    }

    /// The columns that it makes: what is said, and who says it, which is the first where that is no
    /// question.
    fn columns(&self) -> (ColumnId, ColumnId) {
        let decider = self.decided.map(|decided| decided.decider);
        (self.output, decider.unwrap_or(self.output))
    }

    fn makes(&self, id: ColumnId) -> bool {
        let (output, decider) = self.columns();
        id == output || id == decider
    }

    fn is(&self, question: &Question, arguments: &[Scalar], promise: Option<Promise>) -> bool {
        self.question == *question && self.arguments == arguments && self.promise() == promise
    }
}

/// What is asked, and whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) model: Option<Arc<str>>,
    pub(super) task: Arc<Task>,
}

/// The models asked by one SELECT.
#[derive(Default)]
pub(super) struct Asks {
    /// Not in the tree yet.
    pending: Vec<Pending>,
    /// In the tree, below all that is bound from now on.
    placed: Vec<Pending>,
    /// The order that it ranks by.
    pub(super) ranked: Option<Ranked>,
}

impl Asks {
    /// Whether a column is made by a model that is not in the tree yet.
    pub(super) fn is_pending(&self, id: ColumnId) -> bool {
        self.pending.iter().any(|ask| ask.makes(id))
    }

    /// The columns of a question that is asked.
    pub(super) fn known(
        &self,
        question: &Question,
        arguments: &[Scalar],
        promise: Option<Promise>,
    ) -> Option<(ColumnId, ColumnId)> {
        let mut asked = self.pending.iter().chain(&self.placed);
        let same = asked.find(|ask| ask.is(question, arguments, promise));
        same.map(Pending::columns)
    }

    pub(super) fn add(&mut self, ask: Pending) {
        self.pending.push(ask);
    }

    /// Takes those of the pending whose outputs, or what these are made of, are among `columns`.
    pub(super) fn take(&mut self, is_taken: impl Fn(ColumnId) -> bool) -> Vec<Pending> {
        let is_taken = |ask: &mut Pending| {
            let (output, decider) = ask.columns();
            is_taken(output) || is_taken(decider)
        };
        self.pending.extract_if(.., is_taken).collect()
    }
}

impl<'q> Binder<'q> {
    /// A column that a model makes.
    pub(super) fn ask(
        &mut self,
        place: Place<'_>,
        function: SemFunction,
        arguments: &'q [FunctionArg],
        span: Span,
    ) -> Option<Scalar> {
        let arguments: Vec<&FunctionArg> = arguments.iter().collect();
        if function == SemFunction::Rank {
            return self.ranked_place(place, &arguments, span);
        }
        self.check_place(place, function, span)?;
        if function == SemFunction::Match {
            return self.ask_pairs(place, &arguments, span);
        }
        let (promise, arguments) = match function {
            SemFunction::Filter | SemFunction::Decider => {
                self.promise(function, &arguments, span)?
            }
            _ => (None, arguments),
        };
        let (question, arguments) = self.question(place, function, &arguments, span)?;
        let column = match promise {
            None => self.output(function, question, arguments),
            Some(promise) => {
                let (output, decider) = self.decided(question, arguments, promise);
                match function {
                    SemFunction::Decider => decider,
                    _ => output,
                }
            }
        };
        Some(Expression::Column(column))
    }

    /// Whether a model may be asked there; says so if not.
    pub(super) fn check_place(
        &mut self,
        place: Place<'_>,
        function: SemFunction,
        span: Span,
    ) -> Option<()> {
        let (name, clause) = (function.name(), place.clause);
        let message = match (function, place.asks) {
            (SemFunction::Match, AsksAbout::Pairs) => return Some(()),
            (SemFunction::Match, _) => {
                format!("`{name}` decides which rows an inner JOIN pairs; it stands in its ON")
            }
            (SemFunction::Rank, _) => format!(
                "`{name}` is an order of rows: it stands by itself in ORDER BY, before all other keys"
            ),
            (SemFunction::Dedup | SemFunction::Group, AsksAbout::AllRows) => return Some(()),
            (SemFunction::Dedup | SemFunction::Group, _) => format!(
                "`{name}` is about all rows that WHERE keeps: it cannot stand in {clause}; select it in a \
                 query below, and read it there"
            ),
            (_, AsksAbout::Rows | AsksAbout::AllRows) => return Some(()),
            (SemFunction::Filter, AsksAbout::Pairs) => {
                format!(
                    "`{name}` cannot stand in {clause}; `sem_match` decides which rows are paired"
                )
            }
            _ => format!(
                "`{name}` cannot stand in {clause}; filter or select by it in a query around"
            ),
        };
        self.error(message, span);
        None
    }

    /// What a function asks, and of which columns.
    pub(super) fn question(
        &mut self,
        place: Place<'_>,
        function: SemFunction,
        arguments: &[&'q FunctionArg],
        span: Span,
    ) -> Option<(Question, Vec<Scalar>)> {
        let name = function.name();
        let (prompt, rest) = self.prompt(name, arguments, span)?;
        let (model, rest) = self.model(name, rest)?;
        // Of two rows one is chosen, whatever is asked about them.
        let output = match function {
            SemFunction::Filter
            | SemFunction::Decider
            | SemFunction::Score
            | SemFunction::Match
            | SemFunction::Rank
            | SemFunction::Dedup => {
                let takes = match function {
                    SemFunction::Filter | SemFunction::Decider => {
                        "a prompt, and behind it `recall => x`, `precision => x`, `sample => n` and \
                         `model => name`"
                    }
                    SemFunction::Match => {
                        "a prompt, `nearest => n` or `all_pairs => TRUE`, and `model => name`"
                    }
                    SemFunction::Dedup => {
                        "a text, a prompt about two of them, `threshold => x`, and `model => name`"
                    }
                    _ => "a prompt, and `model => name` behind it",
                };
                self.check_no_more(name, takes, &rest)?;
                match function {
                    SemFunction::Rank => None,
                    SemFunction::Score => Some(Output::Score),
                    _ => Some(Output::Truth),
                }
            }
            SemFunction::Map | SemFunction::Aggregate | SemFunction::Group => {
                let (max_tokens, rest) = take_named(&rest, "max_tokens");
                let (takes, unless_told) = match function {
                    SemFunction::Group => (
                        "a prompt, `threshold => x`, `max_tokens => n` and `model => name`",
                        NAME_TOKENS,
                    ),
                    _ => ("a prompt and `max_tokens => n`", MAX_TOKENS),
                };
                self.check_no_more(name, takes, &rest)?;
                Some(Output::Text {
                    max_tokens: match max_tokens {
                        Some(argument) => self.max_tokens(name, argument)?,
                        None => unless_told,
                    },
                })
            }
            SemFunction::Classify => Some(Output::Label(self.labels(name, &rest)?)),
            SemFunction::Extract | SemFunction::ExtractAll => {
                Some(self.record(function, &rest, span)?)
            }
        };
        let (text, at) = (&prompt.0, prompt.1);
        let mentions = match Task::mentions(text) {
            Ok(mentions) => mentions,
            Err(error) => return self.refuse_task(&error, text, at),
        };
        let task = match output {
            None => Task::of_pair(text),
            Some(output) => Task::new(text, output),
        };
        let task = match task {
            Ok(task) if function == SemFunction::Dedup => task.of(Subject::Pair),
            Ok(task) => task,
            Err(error) => return self.refuse_task(&error, text, at),
        };
        let mut bound: Vec<Option<Scalar>> = Vec::new();
        for name in task.columns() {
            let mention = mentions.iter().find(|mention| mention.name == *name);
            let span = mention.map_or(at, |mention| within(at, text, &mention.at));
            bound.push(self.mentioned(place, name, span));
        }
        let arguments: Vec<Scalar> = bound.into_iter().collect::<Option<_>>()?;
        let asked = match function {
            SemFunction::Aggregate | SemFunction::Group => {
                let answers = Subject::Answers { at_most: MAX_PARTS };
                vec![task.clone().of(Subject::Rows), task.of(answers)]
            }
            _ => vec![task],
        };
        for task in &asked {
            if let Err(why) = self.relations.check_task(model.as_deref(), task) {
                self.error(why, at);
                return None;
            }
        }
        let task = Arc::new(asked.into_iter().next()?);
        Some((Question { model, task }, arguments))
    }

    /// The column that the answers to a question make: that of the same question, if it is asked.
    pub(super) fn output(
        &mut self,
        function: SemFunction,
        question: Question,
        arguments: Vec<Scalar>,
    ) -> ColumnId {
        if let Some((output, _)) = self.asks.known(&question, &arguments, None) {
            return output;
        }
        let of = question.task.output().of();
        let output = self.table.add(function.name(), of);
        self.asks.add(Pending {
            output,
            question,
            arguments,
            decided: None,
        });
        output
    }

    /// The column of a question that is asked of what now stands above where `column` answers it;
    /// `None` if no model makes `column`.
    pub(super) fn asked_again(&mut self, column: ColumnId) -> Option<ColumnId> {
        let mut placed = self.asks.placed.iter();
        let ask = placed.find(|ask| ask.makes(column))?.clone();
        let mut pending = self.asks.pending.iter();
        let same = pending.find(|other| other.is(&ask.question, &ask.arguments, ask.promise()));
        let (output, decider) = match same {
            Some(same) => same.columns(),
            None => {
                let mut again = |id| {
                    let (name, of) = (self.table.name(id).clone(), self.table.of(id));
                    self.table.add(name, of)
                };
                let output = again(ask.output);
                let decided = ask.decided.map(|decided| Decided {
                    decider: again(decided.decider),
                    ..decided
                });
                let asked_again = Pending {
                    output,
                    decided,
                    ..ask.clone()
                };
                let columns = asked_again.columns();
                self.asks.add(asked_again);
                columns
            }
        };
        Some(if column == ask.output {
            output
        } else {
            decider
        })
    }

    /// The prompt, with its place, and the arguments behind it.
    fn prompt<'a>(
        &mut self,
        name: &str,
        arguments: &'a [&'q FunctionArg],
        span: Span,
    ) -> Option<((&'q str, Span), &'a [&'q FunctionArg])> {
        let (first, rest) = match arguments.split_first() {
            Some((FunctionArg::Unnamed(FunctionArgExpr::Expr(first)), rest)) => (first, rest),
            _ => {
                let message = format!("`{name}` takes a prompt first: {name}('… {{column}} …')");
                self.error(message, span);
                return None;
            }
        };
        match literal_text(first) {
            Some(text) => Some(((text, place_of(first)), rest)),
            None => {
                let message = format!(
                    "the prompt of `{name}` must be a text in quotes; columns stand in it in braces"
                );
                self.error(message, place_of(first));
                None
            }
        }
    }

    /// The model that `model => name` names, and the arguments besides.
    fn model(
        &mut self,
        function: &str,
        arguments: &[&'q FunctionArg],
    ) -> Option<(Option<Arc<str>>, Vec<&'q FunctionArg>)> {
        let (argument, rest) = take_named(arguments, "model");
        let Some(argument) = argument else {
            return Some((None, rest));
        };
        if let (Some(second), _) = take_named(&rest, "model") {
            self.error(format!("`{function}` asks one model"), second.span());
            return None;
        }
        let (name, at) = match named_argument(argument) {
            Some((_, FunctionArgExpr::Expr(Expr::Identifier(name)))) => {
                let of: Arc<str> = match name.quote_style {
                    Some(_) => name.value.as_str().into(),
                    None => name.value.to_lowercase().into(),
                };
                (of, name.span)
            }
            Some((_, FunctionArgExpr::Expr(expr))) if literal_text(expr).is_some() => (
                literal_text(expr).unwrap_or_default().into(),
                place_of(expr),
            ),
            _ => {
                self.error(
                    format!("`{function}` takes `model => name`, not `{argument}`"),
                    argument.span(),
                );
                return None;
            }
        };
        let known = self.relations.models();
        if !known.contains(&name) {
            let hint = did_you_mean(&name, known.iter().map(|name| &**name));
            self.error(format!("there is no model `{name}`{hint}"), at);
            return None;
        }
        Some((Some(name), rest))
    }

    /// Says that arguments are too many; `takes` is what there may be.
    fn check_no_more(&mut self, name: &str, takes: &str, rest: &[&FunctionArg]) -> Option<()> {
        let Some(argument) = rest.first() else {
            return Some(());
        };
        let message = format!("`{name}` takes {takes}, not `{argument}`");
        self.error(message, argument.span());
        None
    }

    /// The number of `max_tokens => n`.
    pub(super) fn max_tokens(&mut self, name: &str, argument: &FunctionArg) -> Option<usize> {
        let given = match named_argument(argument) {
            Some((_, FunctionArgExpr::Expr(Expr::Value(literal)))) => match &literal.value {
                ast::Value::Number(digits, _) => digits.parse().ok(),
                _ => None,
            },
            _ => None,
        };
        let given = given.filter(|n| (1..=MAX_OUTPUT_TOKENS).contains(n));
        if given.is_none() {
            let message = format!(
                "`{name}` takes `max_tokens => n`, a whole number from 1 to {MAX_OUTPUT_TOKENS}, not \
                 `{argument}`"
            );
            self.error(message, argument.span());
        }
        given
    }

    fn labels(&mut self, name: &str, rest: &[&'q FunctionArg]) -> Option<Arc<[Arc<str>]>> {
        let mut labels: Vec<Arc<str>> = Vec::new();
        for argument in rest {
            let expr = match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => expr,
                other => {
                    self.refuse(&format!("the argument `{other}` of `{name}`"), other.span());
                    return None;
                }
            };
            match literal_text(expr) {
                Some(label) => labels.push(label.into()),
                None => {
                    let message = format!("the labels of `{name}` must be texts in quotes");
                    self.error(message, place_of(expr));
                    return None;
                }
            }
        }
        Some(labels.into())
    }

    /// The column that a prompt names.
    fn mentioned(&mut self, place: Place<'_>, name: &str, span: Span) -> Option<Scalar> {
        let part = |part: &str| {
            let mut ident = Ident::new(part.trim());
            ident.span = span;
            ident
        };
        let (table, column) = match name.split_once('.') {
            Some((table, column)) => (Some(part(table)), part(column)),
            None => (None, part(name)),
        };
        let before = std::mem::replace(&mut self.uses_outer, false);
        let id = self.column(place.scope, place.outer, table.as_ref(), &column);
        let uses_outer = std::mem::replace(&mut self.uses_outer, before);
        let id = id?;
        if uses_outer {
            self.refuse("a prompt that names a column of the query around", span);
            return None;
        }
        match self.table.of(id) {
            Type::Vector => {
                let message = format!("`{name}` is a VECTOR, which no prompt can show");
                self.error(message, span);
                None
            }
            _ => Some(Expression::Column(id)),
        }
    }

    fn refuse_task<T>(&mut self, error: &TaskError, prompt: &str, at: Span) -> Option<T> {
        let place = error.at.as_ref().map(|bytes| within(at, prompt, bytes));
        self.error(error.what.clone(), place.unwrap_or(at));
        None
    }

    /// A node with the columns of all models that are asked and not in the tree yet.
    pub(super) fn asked(&mut self, node: Node) -> Node {
        let pending = std::mem::take(&mut self.asks.pending);
        self.place(node, pending)
    }

    /// A node with the columns of these models.
    pub(super) fn place(&mut self, node: Node, pending: Vec<Pending>) -> Node {
        pending.into_iter().fold(node, |input, ask| {
            let Question { model, task } = ask.question.clone();
            let (arguments, output) = (ask.arguments.clone(), ask.output);
            let node = match ask.decided {
                None => Node::Ask(Box::new(Ask {
                    input,
                    model,
                    task,
                    arguments,
                    output,
                })),
                Some(Decided { promise, decider }) => Node::Cascade(Box::new(Cascade {
                    input,
                    model,
                    task,
                    arguments,
                    promise,
                    output,
                    decider,
                })),
            };
            self.asks.placed.push(ask);
            node
        })
    }

    /// The arguments of models that are asked about groups, to be said of groups.
    pub(super) fn pending_arguments(&mut self) -> impl Iterator<Item = &mut Scalar> {
        let pending = self.asks.pending.iter_mut();
        pending.flat_map(|ask| &mut ask.arguments)
    }
}

/// The first argument `name => …`, if there is one among these, and the others.
pub(super) fn take_named<'a>(
    arguments: &[&'a FunctionArg],
    name: &str,
) -> (Option<&'a FunctionArg>, Vec<&'a FunctionArg>) {
    let is_it = |argument: &&FunctionArg| {
        named_argument(argument).is_some_and(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    let mut rest = arguments.to_vec();
    let found = rest.iter().position(is_it).map(|at| rest.remove(at));
    (found, rest)
}

/// The name and the value of `name => value`.
pub(super) fn named_argument(argument: &FunctionArg) -> Option<(&str, &FunctionArgExpr)> {
    match argument {
        FunctionArg::Named { name, arg, .. }
        | FunctionArg::ExprNamed {
            name: Expr::Identifier(name),
            arg,
            ..
        } => Some((&name.value, arg)),
        FunctionArg::ExprNamed { .. } | FunctionArg::Unnamed(_) => None,
    }
}

pub(super) fn literal_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Nested(inner) => literal_text(inner),
        Expr::Value(literal) => match &literal.value {
            ast::Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// The place of some bytes of a text whose literal stands at `literal`: where that is on one line,
/// or up to its first line break; else the literal's own.
fn within(literal: Span, text: &str, bytes: &std::ops::Range<usize>) -> Span {
    if literal == Span::empty() || text[..bytes.end].contains('\n') {
        return literal;
    }
    // A quote is written twice; the literal begins with one.
    let width = |text: &str| text.chars().map(|c| 1 + u64::from(c == '\'')).sum::<u64>();
    let (line, column) = (literal.start.line, literal.start.column + 1);
    let begin = column + width(&text[..bytes.start]);
    let end = begin + width(&text[bytes.clone()]);
    Span::new(Location::new(line, begin), Location::new(line, end))
}
