//! What did a query, or a view and those that it reads, ask, and what did that cost?

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use perennial_views::sql::{Name, Query, Span};
use perennial_views::{Bounds, Effort, Epoch};

use super::outcome::{At as _, Fault, Outcome};
use super::relations;
use super::session::Session;
use crate::engine::{Analysis, AnalysisOf, Answering, RelationInfo, RungCounts};

impl Session {
    /// Carries a query out, and tells what its operators did instead of its rows.
    pub(super) fn analyze_query(
        &self,
        query: &Query,
        span: Span,
        bounds: &Bounds,
    ) -> Result<Outcome, Fault> {
        let read = self.catalog(span)?.bind(query, span)?;
        let read: Vec<&str> = read.inputs().iter().map(|i| &*i.relation).collect();
        let stale = self.settle_or_say(&read, span)?;
        let query = self.catalog(span)?.bind(query, span)?;
        let (rows, measures, failed) = relations::analyzed(&self.engine, &query, span, bounds)?;
        let mut told = query.analyzed(&measures, None).to_string();
        let effort = query.effort(&measures, None);
        write!(told, "\n{}: {effort}", rows_told(rows)).ok();
        for notice in stale.into_iter().chain(failed) {
            write!(told, "\n{notice}").ok();
        }
        Ok(Outcome::Plan(told))
    }

    /// What a view and those that it reads did for the newest epoch that any of them had work with, and in all.
    pub(super) fn analyze_view(&self, name: &Name) -> Result<Outcome, Fault> {
        let span = name.span;
        let stale = self.settle_or_say(&[&name.of], span)?;
        let there = self.engine.relations().at(span)?;
        let mut all = Vec::new();
        for view in with_read(&there, &name.of) {
            all.push(self.engine.analyze(&view).at(span)?);
        }
        let epoch = all.iter().filter_map(|view| view.epoch).max();
        let mut told = String::new();
        for view in &all {
            let (called, rows) = (&view.view, rows_told(view.n_rows));
            let when = match view.epoch {
                Some(at) => format!("last at work in epoch {at}"),
                None => "not at work yet".to_owned(),
            };
            writeln!(told, "view {called}: {rows}, {when}").ok();
            writeln!(told, "{}", tree(view, epoch)).ok();
        }
        let sum = |epoch: Option<Epoch>| {
            all.iter().fold(Effort::default(), |mut sum, view| {
                sum += view.effort(epoch);
                sum
            })
        };
        // What has changed elsewhere since cost these views nothing.
        let newest = there.iter().filter_map(|relation| relation.epoch).max();
        for epoch in newest
            .filter(|newest| epoch < Some(*newest))
            .into_iter()
            .chain(epoch)
        {
            writeln!(told, "for epoch {epoch}: {}", sum(Some(epoch))).ok();
        }
        write!(told, "in all: {}", sum(None)).ok();
        if let Some(notice) = stale {
            write!(told, "\n{notice}").ok();
        }
        Ok(Outcome::Plan(told))
    }
}

/// A view and those that it reads, directly or not, each once and before what it reads.
fn with_read(there: &[RelationInfo], name: &Arc<str>) -> Vec<Arc<str>> {
    let (mut seen, mut all, mut next) = (BTreeSet::new(), Vec::new(), vec![name]);
    while let Some(name) = next.pop() {
        let relation = there.iter().find(|relation| relation.name == *name);
        let Some(view) = relation.filter(|relation| relation.kind.is_view()) else {
            continue;
        };
        if seen.insert(name) {
            all.push(view.name.clone());
            next.extend(view.reads.iter().rev());
        }
    }
    all
}

/// What the operators of a view did for an epoch.
fn tree(view: &Analysis, epoch: Option<Epoch>) -> String {
    match &view.of {
        AnalysisOf::Query { query, measures } => query.analyzed(measures, epoch).to_string(),
        AnalysisOf::Answers { newest, .. } => {
            let is_at_work = epoch == view.epoch;
            let newest = if is_at_work {
                **newest
            } else {
                Answering::default()
            };
            let rungs = rungs_told(&newest.rungs);
            format!("└ LLM_GENERATE [{}{rungs}]", newest.effort())
        }
    }
}

/// How answers were refreshed that were not kept.
fn rungs_told(rungs: &RungCounts) -> String {
    let all = [
        ("left unread", rungs.skip),
        ("patched", rungs.patch),
        ("verified", rungs.verify),
        ("appended", rungs.append),
        ("rewritten", rungs.rewrite),
        ("written", rungs.regenerate),
    ];
    let told = all.iter().filter(|(_, n)| *n > 0);
    let told: Vec<String> = told.map(|(rung, n)| format!("{n} {rung}")).collect();
    match told.is_empty() {
        true => String::new(),
        false => format!("; {}", told.join(", ")),
    }
}

fn rows_told(n: usize) -> String {
    match n {
        1 => "1 row".to_owned(),
        n => format!("{n} rows"),
    }
}
