//! What does a coordinator begin with: what was declared, and what an earlier process left.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use perennial_ask::Before;
use perennial_bank::fragment_store::Attached;
use perennial_bank::{ContextKey, FragmentStore};
use perennial_connectors::{Acks, Delivery, OutputRow, Resumption, Running};

use super::acknowledging::Listener;
use super::{Coordinator, Parked, Request, Stream};
use crate::engine::current::CurrentAnswer;
use crate::engine::error::Error;
use crate::engine::healing::Healing;
use crate::engine::hub::Hub;
use crate::engine::quarantine::Quarantine;
use crate::engine::sinks::{RunningSink, SinkSpec};
use crate::engine::tables::{Row, Table};
use crate::engine::workers::{BuiltView, Report, Workers};
use crate::recording::{Beginning, Recorder};
use crate::state::{DeclaredSink, Restored, State, StoredRow, new_origin};

/// A source at work, and who is told how far what it said is committed.
pub(crate) struct Fed {
    pub(crate) running: Running,
    pub(crate) acks: Option<Box<dyn Acks>>,
}

/// What outlives the process, and what an earlier one left.
pub(crate) struct Durable {
    /// Fragments on disk. The state is let go of after them: its lock is theirs too.
    pub(crate) cold: Option<Attached>,
    pub(crate) state: Arc<State>,
    pub(crate) restored: Restored,
    /// By stream that a source feeds: how it goes on.
    pub(crate) resumptions: HashMap<String, Resumption>,
    /// By view: digest of what its answers depend on besides rows.
    pub(crate) definitions: Vec<[u8; 32]>,
}

/// What a coordinator begins with.
pub(crate) struct Parts {
    /// By name; the source, where one feeds it.
    pub(crate) streams: Vec<(String, Option<Fed>)>,
    pub(crate) views: Vec<BuiltView>,
    pub(crate) n_workers: usize,
    pub(crate) hub: Arc<Hub>,
    pub(crate) store: Option<Arc<FragmentStore>>,
    pub(crate) inbox: Receiver<Request>,
    /// With the index of the view that each takes.
    pub(crate) sinks: Vec<(usize, SinkSpec)>,
    pub(crate) durable: Option<Durable>,
    pub(crate) recording: Option<Beginning>,
}

impl Coordinator {
    pub(crate) fn new(parts: Parts) -> Result<Self, Error> {
        let Parts {
            streams,
            views,
            n_workers,
            hub,
            store,
            inbox,
            sinks,
            mut durable,
            recording,
        } = parts;
        // One epoch is in flight at a time, which bounds the reports that wait.
        let (sender, reports) = unbounded();
        let report = {
            let sender = sender.clone();
            move |report| {
                // Nobody listens only when the engine is stopping.
                let _ = sender.send(report);
            }
        };
        let workers = Workers::start(n_workers, streams.len(), views.clone(), report)
            .map_err(|reason| Error::Stopped { reason })?;
        let (mut rows, mut offsets, mut last_complete) = Default::default();
        let mut resumptions = HashMap::new();
        if let Some(durable) = &mut durable {
            rows = std::mem::take(&mut durable.restored.rows);
            offsets = std::mem::take(&mut durable.restored.offsets);
            resumptions = std::mem::take(&mut durable.resumptions);
            last_complete = durable.restored.epoch;
        }
        let mut restored_table = |name: &str| {
            let rows: BTreeMap<String, StoredRow> = rows.remove(name).unwrap_or_default();
            let rows = rows.into_iter().map(|(key, row)| (key, row.into()));
            let stand = resumptions.get(name) != Some(&Resumption::Anew);
            Table::restored(rows.collect(), stand)
        };
        let mut streams: Vec<Stream> = streams
            .into_iter()
            .map(|(name, fed)| {
                let (source, acks) = match fed {
                    Some(Fed { running, acks }) => (Some(running), acks),
                    None => (None, None),
                };
                let resume = offsets
                    .remove(&name)
                    .filter(|_| resumptions.get(&name) == Some(&Resumption::FromOffset));
                Stream {
                    has_caught_up: source.is_none(),
                    is_recreated: false,
                    resume_recreated: None,
                    source,
                    table: restored_table(&name),
                    listener: acks.map(|acks| Listener::new(acks, resume.clone())),
                    resume,
                    name,
                }
            })
            .collect();
        let (quarantine, resubmitted) = match &mut durable {
            Some(durable) => {
                let resubmitted = resubmit(&mut streams, &mut durable.restored);
                let entries = std::mem::take(&mut durable.restored.quarantine);
                let next = durable.restored.next_quarantined;
                let quarantine = Quarantine::restored(entries, next, |entry| {
                    resumptions.get(&entry.stream) != Some(&Resumption::FromOffset)
                });
                (quarantine, resubmitted)
            }
            None => Default::default(),
        };
        let mut answers = vec![BTreeMap::new(); views.len()];
        if let Some(durable) = &durable {
            for (index, view) in views.iter().enumerate() {
                let name = &*view.plan.name;
                let of_view = durable.restored.answers.get(name);
                for (context, stored) in of_view.into_iter().flatten() {
                    // Tokens of another model are no draft.
                    if durable.restored.views.get(name) == Some(&durable.definitions[index]) {
                        let book = &view.services.book;
                        book.put(context.clone(), Before::draft(stored.tokens.clone()));
                        let current = CurrentAnswer::from(stored.clone());
                        answers[index].insert(context.clone(), current);
                    }
                }
            }
        }
        let healing = views.iter().map(|_| Healing::default()).collect();
        let origin = match &durable {
            Some(durable) => durable.restored.origin,
            None => new_origin(),
        };
        let snapshot = |view: usize| {
            let current: &BTreeMap<ContextKey, CurrentAnswer> = &answers[view];
            let question = |context: &ContextKey| {
                let stream: &Stream = &streams[views[view].context];
                let row = stream.table.get(context.as_str());
                row.map(|row| row.text.clone()).unwrap_or_default()
            };
            let rows = current.iter().map(|(context, answer)| OutputRow {
                key: context.as_str().to_owned(),
                answer: Some(answer.output(&question(context))),
            });
            Delivery {
                origin,
                view: views[view].plan.name.to_string(),
                epoch: last_complete.unwrap_or_default(),
                rows: rows.collect(),
            }
        };
        let saved_offsets = streams.iter().map(|s| s.resume.clone()).collect();
        let view_index = |name: &str| views.iter().position(|v| &*v.plan.name == name);
        let (sinks, parked) = start_sinks(sinks, snapshot, view_index, durable.as_mut(), &sender)?;
        let recorder = recording.map(|beginning| {
            let sender = sender.clone();
            Recorder::start(beginning, move |error| {
                // Nobody listens only when the engine is stopping.
                let _ = sender.send(Report::RecordingFailed(error));
            })
        });
        let recorder = recorder.transpose().map_err(|error| Error::Stopped {
            reason: error.to_string(),
        })?;
        Ok(Self {
            recorder,
            sinks,
            parked,
            origin,
            streams,
            answers,
            deltas: vec![BTreeMap::new(); views.len()],
            views,
            workers,
            reports,
            inbox,
            hub,
            store,
            quarantine,
            resubmitted,
            saved_offsets,
            announced: VecDeque::new(),
            flushes: Vec::new(),
            healing,
            forgetting: Vec::new(),
            report: sender,
            in_flight: None,
            next_epoch: last_complete.map_or(0, |epoch| epoch + 1),
            last_complete,
            durable,
        })
    }
}

/// Takes in rows that a person resubmitted. Returns their numbers.
fn resubmit(streams: &mut [Stream], restored: &mut Restored) -> Vec<u64> {
    let mut numbers = Vec::new();
    for (number, row) in std::mem::take(&mut restored.resubmitted) {
        let stream = streams.iter_mut().find(|stream| stream.name == row.stream);
        // Those of streams that are not declared now wait until they are.
        if let Some(stream) = stream {
            stream.table.set(row.key, row.row.map(Row::from));
            numbers.push(number);
        }
    }
    numbers
}

/// Starts the sinks with what each is owed: what an earlier process left, or, for one that is
/// new, all that stands. Also which sinks are not there now.
fn start_sinks(
    specs: Vec<(usize, SinkSpec)>,
    snapshot: impl Fn(usize) -> Delivery,
    view_index: impl Fn(&str) -> Option<usize>,
    mut durable: Option<&mut Durable>,
    sender: &Sender<Report>,
) -> Result<(Vec<RunningSink>, Parked), Error> {
    let mut owed = Vec::new();
    for (view, spec) in &specs {
        let left = durable.as_mut().and_then(|durable| {
            let left = durable.restored.sinks.remove(spec.sink.name());
            left.filter(|(of_view, _)| *of_view == spec.view && !spec.sink.is_empty())
        });
        owed.push(match left {
            Some((_, owed)) => (false, owed),
            None => {
                let all = Some(snapshot(*view)).filter(|all| !all.rows.is_empty());
                (true, all.into_iter().collect())
            }
        });
    }
    let mut parked = Vec::new();
    if let Some(durable) = &mut durable {
        // Those of views that are gone are owed nothing any more.
        let left = std::mem::take(&mut durable.restored.sinks).into_iter();
        parked.extend(left.filter_map(|(name, (view, _))| Some((name, view_index(&view)?, view))));
        let declared = specs.iter().zip(&owed);
        let declared = declared.map(|((_, spec), (is_new, owed))| DeclaredSink {
            name: spec.sink.name(),
            view: &spec.view,
            snapshot: is_new.then(|| owed.first()),
        });
        let away = parked.iter().map(|(name, _, view)| DeclaredSink {
            name,
            view,
            snapshot: None,
        });
        let all: Vec<DeclaredSink<'_>> = declared.chain(away).collect();
        durable.state.declare_sinks(&all)?;
    }
    let parked = parked.into_iter().map(|(name, index, _)| (name, index));
    let parked = parked.collect();
    let state = durable.map(|durable| durable.state.clone());
    let running = specs
        .into_iter()
        .zip(owed)
        .map(|((view, spec), (_, owed))| {
            let sender = sender.clone();
            let tell = move |event| {
                // Nobody listens only when the engine is stopping.
                let _ = sender.send(Report::Sink(event));
            };
            RunningSink::start(view, spec.sink, owed, state.clone(), tell)
        });
    let running: Result<Vec<_>, _> = running.collect();
    let running = running.map_err(|error| Error::Stopped {
        reason: error.to_string(),
    })?;
    Ok((running, parked))
}
