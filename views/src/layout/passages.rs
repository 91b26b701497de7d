//! Which passages stand, and which of them are obsolete?

use std::sync::Arc;

use differential_dataflow::AsCollection as _;
use perennial_bank::{Document, DocumentKey, Passage};
use timely::dataflow::operators::vec::Map as _;

use super::cuts::{Cuts, Piece, Pieces};
use super::{Group, Rows};
use crate::dataflow::Services;
use crate::plan::Plan;

/// The passages of all documents, each with its tokens.
///
/// Documents are cut and tokenized on a worker of the dataflow, so a panic of either costs its document or
/// passage alone: the observer hears of it, once, and the view goes on without. What a deletion takes away is
/// what its insertion made: nothing is cut or tokenized for it.
pub(crate) fn passages<'scope, G: Group>(
    plan: &Arc<Plan>,
    documents: Rows<'scope, (G, Document)>,
    services: &Services,
) -> Rows<'scope, (G, Passage)> {
    let (plan, services) = (plan.clone(), services.clone());
    let mut cuts = Cuts::new(plan.passage_sizes);
    documents
        .inner
        .flat_map(move |((group, document), time, diff)| {
            let pieces = cuts.of(&document, diff > 0);
            let passages = taken(&plan, &services, &document, (pieces, diff > 0)).into_iter();
            passages.map(move |passage| ((group.clone(), passage), time, diff))
        })
        .as_collection()
}

/// The passages of a document that comes, or goes, by where it is cut.
fn taken(
    plan: &Plan,
    services: &Services,
    document: &Document,
    (pieces, comes): (Pieces, bool),
) -> Vec<Passage> {
    let Document { key, title, .. } = document;
    let tell = |text: &str, reason: &str| {
        let observer = &services.observer;
        let reason = comes.then_some(reason);
        observer.unread(&plan.name, &plan.data_source, key, reason);
        if let Some(reason) = reason {
            observer.passed_over(&plan.name, text, reason);
        }
    };
    let passage = |(piece, ordinal): (&Piece, u32)| {
        let (id, text) = (piece.id, &document.text[piece.range.clone()]);
        let (shelf, model) = (&services.shelf, &*services.model);
        let shelved = match comes {
            true => shelf.take(model, id, title, text),
            false => shelf.take_again(model, id, title, text),
        };
        let (text, tokens) = match shelved {
            Ok(shelved) => shelved,
            Err(reason) => {
                tell(text, &format!("passage {ordinal} of {key}: {reason}"));
                return None;
            }
        };
        Some(Passage {
            document: key.clone(),
            ordinal,
            updated_at_ms: document.updated_at_ms,
            id,
            title: title.clone(),
            text,
            tokens,
            is_superseded: false,
        })
    };
    let Some(pieces) = pieces else {
        let reason = format!("{key}: cutting it into passages panicked");
        tell(&document.text, &reason);
        return Vec::new();
    };
    pieces.iter().zip(0..).filter_map(passage).collect()
}

/// Keys of documents that a newer one makes obsolete. Newer is by time, then by key: so there
/// are no circles, and the newest of any documents that supersede one another stands.
pub(crate) fn superseded<'scope>(documents: Rows<'scope, Document>) -> Rows<'scope, DocumentKey> {
    let age = |document: &Document| (document.updated_at_ms, document.key.clone());
    let edges = documents.clone().flat_map(move |document| {
        let newer = age(&document);
        let edge = |old: &DocumentKey| (old.clone(), newer.clone());
        document.supersedes.iter().map(edge).collect::<Vec<_>>()
    });
    let ages = documents.map(move |document| (document.key.clone(), age(&document)));
    edges
        .join_map(ages, |old, newer, older| {
            (newer > older).then(|| old.clone())
        })
        .flat_map(|old| old)
        .distinct()
}

/// The passages with those of superseded documents marked, or taken out.
pub(crate) fn current<'scope, G: Group>(
    plan: &Arc<Plan>,
    passages: Rows<'scope, (G, Passage)>,
    superseded: Rows<'scope, DocumentKey>,
) -> Rows<'scope, (G, Passage)> {
    let by_document = passages.map(|row| (row.1.document.clone(), row));
    let current = by_document
        .clone()
        .antijoin(superseded.clone())
        .map(|(_, row)| row);
    if plan.superseded.takes_out() {
        return current;
    }
    let marked = by_document
        .semijoin(superseded)
        .map(|(_, (group, passage))| {
            let marked = Passage {
                is_superseded: true,
                ..passage
            };
            (group, marked)
        });
    current.concat(marked)
}
