//! Sinks that come and go while the engine runs, and what each is owed from the beginning.

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial_connectors::{self as connectors, SinkLetters};

use super::Coordinator;
use crate::engine::error::Error;
use crate::engine::names::ViewId;
use crate::engine::sinks::{RunningSink, SinkSpec};
use crate::engine::workers::Report;
use crate::state::{DeclaredSink, StateError};

/// A sink that is being declared.
struct NewSink {
    view: ViewId,
    spec: SinkSpec,
    /// Whether nobody knows it: it gets all that stands.
    is_new: bool,
    /// See [`RunningSink::is_waiting`].
    is_waiting: bool,
    /// What it is owed from the beginning.
    owed: Vec<connectors::Delivery>,
    /// The origins whose deliveries the first of its own replaces.
    former: Arc<[u64]>,
}

impl Coordinator {
    /// Sinks that take views, each with what it is owed: what an earlier process left, or, for one
    /// that is new, all that stands. What stands in a query's result is known once its view has
    /// begun; until then a new sink waits for it.
    pub(crate) fn create_sinks(&mut self, specs: Vec<SinkSpec>) -> Result<(), Error> {
        let mut new: Vec<NewSink> = Vec::new();
        for spec in specs {
            let name = spec.sink.name();
            let mut running = self.sinks.iter().filter(|of| of.name == name);
            let running = running
                .next()
                .map(|of| self.views[&of.view].name.to_string());
            let declared = new.iter().find(|of| of.spec.sink.name() == name);
            if let Some(other) = running.or_else(|| Some(declared?.spec.view.clone())) {
                return Err(Error::SinkTaken {
                    sink: name.to_owned(),
                    view: spec.view,
                    other,
                });
            }
            let view = self.names.view(&spec.view)?;
            let left = self.left_by(name)?;
            let left = left.filter(|(of_view, _)| *of_view == spec.view && !spec.sink.is_empty());
            let is_new = left.is_none();
            let is_query = self.views[&view].generating().is_none();
            let is_waiting = is_new && is_query && self.views[&view].stands_at.is_none();
            let former = self.replaced_by(name, is_new)?;
            let owed = match left {
                Some((_, owed)) => owed,
                None if is_waiting => Vec::new(),
                None => {
                    let all = Some(self.snapshot_for_sink(view));
                    // That nothing stands is told, too, where something was told before.
                    let is_told = !former.is_empty() && self.stored.is_some();
                    let all = all.filter(|all| is_told || !all.rows.is_empty());
                    all.into_iter().collect()
                }
            };
            new.push(NewSink {
                view,
                spec,
                is_new,
                is_waiting,
                owed,
                former,
            });
        }
        self.parked
            .retain(|(name, _)| new.iter().all(|sink| sink.spec.sink.name() != name));
        let declared = new.iter().map(|sink| DeclaredSink {
            name: sink.spec.sink.name(),
            view: &sink.spec.view,
            is_waiting: sink.is_waiting,
            snapshot: sink.is_new.then(|| sink.owed.first()),
        });
        self.declare_sinks(declared.collect())?;
        if let Some(durable) = &self.durable {
            let letters = new.iter().filter_map(|sink| sink.spec.sink.dead_letters());
            durable.state.note_letters(letters.map(SinkLetters::path))?;
        }
        let state = self.durable.as_ref().map(|durable| durable.state.clone());
        let tracer = self.hub.tracer().cloned();
        for NewSink {
            view,
            spec,
            is_waiting,
            owed,
            former,
            ..
        } in new
        {
            let sender = self.report.clone();
            let tell = move |event| {
                // Nobody listens only when the engine is stopping.
                let _ = sender.send(Report::Sink(event));
            };
            let beside = (state.clone(), tracer.clone());
            let sink = RunningSink::start(view, spec.sink, (owed, former), beside, tell);
            let mut sink = sink.map_err(|error| Error::Stopped {
                reason: error.to_string(),
            })?;
            sink.is_waiting = is_waiting;
            self.sinks.push(sink);
        }
        Ok(())
    }

    /// The origins whose deliveries to a sink its next one replaces.
    fn replaced_by(&self, sink: &str, is_new: bool) -> Result<Arc<[u64]>, StateError> {
        let is_first = match &self.durable {
            Some(durable) if !self.former.is_empty() => is_new || durable.state.replaces(sink)?,
            _ => false,
        };
        Ok(match is_first {
            true => self.former.clone(),
            false => Arc::default(),
        })
    }

    /// What a sink takes that is known and not there, and what it is owed.
    fn left_by(
        &mut self,
        sink: &str,
    ) -> Result<Option<(String, Vec<connectors::Delivery>)>, StateError> {
        let Some(durable) = &mut self.durable else {
            return Ok(None);
        };
        // One that took a view which is gone is new to any other.
        durable.restored.sinks.remove(sink);
        let mut parked = self.parked.iter().filter(|(name, _)| name == sink);
        let Some((_, view)) = parked.next() else {
            return Ok(None);
        };
        let owed = durable.state.owed(sink)?;
        Ok(Some((self.views[view].name.to_string(), owed)))
    }

    /// Notes in the state directory which sinks there are: these, and all others that are known.
    pub(super) fn declare_sinks(&mut self, new: Vec<DeclaredSink<'_>>) -> Result<(), StateError> {
        let Some(durable) = &self.durable else {
            return Ok(());
        };
        let known = |name, view| DeclaredSink {
            name,
            view,
            is_waiting: false,
            snapshot: None,
        };
        let view = |id| &*self.views[&id].name;
        let running = self.sinks.iter().map(|s| DeclaredSink {
            is_waiting: s.is_waiting,
            ..known(&*s.name, view(s.view))
        });
        let parked = self.parked.iter().map(|(name, id)| known(name, view(*id)));
        let left = durable.restored.sinks.iter();
        let left = left.map(|(name, (view, _))| known(name, view));
        let all = new.into_iter().chain(running).chain(parked).chain(left);
        let all: Vec<DeclaredSink<'_>> = all.collect();
        durable.state.declare_sinks(&all)?;
        // What a view's last sink was given is nobody's any more.
        let known = all.iter().filter(|sink| !sink.is_waiting);
        let known: BTreeSet<String> = known.map(|sink| sink.view.to_owned()).collect();
        let views = self.views.values_mut();
        let unknown = views.filter(|view| !known.contains(&*view.name));
        unknown.for_each(|view| view.given.clear());
        Ok(())
    }

    /// All that a view says, for a sink that is new.
    fn snapshot_for_sink(&self, id: ViewId) -> connectors::Delivery {
        let view = &self.views[&id];
        // A view may stand at an epoch that changed nothing for it and is not stored yet: after a
        // crash its number would be given again.
        let epochs = [view.stands_at, self.stored];
        connectors::Delivery {
            origin: self.origin,
            view: view.name.to_string(),
            epoch: epochs.into_iter().flatten().min().unwrap_or_default(),
            rows: view.outputs(),
        }
    }

    /// Stops a sink; what it has not taken it does not get any more.
    pub(crate) fn drop_sink(&mut self, name: &str) -> Result<(), Error> {
        let Some(at) = self.sinks.iter().position(|sink| sink.name == name) else {
            let known: Vec<&str> = self.sinks.iter().map(|sink| &*sink.name).collect();
            return Err(Error::UnknownSink {
                name: name.to_owned(),
                declared: known.join(", "),
            });
        };
        drop(self.sinks.remove(at));
        self.declare_sinks(Vec::new())?;
        Ok(())
    }

    /// Sinks of an earlier process that take a view are owed what it says from now on, until they are
    /// declared again.
    pub(super) fn park_sinks(&mut self, id: ViewId, name: &str) {
        if let Some(durable) = &mut self.durable {
            let left = durable.restored.sinks.extract_if(|_, (of, _)| of == name);
            self.parked.extend(left.map(|(sink, _)| (sink, id)));
        }
    }
}
