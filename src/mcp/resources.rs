//! How is a view named, read, and followed?
//!
//! By its [address](crate::serve::address). What is cited has one, so it can be read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use percent_encoding::percent_decode_str;
use rmcp::model::{Resource, ResourceTemplate};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::tools::bounded;
use crate::serve::address::{SCHEME, of_relation};
use crate::serve::{Caller, Reader, Refusal, Role, Served, SubscribeOptions, Which};

/// Rows of a resource.
const MAX_ROWS: usize = 200;
/// The most resources that a client follows.
const MAX_FOLLOWED: usize = 64;

/// A view, or a row of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) view: String,
    pub(super) key: Option<String>,
}

impl Address {
    /// That which a text says, if it is one.
    pub(super) fn parse(uri: &str) -> Option<Self> {
        let path = uri.strip_prefix(SCHEME)?;
        let (view, key) = match path.split_once('/') {
            Some((view, key)) => (view, Some(key)),
            None => (path, None),
        };
        let decode = |part: &str| {
            let text = percent_decode_str(part).decode_utf8().ok()?;
            (!text.is_empty() && !part.contains('/')).then(|| text.into_owned())
        };
        Some(Self {
            view: decode(view)?,
            key: match key {
                Some(key) => Some(decode(key)?),
                None => None,
            },
        })
    }

    /// What it holds, as a text of JSON.
    pub(super) async fn read(
        &self,
        served: &Arc<Served>,
        caller: &Caller,
    ) -> Result<String, Refusal> {
        let which = Which {
            key: self.key.clone(),
            limit: Some(MAX_ROWS),
            ..Which::default()
        };
        let held = served.held(caller, self.view.clone(), which).await?;
        let mut held = serde_json::to_value(&held).unwrap_or_default();
        bounded(&mut held, "rows");
        Ok(held.to_string())
    }

    /// Begins to follow it. Only views are followed.
    pub(super) fn follow(&self, served: &Arc<Served>, caller: &Caller) -> Result<Reader, Refusal> {
        caller.may_of(Role::Read, &self.view)?;
        let options = SubscribeOptions {
            snapshot: false,
            early: false,
            key: self.key.clone(),
            caller: Some(caller.clone()),
            ..SubscribeOptions::default()
        };
        served.subscribe(&self.view, options)
    }
}

/// Waits for a change of what is followed. Whether there may be another.
pub(super) async fn changed(reader: &mut Reader) -> bool {
    let mut is_news = false;
    while let Some(event) = reader.next().await {
        match event.name {
            "answer" | "row" | "reset" => is_news = true,
            "end" => return false,
            _ if event.id.is_some() && is_news => return true,
            _ => {}
        }
    }
    false
}

/// The views that somebody may look at, as resources.
pub(super) async fn listed(
    served: &Arc<Served>,
    caller: &Caller,
) -> Result<Vec<Resource>, Refusal> {
    let relations = served.relations(caller).await?;
    let relations = serde_json::to_value(&relations).unwrap_or_default();
    let relations = relations["relations"].as_array().cloned();
    let resource = |of: &Value| {
        let (name, kind) = (of["name"].as_str()?, of["kind"].as_str()?);
        let what = match kind {
            "answers" => "answers of a model, kept right as documents change",
            "query" => "the result of a query, kept right",
            _ => return None,
        };
        let rows = of["n_rows"].as_u64().unwrap_or(0);
        let resource = Resource::new(of_relation(name), name)
            .with_description(format!("{what}; {rows} rows"))
            .with_mime_type("application/json");
        Some(resource)
    };
    Ok(relations.iter().flatten().filter_map(resource).collect())
}

/// How rows are addressed.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    let row = ResourceTemplate::new(format!("{SCHEME}{{name}}/{{key}}"), "row")
        .with_description(
            "The row of a view, source or table under a key: an answer with what each sentence leans \
             on, or a document. Citations have such addresses.",
        )
        .with_mime_type("application/json");
    let relation = ResourceTemplate::new(format!("{SCHEME}{{name}}"), "relation")
        .with_description("What a view, source or table holds: its first 200 rows.")
        .with_mime_type("application/json");
    vec![relation, row]
}

/// What a client follows, by address. It ends with the client.
#[derive(Default)]
pub(super) struct Followed(Mutex<HashMap<String, AbortHandle>>);

impl Followed {
    /// Follows one more, unless it is followed already, or too many are.
    pub(super) fn begin(
        &self,
        uri: &str,
        follow: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Refusal> {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        followed.retain(|_, task| !task.is_finished());
        if followed.contains_key(uri) {
            return Ok(());
        }
        if followed.len() >= MAX_FOLLOWED {
            return Err(Refusal::too_many_followed(MAX_FOLLOWED));
        }
        let task = tokio::spawn(follow);
        followed.insert(uri.to_owned(), task.abort_handle());
        Ok(())
    }

    /// Follows one no more.
    pub(super) fn end(&self, uri: &str) {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = followed.remove(uri) {
            task.abort();
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let followed = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        followed.values().for_each(AbortHandle::abort);
    }
}

/// The address in a request, as an error of the protocol if it is none.
pub(super) fn parsed(uri: &str) -> Result<Address, rmcp::ErrorData> {
    Address::parse(uri).ok_or_else(|| {
        let message = "there is no such resource: addresses are perennial://views/NAME and \
                       perennial://views/NAME/KEY";
        rmcp::ErrorData::resource_not_found(message, Some(json!({ "uri": uri })))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_view_or_a_row() {
        let parsed = |uri| Address::parse(uri).map(|of| (of.view, of.key));
        assert_eq!(
            parsed("perennial://views/answers"),
            Some(("answers".into(), None))
        );
        assert_eq!(
            parsed("perennial://views/my%20docs/a%2Fb.md"),
            Some(("my docs".into(), Some("a/b.md".into())))
        );
        let address = of_relation("my docs/x");
        assert_eq!(parsed(&address), Some(("my docs/x".into(), None)));
        for wrong in [
            "",
            "file:///etc/passwd",
            "perennial://views/",
            "perennial://views/answers/",
            "perennial://views/a/b/c",
            "perennial://views/%ff",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
