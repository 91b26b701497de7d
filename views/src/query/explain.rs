//! How is a query told to a person?

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use perennial_ask::{FieldType, Fields, Output, Task};
use perennial_rows::Value;

use crate::measure::{Effort, Measures};
use crate::query::Query;
use crate::query::column::{ColumnId, ColumnTable};
use crate::query::digest::part_digest;
use crate::query::expression::Expression;
use crate::query::memory::{Retain, duration_text};
use crate::query::node::{
    Aggregate, Ask, AskGroups, Cascade, Clusters, Join, JoinKind, MAX_MEMBERS, MAX_PARTS, Nearest,
    Node, PageRank, Promise, Rank, Scalar, SortKey,
};

/// How deep an operator of an expression binds; the deeper, the higher.
mod binding {
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const NOT: u8 = 3;
    pub(super) const COMPARISON: u8 = 4;
    pub(super) const SUM: u8 = 5;
    pub(super) const PRODUCT: u8 = 6;
    pub(super) const FIELD: u8 = 7;
    pub(super) const ATOM: u8 = 8;
}

impl fmt::Display for Query {
    /// The tree as `explain` prints it, the result at the top, without a last line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "result ({})", self.schema)?;
        let explain = Explain::of(&self.table);
        explain.tree(f, &self.root, "", true)
    }
}

/// What a question is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Each row.
    Row,
    /// Each pair of rows.
    Pair,
    /// Rows that meet in a tournament.
    Rank,
    /// Rows of a group that are read together.
    Group,
}

/// A question that a query asks.
pub(crate) struct Question<'q> {
    pub(crate) output: ColumnId,
    /// As SQL asks it.
    pub(crate) text: String,
    pub(crate) subject: Subject,
    pub(crate) model: Option<&'q Arc<str>>,
    pub(crate) task: &'q Task,
    /// What holds of its answers, where an embedding gives some of them.
    pub(crate) promise: Option<Promise>,
}

impl Query {
    /// Its questions, from the result down. What it asks twice is one.
    pub(crate) fn questions(&self) -> Vec<Question<'_>> {
        let explain = Explain::of(&self.table);
        let (mut known, mut all) = (BTreeSet::new(), Vec::new());
        explain.questions(&self.root, &mut known, &mut all);
        all
    }
}

/// Said of a question about pairs.
const A_PAIR: &str = "a pass a pair";

/// The tree of a query with what its operators did.
pub struct Analyzed<'q> {
    query: &'q Query,
    measures: &'q Measures,
    epoch: Option<u64>,
}

impl Query {
    /// Its tree, each operator with the rows that stand behind it and what it asked: for this epoch, or
    /// in all where none is named. Told as `EXPLAIN ANALYZE` prints it, without a last line break.
    pub fn analyzed<'q>(&'q self, measures: &'q Measures, epoch: Option<u64>) -> Analyzed<'q> {
        Analyzed {
            query: self,
            measures,
            epoch,
        }
    }

    /// What all its questions came to: for this epoch, or in all where none is named.
    pub fn effort(&self, measures: &Measures, epoch: Option<u64>) -> Effort {
        let (mut known, mut sum) = (BTreeSet::new(), Effort::default());
        let mut nodes = vec![&self.root];
        while let Some(node) = nodes.pop() {
            let part = part_digest(node);
            if known.insert(part) {
                sum += effort(measures, part, epoch);
            }
            nodes.extend(node.inputs());
        }
        sum
    }
}

fn effort(measures: &Measures, part: [u8; 32], epoch: Option<u64>) -> Effort {
    let measure = measures.of(part);
    match epoch {
        None => measure.all(),
        Some(epoch) => measure.of_epoch(epoch),
    }
}

impl fmt::Display for Analyzed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "result ({})", self.query.schema)?;
        let explain = Explain {
            measured: Some((self.measures, self.epoch)),
            ..Explain::of(&self.query.table)
        };
        explain.tree(f, &self.query.root, "", true)
    }
}

struct Explain<'t> {
    table: &'t ColumnTable,
    /// What the operators did, for an epoch or in all.
    measured: Option<(&'t Measures, Option<u64>)>,
}

impl<'t> Explain<'t> {
    fn of(table: &'t ColumnTable) -> Self {
        Self {
            table,
            measured: None,
        }
    }

    /// What an operator did, behind its line.
    fn done(&self, node: &Node) -> String {
        let Some((measures, epoch)) = self.measured else {
            return String::new();
        };
        let part = part_digest(node);
        let rows = match measures.of(part).n_rows() {
            1 => "1 row".to_owned(),
            n => format!("{n} rows"),
        };
        let asks = match node {
            Node::Ask(_) | Node::AskGroups(_) | Node::Rank(_) => true,
            Node::Clusters(clusters) => clusters.check.is_some(),
            _ => false,
        };
        match asks {
            true => format!(" [{rows}; {}]", effort(measures, part, epoch)),
            false => format!(" [{rows}]"),
        }
    }
}

impl Explain<'_> {
    fn tree(
        &self,
        f: &mut fmt::Formatter<'_>,
        node: &Node,
        indent: &str,
        is_last: bool,
    ) -> fmt::Result {
        let branch = if is_last { "└" } else { "├" };
        write!(
            f,
            "\n{indent}{branch} {}{}",
            self.line(node),
            self.done(node)
        )?;
        let indent = format!("{indent}{} ", if is_last { " " } else { "│" });
        let inputs = node.inputs();
        for (at, input) in inputs.iter().enumerate() {
            self.tree(f, input, &indent, at + 1 == inputs.len())?;
        }
        Ok(())
    }

    fn line(&self, node: &Node) -> String {
        match node {
            Node::Scan(scan) => {
                let columns = list(&scan.columns, |(name, _)| name.to_string());
                format!("scan {} ({columns})", scan.relation)
            }
            Node::Values { rows, .. } => match rows.len() {
                1 => "values, 1 row".to_owned(),
                n => format!("values, {n} rows"),
            },
            Node::Project { columns, .. } => {
                format!("project {}", list(columns, |column| self.named(column)))
            }
            Node::Filter { predicate, .. } => format!("filter {}", self.all(predicate)),
            Node::Join(join) => self.join(join),
            Node::Nearest(nearest) => self.nearest(nearest),
            Node::Clusters(clusters) => {
                let (text, name) = (self.clustered(clusters), self.table.name(clusters.output));
                let check = match clusters.check {
                    None => "",
                    Some(_) => ", a pass a similar pair",
                };
                format!("cluster by {text} AS {name} (an embedding a text{check})")
            }
            Node::PageRank(rank) => self.page_rank(rank),
            Node::Unnest { list, output, .. } => format!(
                "unnest {} AS {} (a row an element)",
                self.text(list, 0),
                self.table.name(*output)
            ),
            Node::Union { .. } => "union all".to_owned(),
            Node::Distinct { .. } => "distinct".to_owned(),
            Node::Reduce {
                keys, aggregates, ..
            } => {
                let mut line = match keys.is_empty() {
                    true => "aggregate".to_owned(),
                    false => format!("group by {}", list(keys, |key| self.named(key))),
                };
                if !aggregates.is_empty() {
                    let colon = if keys.is_empty() { " " } else { ": " };
                    line += colon;
                    line += &list(aggregates, |(_, aggregate)| self.aggregate(aggregate));
                }
                line
            }
            Node::Top {
                keys,
                order,
                limit,
                offset,
                ..
            } => {
                let mut line = match limit {
                    Some(limit) => format!("top {limit}"),
                    None => "all".to_owned(),
                };
                if *offset > 0 {
                    line += &format!(" after {offset}");
                }
                if !keys.is_empty() {
                    line += &format!(" of each {}", list(keys, |key| self.text(key, 0)));
                }
                line + " by " + &list(order, |key| self.sort_key(key))
            }
            Node::Ask(ask) => self.ask(ask),
            Node::Cascade(cascade) => self.cascade(cascade),
            Node::AskGroups(ask) => self.ask_groups(ask),
            Node::Rank(rank) => self.rank(rank),
            Node::Entries(entries) => {
                let retained = match entries.retain {
                    None => String::new(),
                    Some(Retain::Count(1)) => ", the newest of each namespace".to_owned(),
                    Some(Retain::Count(n)) => format!(", the {n} newest of each namespace"),
                    Some(Retain::Age(age)) => format!(
                        ", of each namespace what came within {} of the newest",
                        duration_text(age)
                    ),
                };
                format!("entries that are neither superseded nor said again{retained}")
            }
            Node::Embed(embed) => format!(
                "embed {} below {} AS {}",
                self.table.name(embed.text),
                self.table.name(embed.title),
                self.table.name(embed.output)
            ),
        }
    }

    /// What is asked, of which columns where those are called otherwise in the prompt.
    fn ask(&self, ask: &Ask) -> String {
        let (text, calls) = self.asked(ask);
        let name = self.table.name(ask.output);
        let renamed = self.renamed(&ask.task, &ask.arguments);
        format!("ask {text} AS {name}{renamed} ({calls})")
    }

    /// A question as SQL asks it, and how many calls it is.
    fn asked(&self, ask: &Ask) -> (String, &'static str) {
        let name = self.table.name(ask.output);
        let max_tokens = |n: &usize| format!(", max_tokens => {n}");
        let (function, more, calls) = match ask.task.output() {
            Output::Text { max_tokens: n } => ("sem_map", max_tokens(n), "a call a row"),
            Output::Truth if **name == *"sem_match" => ("sem_match", String::new(), A_PAIR),
            Output::Truth => ("sem_filter", String::new(), "a pass a row"),
            Output::Score => ("sem_score", String::new(), "a pass a row"),
            Output::Label(all) => ("sem_classify", labels(all), "a pass a row"),
            Output::Record {
                fields,
                max_tokens: n,
            } => {
                let columns = extracted(fields);
                ("sem_extract", columns + &max_tokens(n), "a call a row")
            }
            Output::Records {
                records,
                max_tokens: n,
            } => {
                let rows = format!(", max_rows => {}", records.at_most());
                let columns = extracted(records.fields()) + &rows;
                ("sem_extract_all", columns + &max_tokens(n), "a call a row")
            }
        };
        let more = more + &asked_model(ask.model.as_deref());
        let prompt = quoted(&ask.task.prompt());
        (format!("{function}({prompt}{more})"), calls)
    }

    /// What is asked where an embedding does not decide, and how many calls that is.
    fn cascade(&self, cascade: &Cascade) -> String {
        let (text, name) = (decided(cascade), self.table.name(cascade.output));
        let renamed = self.renamed(&cascade.task, &cascade.arguments);
        let n = cascade.promise.n_sample;
        format!(
            "ask {text} AS {name}{renamed} (an embedding a row, a pass for each of a sample of {n}, and for \
             each other that its embedding does not decide)"
        )
    }

    /// What is asked of groups, and how many calls that is.
    fn ask_groups(&self, ask: &AskGroups) -> String {
        let renamed = self.renamed(&ask.task, &ask.arguments);
        let (text, name) = (aggregated(ask), self.table.name(ask.output));
        format!(
            "ask groups {text} AS {name}{renamed} (a call for {MAX_MEMBERS} rows or fewer, and for \
             {MAX_PARTS} answers or fewer)"
        )
    }

    /// How rows are ranked.
    fn rank(&self, rank: &Rank) -> String {
        let (n, text) = (rank.n_places, ranked(rank));
        let renamed = self.renamed(&rank.task, &rank.arguments);
        let name = self.table.name(rank.output);
        format!("first {n} by {text} AS {name}{renamed} (a pass for two that meet)")
    }

    /// The questions of a node and those below, each once.
    fn questions<'q>(
        &self,
        node: &'q Node,
        known: &mut BTreeSet<[u8; 32]>,
        all: &mut Vec<Question<'q>>,
    ) {
        let question = match node {
            Node::Ask(ask) => {
                let (text, calls) = self.asked(ask);
                let subject = match calls {
                    A_PAIR => Subject::Pair,
                    _ => Subject::Row,
                };
                Some((ask.output, text, subject, ask.model.as_ref(), &ask.task))
            }
            Node::Cascade(cascade) => {
                let (text, model) = (decided(cascade), cascade.model.as_ref());
                Some((cascade.output, text, Subject::Row, model, &cascade.task))
            }
            Node::AskGroups(ask) => {
                let (text, model) = (aggregated(ask), ask.model.as_ref());
                Some((ask.output, text, Subject::Group, model, &ask.task))
            }
            Node::Rank(rank) => {
                let (text, model) = (ranked(rank), rank.model.as_ref());
                Some((rank.output, text, Subject::Rank, model, &rank.task))
            }
            Node::Clusters(clusters) => clusters.check.as_ref().map(|check| {
                let (text, model) = (self.clustered(clusters), check.model.as_ref());
                (clusters.output, text, Subject::Pair, model, &check.task)
            }),
            _ => None,
        };
        let promise = match node {
            Node::Cascade(cascade) => Some(cascade.promise),
            _ => None,
        };
        if let Some((output, text, subject, model, task)) = question
            && known.insert(part_digest(node))
            && all.iter().all(|other| other.output != output)
        {
            all.push(Question {
                output,
                text,
                subject,
                model,
                task,
                promise,
            });
        }
        for input in node.inputs() {
            self.questions(input, known, all);
        }
    }

    /// What the columns of a task are where a prompt calls them otherwise.
    fn renamed(&self, task: &Task, arguments: &[Scalar]) -> String {
        let pairs = task.columns().iter().zip(arguments);
        let renamed = pairs.filter_map(|(name, argument)| {
            let text = self.text(argument, 0);
            (text != **name).then(|| format!("{{{name}}} = {text}"))
        });
        let renamed: Vec<String> = renamed.collect();
        match renamed.is_empty() {
            true => String::new(),
            false => format!(" where {}", renamed.join(", ")),
        }
    }

    fn join(&self, join: &Join) -> String {
        let name = match join.kind {
            JoinKind::Inner if join.keys.is_empty() && join.residual.is_empty() => "cross join",
            JoinKind::Inner => "join",
            JoinKind::Left => "left join",
            JoinKind::Semi => "semijoin",
            JoinKind::Anti => "antijoin",
        };
        let mut line = name.to_owned() + &self.on(&join.keys);
        if !join.residual.is_empty() {
            line += &format!(" where {}", self.all(&join.residual));
        }
        line
    }

    /// Which rows are embedded and paired.
    fn nearest(&self, nearest: &Nearest) -> String {
        let texts = |texts: &[Scalar]| list(texts, |text| self.text(text, 0));
        let (left, right) = (texts(&nearest.left_texts), texts(&nearest.right_texts));
        let keys = self.on(&nearest.keys);
        match nearest.n {
            1 => format!("join{keys} with the nearest of ({right}) to ({left})"),
            n => format!("join{keys} with the {n} nearest of ({right}) to ({left})"),
        }
    }

    /// Where walks lead, and what is read of edges and seeds.
    fn page_rank(&self, rank: &PageRank) -> String {
        let name = |id: ColumnId| self.table.name(id).to_string();
        let weight = |id: Option<ColumnId>| {
            let weight = id.map(|id| format!(" by {}", name(id)));
            weight.unwrap_or_default()
        };
        let per = match rank.per.is_empty() {
            true => String::new(),
            false => format!(" per {}", list(&rank.per, |(_, id)| name(*id))),
        };
        format!(
            "page rank{per} from {}{} along {}, {}{} (damping {}, {} steps, least {})",
            name(rank.seed),
            weight(rank.seed_weight),
            name(rank.source),
            name(rank.target),
            weight(rank.edge_weight),
            rank.damping.get(),
            rank.n_steps,
            rank.least.get(),
        )
    }

    /// By what texts are connected, as SQL says it.
    fn clustered(&self, clusters: &Clusters) -> String {
        let (text, threshold) = (self.text(&clusters.text, 0), clusters.threshold.get());
        let (prompt, model) = match &clusters.check {
            None => (String::new(), String::new()),
            Some(check) => (
                format!(", {}", quoted(&check.task.prompt())),
                asked_model(check.model.as_deref()),
            ),
        };
        format!("sem_dedup({text}{prompt}, threshold => {threshold}{model})")
    }

    /// Which keys are equal, if there are any.
    fn on(&self, keys: &[(Scalar, Scalar)]) -> String {
        let key = |(left, right): &(Scalar, Scalar)| {
            let (left, right) = (
                self.text(left, binding::SUM),
                self.text(right, binding::SUM),
            );
            format!("{left} = {right}")
        };
        let keys: Vec<String> = keys.iter().map(key).collect();
        match keys.is_empty() {
            true => String::new(),
            false => format!(" on {}", keys.join(" AND ")),
        }
    }

    fn aggregate(&self, aggregate: &Aggregate) -> String {
        let distinct = if aggregate.is_distinct {
            "DISTINCT "
        } else {
            ""
        };
        let argument = match &aggregate.argument {
            None => "*".to_owned(),
            Some(argument) => self.text(argument, 0),
        };
        format!("{}({distinct}{argument})", aggregate.function.name())
    }

    fn sort_key(&self, key: &SortKey) -> String {
        let mut text = self.text(&key.by, 0);
        if key.is_descending {
            text += " DESC";
        }
        // NULL is the least value unless it is said otherwise.
        match (key.nulls_first, key.is_descending) {
            (true, true) => text + " NULLS FIRST",
            (false, false) => text + " NULLS LAST",
            _ => text,
        }
    }

    fn named(&self, (id, expression): &(ColumnId, Scalar)) -> String {
        let text = self.text(expression, 0);
        let name = self.table.name(*id);
        match text == **name {
            true => text,
            false => format!("{text} AS {name}"),
        }
    }

    fn all(&self, conditions: &[Scalar]) -> String {
        let conditions = conditions.iter().map(|c| self.text(c, binding::AND));
        conditions.collect::<Vec<_>>().join(" AND ")
    }

    /// An expression, in parentheses where it binds less than what stands around it.
    fn text(&self, expression: &Scalar, around: u8) -> String {
        let (text, own) = self.bare(expression);
        match own < around {
            true => format!("({text})"),
            false => text,
        }
    }

    fn bare(&self, expression: &Scalar) -> (String, u8) {
        use binding::{AND, ATOM, COMPARISON, FIELD, NOT, OR, PRODUCT, SUM};
        let binary = |symbol: &str, left: &Scalar, right: &Scalar, own: u8| {
            let (left, right) = (self.text(left, own), self.text(right, own + 1));
            (format!("{left} {symbol} {right}"), own)
        };
        match expression {
            Expression::Column(id) => (self.table.name(*id).to_string(), ATOM),
            Expression::Literal(Value::Text(text)) => (quoted(text), ATOM),
            Expression::Literal(Value::Boolean(is)) => {
                (if *is { "TRUE" } else { "FALSE" }.to_owned(), ATOM)
            }
            Expression::Literal(Value::Timestamp(ms)) => {
                let text = crate::query::timestamp::format(*ms);
                (
                    format!("'{}'", text.unwrap_or_else(|| ms.to_string())),
                    ATOM,
                )
            }
            Expression::Literal(value) => (value.to_string(), ATOM),
            Expression::Not(inner) => match &**inner {
                Expression::IsNull(value) => {
                    (format!("{} IS NOT NULL", self.text(value, SUM)), COMPARISON)
                }
                other => (format!("NOT {}", self.text(other, NOT)), NOT),
            },
            Expression::Negate(inner) => (format!("-{}", self.text(inner, ATOM)), ATOM),
            Expression::IsNull(inner) => (format!("{} IS NULL", self.text(inner, SUM)), COMPARISON),
            Expression::Compare(how, left, right) => {
                let (left, right) = (self.text(left, SUM), self.text(right, SUM));
                (format!("{left} {} {right}", how.symbol()), COMPARISON)
            }
            Expression::Arithmetic(how, left, right) => {
                let own = if matches!(how.symbol(), "+" | "-") {
                    SUM
                } else {
                    PRODUCT
                };
                binary(how.symbol(), left, right, own)
            }
            Expression::And(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| self.text(part, AND)).collect();
                (parts.join(" AND "), AND)
            }
            Expression::Or(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| self.text(part, OR)).collect();
                (parts.join(" OR "), OR)
            }
            Expression::In(value, items) => {
                let items = list(items, |item| self.text(item, 0));
                (
                    format!("{} IN ({items})", self.text(value, SUM)),
                    COMPARISON,
                )
            }
            Expression::Like {
                value,
                pattern,
                escape,
                is_case_blind,
            } => {
                let like = if *is_case_blind { "ILIKE" } else { "LIKE" };
                let escape = escape.map_or(String::new(), |c| format!(" ESCAPE '{c}'"));
                let (value, pattern) = (self.text(value, SUM), self.text(pattern, SUM));
                (format!("{value} {like} {pattern}{escape}"), COMPARISON)
            }
            Expression::Case {
                branches,
                otherwise,
            } => {
                let mut text = "CASE".to_owned();
                for (when, then) in branches {
                    text += &format!(" WHEN {} THEN {}", self.text(when, 0), self.text(then, 0));
                }
                (format!("{text} ELSE {} END", self.text(otherwise, 0)), ATOM)
            }
            Expression::Cast(inner, to) => (format!("CAST({} AS {to})", self.text(inner, 0)), ATOM),
            Expression::Call(function, arguments) => match (function.name().0, &arguments[..]) {
                (arrow @ ("->" | "->>"), [json, which]) => binary(arrow, json, which, FIELD),
                (name, arguments) => {
                    let arguments = list(arguments, |argument| self.text(argument, 0));
                    (format!("{name}({arguments})"), ATOM)
                }
            },
        }
    }
}

/// What is asked where an embedding does not decide, as SQL asks it.
fn decided(cascade: &Cascade) -> String {
    let Promise {
        recall,
        precision,
        n_sample,
    } = cascade.promise;
    let shares = [("recall", recall), ("precision", precision)].into_iter();
    let shares = shares.filter(|(_, share)| share.get() < 1.0);
    let shares: String = shares
        .map(|(name, share)| format!(", {name} => {}", share.get()))
        .collect();
    let prompt = quoted(&cascade.task.prompt());
    let model = asked_model(cascade.model.as_deref());
    format!("sem_filter({prompt}{shares}, sample => {n_sample}{model})")
}

/// What is asked about groups, as SQL asks it.
fn aggregated(ask: &AskGroups) -> String {
    let max_tokens = ask.task.output().max_tokens();
    let max_tokens = max_tokens.map_or_else(String::new, |n| format!(", max_tokens => {n}"));
    let (prompt, model) = (
        quoted(&ask.task.prompt()),
        asked_model(ask.model.as_deref()),
    );
    format!("sem_agg({prompt}{max_tokens}{model})")
}

/// By what rows are ranked, as SQL asks it.
fn ranked(rank: &Rank) -> String {
    let (prompt, model) = (
        quoted(&rank.task.prompt()),
        asked_model(rank.model.as_deref()),
    );
    format!("sem_rank({prompt}{model})")
}

/// Columns that are read out of a text, as SQL names them.
fn extracted(fields: &Fields) -> String {
    let columns = fields.all().iter().map(|field| match &field.of {
        FieldType::OneOf(all) => {
            let all = labels(all);
            format!(", {} => ({})", field.name, all.trim_start_matches(", "))
        }
        of => format!(", {} => {}", field.name, of.column()),
    });
    columns.collect()
}

/// Labels as further arguments.
fn labels(all: &[Arc<str>]) -> String {
    let labels = all.iter().map(|label| format!(", {}", quoted(label)));
    labels.collect()
}

/// The argument that names a model.
fn asked_model(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(", model => {name}"))
}

/// A text as a literal.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().join(", ")
}
