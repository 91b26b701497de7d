//! Random queries, within what SQLite means alike.

use perennial_rows::Type;

use super::TABLES;

/// Choices that make a query; where they end, the first alternative is taken. So a shorter list
/// makes a simpler query, and a failing case shrinks.
pub(super) struct Choices<'c> {
    choices: &'c [u8],
    n_aliases: usize,
    /// Whether a model may be asked where the query is now.
    may_ask: bool,
    /// What a model is asked: as we write it, and as SQLite is told.
    pub(super) asked: Vec<(String, String)>,
}

/// A column that an expression may name.
#[derive(Clone)]
struct Named {
    name: String,
    of: Type,
}

impl<'c> Choices<'c> {
    pub(super) fn new(choices: &'c [u8]) -> Self {
        Self {
            choices,
            n_aliases: 0,
            may_ask: true,
            asked: Vec::new(),
        }
    }

    /// A call of this function about one or two columns, if it may be asked here.
    fn ask(&mut self, function: &str, columns: &[Named]) -> Option<String> {
        let more = match function {
            "sem_map" | "sem_agg" => ", max_tokens => 9",
            "sem_classify" => ", 'a', 'b', 'x'",
            _ => "",
        };
        self.ask_as((function, more), &[function], columns)
    }

    /// A call of this function with these further arguments; SQLite has one for each of its columns.
    fn ask_as(
        &mut self,
        (function, more): (&str, &str),
        theirs: &[&str],
        columns: &[Named],
    ) -> Option<String> {
        if !self.may_ask || columns.is_empty() {
            return None;
        }
        let names: Vec<String> = (0..self.pick(2) + 1)
            .map(|_| columns[self.pick(columns.len())].name.clone())
            .collect();
        Some(self.asked_of((function, more), theirs, &names))
    }

    /// The same about these columns.
    fn asked_of(
        &mut self,
        (function, more): (&str, &str),
        theirs: &[&str],
        names: &[String],
    ) -> String {
        let words = self.one(&["about a", "is it b", "it''s so"]);
        let in_braces: Vec<String> = names.iter().map(|name| format!("{{{name}}}")).collect();
        let prompt = format!("{} {words}", in_braces.join(" "));
        let ours = format!("{function}('{prompt}'{more})");
        let mut distinct = names.to_vec();
        distinct.dedup();
        let theirs = theirs.iter().map(|theirs| {
            let alias = match theirs.strip_prefix("sem_record_") {
                Some(column) => format!(" AS {column}"),
                None => String::new(),
            };
            format!("{theirs}('{prompt}', {}){alias}", distinct.join(", "))
        });
        let theirs: Vec<String> = theirs.collect();
        self.asked.push((ours.clone(), theirs.join(", ")));
        ours
    }

    fn pick(&mut self, n: usize) -> usize {
        match self.choices.split_first() {
            None => 0,
            Some((first, rest)) => {
                self.choices = rest;
                usize::from(*first) % n
            }
        }
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.pick(of.len())]
    }

    fn column(&mut self, of: Type, columns: &[Named]) -> Option<String> {
        let fitting: Vec<&Named> = columns.iter().filter(|column| column.of == of).collect();
        match fitting.len() {
            0 => None,
            n => Some(fitting[self.pick(n)].name.clone()),
        }
    }

    fn of_type(&mut self, of: Type, columns: &[Named], depth: usize) -> String {
        match of {
            Type::Integer => self.integer(columns, depth),
            Type::Float => self.float(columns, depth),
            _ => self.text(columns, depth),
        }
    }

    fn integer(&mut self, columns: &[Named], depth: usize) -> String {
        let kind = if depth == 0 {
            self.pick(2)
        } else {
            self.pick(11)
        };
        let literal = |choices: &mut Self| choices.one(&["1", "0", "2", "3", "NULL"]).to_owned();
        match kind {
            0 => match self.column(Type::Integer, columns) {
                Some(column) => column,
                None => literal(self),
            },
            1 => literal(self),
            2 | 3 => {
                let op = self.one(&["+", "-", "*", "/", "%"]);
                let (a, b) = (
                    self.integer(columns, depth - 1),
                    self.integer(columns, depth - 1),
                );
                format!("({a} {op} {b})")
            }
            4 => format!("(-({}))", self.integer(columns, depth - 1)),
            5 => {
                let length = self.one(&["length", "octet_length"]);
                format!("{length}({})", self.text(columns, depth - 1))
            }
            6 => format!("abs({})", self.integer(columns, depth - 1)),
            7 => self.conditional(Type::Integer, columns, depth),
            8 => format!("CAST({} AS INTEGER)", self.float(columns, depth - 1)),
            9 => {
                let more = ("sem_extract", ", v => INTEGER");
                let asked = self.ask_as(more, &["sem_extract_v"], columns);
                asked.unwrap_or_else(|| literal(self))
            }
            _ => self.nullable(Type::Integer, columns, depth),
        }
    }

    fn float(&mut self, columns: &[Named], depth: usize) -> String {
        let kind = if depth == 0 {
            self.pick(2)
        } else {
            self.pick(8)
        };
        let literal = |choices: &mut Self| choices.one(&["0.5", "2.0", "0.0", "1.25"]).to_owned();
        match kind {
            0 => match self.column(Type::Float, columns) {
                Some(column) => column,
                None => literal(self),
            },
            1 => literal(self),
            2 => {
                let op = self.one(&["+", "-", "*"]);
                let (a, b) = (
                    self.float(columns, depth - 1),
                    self.float(columns, depth - 1),
                );
                format!("({a} {op} {b})")
            }
            3 => {
                let op = self.one(&["+", "-", "*"]);
                let (a, b) = (
                    self.integer(columns, depth - 1),
                    self.float(columns, depth - 1),
                );
                format!("({a} {op} {b})")
            }
            4 => self.conditional(Type::Float, columns, depth),
            5 => format!("round({})", self.float(columns, depth - 1)),
            6 => {
                let asked = self.ask("sem_score", columns);
                asked.unwrap_or_else(|| literal(self))
            }
            _ => self.nullable(Type::Float, columns, depth),
        }
    }

    fn text(&mut self, columns: &[Named], depth: usize) -> String {
        let kind = if depth == 0 {
            self.pick(2)
        } else {
            self.pick(12)
        };
        let literal = |choices: &mut Self| choices.one(&["'a'", "'b'", "''", "'aB'"]).to_owned();
        match kind {
            0 => match self.column(Type::Text, columns) {
                Some(column) => column,
                None => literal(self),
            },
            1 => literal(self),
            2 => {
                let (a, b) = (self.text(columns, depth - 1), self.text(columns, depth - 1));
                format!("({a} || {b})")
            }
            3 => {
                let function = self.one(&["lower", "upper", "trim"]);
                format!("{function}({})", self.text(columns, depth - 1))
            }
            4 => {
                let (from, n) = (self.pick(3) + 1, self.pick(3));
                format!("substr({}, {from}, {n})", self.text(columns, depth - 1))
            }
            5 => format!("replace({}, 'a', 'xy')", self.text(columns, depth - 1)),
            6 => self.conditional(Type::Text, columns, depth),
            7 => format!("CAST({} AS TEXT)", self.integer(columns, depth - 1)),
            8 | 9 => {
                let function = self.one(&["sem_map", "sem_classify"]);
                let asked = self.ask(function, columns);
                asked.unwrap_or_else(|| literal(self))
            }
            10 => {
                let more = ("sem_extract", ", s => TEXT");
                let asked = self.ask_as(more, &["sem_extract_s"], columns);
                asked.unwrap_or_else(|| literal(self))
            }
            _ => self.nullable(Type::Text, columns, depth),
        }
    }

    fn conditional(&mut self, of: Type, columns: &[Named], depth: usize) -> String {
        let when = self.condition(columns, depth - 1);
        let (then, or) = (
            self.of_type(of, columns, depth - 1),
            self.of_type(of, columns, depth - 1),
        );
        match self.pick(2) {
            0 => format!("CASE WHEN {when} THEN {then} ELSE {or} END"),
            _ => format!("CASE WHEN {when} THEN {then} END"),
        }
    }

    fn nullable(&mut self, of: Type, columns: &[Named], depth: usize) -> String {
        let function = self.one(&["coalesce", "nullif"]);
        let (a, b) = (
            self.of_type(of, columns, depth - 1),
            self.of_type(of, columns, depth - 1),
        );
        format!("{function}({a}, {b})")
    }

    fn condition(&mut self, columns: &[Named], depth: usize) -> String {
        let kind = if depth == 0 {
            self.pick(3)
        } else {
            self.pick(13)
        };
        let operand = depth.saturating_sub(1);
        match kind {
            0..=2 => {
                let of = [Type::Integer, Type::Text, Type::Float][kind];
                let op = self.one(&["=", "<>", "<", "<=", ">", ">="]);
                let (a, b) = (
                    self.of_type(of, columns, operand),
                    self.of_type(of, columns, operand),
                );
                format!("{a} {op} {b}")
            }
            3 => {
                let op = self.one(&["=", "<", ">="]);
                let (a, b) = (self.integer(columns, operand), self.float(columns, operand));
                format!("{a} {op} {b}")
            }
            4 => {
                let of = [Type::Integer, Type::Text, Type::Float][self.pick(3)];
                let is = self.one(&["IS NULL", "IS NOT NULL"]);
                format!("{} {is}", self.of_type(of, columns, operand))
            }
            5 => {
                let op = self.one(&["IN", "NOT IN"]);
                let list = self.one(&["1, 2", "0, NULL", "3"]);
                format!("{} {op} ({list})", self.integer(columns, operand))
            }
            6 => {
                let op = self.one(&["BETWEEN", "NOT BETWEEN"]);
                format!(
                    "{} {op} {} AND 2",
                    self.integer(columns, operand),
                    self.integer(columns, 0)
                )
            }
            7 => {
                let op = self.one(&["LIKE", "NOT LIKE"]);
                let pattern = self.one(&["'a%'", "'%b'", "'_'", "'%'", "'A_'"]);
                format!("{} {op} {pattern}", self.text(columns, operand))
            }
            8 => format!("NOT ({})", self.condition(columns, depth - 1)),
            9 => {
                let (a, b) = (
                    self.integer(columns, operand),
                    self.integer(columns, operand),
                );
                let op = self.one(&["IS DISTINCT FROM", "IS NOT DISTINCT FROM"]);
                format!("{a} {op} {b}")
            }
            10 | 11 => {
                let asked = match self.pick(3) {
                    2 => {
                        let more = ("sem_extract", ", b => BOOLEAN");
                        self.ask_as(more, &["sem_extract_b"], columns)
                    }
                    _ => self.ask("sem_filter", columns),
                };
                asked.unwrap_or_else(|| "1 = 1".to_owned())
            }
            _ => {
                let op = self.one(&["AND", "OR"]);
                let (a, b) = (
                    self.condition(columns, depth - 1),
                    self.condition(columns, depth - 1),
                );
                format!("({a} {op} {b})")
            }
        }
    }

    /// A query and its columns.
    pub(super) fn query(&mut self, depth: usize) -> (String, Vec<Type>) {
        match self.pick(6) {
            0 | 1 => self.select(depth),
            2 | 3 => self.grouped(depth),
            4 => {
                let types = [Type::Integer, Type::Text, Type::Float];
                let types = &types[..self.pick(3) + 1];
                let (a, b) = (self.select_of(types, depth), self.select_of(types, depth));
                let op = self.one(&["UNION ALL", "UNION"]);
                (format!("{a} {op} {b}"), types.to_vec())
            }
            _ => {
                let (inner, types) = self.query(depth.saturating_sub(1));
                let descending = self.one(&["", " DESC"]);
                let columns: Vec<String> = (1..types.len()).map(|at| format!("c{at}")).collect();
                let rest = columns
                    .iter()
                    .map(|column| format!(", {column}"))
                    .collect::<String>();
                let (limit, offset) = (self.pick(4), self.pick(3));
                let sql = format!(
                    "SELECT * FROM ({inner}) AS o ORDER BY c0{descending}{rest} LIMIT {limit} \
                     OFFSET {offset}"
                );
                (sql, types)
            }
        }
    }

    fn select(&mut self, depth: usize) -> (String, Vec<Type>) {
        let types: Vec<Type> = (0..self.pick(3) + 1)
            .map(|_| [Type::Integer, Type::Text, Type::Float][self.pick(3)])
            .collect();
        (self.select_of(&types, depth), types)
    }

    fn select_of(&mut self, types: &[Type], depth: usize) -> String {
        let (from, columns) = self.from(depth);
        let items: Vec<String> = types
            .iter()
            .enumerate()
            .map(|(at, of)| format!("{} AS c{at}", self.of_type(*of, &columns, 2)))
            .collect();
        let distinct = self.one(&["", "", "DISTINCT "]);
        let filter = self.filter(&columns, depth);
        format!("SELECT {distinct}{} FROM {from}{filter}", items.join(", "))
    }

    fn grouped(&mut self, depth: usize) -> (String, Vec<Type>) {
        let (from, columns) = self.from(depth);
        let (mut items, mut types, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.pick(3) {
            let of = [Type::Integer, Type::Text][self.pick(2)];
            let Some(column) = self.column(of, &columns) else {
                continue;
            };
            // A number alone would name a column by its place.
            let key = match (of, self.pick(2)) {
                (_, 0) => column,
                (Type::Integer, _) => format!("({column} % 2)"),
                (_, _) => format!("lower({column})"),
            };
            items.push(format!("{key} AS c{}", items.len()));
            types.push(of);
            keys.push(key);
        }
        // A model may be asked about groups: of what is the same in each.
        let plain = columns.iter().filter(|column| keys.contains(&column.name));
        let plain: Vec<Named> = plain.cloned().collect();
        if self.pick(3) == 2
            && let Some(asked) = self.ask("sem_map", &plain)
        {
            items.push(format!("{asked} AS c{}", items.len()));
            types.push(Type::Text);
        }
        for _ in 0..self.pick(3) + 1 {
            let (text, of) = self.aggregate(&columns);
            items.push(format!("{text} AS c{}", items.len()));
            types.push(of);
        }
        let filter = self.filter(&columns, depth);
        let mut sql = format!("SELECT {} FROM {from}{filter}", items.join(", "));
        if !keys.is_empty() {
            sql += &format!(" GROUP BY {}", keys.join(", "));
            if self.pick(3) == 1 {
                let (text, _) = self.aggregate(&columns);
                sql += &format!(" HAVING {text} IS NOT NULL AND count(*) > 1");
            }
        }
        (sql, types)
    }

    fn aggregate(&mut self, columns: &[Named]) -> (String, Type) {
        let of = [Type::Integer, Type::Text, Type::Float][self.pick(3)];
        let number = if of == Type::Text { Type::Integer } else { of };
        match self.pick(10) {
            0 => ("count(*)".to_owned(), Type::Integer),
            1 => (
                format!("count({})", self.of_type(of, columns, 1)),
                Type::Integer,
            ),
            2 => (format!("sum({})", self.of_type(number, columns, 1)), number),
            3 => (
                format!("avg({})", self.of_type(number, columns, 1)),
                Type::Float,
            ),
            4 => (format!("min({})", self.of_type(of, columns, 1)), of),
            5 => (format!("max({})", self.of_type(of, columns, 1)), of),
            6 => (
                format!("count(DISTINCT {})", self.of_type(of, columns, 1)),
                Type::Integer,
            ),
            7 => (
                format!("sum(DISTINCT {})", self.of_type(number, columns, 1)),
                number,
            ),
            _ => match self.ask("sem_agg", columns) {
                None => ("count(*)".to_owned(), Type::Integer),
                Some(asked) => match self.pick(3) {
                    2 => {
                        let filter = self.condition(columns, 1);
                        (format!("{asked} FILTER (WHERE {filter})"), Type::Text)
                    }
                    _ => (asked, Type::Text),
                },
            },
        }
    }

    fn from(&mut self, depth: usize) -> (String, Vec<Named>) {
        let (mut from, mut columns) = self.table(depth);
        // All pairs of all pairs would take the time of many other cases.
        let is_large = depth < 2 || from.starts_with('(');
        let n_joins = [0, 0, 1, 1, 2][self.pick(5)].min(if is_large { 1 } else { 2 });
        for nth in 0..n_joins {
            let (right, right_columns) = self.table(0);
            let kind = self.one(&["JOIN", "LEFT JOIN", ",", "RIGHT JOIN"]);
            let left = columns.clone();
            columns.extend(right_columns.clone());
            if kind == "," {
                from = format!("{from} CROSS JOIN {right}");
                continue;
            }
            let of = [Type::Integer, Type::Text, Type::Float][self.pick(3)];
            let (a, b) = (self.column(of, &left), self.column(of, &right_columns));
            // A model decides which rows an inner join pairs, and nothing else of what is joined.
            let (n, m) = (self.pick(left.len()), self.pick(right_columns.len()));
            let names = [left[n].name.clone(), right_columns[m].name.clone()];
            let may_match = self.may_ask && kind == "JOIN";
            let may_ask = std::mem::replace(&mut self.may_ask, false);
            let on = match (a, b, self.pick(6)) {
                (Some(a), Some(b), 4) if may_match => {
                    // Of three tables the key may be one of others.
                    let more = match nth {
                        0 => ("sem_match", ""),
                        _ => ("sem_match", ", all_pairs => TRUE"),
                    };
                    let asked = self.asked_of(more, &["sem_filter"], &names);
                    format!("{a} = {b} AND {asked}")
                }
                (_, _, 4 | 5) if may_match => {
                    let more = ("sem_match", ", all_pairs => TRUE");
                    self.asked_of(more, &["sem_filter"], &names)
                }
                (Some(a), Some(b), 0 | 1) => format!("{a} = {b}"),
                (Some(a), Some(b), 2) => format!("{a} = {b} AND {}", self.condition(&columns, 1)),
                _ => self.condition(&columns, 2),
            };
            self.may_ask = may_ask;
            from = format!("{from} {kind} {right} ON {on}");
        }
        (from, columns)
    }

    fn table(&mut self, depth: usize) -> (String, Vec<Named>) {
        let alias = format!("t{}", self.n_aliases);
        self.n_aliases += 1;
        let named = |name: &str, of| Named {
            name: format!("{alias}.{name}"),
            of,
        };
        if depth > 0 && self.pick(3) == 2 {
            let (inner, types) = self.query(depth - 1);
            let columns = types.iter().enumerate();
            let columns = columns
                .map(|(at, of)| named(&format!("c{at}"), *of))
                .collect();
            return (format!("({inner}) AS {alias}"), columns);
        }
        let (name, columns) = TABLES[self.pick(2)];
        // Columns that a model reads out of those of the table.
        if self.may_ask && self.pick(8) == 7 {
            let inner = format!("i{}", self.n_aliases);
            let of_inner = columns.iter().map(|(name, of)| Named {
                name: format!("{inner}.{name}"),
                of: *of,
            });
            let of_inner: Vec<Named> = of_inner.collect();
            let more = ("sem_extract", ", n => INTEGER, w => ('a', 'b'), r => FLOAT");
            let theirs = ["sem_record_n", "sem_record_w", "sem_record_r"];
            if let Some(asked) = self.ask_as(more, &theirs, &of_inner) {
                let read = [("n", Type::Integer), ("w", Type::Text), ("r", Type::Float)];
                let all = columns.iter().chain(&read);
                let columns = all.map(|(name, of)| named(name, *of)).collect();
                let select = format!("SELECT {inner}.*, {asked} FROM {name} AS {inner}");
                return (format!("({select}) AS {alias}"), columns);
            }
        }
        let columns = columns.iter().map(|(name, of)| named(name, *of)).collect();
        (format!("{name} AS {alias}"), columns)
    }

    fn filter(&mut self, columns: &[Named], depth: usize) -> String {
        let mut all = Vec::new();
        for _ in 0..self.pick(3) {
            all.push(match self.pick(5) {
                2 => {
                    let not = self.one(&["", "NOT "]);
                    let (inner, inner_columns) = self.table(0);
                    let selected = self.integer(&inner_columns, 1);
                    let (a, b) = (
                        self.column(Type::Text, &inner_columns),
                        self.column(Type::Text, columns),
                    );
                    let on = match (a, b) {
                        (Some(a), Some(b)) => format!("{a} = {b}"),
                        _ => self.condition(&inner_columns, 1),
                    };
                    let value = self.integer(columns, 1);
                    format!("{value} {not}IN (SELECT {selected} FROM {inner} WHERE {on})")
                }
                3 if depth > 0 => {
                    let not = self.one(&["", "NOT "]);
                    let inner = self.select_of(&[Type::Integer], depth - 1);
                    format!("{} {not}IN ({inner})", self.integer(columns, 1))
                }
                4 => {
                    let not = self.one(&["", "NOT "]);
                    let (inner, inner_columns) = self.table(0);
                    let mut on = self.condition(&inner_columns, 1);
                    let of = [Type::Integer, Type::Text][self.pick(2)];
                    let outer = self.column(of, columns);
                    if let (Some(a), Some(b)) = (self.column(of, &inner_columns), outer) {
                        let op = self.one(&["=", "<", "<>"]);
                        on = format!("{on} AND {a} {op} {b}");
                    }
                    format!("{not}EXISTS (SELECT 1 FROM {inner} WHERE {on})")
                }
                _ => self.condition(columns, 2),
            });
        }
        match all.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", all.join(" AND ")),
        }
    }
}
