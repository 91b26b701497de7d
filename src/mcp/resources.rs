//! How is a view named, read, and followed?
//!
//! By its [address](crate::serve::address). What is cited has one, so it can be read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use percent_encoding::percent_decode_str;
use rmcp::model::{Resource, ResourceTemplate};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::tools::bounded;
use crate::serve::address::{SCHEME, of_relation};
use crate::serve::{Caller, Reader, Refusal, Role, Served, SubscribeOptions, Which};

/// Rows of a resource.
const MAX_ROWS: usize = 200;
/// Resources of one page of their list.
const PAGE: usize = 200;
/// The most resources that a client follows.
pub(super) const MAX_FOLLOWED: usize = 64;

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

/// The views that somebody may look at, as resources: a page of them, by name, and the cursor of the
/// next, which is the last name.
pub(super) async fn listed(
    served: &Arc<Served>,
    caller: &Caller,
    after: Option<String>,
) -> Result<(Vec<Resource>, Option<String>), Refusal> {
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
    let resources = relations.iter().flatten().filter_map(resource);
    Ok(paged(resources.collect(), after.as_deref()))
}

/// The page of resources behind a name.
fn paged(mut resources: Vec<Resource>, after: Option<&str>) -> (Vec<Resource>, Option<String>) {
    resources.sort_by(|a, b| a.name.cmp(&b.name));
    resources.retain(|of| after.is_none_or(|after| *of.name > *after));
    let is_last = resources.len() <= PAGE;
    resources.truncate(PAGE);
    let last = resources.last().filter(|_| !is_last);
    let next = last.map(|of| of.name.clone());
    (resources, next)
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

/// What a client follows. It ends with the client.
pub(super) struct Followed {
    /// One for each that may be followed.
    slots: Arc<Semaphore>,
    /// Those that it subscribed to one by one, by address.
    subscribed: Mutex<HashMap<String, (AbortHandle, OwnedSemaphorePermit)>>,
}

impl Default for Followed {
    fn default() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(MAX_FOLLOWED)),
            subscribed: Mutex::default(),
        }
    }
}

impl Followed {
    /// Takes the place of one more, which is given back when it is dropped.
    ///
    /// # Errors
    /// Where as many are followed as may be.
    pub(super) fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let slot = self.slots.clone().try_acquire_owned();
        slot.map_err(|_| Refusal::too_many_followed(MAX_FOLLOWED))
    }

    /// Follows one more, unless it is followed already, or too many are.
    pub(super) fn begin(
        &self,
        uri: &str,
        follow: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Refusal> {
        let mut subscribed = self.subscribed();
        subscribed.retain(|_, (task, _)| !task.is_finished());
        if subscribed.contains_key(uri) {
            return Ok(());
        }
        let slot = self.slot()?;
        let task = tokio::spawn(follow);
        subscribed.insert(uri.to_owned(), (task.abort_handle(), slot));
        Ok(())
    }

    /// Follows one no more.
    pub(super) fn end(&self, uri: &str) {
        if let Some((task, _)) = self.subscribed().remove(uri) {
            task.abort();
        }
    }

    fn subscribed(&self) -> MutexGuard<'_, HashMap<String, (AbortHandle, OwnedSemaphorePermit)>> {
        let subscribed = self.subscribed.lock();
        subscribed.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let subscribed = self.subscribed();
        subscribed.values().for_each(|(task, _)| task.abort());
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
    use crate::serve::address::of_row;

    #[test]
    fn a_list_is_told_page_by_page() {
        let all: Vec<Resource> = (0..PAGE + 5)
            .rev()
            .map(|n| Resource::new(format!("x://{n}"), format!("view {n:04}")))
            .collect();
        let (first, next) = paged(all.clone(), None);
        assert_eq!((first.len(), &*first[0].name), (PAGE, "view 0000"));
        let (second, none) = paged(all, next.as_deref());
        assert_eq!((second.len(), none), (5, None));
        assert_eq!(second[0].name, format!("view {PAGE:04}"));
    }

    #[tokio::test]
    async fn a_client_follows_so_many_and_no_more() {
        let followed = Followed::default();
        let slots: Vec<_> = (1..MAX_FOLLOWED).map(|_| followed.slot()).collect();
        assert!(slots.iter().all(Result::is_ok));
        let begin = |uri: &str| followed.begin(uri, std::future::pending());
        assert!(begin("a").is_ok());
        // What is followed already takes no further place.
        assert!(begin("a").is_ok());
        assert!(begin("b").is_err() && followed.slot().is_err());
        followed.end("a");
        assert!(begin("b").is_ok());
        drop(slots);
        assert!(begin("c").is_ok());
    }

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
        let address = of_row("my docs", "a/b c.md");
        assert_eq!(address, "perennial://views/my%20docs/a%2Fb%20c.md");
        assert_eq!(
            parsed(&address),
            Some(("my docs".into(), Some("a/b c.md".into())))
        );
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
