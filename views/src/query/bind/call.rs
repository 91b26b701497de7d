//! Which function or aggregate is called, and do its arguments fit?

use perennial_rows::{Type, Value};
use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned};
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::bind::ask::{SEM_FUNCTIONS, SemFunction};
use crate::query::bind::error::did_you_mean;
use crate::query::bind::expression::{Place, place_of};
use crate::query::expression::{Expression, common};
use crate::query::functions::Function;
use crate::query::node::{Aggregate, AggregateFunction, Scalar};

impl<'q> Binder<'q> {
    /// The arguments of a call that says nothing besides which is not supported.
    pub(super) fn arguments(
        &mut self,
        call: &'q ast::Function,
    ) -> Option<&'q ast::FunctionArgumentList> {
        let span = call.name.span();
        let name = call.name.to_string();
        if call.over.is_some() {
            self.refuse(&format!("the window function `{name}(…) OVER`"), span);
            return None;
        }
        let unsupported = [
            (
                !matches!(call.parameters, FunctionArguments::None),
                "parameters before arguments",
            ),
            (!call.within_group.is_empty(), "WITHIN GROUP"),
            (call.null_treatment.is_some(), "IGNORE or RESPECT NULLS"),
        ];
        for (is_there, what) in unsupported {
            if is_there {
                self.refuse(&format!("{what} in `{name}`"), span);
                return None;
            }
        }
        let list = match &call.args {
            FunctionArguments::List(list) => list,
            FunctionArguments::None => {
                self.refuse(&format!("`{name}` without parentheses"), span);
                return None;
            }
            FunctionArguments::Subquery(_) => {
                self.refuse(&format!("a subquery as the argument of `{name}`"), span);
                return None;
            }
        };
        if let Some(clause) = list.clauses.first() {
            self.refuse(&format!("`{clause}` in `{name}`"), span);
            return None;
        }
        Some(list)
    }

    pub(super) fn call(&mut self, place: Place<'_>, call: &'q ast::Function) -> Option<Scalar> {
        let list = self.arguments(call)?;
        let (span, name) = (call.name.span(), call.name.to_string());
        if let Some(function) = AggregateFunction::named(&name) {
            return self.aggregate(place, function, call, list);
        }
        if let Some(SemFunction::Aggregate) = SemFunction::named(&name) {
            return self.ask_groups(place, call, list);
        }
        if let Some(function) = SemFunction::named(&name) {
            self.check_plain(call, list)?;
            return match function {
                SemFunction::Extract | SemFunction::ExtractAll => {
                    self.extract_one(place, function, &list.args, span)
                }
                SemFunction::Dedup | SemFunction::Group => {
                    self.cluster(place, function, &list.args, span)
                }
                _ => self.ask(place, function, &list.args, span),
            };
        }
        if name.eq_ignore_ascii_case("unnest") {
            return self.unnest(place, call, list, span);
        }
        let Some(function) = Function::named(&name) else {
            let functions = Function::NAMES.iter().map(|(name, _)| *name);
            let aggregates = AggregateFunction::NAMES.iter().map(|(name, _)| *name);
            let known = functions
                .chain(aggregates)
                .chain(SEM_FUNCTIONS)
                .chain(["unnest"]);
            let hint = did_you_mean(&name, known);
            self.error(format!("there is no function `{name}`{hint}"), span);
            return None;
        };
        if call.filter.is_some() {
            self.refuse(&format!("FILTER on `{name}`, which is no aggregate,"), span);
            return None;
        }
        if list.duplicate_treatment.is_some() {
            self.refuse(
                &format!("DISTINCT in `{name}`, which is no aggregate,"),
                span,
            );
            return None;
        }
        let mut arguments = Vec::new();
        for argument in &list.args {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => arguments.push(expr),
                other => {
                    self.refuse(&format!("the argument `{other}` of `{name}`"), span);
                    return None;
                }
            }
        }
        self.apply(place, function, arguments, span)
    }

    /// A function of these arguments.
    pub(super) fn apply(
        &mut self,
        place: Place<'_>,
        function: Function,
        arguments: impl IntoIterator<Item = &'q Expr>,
        span: Span,
    ) -> Option<Scalar> {
        let arguments: Vec<&Expr> = arguments.into_iter().collect();
        let (name, _) = function.name();
        let (n_required, takes) = function.takes();
        let is_few = arguments.len() < n_required;
        let is_many = arguments.len() > takes.len() && !function.is_variadic();
        if is_few || is_many {
            let wanted = match (n_required, takes.len()) {
                (least, _) if function.is_variadic() => format!("{least} or more"),
                (least, most) if least == most => least.to_string(),
                (least, most) => format!("{least} to {most}"),
            };
            let message = format!("`{name}` takes {wanted} arguments, not {}", arguments.len());
            self.error(message, span);
            return None;
        }
        let bound = self.scalars(place, arguments.iter().copied())?;
        for (at, argument) in bound.iter().enumerate() {
            let takes = takes[at.min(takes.len() - 1)];
            let of = self.of(argument);
            if !takes.accepts(of) {
                let message = format!("`{name}` takes {} here, not {of}", takes.name());
                self.error(message, place_of(arguments[at]));
                return None;
            }
        }
        let bound = match function {
            Function::Coalesce => self.alike("the arguments of `coalesce`", bound, span)?,
            Function::NullIf => {
                let types: Vec<Type> = bound.iter().map(|argument| self.of(argument)).collect();
                if common(types.iter().copied()).is_none() {
                    let message = format!("`nullif` compares {} with {}", types[0], types[1]);
                    self.error(message, span);
                    return None;
                }
                bound
            }
            _ => bound,
        };
        Some(Expression::Call(function, bound))
    }

    /// Whether a call that is no aggregate has nothing that only aggregates have; says so if it has.
    pub(super) fn check_plain(
        &mut self,
        call: &ast::Function,
        list: &ast::FunctionArgumentList,
    ) -> Option<()> {
        if call.filter.is_none() && list.duplicate_treatment.is_none() {
            return Some(());
        }
        self.refuse(
            &format!("FILTER or DISTINCT in `{}`", call.name),
            call.name.span(),
        );
        None
    }

    /// Whether an aggregate may stand there; says so if not.
    pub(super) fn check_aggregate(
        &mut self,
        place: Place<'_>,
        name: &str,
        span: Span,
    ) -> Option<()> {
        if place.allows_aggregates {
            return Some(());
        }
        let message = format!(
            "the aggregate `{name}` cannot stand in {}; aggregates stand in SELECT, HAVING and ORDER BY",
            place.clause
        );
        self.error(message, span);
        None
    }

    /// An aggregate: a column that the grouping makes.
    fn aggregate(
        &mut self,
        place: Place<'_>,
        function: AggregateFunction,
        call: &'q ast::Function,
        list: &'q ast::FunctionArgumentList,
    ) -> Option<Scalar> {
        let span = call.name.span();
        let name = function.name();
        self.check_aggregate(place, name, span)?;
        let inner = Place {
            clause: "an aggregate",
            allows_aggregates: false,
            ..place
        };
        let is_distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
        let argument = match &list.args[..] {
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]
                if function == AggregateFunction::Count && !is_distinct =>
            {
                None
            }
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] => {
                let bound = self.scalar(inner, expr)?;
                let of = self.of(&bound);
                let is_sum = matches!(function, AggregateFunction::Sum | AggregateFunction::Avg);
                if is_sum && !matches!(of, Type::Integer | Type::Float | Type::Any) {
                    let message = format!("`{name}` takes INTEGER or FLOAT, not {of}");
                    self.error(message, place_of(expr));
                    return None;
                }
                Some(bound)
            }
            _ => {
                let wanted = match function {
                    AggregateFunction::Count => "one argument or `*`",
                    _ => "one argument",
                };
                self.error(format!("`{name}` takes {wanted}"), span);
                return None;
            }
        };
        // What FILTER leaves out is NULL, which aggregates ignore.
        let argument = match &call.filter {
            None => argument,
            Some(filter) => {
                let filter = self.condition(inner, filter)?;
                Some(Expression::Case {
                    branches: vec![(filter, argument.unwrap_or(Expression::literal(true)))],
                    otherwise: Box::new(Expression::Literal(Value::Null)),
                })
            }
        };
        // Neither the least nor the greatest changes when it is there twice.
        let is_distinct =
            is_distinct && !matches!(function, AggregateFunction::Min | AggregateFunction::Max);
        let aggregate = Aggregate {
            function,
            argument,
            is_distinct,
        };
        let known = self
            .aggregates
            .iter()
            .find(|(_, known)| *known == aggregate);
        let id = match known {
            Some((id, _)) => *id,
            None => {
                let argument = aggregate.argument.as_ref();
                let of = match (function, argument) {
                    (AggregateFunction::Count, _) => Type::Integer,
                    (AggregateFunction::Avg, _) => Type::Float,
                    (_, argument) => argument.map_or(Type::Any, |argument| self.of(argument)),
                };
                let id = self.table.add(name, of);
                self.aggregates.push((id, aggregate));
                id
            }
        };
        Some(Expression::Column(id))
    }
}
