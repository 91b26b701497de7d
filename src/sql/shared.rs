//! Which statement does what to a view whose questions share answers?
//!
//! Such a view is made of others ([`CreateContinuousView::made_of`]), which come and go with it: all or none. What
//! they are is told by `EXPLAIN`, and each of them can be looked at as any view can.

use std::sync::Arc;

use perennial_rows::{KEY, TEXT};
use perennial_views::Bounds;
use perennial_views::sql::{
    self, CreateContinuousView, Diagnostic, Identifier, Kind, Name, Script, Span, Spanned,
    Statement,
};

use super::catalog::Catalog;
use super::outcome::{At as _, Fault, Outcome};
use super::session::{Session, created, lock};

/// A view whose questions share answers.
#[derive(Clone, Debug)]
pub(super) struct SharedView {
    /// The other views that it is made of, in the order in which they are made.
    pub(super) parts: Vec<Arc<str>>,
    /// The one of questions that are proposed.
    pub(super) candidates: Option<Arc<str>>,
}

impl SharedView {
    fn of(view: &CreateContinuousView, made: &[Spanned<Statement>]) -> Self {
        let names = made.iter().filter_map(|statement| match &statement.of {
            Statement::CreateView(view) => Some(&view.name.of),
            Statement::CreateContinuousView(view) => Some(&view.name.of),
            _ => None,
        });
        let parts = names.filter(|name| **name != view.name.of);
        Self {
            parts: parts.cloned().collect(),
            candidates: view.candidates(),
        }
    }
}

/// The statements that make a view whose questions share answers; nothing of another.
fn made(view: &CreateContinuousView, span: Span) -> Result<Option<Vec<Spanned<Statement>>>, Fault> {
    let Some(text) = view.made_of() else {
        return Ok(None);
    };
    let made = sql::parse(&Script::new(&*view.name.of, text));
    made.map(Some)
        .map_err(|errors| Fault::said(errors.to_string(), span))
}

impl Catalog {
    /// Whether the views may be made that a view is made of whose questions share answers.
    pub(super) fn check_shared(
        &self,
        view: &CreateContinuousView,
        span: Span,
    ) -> Result<(), Fault> {
        let Some(made) = made(view, span)? else {
            return Ok(());
        };
        for part in SharedView::of(view, &made).parts {
            self.check_new(&Name::new(part, view.name.span))?;
        }
        for read in [Some(view.context.clone()), view.bases()]
            .into_iter()
            .flatten()
        {
            self.expect(&read)?;
            for column in [KEY, TEXT] {
                self.check_column(&read.of, &Name::new(column.into(), read.span))?;
            }
        }
        Ok(())
    }

    /// Notes what there is once such a view is made; says whether it is one.
    pub(super) fn foresee_shared(&mut self, view: &CreateContinuousView, span: Span) -> bool {
        let Ok(Some(made)) = made(view, span) else {
            return false;
        };
        self.shared
            .insert(view.name.of.clone(), SharedView::of(view, &made));
        made.iter().for_each(|part| self.foresee(&part.of));
        true
    }

    /// The view that a relation is a part of.
    pub(super) fn whole(&self, relation: &str) -> Option<&Arc<str>> {
        let mut shared = self.shared.iter();
        let is_part = |of: &SharedView| of.parts.iter().any(|part| **part == *relation);
        shared.find(|(_, of)| is_part(of)).map(|(name, _)| name)
    }

    /// A relation with all that goes with it.
    pub(super) fn dropped_with<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        let parts = self.shared.get(name).into_iter().flat_map(|of| &of.parts);
        parts.map(|part| &**part).chain([name]).collect()
    }

    /// The view of questions that a view proposes to keep.
    pub(super) fn expect_candidates(&self, name: &Name) -> Result<Arc<str>, Fault> {
        self.expect(name)?;
        let shared = self.shared.get(&name.of);
        shared.and_then(|of| of.candidates.clone()).ok_or_else(|| {
            let what = format!("{} proposes no questions", name.of);
            let help = "a view with SHARE and BASES does: CREATE CONTINUOUS VIEW … WITH (SHARE = 0.9, BASES = …)";
            Diagnostic::new(what, name.span).help(help).into()
        })
    }
}

impl Session {
    /// Makes the views that a view is made of whose questions share answers: all or none.
    pub(super) fn create_shared_view(
        &self,
        view: &CreateContinuousView,
        span: Span,
    ) -> Result<Outcome, Fault> {
        let made = made(view, span)?.unwrap_or_default();
        let shared = SharedView::of(view, &made);
        let mut there: Vec<&str> = Vec::new();
        for (part, name) in made.iter().zip(shared.parts.iter().chain([&view.name.of])) {
            if let Err(fault) = self.carry_out(&part.of, span, &Bounds::default()) {
                self.engine.drop_relations(there).at(span)?;
                // Places in what it is made of are none of the script.
                return Err(fault.moved_to(span));
            }
            there.push(name);
        }
        let notice = format!("made of {}", shared.parts.join(", "));
        lock(&self.shared).insert(view.name.of.clone(), shared);
        Ok(created(Kind::View, &view.name, Some(notice)))
    }

    /// Takes a relation away, and with it the views that it is made of.
    pub(super) fn drop_whole(&self, name: &Name) -> Result<(), Fault> {
        let parts = lock(&self.shared).get(&name.of).map(|of| of.parts.clone());
        let all = parts.into_iter().flatten().chain([name.of.clone()]);
        let all: Vec<String> = all.map(|part| part.to_string()).collect();
        self.engine.drop_relations(all).at(name.span)?;
        lock(&self.shared).remove(&name.of);
        Ok(())
    }

    /// The questions that a view proposes to keep, those of most questions first.
    pub(super) fn show_candidates(&self, name: &Name) -> Result<Outcome, Fault> {
        let candidates = self.catalog(name.span)?.expect_candidates(name)?;
        let text = format!(
            "SELECT question, n FROM {} ORDER BY n DESC, question",
            Identifier(&candidates)
        );
        let statements = sql::parse(&Script::new(&*candidates, text));
        let statements = statements.map_err(|errors| Fault::said(errors.to_string(), name.span))?;
        let [select] = &*statements else {
            return Err(Fault::said("nothing is proposed", name.span));
        };
        let shown = self.carry_out(&select.of, name.span, &Bounds::default());
        shown.map_err(|fault| fault.moved_to(name.span))
    }
}
