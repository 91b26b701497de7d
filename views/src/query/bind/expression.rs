//! What does an expression of SQL mean, and do its types fit?

use perennial_rows::{Type, Value};
use sqlparser::ast::{self, BinaryOperator, Expr, Spanned, UnaryOperator};
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::bind::scope::Scope;
use crate::query::cast::is_castable;
use crate::query::expression::{Arithmetic, Comparison, Expression, common};
use crate::query::functions::Function;
use crate::query::node::Scalar;

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'s> {
    pub(super) scope: &'s Scope,
    /// The tables of the query around this one.
    pub(super) outer: Option<&'s Scope>,
    /// What the clause is called.
    pub(super) clause: &'static str,
    pub(super) allows_aggregates: bool,
    /// About what a model may be asked there.
    pub(super) asks: AsksAbout,
}

/// About what a model may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AsksAbout {
    Nothing,
    Rows,
    /// Rows, and how each stands to all others.
    AllRows,
    /// Whether two rows are a pair.
    Pairs,
}

impl<'q> Binder<'q> {
    pub(super) fn scalar(&mut self, place: Place<'_>, expr: &'q Expr) -> Option<Scalar> {
        self.nested(|binder| binder.scalar_at_depth(place, expr))
    }

    /// Both bound, so that errors of both are told.
    fn pair(
        &mut self,
        place: Place<'_>,
        left: &'q Expr,
        right: &'q Expr,
    ) -> Option<(Scalar, Scalar)> {
        let left = self.scalar(place, left);
        let right = self.scalar(place, right);
        left.zip(right)
    }

    pub(super) fn scalars(
        &mut self,
        place: Place<'_>,
        list: impl IntoIterator<Item = &'q Expr>,
    ) -> Option<Vec<Scalar>> {
        let bound: Vec<Option<Scalar>> = list
            .into_iter()
            .map(|expr| self.scalar(place, expr))
            .collect();
        bound.into_iter().collect()
    }

    /// An expression that is true, false or unknown.
    pub(super) fn condition(&mut self, place: Place<'_>, expr: &'q Expr) -> Option<Scalar> {
        let bound = self.scalar(place, expr)?;
        self.boolean(bound, place.clause, place_of(expr))
    }

    fn boolean(&mut self, bound: Scalar, what: &str, span: Span) -> Option<Scalar> {
        match self.of(&bound) {
            Type::Boolean | Type::Any => Some(bound),
            of => {
                let message =
                    format!("{what} takes a condition, not {of}; compare it with something");
                self.error(message, span);
                None
            }
        }
    }

    fn scalar_at_depth(&mut self, place: Place<'_>, expr: &'q Expr) -> Option<Scalar> {
        match expr {
            Expr::Identifier(name) => {
                let column = self.column(place.scope, place.outer, None, name)?;
                Some(Expression::Column(column))
            }
            Expr::CompoundIdentifier(names) => match &names[..] {
                [table, name] => {
                    let column = self.column(place.scope, place.outer, Some(table), name)?;
                    Some(Expression::Column(column))
                }
                _ => {
                    self.refuse("a name of more than two parts", place_of(expr));
                    None
                }
            },
            Expr::Nested(inner) => self.scalar(place, inner),
            Expr::Value(literal) => self.literal(literal).map(Expression::Literal),
            Expr::TypedString(typed) => self.typed_string(typed).map(Expression::Literal),
            Expr::UnaryOp { op, expr: inner } => self.unary(place, op, inner, place_of(expr)),
            Expr::BinaryOp { left, op, right } => self.binary(place, left, op, right, expr),
            Expr::IsNull(inner) | Expr::IsUnknown(inner) => {
                Some(Expression::IsNull(Box::new(self.scalar(place, inner)?)))
            }
            Expr::IsNotNull(inner) | Expr::IsNotUnknown(inner) => {
                let is_null = Expression::IsNull(Box::new(self.scalar(place, inner)?));
                Some(is_null.negated())
            }
            Expr::IsTrue(inner) => self.is(place, inner, true),
            Expr::IsFalse(inner) => self.is(place, inner, false),
            Expr::IsNotTrue(inner) => Some(self.is(place, inner, true)?.negated()),
            Expr::IsNotFalse(inner) => Some(self.is(place, inner, false)?.negated()),
            Expr::IsDistinctFrom(left, right) => {
                let (left, right) = self.pair(place, left, right)?;
                self.compared(Comparison::Distinct, left, right, place_of(expr))
            }
            Expr::IsNotDistinctFrom(left, right) => {
                let (left, right) = self.pair(place, left, right)?;
                self.compared(Comparison::NotDistinct, left, right, place_of(expr))
            }
            Expr::In {
                expr: value,
                target: ast::InTarget::List(list),
                negated,
                global: false,
            } => {
                let is_in = self.in_list(place, value, list, place_of(expr))?;
                Some(if *negated { is_in.negated() } else { is_in })
            }
            Expr::In { .. } | Expr::Exists { .. } => {
                let message = "a subquery in IN or EXISTS must stand in WHERE, by itself or joined \
                               to other conditions by AND";
                self.error(message, place_of(expr));
                None
            }
            Expr::Subquery(_) => {
                let message = "a subquery as a value is not supported; join the subquery instead";
                self.error(message, place_of(expr));
                None
            }
            Expr::Between {
                expr: value,
                negated,
                low,
                high,
            } => {
                let value = self.scalar(place, value);
                let bounds = self.pair(place, low, high);
                let (value, (low, high)) = value.zip(bounds)?;
                let span = place_of(expr);
                let from = self.compared(Comparison::AtLeast, value.clone(), low, span);
                let to = self.compared(Comparison::AtMost, value, high, span);
                let between = Expression::And(vec![from?, to?]);
                Some(if *negated { between.negated() } else { between })
            }
            Expr::Like {
                negated,
                any: false,
                expr: value,
                pattern,
                escape_char,
            } => self.like(
                place,
                (value, pattern, escape_char.as_deref()),
                *negated,
                false,
            ),
            Expr::ILike {
                negated,
                any: false,
                expr: value,
                pattern,
                escape_char,
            } => self.like(
                place,
                (value, pattern, escape_char.as_deref()),
                *negated,
                true,
            ),
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.case(
                place,
                operand.as_deref(),
                conditions,
                else_result.as_deref(),
                expr,
            ),
            Expr::Cast {
                kind: ast::CastKind::Cast | ast::CastKind::TryCast | ast::CastKind::DoubleColon,
                expr: inner,
                data_type,
                format: None,
            } => {
                let bound = self.scalar(place, inner);
                let to = self.data_type(data_type, place_of(inner));
                let (bound, to) = bound.zip(to)?;
                let from = self.of(&bound);
                if !is_castable(from, to) {
                    let message = format!("{from} cannot be cast to {to}");
                    self.error(message, place_of(expr));
                    return None;
                }
                Some(Expression::Cast(Box::new(bound), to))
            }
            Expr::Function(function) => self.call(place, function),
            Expr::Ceil {
                expr: inner,
                field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime),
            } => self.apply(place, Function::Ceil, [&**inner], place_of(expr)),
            Expr::Floor {
                expr: inner,
                field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime),
            } => self.apply(place, Function::Floor, [&**inner], place_of(expr)),
            Expr::Substring {
                expr: text,
                substring_from,
                substring_for,
                ..
            } => {
                let Some(from) = substring_from else {
                    self.refuse("SUBSTRING without a start", place_of(expr));
                    return None;
                };
                let arguments = [&**text, &**from].into_iter();
                let arguments = arguments.chain(substring_for.as_deref());
                self.apply(place, Function::Substr, arguments, place_of(expr))
            }
            Expr::Position { expr: part, r#in } => self.apply(
                place,
                Function::Position,
                [&**r#in, &**part],
                place_of(expr),
            ),
            Expr::Trim {
                trim_where,
                trim_what,
                expr: text,
                trim_characters,
            } => {
                let function = match trim_where {
                    None | Some(ast::TrimWhereField::Both) => Function::Trim,
                    Some(ast::TrimWhereField::Leading) => Function::TrimStart,
                    Some(ast::TrimWhereField::Trailing) => Function::TrimEnd,
                };
                let characters = trim_characters.iter().flatten();
                let arguments = std::iter::once(&**text).chain(trim_what.as_deref());
                self.apply(place, function, arguments.chain(characters), place_of(expr))
            }
            other => {
                self.refuse(&format!("the expression `{other}`"), place_of(expr));
                None
            }
        }
    }

    fn unary(
        &mut self,
        place: Place<'_>,
        op: &UnaryOperator,
        inner: &'q Expr,
        span: Span,
    ) -> Option<Scalar> {
        // The least integer has no positive counterpart to be negated.
        if let (UnaryOperator::Minus, Expr::Value(literal)) = (op, inner)
            && let ast::Value::Number(digits, _) = &literal.value
        {
            let number = self.number(&format!("-{digits}"), literal.span)?;
            return Some(Expression::Literal(number));
        }
        let bound = self.scalar(place, inner)?;
        let of = self.of(&bound);
        match op {
            UnaryOperator::Not => Some(self.boolean(bound, "NOT", place_of(inner))?.negated()),
            UnaryOperator::Plus | UnaryOperator::Minus
                if !matches!(of, Type::Integer | Type::Float | Type::Any) =>
            {
                self.error(
                    format!("`{op}` takes INTEGER or FLOAT, not {of}"),
                    place_of(inner),
                );
                None
            }
            UnaryOperator::Plus => Some(bound),
            UnaryOperator::Minus => Some(Expression::Negate(Box::new(bound))),
            other => {
                self.refuse(&format!("the operator `{other}`"), span);
                None
            }
        }
    }

    fn binary(
        &mut self,
        place: Place<'_>,
        left: &'q Expr,
        op: &'q BinaryOperator,
        right: &'q Expr,
        whole: &'q Expr,
    ) -> Option<Scalar> {
        use BinaryOperator as Op;
        let compare = match op {
            Op::And | Op::Or => {
                let operands = operands(op, whole);
                let word = if *op == Op::And { "AND" } else { "OR" };
                let parts: Vec<Option<Scalar>> = operands
                    .into_iter()
                    .map(|part| {
                        let bound = self.scalar(place, part)?;
                        self.boolean(bound, word, place_of(part))
                    })
                    .collect();
                let parts = parts.into_iter().collect::<Option<Vec<_>>>()?;
                return Some(match op {
                    Op::And => Expression::And(parts),
                    _ => Expression::Or(parts),
                });
            }
            Op::StringConcat => {
                let operands = operands(op, whole);
                return self.apply(place, Function::Concat, operands, place_of(whole));
            }
            Op::Arrow => {
                return self.apply(place, Function::JsonField, [left, right], place_of(whole));
            }
            Op::LongArrow => {
                return self.apply(place, Function::JsonText, [left, right], place_of(whole));
            }
            Op::Eq => Some(Comparison::Equal),
            Op::NotEq => Some(Comparison::Unequal),
            Op::Lt => Some(Comparison::Less),
            Op::LtEq => Some(Comparison::AtMost),
            Op::Gt => Some(Comparison::Greater),
            Op::GtEq => Some(Comparison::AtLeast),
            _ => None,
        };
        if let Some(how) = compare {
            let (left, right) = self.pair(place, left, right)?;
            return self.compared(how, left, right, place_of(whole));
        }
        let how = match op {
            Op::Plus => Arithmetic::Add,
            Op::Minus => Arithmetic::Subtract,
            Op::Multiply => Arithmetic::Multiply,
            Op::Divide => Arithmetic::Divide,
            Op::Modulo => Arithmetic::Remainder,
            other => {
                self.refuse(&format!("the operator `{other}`"), place_of(whole));
                return None;
            }
        };
        let (left, right) = self.pair(place, left, right)?;
        let (a, b) = (self.of(&left), self.of(&right));
        if how.of(a, b).is_none() {
            let message = format!("`{op}` does not take {a} and {b}; cast one of them");
            self.error(message, place_of(whole));
            return None;
        }
        Some(Expression::Arithmetic(how, Box::new(left), Box::new(right)))
    }

    /// A comparison whose types fit. A text literal beside an instant is one.
    pub(super) fn compared(
        &mut self,
        how: Comparison,
        left: Scalar,
        right: Scalar,
        span: Span,
    ) -> Option<Scalar> {
        let (a, b) = (self.of(&left), self.of(&right));
        let left = self.as_instant(left, b, span)?;
        let right = self.as_instant(right, a, span)?;
        let (a, b) = (self.of(&left), self.of(&right));
        if common([a, b]).is_none() {
            let message = format!(
                "`{}` compares {a} with {b}, which are never equal; cast one of them",
                how.symbol()
            );
            self.error(message, span);
            return None;
        }
        Some(left.compared(how, right))
    }

    fn as_instant(&mut self, bound: Scalar, beside: Type, span: Span) -> Option<Scalar> {
        match bound {
            Expression::Literal(Value::Text(text)) if beside == Type::Timestamp => {
                self.instant(&text, span).map(Expression::Literal)
            }
            other => Some(other),
        }
    }

    fn is(&mut self, place: Place<'_>, inner: &'q Expr, which: bool) -> Option<Scalar> {
        let bound = self.scalar(place, inner)?;
        let bound = self.boolean(bound, "IS", place_of(inner))?;
        let is = if which { bound } else { bound.negated() };
        Some(Expression::Call(
            Function::Coalesce,
            vec![is, Expression::literal(false)],
        ))
    }

    fn in_list(
        &mut self,
        place: Place<'_>,
        value: &'q Expr,
        list: &'q [Expr],
        span: Span,
    ) -> Option<Scalar> {
        let bound = self.scalar(place, value);
        let items = self.scalars(place, list);
        let (bound, items) = bound.zip(items)?;
        let of = self.of(&bound);
        let mut fitting = Vec::with_capacity(items.len());
        for (item, expr) in items.into_iter().zip(list) {
            let item = self.as_instant(item, of, place_of(expr))?;
            let item_of = self.of(&item);
            if common([of, item_of]).is_none() {
                let message = format!("IN compares {of} with {item_of}; cast one of them");
                self.error(message, span);
                return None;
            }
            fitting.push(item);
        }
        Some(Expression::In(Box::new(bound), fitting))
    }

    fn like(
        &mut self,
        place: Place<'_>,
        (value, pattern, escape): (&'q Expr, &'q Expr, Option<&'q Expr>),
        negated: bool,
        is_case_blind: bool,
    ) -> Option<Scalar> {
        let escape = match escape {
            None => Some(None),
            Some(Expr::Value(ast::ValueWithSpan {
                value: ast::Value::SingleQuotedString(text),
                span,
            })) => match text.chars().collect::<Vec<_>>()[..] {
                [c] => Some(Some(c)),
                _ => {
                    self.error("ESCAPE takes one character", *span);
                    None
                }
            },
            Some(other) => {
                self.error("ESCAPE takes one character in quotes", place_of(other));
                None
            }
        };
        let mut parts = Vec::new();
        for expr in [value, pattern] {
            let bound = self.scalar(place, expr);
            let of = bound.as_ref().map(|bound| self.of(bound));
            if let Some(of) = of
                && !matches!(of, Type::Text | Type::Any)
            {
                self.error(format!("LIKE takes TEXT, not {of}"), place_of(expr));
                return None;
            }
            parts.push(bound);
        }
        let pattern = parts.pop()??;
        let value = parts.pop()??;
        let like = Expression::Like {
            value: Box::new(value),
            pattern: Box::new(pattern),
            escape: escape?,
            is_case_blind,
        };
        Some(if negated { like.negated() } else { like })
    }

    fn case(
        &mut self,
        place: Place<'_>,
        operand: Option<&'q Expr>,
        conditions: &'q [ast::CaseWhen],
        otherwise: Option<&'q Expr>,
        whole: &'q Expr,
    ) -> Option<Scalar> {
        let operand = match operand {
            None => Some(None),
            Some(operand) => self.scalar(place, operand).map(Some),
        };
        let mut whens = Vec::new();
        for when in conditions {
            let span = place_of(&when.condition);
            whens.push(match &operand {
                None => None,
                Some(None) => {
                    let bound = self.scalar(place, &when.condition);
                    bound.and_then(|bound| self.boolean(bound, "WHEN", span))
                }
                Some(Some(operand)) => {
                    let value = self.scalar(place, &when.condition);
                    let operand = operand.clone();
                    value.and_then(|v| self.compared(Comparison::Equal, operand, v, span))
                }
            });
        }
        let mut thens = self.scalars(place, conditions.iter().map(|when| &when.result))?;
        thens.push(match otherwise {
            None => Expression::Literal(Value::Null),
            Some(otherwise) => self.scalar(place, otherwise)?,
        });
        let mut thens = self.alike("the results of CASE", thens, place_of(whole))?;
        let otherwise = Box::new(thens.pop()?);
        let whens = whens.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Expression::Case {
            branches: whens.into_iter().zip(thens).collect(),
            otherwise,
        })
    }

    /// Expressions of one type: integers among floats are made floats.
    pub(super) fn alike(
        &mut self,
        what: &str,
        all: Vec<Scalar>,
        span: Span,
    ) -> Option<Vec<Scalar>> {
        let known = all.iter().filter(|expression| !expression.is_null());
        let types: Vec<Type> = known.map(|expression| self.of(expression)).collect();
        let Some(of) = common(types.iter().copied()) else {
            let names: Vec<String> = types.iter().map(Type::to_string).collect();
            let message = format!(
                "{what} are of types {}; cast them to one type",
                names.join(", ")
            );
            self.error(message, span);
            return None;
        };
        let all = all.into_iter();
        let alike = all.map(|expression| match (of, self.of(&expression)) {
            (Type::Float, Type::Integer) => Expression::Cast(Box::new(expression), Type::Float),
            _ => expression,
        });
        Some(alike.collect())
    }
}

/// Where an expression stands. The parser's own answer walks all of it, recursing; here a chain of
/// operators is walked along its left side only.
pub(super) fn place_of(expr: &Expr) -> Span {
    match expr {
        Expr::Nested(inner) => place_of(inner),
        Expr::BinaryOp { right, .. } => {
            let mut first = expr;
            while let Expr::BinaryOp { left, .. } = first {
                first = left;
            }
            place_of(first).union(&place_of(right))
        }
        other => other.span(),
    }
}

/// The operands of a chain of one operator, from the left. Such a chain may be long, and the
/// parser nests it to the left: so it is walked, not recursed into.
pub(super) fn operands<'q>(op: &BinaryOperator, whole: &'q Expr) -> Vec<&'q Expr> {
    let mut operands = Vec::new();
    let mut rest = whole;
    while let Expr::BinaryOp {
        left,
        op: at,
        right,
    } = rest
        && at == op
    {
        operands.push(&**right);
        rest = left;
    }
    operands.push(rest);
    operands.reverse();
    operands
}
