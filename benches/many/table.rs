//! What does the refresh after an edit cost beside a cold run, and which answers does it change?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Instant;

use perennial::ask::{Answer, Rung, TensorModel};
use perennial::bank::FragmentStore;
use perennial::calibration::edit::{Edit, Kind};
use perennial::calibration::set::{self, Asked, Passage};
use perennial::engine::Follower;
use perennial::{Edit as PendingEdit, Engine, LocalModel, Policy, Runtime, View};

use crate::Options;
use crate::meter::Meter;
use crate::reports;
use crate::rig::{Error, PROMPT};
use perennial::calibration::Random;

const VIEW: &str = "many";
const STORE_BYTES: usize = 4 << 30;
/// When edits are made: after all that stands.
const NOW_MS: i64 = 1_000_000;

/// What a run or refresh came to.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    /// Seconds.
    pub seconds: f64,
    /// Tokens forwarded.
    pub n_forwarded: usize,
    /// Questions that were read.
    n_read: usize,
    /// Epochs that came.
    n_epochs: usize,
    /// Forward passes, those that were joined counted once.
    n_passes: u64,
}

/// Answers by how they fared in all edits.
#[derive(Default)]
pub struct Tally {
    n_answers: usize,
    /// Answers whose gold changed, and of those the ones that stand as they were.
    n_concerned: usize,
    n_left: usize,
    /// Answers whose gold stands, and of those the ones that are others now.
    n_unconcerned: usize,
    n_moved: usize,
    /// Sub-paragraphs of answers that are others now, and of those the ones that stand in them.
    n_parts: usize,
    n_kept: usize,
}

/// A view of many questions.
pub struct Many<'a> {
    engine: Engine,
    /// Of all epochs of the view.
    meter: Arc<Meter>,
    model: Arc<TensorModel>,
    /// As they stand.
    pub documents: Vec<Passage>,
    asked: &'a [(&'a str, &'a Asked)],
    /// By question.
    pub answers: BTreeMap<String, Answer>,
    /// Questions that were read in the last refresh.
    pub read: BTreeSet<String>,
    /// When each was refreshed last.
    epochs: BTreeMap<String, u64>,
    /// Texts of the sub-paragraphs of each.
    parts: BTreeMap<String, Vec<String>>,
}

/// Prints a row for each policy.
pub fn measure(model: &str, passages: &[Passage], options: &Options) -> Result<(), Error> {
    let model = LocalModel::open(model)?;
    let documents: Vec<Passage> = passages.iter().take(options.documents).cloned().collect();
    let reports = reports::about(&documents, options.reports);
    let asked = match options.reports {
        0 => set::questions(&documents, options.questions),
        _ => reports.iter().map(|(of, asked)| (&**of, asked)).collect(),
    };
    println!(
        "| model | policy | scope | documents | questions | cold run | refresh after an edit | sooner | \
         fewer tokens | read again | had to change and did not | others that changed | sentences of changed answers that stand | \
         audited: mean regret |"
    );
    println!(
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    for name in &options.policies {
        let policy = options.policy(name)?;
        let (mut many, cold) = Many::start(&model, policy, &documents, &asked, options)?;
        eprintln!(
            "{policy}: cold {:.2} s, {} tokens in {} passes, {} epochs; {:.1} sentences an answer",
            cold.seconds,
            cold.n_forwarded,
            cold.n_passes,
            cold.n_epochs,
            many.parts.values().map(Vec::len).sum::<usize>() as f64
                / many.parts.len().max(1) as f64
        );
        let (mut refreshes, mut tally) = (Vec::new(), Tally::default());
        // The same edits for every policy.
        let mut random = Random(options.seed);
        for kind in Kind::ALL.iter().cycle().take(options.edits) {
            let Some(edit) = Edit::draw(*kind, &many.documents, passages, &mut random) else {
                continue;
            };
            let refresh = many.edit(&edit, &mut tally)?;
            eprintln!(
                "{policy}: {}: {:.2} s, {} tokens in {} passes, {} questions read",
                kind.name(),
                refresh.seconds,
                refresh.n_forwarded,
                refresh.n_passes,
                refresh.n_read
            );
            refreshes.push(refresh);
        }
        many.print(model.name(), policy, options, (cold, &refreshes), &tally)?;
    }
    Ok(())
}

/// The key of a question.
pub fn key(question: usize) -> String {
    format!("q{question:05}")
}

impl<'a> Many<'a> {
    /// A view that has answered everything, and what that took.
    pub fn start(
        model: &LocalModel,
        policy: Policy,
        documents: &[Passage],
        asked: &'a [(&'a str, &'a Asked)],
        options: &Options,
    ) -> Result<(Self, Cost), Error> {
        let store = Arc::new(FragmentStore::new(STORE_BYTES));
        let fresh = Arc::new(model.tensor_model().with_store(store.clone()));
        let runtime = Runtime::new(
            fresh.clone(),
            store,
            model.embedder().clone(),
            options.threads,
        );
        let runtime = runtime.calling_at_a_time(options.calls);
        let mut view = View::named(VIEW)
            .prompt(if options.reports == 0 {
                PROMPT
            } else {
                reports::PROMPT
            })
            .context("questions")
            .data_source("docs")
            .scope(options.scope)
            .policy(policy)
            .token_budget(options.token_budget)
            .max_tokens(options.max_tokens);
        if let Some(order) = options.order {
            view = view.order_by(order);
        }
        let engine = Engine::builder(runtime).table("docs").table("questions");
        let (engine, meter) = (engine.view(view).start()?, Arc::new(Meter::default()));
        let follower: Weak<Meter> = Arc::downgrade(&meter);
        engine.follow(VIEW, follower as Weak<dyn Follower>)?;
        let mut many = Self {
            engine,
            meter,
            model: fresh,
            documents: documents.to_vec(),
            asked,
            answers: BTreeMap::new(),
            read: BTreeSet::new(),
            epochs: BTreeMap::new(),
            parts: BTreeMap::new(),
        };
        let cold = many.take_in(|many| {
            for (n, document) in documents.iter().enumerate() {
                many.put(document, n as i64)?;
            }
            for (n, (_, asked)) in asked.iter().enumerate() {
                many.engine.upsert("questions", &key(n), &asked.question)?;
            }
            Ok(())
        })?;
        Ok((many, cold))
    }

    fn put(&self, document: &Passage, at_ms: i64) -> Result<(), Error> {
        let edit = PendingEdit::upsert("docs", &*document.id, &*document.text);
        self.engine
            .apply(vec![edit.titled(&*document.title).at(at_ms)])?;
        Ok(())
    }

    /// What it takes until what `say` says is visible, from the first word to the last answer: the engine
    /// begins while it is still spoken to, and may make several epochs of it.
    fn take_in(&mut self, say: impl FnOnce(&Self) -> Result<(), Error>) -> Result<Cost, Error> {
        self.read.clear();
        // What audits did since is no part of it.
        self.meter.take();
        let (begin, n_before) = (Instant::now(), self.model.passes().n_forwards());
        say(self)?;
        self.engine.flush()?;
        let metered = self.meter.take();
        let cost = Cost {
            seconds: begin.elapsed().as_secs_f64(),
            n_forwarded: metered.n_forwarded,
            n_read: metered.n_read,
            n_epochs: metered.n_epochs,
            n_passes: self.model.passes().n_forwards() - n_before,
        };
        for (context, current) in self.engine.answers(VIEW)? {
            let key = context.as_str().to_owned();
            let is_new = self.epochs.insert(key.clone(), current.epoch) != Some(current.epoch);
            if is_new && !matches!(current.rung, Rung::Keep | Rung::Skip) {
                self.read.insert(key.clone());
            }
            let parts = current.sub_paragraphs.into_iter().map(|part| part.text);
            self.parts.insert(key.clone(), parts.collect());
            self.answers.insert(key, current.answer);
        }
        Ok(cost)
    }

    /// Makes an edit, and notes what it did to the answers.
    pub fn edit(&mut self, edit: &Edit, tally: &mut Tally) -> Result<Cost, Error> {
        let before = std::mem::take(&mut self.answers);
        let parts = std::mem::take(&mut self.parts);
        let cost = self.take_in(|many| {
            match &edit.after {
                Some(document) => many.put(document, NOW_MS)?,
                None => many.engine.delete("docs", &many.documents[edit.place].id)?,
            }
            Ok(())
        })?;
        for (n, (of, asked)) in self.asked.iter().enumerate() {
            let is_same = before.get(&key(n)) == self.answers.get(&key(n));
            tally.n_answers += 1;
            if let (false, Some(old), Some(new)) =
                (is_same, parts.get(&key(n)), self.parts.get(&key(n)))
            {
                tally.n_parts += old.len();
                tally.n_kept += old.iter().filter(|part| new.contains(part)).count();
            }
            let has_to_change = match asked.answers.is_empty() {
                false => edit.concerns(&self.documents, &[of], asked),
                // Nobody wrote what a report should say: one that says what is not so any more has to.
                true => edit.replaced.as_ref().is_some_and(|fact| {
                    let old = before.get(&key(n));
                    old.is_some_and(|old| old.as_ref().is_ok_and(|a| a.text.contains(fact)))
                }),
            };
            if has_to_change {
                tally.n_concerned += 1;
                tally.n_left += usize::from(is_same);
            } else {
                tally.n_unconcerned += 1;
                tally.n_moved += usize::from(!is_same);
            }
        }
        self.documents = edit.apply(&self.documents);
        Ok(cost)
    }

    fn print(
        &self,
        model: &str,
        policy: Policy,
        options: &Options,
        (cold, refreshes): (Cost, &[Cost]),
        tally: &Tally,
    ) -> Result<(), Error> {
        let n = refreshes.len().max(1) as f64;
        let seconds = refreshes.iter().map(|r| r.seconds).sum::<f64>() / n;
        let n_forwarded = refreshes.iter().map(|r| r.n_forwarded).sum::<usize>() as f64 / n;
        let n_read: usize = refreshes.iter().map(|r| r.n_read).sum();
        let audits = self.engine.audits(VIEW)?;
        let audited = match audits.n_audited {
            0 => "-".to_owned(),
            n => format!("{n}: {:.4}", audits.mean_regret),
        };
        println!(
            "| {model} | {policy} | {} | {} | {} | {:.1} s, {} tokens | {seconds:.1} s, {n_forwarded:.0} tokens | \
             {:.1}x | {:.1}x | {n_read} of {} | {} of {} | {} of {} | {} of {} | {audited} |",
            options.scope,
            options.documents,
            self.asked.len(),
            cold.seconds,
            cold.n_forwarded,
            cold.seconds / seconds,
            cold.n_forwarded as f64 / n_forwarded.max(1.0),
            tally.n_answers,
            tally.n_left,
            tally.n_concerned,
            tally.n_moved,
            tally.n_unconcerned,
            tally.n_kept,
            tally.n_parts,
        );
        Ok(())
    }
}
