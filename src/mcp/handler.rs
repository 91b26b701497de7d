//! Which requests does a client make?

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Implementation,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ProgressNotificationParam, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult,
    ResourceContents, ResourceUpdatedNotificationParam, ServerCapabilities, ServerConfig,
    SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};
use rmcp::{ErrorData, ServerHandler};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::resources::{self, Address, MAX_FOLLOWED};
use super::{Mcp, tools};
use crate::serve::{Reader, Refusal};

/// How often who waits for a tool is told that it works.
const TICK: Duration = Duration::from_secs(5);
/// How long is waited for what stands to be known.
const PATIENCE: Duration = Duration::from_secs(2);

const INSTRUCTIONS: &str = "\
Perennial keeps answers of a language model right while the documents behind them change. `views` tells what \
there is. `ask` asks a view: the answer comes from the documents, with the passages that each sentence leans \
on, and is kept right from then on. `changes_since` tells what became of a view since an id. `remember` stores \
a text among the documents, `recall` finds what was stored in a memory, `forget` erases it from everything. \
Views are resources, perennial://views/NAME, and can be subscribed to.";

impl Mcp {
    /// Calls a tool, unless that is given up.
    async fn call(
        &self,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<Value, Refusal> {
        let served = self.served().await?;
        let caller = self.caller(context)?;
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        tools::call(&served, &caller, &request.name, arguments).await
    }

    /// Tells who waits that it works, as long as it does.
    async fn tick(context: &RequestContext<RoleServer>) -> Infallible {
        let mut every = interval(TICK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut n_ticks = 0.0;
        loop {
            every.tick().await;
            let Some(token) = context.meta.get_progress_token() else {
                continue;
            };
            n_ticks += 1.0;
            let progress = ProgressNotificationParam::new(token, n_ticks);
            // Who does not hear it is told of the end all the same.
            let _ = context.peer.notify_progress(progress).await;
        }
    }
}

/// What goes wrong with a tool, for the assistant to read.
fn failed(refusal: &Refusal) -> CallToolResult {
    CallToolResult::structured_error(json!({ "error": refusal.error(), "hint": refusal.hint() }))
}

/// What goes wrong with a resource.
fn unread(refusal: &Refusal, uri: &str) -> ErrorData {
    let message = format!("{}; {}", refusal.error(), refusal.hint());
    let data = Some(json!({ "uri": uri }));
    match refusal.status() {
        404 => ErrorData::resource_not_found(message, data),
        500.. => ErrorData::internal_error(message, data),
        _ => ErrorData::invalid_params(message, data),
    }
}

impl ServerHandler for Mcp {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_resources_subscribe()
            .build();
        let name = Implementation::new("perennial", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(capabilities)
            .with_server_info(name)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::all()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if !tools::is_known(&request.name) {
            let message = format!("there is no tool `{}`", request.name);
            return Err(ErrorData::invalid_params(message, None));
        }
        let outcome = tokio::select! {
            outcome = self.call(request, &context) => outcome,
            // What is dropped with the call takes back what it had begun.
            () = context.ct.cancelled() => Err(Refusal::cancelled()),
            never = Self::tick(&context) => match never {},
        };
        Ok(match outcome {
            Ok(value) => CallToolResult::structured(value).into(),
            Err(refusal) => failed(&refusal).into(),
        })
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let listed = async {
            let served = self.served().await?;
            let after = request.and_then(|request| request.cursor);
            resources::listed(&served, &self.caller(&context)?, after).await
        };
        let (listed, next) = listed.await.map_err(|refusal| unread(&refusal, ""))?;
        let mut listed = ListResourcesResult::with_all_items(listed);
        listed.next_cursor = next;
        Ok(listed)
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(
            resources::templates(),
        ))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let address = resources::parsed(&request.uri)?;
        let read = async {
            let served = self.served().await?;
            address.read(&served, &self.caller(&context)?).await
        };
        let text = read
            .await
            .map_err(|refusal| unread(&refusal, &request.uri))?;
        let contents = ResourceContents::text(text, request.uri).with_mime_type("application/json");
        Ok(ReadResourceResult::new(vec![contents]).into())
    }

    #[allow(deprecated, reason = "clients of today speak so")]
    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let mut reader = self.follow(&request.uri, &context).await?;
        let (peer, uri) = (context.peer.clone(), request.uri.clone());
        let follow = async move {
            while resources::changed(&mut reader).await {
                let told = ResourceUpdatedNotificationParam::new(uri.clone());
                if peer.notify_resource_updated(told).await.is_err() {
                    return;
                }
            }
        };
        let begun = self.followed.begin(&request.uri, follow);
        begun.map_err(|refusal| unread(&refusal, &request.uri))
    }

    #[allow(deprecated, reason = "clients of today speak so")]
    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.followed.end(&request.uri);
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        let uris = requested.resource_subscriptions.iter().flatten();
        let uris = uris.filter(|uri| Address::parse(uri).is_some());
        let uris: Vec<String> = uris.take(MAX_FOLLOWED).cloned().collect();
        Some(
            SubscriptionFilter::builder()
                .resource_subscriptions(uris)
                .build(),
        )
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        // What is followed ends with this.
        tokio::select! {
            () = context.cancelled() => Ok(()),
            refused = self.tell_of(&context) => refused.map(|never| match never {}),
        }
    }
}

impl Mcp {
    /// Tells of changes of what a subscription names, as long as it is asked.
    async fn tell_of(&self, context: &SubscriptionContext) -> Result<Infallible, ErrorData> {
        let uris = context.accepted().resource_subscriptions.clone();
        let mut followed = tokio::task::JoinSet::new();
        for uri in uris.into_iter().flatten() {
            let slot = self.followed.slot();
            let slot = slot.map_err(|refusal| unread(&refusal, &uri))?;
            let mut reader = self.follow(&uri, context.request_context()).await?;
            let sink = context.sink().clone();
            followed.spawn(async move {
                let _slot = slot;
                while resources::changed(&mut reader).await {
                    if sink.notify_resource_updated(uri.clone()).await.is_err() {
                        return;
                    }
                }
            });
        }
        // One that ends by itself gives its place back at once.
        while followed.join_next().await.is_some() {}
        std::future::pending().await
    }

    async fn follow(
        &self,
        uri: &str,
        context: &RequestContext<RoleServer>,
    ) -> Result<Reader, ErrorData> {
        let address = resources::parsed(uri)?;
        let begin = async {
            let served: Arc<_> = self.served().await?;
            let mut reader = address.follow(&served, &self.caller(context)?)?;
            // From here on changes are told; of a view without an epoch, from the first.
            let known =
                async { while reader.next().await.is_some_and(|event| event.id.is_none()) {} };
            let _ = timeout(PATIENCE, known).await;
            Ok(reader)
        };
        begin
            .await
            .map_err(|refusal: Refusal| unread(&refusal, uri))
    }
}
