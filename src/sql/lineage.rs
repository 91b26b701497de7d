//! Where does a row come from? Followed through views over views, down to the bytes of a file or the offset of
//! a topic.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use perennial_rows::{KEY, Schema, Tuple, Value};
use perennial_views::query::Query;
use perennial_views::sql::{Diagnostic, RowName, Span};
use perennial_views::{Bounds, Said, Trace, trace};

use super::outcome::{At as _, Fault, Outcome};
use super::relations;
use super::row_tree::{Branch, quoted};
use super::session::Session;
use crate::engine::{AnalysisOf, Engine, Place, RelationInfo, RelationKind, Snapshot};

/// Views over views that are followed.
const MAX_DEPTH: usize = 32;
/// Rows that one row is followed to.
const MAX_FOLLOWED: usize = 64;
/// Bytes of a file in which a passage is looked for.
const MAX_FILE: u64 = 16 << 20;
/// Bytes of a line whose end is looked for.
const MAX_LINE: u64 = 1 << 20;

impl Session {
    /// Where a row of a relation comes from.
    pub(super) fn lineage(&self, row: &RowName, bounds: &Bounds) -> Result<Outcome, Fault> {
        let span = row.relation.span;
        let stale = self.settle_or_say(&[&row.relation.of], span)?;
        let mut following = Following::new(self, span, bounds)?;
        let mut branches = following.named(row)?;
        let mut tree = match branches.len() {
            1 => branches.remove(0),
            n => Branch {
                text: format!("{n} rows have this key"),
                branches,
            },
        };
        if let Some(stale) = stale {
            tree.text = format!("{}\n{stale}", tree.text);
        }
        Ok(Outcome::Plan(tree.told()))
    }
}

/// Rows that are followed to where they come from.
pub(super) struct Following<'s> {
    session: &'s Session,
    span: Span,
    bounds: &'s Bounds,
    there: Vec<RelationInfo>,
    held: BTreeMap<Arc<str>, Rc<Snapshot>>,
    /// Rows that are told already, by relation and key.
    told: BTreeSet<(Arc<str>, String)>,
}

impl<'s> Following<'s> {
    pub(super) fn new(session: &'s Session, span: Span, bounds: &'s Bounds) -> Result<Self, Fault> {
        Ok(Self {
            session,
            span,
            bounds,
            there: session.engine.relations().at(span)?,
            held: BTreeMap::new(),
            told: BTreeSet::new(),
        })
    }

    fn engine(&self) -> &'s Engine {
        &self.session.engine
    }

    fn relation(&self, name: &str) -> Option<RelationInfo> {
        self.there
            .iter()
            .find(|relation| *relation.name == *name)
            .cloned()
    }

    fn rows(&mut self, name: &Arc<str>) -> Result<Rc<Snapshot>, Fault> {
        if let Some(held) = self.held.get(name) {
            return Ok(held.clone());
        }
        let held = Rc::new(self.engine().snapshot(name).at(self.span)?);
        self.held.insert(name.clone(), held.clone());
        Ok(held)
    }

    /// The query of a view, where it keeps one.
    pub(super) fn query(&self, view: &str) -> Result<Option<Arc<Query>>, Fault> {
        Ok(match self.engine().analyze(view).at(self.span)?.of {
            AnalysisOf::Query { query, .. } => Some(query),
            _ => None,
        })
    }

    /// The rows of a relation that have a key, of which there is one unless no column tells its rows apart.
    pub(super) fn found(&mut self, row: &RowName) -> Result<Vec<Tuple>, Fault> {
        let name = &row.relation.of;
        let held = self.rows(name)?;
        let keys = self.key_places(name, &held.schema)?;
        let mut found = Vec::new();
        for (tuple, _) in &held.rows {
            if key_text(tuple, &keys) == *row.key.of {
                found.push(tuple.clone());
            }
        }
        if found.is_empty() {
            let what = format!("{name} has no row {}", &row.key.of);
            let by = keys.iter().map(|at| &*held.schema.columns()[*at].name);
            let by: Vec<&str> = by.collect();
            let help = match by.is_empty() {
                true => format!("it has one row: {name}['']"),
                false => format!("its rows are told apart by {}", by.join(", ")),
            };
            let fault = Diagnostic::new(what, row.key.span).help(help);
            return Err(fault.into());
        }
        Ok(found)
    }

    fn named(&mut self, row: &RowName) -> Result<Vec<Branch>, Fault> {
        let found = self.found(row)?;
        found
            .iter()
            .map(|tuple| self.follow(&row.relation.of, tuple, 0))
            .collect()
    }

    /// The columns by which rows of a relation are told apart.
    fn key_places(&self, name: &str, schema: &Schema) -> Result<Vec<usize>, Fault> {
        if let Some(key) = schema.position(KEY) {
            return Ok(vec![key]);
        }
        let query = self.query(name)?;
        let key = query
            .as_ref()
            .and_then(|query| query.key().map(<[usize]>::to_vec));
        Ok(key.unwrap_or_else(|| (0..schema.columns().len()).collect()))
    }

    /// What a row comes from.
    fn follow(&mut self, name: &Arc<str>, tuple: &Tuple, depth: usize) -> Result<Branch, Fault> {
        let held = self.rows(name)?;
        let keys = self.key_places(name, &held.schema)?;
        let key = key_text(tuple, &keys);
        let mut branch = Branch::new(format!("{name}['{key}']"));
        if !self.told.insert((name.clone(), key.clone())) {
            branch.text.push_str(" (see above)");
            return Ok(branch);
        }
        let Some(relation) = self.relation(name) else {
            return Ok(branch);
        };
        if depth >= MAX_DEPTH {
            branch.line("…");
            return Ok(branch);
        }
        match relation.kind {
            RelationKind::Source | RelationKind::Table => {
                let place = self.place(&relation, &key)?;
                branch.text = format!("{}: {place}", branch.text);
            }
            RelationKind::Answers => self.answer(&relation, &key, &mut branch, depth)?,
            _ => {
                let traced = self.trace(name, tuple)?;
                traced.said.iter().for_each(|said| branch.line(told(said)));
                self.sources(&traced, &mut branch, depth)?;
            }
        }
        Ok(branch)
    }

    /// Where a row of a view of a query comes from, one step down.
    pub(super) fn trace(&mut self, name: &Arc<str>, tuple: &Tuple) -> Result<Trace, Fault> {
        let Some(query) = self.query(name)? else {
            return Ok(Trace::default());
        };
        let inputs = relations::inputs(self.engine(), &query, self.span)?;
        let asking = self.engine().asking(&query, Arc::new(())).at(self.span)?;
        Ok(trace(&query, inputs, &asking, tuple, self.bounds)?)
    }

    fn sources(&mut self, traced: &Trace, branch: &mut Branch, depth: usize) -> Result<(), Fault> {
        let rows = self.rows_of(traced)?;
        for (name, tuple) in rows.iter().take(MAX_FOLLOWED) {
            let below = self.follow(name, tuple, depth + 1)?;
            branch.push(below);
        }
        let n_more = rows.len().saturating_sub(MAX_FOLLOWED);
        match (n_more, traced.is_cut) {
            (0, false) => {}
            (n, false) => branch.line(format!("… and {n} more")),
            (_, true) => branch.line("… and more"),
        }
        Ok(())
    }

    /// The rows that a trace names by the columns that a query reads.
    pub(super) fn rows_of(&mut self, traced: &Trace) -> Result<Vec<(Arc<str>, Tuple)>, Fault> {
        let mut all = Vec::new();
        for row in &traced.rows {
            let held = self.rows(&row.relation)?;
            let values = row.values.iter();
            let places = values.map(|(name, value)| (held.schema.position(name), value));
            let places: Vec<(Option<usize>, &Value)> = places.collect();
            let is_it = |tuple: &Tuple| {
                places.iter().all(|(at, value)| match at {
                    Some(at) => tuple[*at] == **value,
                    None => **value == Value::Null,
                })
            };
            for (tuple, _) in &held.rows {
                let found = (row.relation.clone(), tuple.clone());
                if is_it(tuple) && !all.contains(&found) {
                    all.push(found);
                }
            }
        }
        Ok(all)
    }

    /// How a row is called.
    pub(super) fn called(&mut self, name: &Arc<str>, tuple: &Tuple) -> Result<String, Fault> {
        let held = self.rows(name)?;
        let keys = self.key_places(name, &held.schema)?;
        Ok(format!("{name}['{}']", key_text(tuple, &keys)))
    }

    /// What the sentences of an answer lean on.
    fn answer(
        &mut self,
        relation: &RelationInfo,
        key: &str,
        branch: &mut Branch,
        depth: usize,
    ) -> Result<(), Fault> {
        let Some(lineage) = self.engine().lineage(&relation.name, key).at(self.span)? else {
            return Ok(());
        };
        let documents = relation.plan.as_ref().map(|plan| plan.data_source.clone());
        let contexts = relation.plan.as_ref().map(|plan| plan.context.clone());
        for part in &lineage.answer.sub_paragraphs {
            let mut sentence = Branch::new(quoted(&part.text));
            for source in &part.sources {
                let (document, ordinal) = (source.document.as_str(), source.ordinal);
                let passage = lineage
                    .passages
                    .iter()
                    .find(|passage| *passage.document == *document && passage.ordinal == ordinal);
                let text = passage.map(|passage| passage.text.clone());
                let mut of = Branch::new(format!(
                    "{:.2} passage {ordinal} of {document}",
                    source.share
                ));
                if let Some(text) = &text {
                    of.text = format!("{}: {}", of.text, quoted(text));
                }
                if let Some(documents) = &documents {
                    let below = self.by_key(documents, document, text.as_deref(), depth)?;
                    below.into_iter().for_each(|below| of.push(below));
                }
                sentence.push(of);
            }
            branch.push(sentence);
        }
        if let Some(contexts) = contexts {
            let mut asked = Branch::new("asked by");
            let below = self.by_key(&contexts, key, None, depth)?;
            below.into_iter().for_each(|below| asked.push(below));
            branch.push(asked);
        }
        Ok(())
    }

    /// Follows the row of a key; of a file, to where this text stands in it.
    fn by_key(
        &mut self,
        name: &Arc<str>,
        key: &str,
        text: Option<&str>,
        depth: usize,
    ) -> Result<Option<Branch>, Fault> {
        let held = self.rows(name)?;
        let Some(at) = held.schema.position(KEY) else {
            return Ok(None);
        };
        let is_it = |tuple: &Tuple| tuple[at].as_text().is_some_and(|text| **text == *key);
        let Some((tuple, _)) = held.rows.iter().find(|(tuple, _)| is_it(tuple)) else {
            return Ok(None);
        };
        let relation = self.relation(name);
        let is_source = relation
            .as_ref()
            .is_some_and(|of| of.kind == RelationKind::Source);
        if let (Some(relation), Some(text), true) = (&relation, text, is_source)
            && let Some(Place::File) = self.engine().place(name, key).at(self.span)?
            && let Some(found) = self.session.in_folder(&relation.name, key, text)
        {
            return Ok(Some(Branch::new(format!("{name}['{key}']: {found}"))));
        }
        self.follow(name, tuple, depth + 1).map(Some)
    }

    /// Where a row of a stream was read.
    fn place(&self, relation: &RelationInfo, key: &str) -> Result<String, Fault> {
        if relation.kind == RelationKind::Table {
            return Ok("given by hand".to_owned());
        }
        let place = self.engine().place(&relation.name, key).at(self.span)?;
        Ok(match place {
            None => "read before this program was started".to_owned(),
            Some(Place::File) => self.session.folder_file(&relation.name, key).map_or_else(
                || format!("the file {key}"),
                |path| path.display().to_string(),
            ),
            Some(Place::Line { path, line, byte }) => {
                let end = end_of_line(Path::new(&*path), byte);
                match end {
                    Some(end) => format!("{path}, line {line}, bytes {byte} to {end}"),
                    None => format!("{path}, line {line}, from byte {byte}"),
                }
            }
            Some(Place::Row { path, line }) => format!("{path}, row at {line}"),
            Some(Place::Message {
                topic,
                partition,
                offset,
            }) => format!("topic {topic}, partition {partition}, offset {offset}"),
            Some(Place::Posted { request, line }) => {
                format!("posted, line {line} of request {request}")
            }
            Some(Place::Sequence(n)) => format!("record {n}"),
        })
    }
}

impl Session {
    /// The file of a document of a folder that a script has named.
    fn folder_file(&self, source: &str, key: &str) -> Option<PathBuf> {
        let root = self.folder(source)?;
        Some(Path::new(&*root).join(key))
    }

    /// In which bytes of its file a passage stands, if it stands there once as it was read: of a PDF or of a
    /// page of HTML it does not.
    fn in_folder(&self, source: &str, key: &str, text: &str) -> Option<String> {
        let path = self.folder_file(source, key)?;
        let mut bytes = Vec::new();
        let file = File::open(&path).ok()?;
        file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
        let shown = path.display();
        let mut places = find_all(&bytes, text.as_bytes());
        Some(match (places.next(), places.next()) {
            (Some(begin), None) => format!("{shown}, bytes {begin} to {}", begin + text.len()),
            _ => shown.to_string(),
        })
    }
}

/// Where a text begins among bytes.
fn find_all<'b>(bytes: &'b [u8], text: &'b [u8]) -> impl Iterator<Item = usize> + 'b {
    let n = text.len().max(1);
    let windows = bytes.windows(n).enumerate();
    windows
        .filter(move |(_, window)| *window == text)
        .map(|(at, _)| at)
}

/// The end of the line that begins at a byte of a file.
fn end_of_line(path: &Path, begin: u64) -> Option<u64> {
    if path.as_os_str() == "-" {
        return None;
    }
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::Start(begin)).ok()?;
    let mut line = Vec::new();
    file.take(MAX_LINE).read_to_end(&mut line).ok()?;
    let n = line.iter().position(|byte| *byte == b'\n')?;
    Some(begin + n as u64)
}

/// A key as text: the values of its columns.
fn key_text(tuple: &Tuple, places: &[usize]) -> String {
    let values = places.iter().map(|at| tuple[*at].to_string());
    values.collect::<Vec<_>>().join(", ")
}

/// What a model said, on one line.
pub(super) fn told(said: &Said) -> String {
    let answer = quoted(&said.answer.to_string());
    match said.of.is_empty() {
        true => format!("{} said {answer}", said.question),
        false => {
            let of: Vec<String> = said
                .of
                .iter()
                .map(|value| quoted(&value.to_string()))
                .collect();
            format!("{} of {} said {answer}", said.question, of.join(", "))
        }
    }
}
