//! Which column does a name mean, at this place of a query?

use std::sync::Arc;

use perennial_rows::Type;
use sqlparser::ast::Ident;
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::bind::error::did_you_mean;
use crate::query::column::ColumnId;

/// Columns of a table that are named where another is asked for.
const MOST_LISTED: usize = 12;

/// The tables that names may be of.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub(super) tables: Vec<ScopeTable>,
}

#[derive(Clone, Debug)]
pub(super) struct ScopeTable {
    /// What its columns are qualified with.
    pub(super) alias: Arc<str>,
    pub(super) source: Source,
    /// Columns that USING has merged into another table's.
    pub(super) merged: Vec<Arc<str>>,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A relation, by the scan's number: an open one gets further columns as they are named.
    Scan(usize),
    Columns(Vec<(Arc<str>, ColumnId)>),
    /// It was refused; nothing more is said about its columns.
    Refused,
}

/// Whether a name as written is the name of something.
pub(super) fn is_name(ident: &Ident, name: &str) -> bool {
    *ident.value == *name || (ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case(name))
}

impl Binder<'_> {
    /// The column that a name means. Names of a query's own tables go before those of the query
    /// around it.
    pub(super) fn column(
        &mut self,
        scope: &Scope,
        outer: Option<&Scope>,
        qualifier: Option<&Ident>,
        ident: &Ident,
    ) -> Option<ColumnId> {
        let span = qualifier.map_or(ident.span, |table| table.span.union(&ident.span));
        let found = match self.find(scope, qualifier, ident, span) {
            Found::None => match outer.map(|outer| self.find(outer, qualifier, ident, span)) {
                Some(Found::Column(id)) => {
                    self.uses_outer = true;
                    Found::Column(id)
                }
                Some(Found::Refused) => Found::Refused,
                Some(Found::None) | None => Found::None,
            },
            found => found,
        };
        match found {
            Found::Column(id) => {
                self.uses.push((id, span));
                Some(id)
            }
            Found::Refused => None,
            Found::None => {
                self.unknown_column(scope, qualifier, ident, span);
                None
            }
        }
    }

    fn find(
        &mut self,
        scope: &Scope,
        qualifier: Option<&Ident>,
        ident: &Ident,
        span: Span,
    ) -> Found {
        let tables = scope.tables.iter();
        let of_qualifier = |table: &&ScopeTable| match qualifier {
            None => true,
            Some(qualifier) => is_name(qualifier, &table.alias),
        };
        let tables: Vec<&ScopeTable> = tables.filter(of_qualifier).collect();
        // What is written exactly so goes before what differs in case only.
        for is_exact in [true, false] {
            let mut found: Vec<(&Arc<str>, ColumnId)> = Vec::new();
            for table in &tables {
                let columns = self.columns_of(table).into_iter();
                let named = columns.filter(|(name, _)| match is_exact {
                    true => **name == *ident.value,
                    false => is_name(ident, name),
                });
                let is_visible =
                    |name: &Arc<str>| qualifier.is_some() || !table.merged.contains(name);
                let visible = named.filter(|(name, _)| is_visible(name));
                found.extend(visible.map(|(_, id)| (&table.alias, id)));
            }
            match found[..] {
                [] => {}
                [(_, id)] => return Found::Column(id),
                [(first, _), (second, _), ..] => {
                    let message = format!(
                        "`{name}` may be a column of `{first}` or of `{second}`; write \
                         `{first}.{name}` or `{second}.{name}`",
                        name = ident.value
                    );
                    self.error(message, span);
                    return Found::Refused;
                }
            }
        }
        if tables
            .iter()
            .any(|table| matches!(table.source, Source::Refused))
        {
            return Found::Refused;
        }
        let open = tables.iter().filter_map(|table| match table.source {
            Source::Scan(scan) if self.scans[scan].is_open => Some((table, scan)),
            _ => None,
        });
        match open.collect::<Vec<_>>()[..] {
            [] => Found::None,
            [(_, scan)] => {
                let name: Arc<str> = ident.value.as_str().into();
                let id = self.table.add(name.clone(), Type::Any);
                self.scans[scan].scan.columns.push((name, id));
                Found::Column(id)
            }
            [(first, _), (second, _), ..] => {
                let message = format!(
                    "`{name}` may be a column of `{}` or of `{}`, which hold columns that are not \
                     declared; write `{}.{name}`",
                    first.alias,
                    second.alias,
                    first.alias,
                    name = ident.value
                );
                self.error(message, span);
                Found::Refused
            }
        }
    }

    /// The columns of a table that are known by name, in order.
    pub(super) fn columns_of(&self, table: &ScopeTable) -> Vec<(Arc<str>, ColumnId)> {
        match &table.source {
            Source::Scan(scan) => self.scans[*scan].scan.columns.clone(),
            Source::Columns(columns) => columns.clone(),
            Source::Refused => Vec::new(),
        }
    }

    fn unknown_column(
        &mut self,
        scope: &Scope,
        qualifier: Option<&Ident>,
        ident: &Ident,
        span: Span,
    ) {
        let name = &ident.value;
        let tables = scope.tables.iter();
        let message = match qualifier {
            Some(table) if !tables.clone().any(|t| is_name(table, &t.alias)) => {
                let aliases = tables.map(|table| &*table.alias);
                let hint = did_you_mean(&table.value, aliases);
                format!("there is no table `{}` in this query{hint}", table.value)
            }
            _ => {
                let of = tables.filter(|t| qualifier.is_none_or(|q| is_name(q, &t.alias)));
                let of: Vec<&ScopeTable> = of.collect();
                let known: Vec<_> = of.iter().flat_map(|table| self.columns_of(table)).collect();
                let hint = did_you_mean(name, known.iter().map(|(name, _)| &**name));
                match &of[..] {
                    [] => format!("there is no column `{name}` here: the query has no FROM"),
                    [table] => {
                        let there = match hint.is_empty() {
                            true => listed(&known),
                            false => String::new(),
                        };
                        let alias = &table.alias;
                        format!("there is no column `{name}` in `{alias}`{hint}{there}")
                    }
                    tables => {
                        let aliases: Vec<String> =
                            tables.iter().map(|t| format!("`{}`", t.alias)).collect();
                        format!(
                            "there is no column `{name}` in {}{hint}",
                            aliases.join(", ")
                        )
                    }
                }
            }
        };
        self.error(message, span);
    }
}

/// The columns that a table has, in words: the first of them where it has many.
fn listed(columns: &[(Arc<str>, ColumnId)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| &**name).collect();
    match names.split_at_checked(MOST_LISTED) {
        _ if names.is_empty() => String::new(),
        Some((first, rest)) if !rest.is_empty() => {
            format!("; it has {} and {} more", first.join(", "), rest.len())
        }
        _ => format!("; it has {}", names.join(", ")),
    }
}

enum Found {
    Column(ColumnId),
    None,
    /// It was said why.
    Refused,
}
