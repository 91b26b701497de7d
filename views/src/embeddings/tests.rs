//! Two views over one table: what the embedder is asked, and what the memo hears.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;

use differential_dataflow::input::{Input, InputSession};
use perennial_ask::{Outcome, TaskDigest};
use perennial_bank::ContextKey;
use perennial_operators::call::call;
use perennial_rows::Value;
use timely::dataflow::ProbeHandle;
use timely::worker::Worker;

use super::*;
use crate::memo::RequestDigest;

/// Embeds a text as its length; some words make it fail.
#[derive(Default)]
struct Recorder {
    batches: Mutex<Vec<Vec<String>>>,
    /// What goes wrong with each of the next batches, whatever it holds.
    troubles: Mutex<VecDeque<Option<Failure>>>,
}

impl Embed for Recorder {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
        let batch = texts.iter().map(|text| (*text).to_owned()).collect();
        self.batches.lock().expect("no panic").push(batch);
        let trouble = self.troubles.lock().expect("no panic").pop_front();
        if let Some(failure) = trouble.flatten() {
            return Err(failure);
        }
        assert!(!texts.contains(&"panic"), "asked to panic");
        if texts.contains(&"fail") {
            let reason = "asked to fail".to_owned();
            return Err(CallError::Model { reason }.into());
        }
        let element = |text: &&str| {
            if **text == *"nan" {
                f32::NAN
            } else {
                text.len() as f32
            }
        };
        Ok(texts.iter().map(|text| vec![element(text)]).collect())
    }

    fn digest(&self) -> [u8; 32] {
        [7; 32]
    }
}

impl Recorder {
    fn trouble(&self, troubles: impl IntoIterator<Item = Option<Failure>>) {
        let mut all = self.troubles.lock().expect("no panic");
        all.extend(troubles);
    }

    fn batches(&self) -> Vec<Vec<String>> {
        self.batches.lock().expect("no panic").clone()
    }
}

/// A memo that knows one text, and counts.
#[derive(Default)]
struct Counter {
    n_used: AtomicUsize,
    n_noted: AtomicUsize,
    n_released: AtomicUsize,
    known: Option<VectorDigest>,
}

impl Memo for Counter {
    fn answer(&self, _: &str, _: &ContextKey, _: &RequestDigest) -> Option<Outcome> {
        None
    }
    fn answered(&self, _: &str, _: &ContextKey, _: &RequestDigest, _: &Outcome) {}
    fn output(&self, _: &TaskDigest) -> Option<Value> {
        None
    }
    fn performed(&self, _: &TaskDigest, _: &Value) {}
    fn output_released(&self, _: &TaskDigest) {}
    fn vector(&self, text: &VectorDigest) -> Option<Vec<f32>> {
        self.n_used.fetch_add(1, SeqCst);
        (self.known == Some(*text)).then(|| vec![99.0])
    }
    fn embedded(&self, _: &VectorDigest, _: &[f32]) {
        self.n_noted.fetch_add(1, SeqCst);
    }
    fn vector_released(&self, _: &VectorDigest) {
        self.n_released.fetch_add(1, SeqCst);
    }
}

/// Hears how far embedding is, and what is passed over.
#[derive(Default)]
struct Listener {
    progress: Mutex<Vec<(usize, usize)>>,
    passed_over: Mutex<Vec<String>>,
    late: Mutex<Vec<(u32, String)>>,
}

impl Observer for Listener {
    fn embedding(&self, _: &str, done: usize, total: usize) {
        self.progress.lock().expect("no panic").push((done, total));
    }
    fn late(&self, _: &str, n_tries: u32, reason: &str) {
        let late = (n_tries, reason.to_owned());
        self.late.lock().expect("no panic").push(late);
    }
    fn passed_over(&self, _: &str, text: &str, _: &str) {
        self.passed_over
            .lock()
            .expect("no panic")
            .push(text.to_owned());
    }
}

type Told = Arc<Mutex<Vec<(String, Embedded, isize)>>>;

/// One view's embedding operator.
struct View {
    input: InputSession<Epoch, EmbedText, isize>,
    told: Told,
}

/// Two views, an embedder behind one thread, and the gate that this thread waits at first.
struct Rig {
    views: [View; 2],
    probe: ProbeHandle<Epoch>,
    embedder: Arc<Recorder>,
    memo: Arc<Counter>,
    listener: Arc<Listener>,
    gate: mpsc::Sender<()>,
    epoch: Epoch,
}

impl Rig {
    fn new(worker: &mut Worker, memo: Counter) -> Self {
        let (embedder, memo) = (Arc::new(Recorder::default()), Arc::new(memo));
        let listener = Arc::new(Listener::default());
        let executor = Arc::new(Executor::new(1));
        let (gate, wait) = mpsc::channel();
        // An error is the end of a test that never opened it.
        executor.submit(Priority::Fresh, &"gate".into(), move || {
            wait.recv().unwrap_or(())
        });
        let embeddings = Arc::new(Embeddings::new(embedder.clone(), memo.clone(), executor));
        let probe = ProbeHandle::new();
        let views = [(); 2].map(|()| {
            let calls = EmbedCalls {
                embeddings: embeddings.clone(),
                count: Arc::default(),
                view: "view".into(),
                observer: listener.clone(),
                uses: Default::default(),
                overlaps: false,
            };
            let told = Told::default();
            let heard = told.clone();
            let input = worker.dataflow(|scope| {
                let (input, texts) = scope.new_collection();
                call(texts, "Embed", 1000, calls)
                    .inspect(move |((text, embedded), _, diff)| {
                        let row = (text.whole(), embedded.clone(), *diff);
                        heard.lock().expect("no panic").push(row);
                    })
                    .probe_with(&probe);
                input
            });
            View { input, told }
        });
        Self {
            views,
            probe,
            embedder,
            memo,
            listener,
            gate,
            epoch: 0,
        }
    }

    fn update(&mut self, view: usize, text: &str, diff: isize) {
        let text = EmbedText::plain(&self.embedder.digest(), &text.into());
        self.views[view].input.update(text, diff);
    }

    /// Closes the epoch, and lets the operators see it.
    fn close(&mut self, worker: &mut Worker) {
        self.epoch += 1;
        for view in &mut self.views {
            view.input.advance_to(self.epoch);
            view.input.flush();
        }
        for _ in 0..50 {
            worker.step();
        }
    }

    /// Opens the gate and waits for all closed epochs.
    fn finish(&mut self, worker: &mut Worker) {
        self.gate.send(()).expect("the thread waits");
        while self.probe.less_than(&self.epoch) {
            worker.step_or_park(None);
        }
    }

    fn told(&self, view: usize) -> Vec<(String, Embedded, isize)> {
        let mut told = self.views[view].told.lock().expect("no panic").clone();
        told.sort();
        told
    }
}

#[test]
fn what_waits_is_embedded_in_batches_once_for_all_views() {
    timely::execute_directly(|worker| {
        let mut rig = Rig::new(worker, Counter::default());
        (0..150).for_each(|i| rig.update(0, &format!("text {i}"), 1));
        (100..200).for_each(|i| rig.update(1, &format!("text {i}"), 1));
        rig.close(worker);
        rig.finish(worker);
        let batches = rig.embedder.batches();
        let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
        assert_eq!(sizes, [64, 64, 64, 8]);
        assert_eq!((rig.told(0).len(), rig.told(1).len()), (150, 100));
        let vector = |text: &str| Ok(Vector::new(&[text.len() as f32]));
        for (text, embedded, diff) in rig.told(0).into_iter().chain(rig.told(1)) {
            assert_eq!((embedded, diff), (vector(&text), 1));
        }
        // Every view counts to its end, though half of the texts were the other's as well.
        let progress = rig.listener.progress.lock().expect("no panic").clone();
        assert_eq!(progress.len(), 250);
        assert!(progress.contains(&(150, 150)) && progress.contains(&(100, 100)));
        let count = |n: &AtomicUsize| n.load(SeqCst);
        assert_eq!(
            (count(&rig.memo.n_used), count(&rig.memo.n_noted)),
            (200, 200)
        );
    });
}

#[test]
fn one_text_that_fails_fails_alone() {
    timely::execute_directly(|worker| {
        let mut rig = Rig::new(worker, Counter::default());
        for text in ["a", "fail", "bb", "panic", "ccc", "nan"] {
            rig.update(0, text, 1);
        }
        rig.close(worker);
        rig.finish(worker);
        let mut failed = Vec::new();
        for (text, embedded, _) in rig.told(0) {
            match embedded {
                Ok(vector) => assert_eq!(vector, Vector::new(&[text.len() as f32])),
                Err(_) => failed.push(text),
            }
        }
        assert_eq!(failed, ["fail", "nan", "panic"]);
        let mut passed_over = rig.listener.passed_over.lock().expect("no panic").clone();
        passed_over.sort();
        assert_eq!(passed_over, failed);
        assert_eq!(rig.memo.n_noted.load(SeqCst), 3);
    });
}

#[test]
fn an_embedder_that_is_away_is_no_texts_failure() {
    timely::execute_directly(|worker| {
        let mut rig = Rig::new(worker, Counter::default());
        for text in ["a", "bb", "ccc", "fail"] {
            rig.update(0, text, 1);
        }
        let soon = Duration::from_millis(1);
        let away = || Failure::Retry {
            reason: "away".to_owned(),
            after: Some(soon),
        };
        rig.embedder
            .trouble([away(), Failure::Wait(soon), away()].map(Some));
        rig.close(worker);
        rig.finish(worker);
        let failed = rig.told(0).into_iter().filter(|(_, of, _)| of.is_err());
        let failed: Vec<String> = failed.map(|(text, ..)| text).collect();
        assert_eq!(failed, ["fail"]);
        assert_eq!(rig.told(0).len(), 4);
        assert_eq!(*rig.listener.passed_over.lock().expect("no panic"), failed);
        // Heard at the second failure, as of a model: to wait is none.
        let late = rig.listener.late.lock().expect("no panic").clone();
        assert_eq!(late, [(2, "away".to_owned())]);
    });
}

#[test]
fn what_is_left_of_a_batch_are_its_last_texts() {
    let embedder = Recorder::default();
    let all = ["a", "bb", "fail", "ccc", "dddd"];
    let texts = all.map(|text| EmbedText::plain(&[7; 32], &text.into()));
    let refused = Failure::Final(CallError::Lost);
    let away = Failure::Retry {
        reason: "away".to_owned(),
        after: None,
    };
    let embed = |texts: &[EmbedText]| {
        let mut known = Vec::new();
        let mut know = |text: &EmbedText, embedded: Embedded| {
            known.push((text.whole(), embedded.is_ok()));
        };
        let left = embed_all(&embedder, texts, &mut know).err();
        (known, left.map_or(0, |left| left.n_texts))
    };
    let told = |texts: &[&str]| -> Vec<(String, bool)> {
        let told = texts
            .iter()
            .map(|text| ((*text).to_owned(), *text != "fail"));
        told.collect()
    };
    // The whole is refused, its first half is not, and then the embedder is away.
    embedder.trouble([Some(refused), None, Some(away.clone())]);
    assert_eq!(embed(&texts), (told(&all[..2]), 3));
    embedder.trouble([Some(away)]);
    assert_eq!(embed(&texts[2..]), (Vec::new(), 3));
    assert_eq!(embed(&texts[2..]), (told(&all[2..]), 0));
}

#[test]
fn a_text_that_is_retracted_leaves_its_batch_unless_another_view_waits() {
    timely::execute_directly(|worker| {
        let mut rig = Rig::new(worker, Counter::default());
        for i in 0..10 {
            rig.update(0, &i.to_string(), 1);
        }
        rig.update(1, "0", 1);
        rig.close(worker);
        (0..5).for_each(|i| rig.update(0, &i.to_string(), -1));
        rig.close(worker);
        rig.finish(worker);
        let mut batch = rig.embedder.batches().concat();
        batch.sort();
        assert_eq!(batch, ["0", "5", "6", "7", "8", "9"]);
        assert_eq!(rig.told(0).len(), 5);
        assert_eq!(rig.told(1).len(), 1);
        assert_eq!(rig.memo.n_released.load(SeqCst), 4);
    });
}

#[test]
fn the_memo_hears_of_the_first_use_and_of_the_last() {
    timely::execute_directly(|worker| {
        let known = EmbedText::plain(&[7; 32], &"known".into()).digest;
        let memo = Counter {
            known: Some(known),
            ..Counter::default()
        };
        let mut rig = Rig::new(worker, memo);
        rig.update(0, "known", 1);
        rig.close(worker);
        rig.update(1, "known", 1);
        rig.close(worker);
        rig.finish(worker);
        let kept = Ok(Vector::new(&[99.0]));
        for view in [0, 1] {
            assert_eq!(rig.told(view), [("known".to_owned(), kept.clone(), 1)]);
        }
        assert!(rig.embedder.batches().is_empty());
        assert_eq!(rig.memo.n_used.load(SeqCst), 1);
        rig.update(0, "known", -1);
        rig.close(worker);
        assert_eq!(rig.memo.n_released.load(SeqCst), 0);
        rig.update(1, "known", -1);
        rig.close(worker);
        assert_eq!(rig.memo.n_released.load(SeqCst), 1);
    });
}

#[test]
fn pieces_of_a_text_name_what_the_whole_does() {
    let digest = |pieces: &[&str]| VectorDigest::of(&[1; 32], pieces);
    assert_eq!(digest(&["title", "\n", "text"]), digest(&["title\ntext"]));
    let text = EmbedText::titled(&[1; 32], &"title".into(), &"text".into());
    assert_eq!(text.digest, digest(&[&text.whole()]));
    assert_eq!(text.n_bytes(), text.whole().len());
}
