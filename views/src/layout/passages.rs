//! Which passages stand, and which of them are obsolete?

use std::sync::Arc;

use perennial_bank::{Document, DocumentKey, Passage, PassageId, passage};

use super::{Group, Rows};
use crate::dataflow::Services;
use crate::plan::Plan;

/// The passages of all documents, each with its tokens.
pub(crate) fn passages<'scope, G: Group>(
    plan: &Arc<Plan>,
    documents: Rows<'scope, (G, Document)>,
    services: &Services,
) -> Rows<'scope, (G, Passage)> {
    let (plan, services) = (plan.clone(), services.clone());
    documents.flat_map(move |(group, document)| {
        let passage = |(text, ordinal): (&str, u32)| {
            let id = PassageId::of(&document.title, text);
            let shelved = services
                .shelf
                .take(&*services.model, id, &document.title, text);
            let (text, tokens) = match shelved {
                Ok(shelved) => shelved,
                Err(reason) => {
                    services.observer.passed_over(&plan.name, text, &reason);
                    return None;
                }
            };
            Some(Passage {
                document: document.key.clone(),
                ordinal,
                updated_at_ms: document.updated_at_ms,
                id,
                title: document.title.clone(),
                text,
                tokens,
                is_superseded: false,
            })
        };
        let texts = passage::split(&document.text, plan.passage_sizes);
        texts
            .into_iter()
            .zip(0..)
            .filter_map(passage)
            .map(|passage| (group.clone(), passage))
            .collect::<Vec<_>>()
    })
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
