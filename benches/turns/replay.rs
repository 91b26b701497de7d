//! What do the sides forward while turns come, and after an edit?

use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial::Scope;
use perennial::ask::{AnswerModel as _, Before, Priority, TensorModel, Tolerance};
use perennial::bank::{FragmentStore, LayoutPassage, PassageLayout, References};
use perennial::model::cancel::Cancel;

use crate::Options;
use crate::conversation::Conversation;
use crate::prefix_cache::PrefixCache;
use crate::rig::first_token::{self, FirstToken};
use crate::rig::question::TitledText;
use crate::rig::remembered::Remembered;
use crate::rig::{Error, Rig};
use crate::table::{Event, Line, Point};

/// Positions for the beginning, instruction, question and answer.
const OUTSIDE_TURNS: usize = 500;
const STORE_BYTES: usize = 8 << 30;

/// A model over fragments that stand.
struct Standing {
    model: TensorModel,
    references: References,
}

impl Standing {
    /// Of the beginning of all prompts.
    fn prefix(rig: &Rig) -> Result<Self, Error> {
        Self::of(&rig.with_empty_store(), &[])
    }

    /// Of a layout whose fragments another model's store has; what of them it lacks is encoded there.
    fn of(from: &TensorModel, passages: &[LayoutPassage]) -> Result<Self, Error> {
        let plan = from.plan(Scope::Causal, passages);
        from.lay_out(&plan, Priority::Background, &Cancel::new())?;
        let store = Arc::new(FragmentStore::new(STORE_BYTES));
        let references = References::to(store.clone());
        for piece in plan.fragments() {
            let kv = from.store().get(&piece.id);
            let kv = kv.ok_or("the fragments of so many tokens do not fit into the store")?;
            store.insert(piece.id, kv, piece.tokens.len());
            references.add(piece.id, 1);
        }
        Ok(Self {
            model: from.with_store(store),
            references,
        })
    }

    /// Reads what of a layout is new, and keeps it. Yields how many tokens that were, and how long it took.
    fn read(&self, passages: &[LayoutPassage]) -> Result<(usize, Duration), Error> {
        let begin = Instant::now();
        let plan = self.model.plan(Scope::Causal, passages);
        let mut n_read = 0;
        for piece in plan.fragments() {
            if !self.model.store().contains(&piece.id) {
                n_read += piece.tokens.len();
                self.references.add(piece.id, 1);
            }
        }
        self.model
            .lay_out(&plan, Priority::Background, &Cancel::new())?;
        Ok((n_read, begin.elapsed()))
    }
}

/// What all sides are asked.
struct Asked<'a> {
    rig: &'a Rig,
    question: String,
    layout: PassageLayout,
}

impl<'a> Asked<'a> {
    fn new(rig: &'a Rig, question: &str, passages: &[LayoutPassage]) -> Self {
        Self {
            rig,
            question: format!("Question: {question}"),
            layout: PassageLayout::new(passages.to_vec()),
        }
    }

    fn prompt(&self) -> Result<Vec<u32>, Error> {
        let before = Before::default();
        let request = self.rig.request(
            &self.question,
            &self.layout,
            &before,
            Tolerance::EXACT,
            Scope::Causal,
        );
        Ok(self.rig.model.prompt_tokens(&request)?)
    }

    /// The answer by a model over what stands, and nothing of the question before.
    fn answer(
        &self,
        model: &TensorModel,
        before: &Before,
        tolerance: Tolerance,
    ) -> Result<FirstToken, Error> {
        model.store().sweep();
        let request = self.rig.request(
            &self.question,
            &self.layout,
            before,
            tolerance,
            Scope::Causal,
        );
        first_token::answer(model, &request)
    }
}

/// Figures at one length of history; none where the conversation, or the model's window, ends before.
pub fn measure(
    rig: &Rig,
    conversation: &Conversation,
    n_tokens: usize,
    options: &Options,
) -> Result<Option<Point>, Error> {
    let n_steps = usize::from(options.steps);
    let Some((passages, n_before)) = passages(rig, conversation, n_tokens, n_steps)? else {
        return Ok(None);
    };
    let n_history: usize = passages[..n_before].iter().map(|p| p.tokens.len()).sum();
    let nothing = Before::default();
    let asked = |step: usize, passages: &[LayoutPassage]| {
        let question = conversation.question(passages.len(), step);
        Asked::new(rig, question, passages)
    };
    let mut point = Point::new(n_history);

    eprintln!("{}, {n_history} tokens: full re-encode", conversation.name);
    let whole = rig
        .model
        .with_store(Arc::new(FragmentStore::new(STORE_BYTES)));
    let first = asked(0, &passages[..=n_before]);
    let full = first.answer(&whole, &nothing, Tolerance::EXACT)?;

    let ours = Standing::of(&whole, &passages[..n_before])?;
    drop(whole);
    let prefix = Standing::prefix(rig)?;
    let memory = Remembered::new()?;
    memory.store((0..).zip(&conversation.turns[..n_before]))?;
    let mut cache = PrefixCache::after(asked(1, &passages[..n_before]).prompt()?);
    let mut live = nothing.live.clone();

    let mut lines = [
        Line::new("full re-encode"),
        Line::new("prefix cache"),
        Line::new("text-RAG"),
        Line::new("KV"),
    ];
    for step in 0..n_steps {
        let n = n_before + step + 1;
        let asked = asked(step, &passages[..n]);
        let prompt = asked.prompt()?;
        lines[0].count((0, prompt.len()), None);
        lines[1].count((0, cache.forward(prompt)), None);
        let (n_read, reading) = ours.read(&passages[..n])?;
        let answer = asked.answer(&ours.model, &nothing, Tolerance::EXACT)?;
        lines[3].count((n_read, answer.n_forwarded), Some((reading, answer.time)));
        if step == 0 {
            lines[0].time((Duration::ZERO, full.time));
            lines[3].compare(answer.tokens == full.tokens);
        }
        live = answer.outcome.live.clone();
        memory.store([(n - 1, &conversation.turns[n - 1])])?;
        let recalled = recalled(&memory, &asked, &passages[..n], options.best)?;
        let answer = recalled.answer(&prefix.model, &nothing, Tolerance::EXACT)?;
        lines[2].count((0, answer.n_forwarded), Some((Duration::ZERO, answer.time)));
    }
    point.add(Event::Turn, lines);

    // Each edit is one of the conversation as it stands.
    let stands = &passages[..n_before + n_steps];
    let middle = n_before / 2;
    let before = Before {
        live,
        ..Before::default()
    };
    let standing = asked(0, stands).prompt()?;
    for event in [Event::Correction, Event::Deletion] {
        eprintln!("{}, {n_history} tokens: {event}", conversation.name);
        let mut edited = stands.to_vec();
        match event {
            Event::Deletion => {
                edited.remove(middle);
                memory.delete(middle)?;
            }
            _ => {
                let turn = corrected(&conversation.turns[middle]);
                edited[middle] = passage(rig, middle, &turn)?;
                memory.store([(middle, &turn)])?;
            }
        }
        let asked = asked(n_steps, &edited);
        let mut lines = [
            Line::new("full re-encode"),
            Line::new("prefix cache"),
            Line::new("text-RAG"),
            Line::new("KV, exact"),
            Line::new("KV, provisional"),
        ];
        let prompt = asked.prompt()?;
        lines[0].count((0, prompt.len()), None);
        // Nobody read the edited prompt: it is as long as the one that was read.
        lines[0].time((Duration::ZERO, full.time));
        lines[1].count(
            (0, PrefixCache::after(standing.clone()).forward(prompt)),
            None,
        );
        let over = Standing::of(&ours.model, stands)?;
        let provisional = asked.answer(&over.model, &before, Tolerance::BORROWED)?;
        lines[4].count(
            (0, provisional.n_forwarded),
            Some((Duration::ZERO, provisional.time)),
        );
        let over = Standing::of(&ours.model, stands)?;
        let exact = asked.answer(&over.model, &nothing, Tolerance::EXACT)?;
        lines[3].count((0, exact.n_forwarded), Some((Duration::ZERO, exact.time)));
        lines[4].compare(provisional.tokens == exact.tokens);
        let recalled = recalled(&memory, &asked, &edited, options.best)?;
        let answer = recalled.answer(&prefix.model, &nothing, Tolerance::EXACT)?;
        lines[2].count((0, answer.n_forwarded), Some((Duration::ZERO, answer.time)));
        point.add(event, lines);
        // As it was.
        memory.store([(middle, &conversation.turns[middle])])?;
    }
    Ok(Some(point))
}

/// The turns that are needed, and how many of them stand at first.
fn passages(
    rig: &Rig,
    conversation: &Conversation,
    n_tokens: usize,
    n_steps: usize,
) -> Result<Option<(Vec<LayoutPassage>, usize)>, Error> {
    let (mut passages, mut n_before) = (Vec::new(), None);
    let mut sum = 0;
    for (number, turn) in conversation.turns.iter().enumerate() {
        if n_before.is_none() && sum >= n_tokens {
            n_before = Some(number);
        }
        if n_before.is_some_and(|n| number == n + n_steps) {
            break;
        }
        let passage = passage(rig, number, turn)?;
        sum += passage.tokens.len();
        passages.push(passage);
    }
    let n_positions = rig.model.n_positions();
    let left_out = |reason: String| {
        eprintln!(
            "{}, {n_tokens} tokens: left out, {reason}",
            conversation.name
        );
        Ok(None)
    };
    if sum + OUTSIDE_TURNS > n_positions {
        return left_out(format!("since the model attends to {n_positions}"));
    }
    match n_before {
        Some(n) if n > 1 && passages.len() == n + n_steps => Ok(Some((passages, n))),
        _ => left_out(format!("since all turns together have {sum}")),
    }
}

fn passage(rig: &Rig, number: usize, turn: &TitledText) -> Result<LayoutPassage, Error> {
    let key = number.to_string();
    let layout = rig.layout_of(std::slice::from_ref(turn), std::iter::once(&*key))?;
    Ok(layout.passages()[0].clone())
}

/// The same turn, which says something else at its end.
fn corrected(turn: &TitledText) -> TitledText {
    TitledText {
        title: turn.title.clone(),
        text: format!(
            "{} No, wait: half of that is wrong, I have mixed up two days.",
            turn.text
        ),
    }
}

/// The question over the turns that a memory recalls for it, oldest first.
fn recalled<'a>(
    memory: &Remembered,
    asked: &Asked<'a>,
    passages: &[LayoutPassage],
    best: usize,
) -> Result<Asked<'a>, Error> {
    let question = asked.question.trim_start_matches("Question: ");
    let mut found = memory.best(question, best)?;
    found.sort_unstable();
    let keys: Vec<String> = found.iter().map(usize::to_string).collect();
    let is_found = |passage: &&LayoutPassage| {
        let key = passage.document.as_str();
        keys.iter().any(|found| found == key)
    };
    let recalled: Vec<LayoutPassage> = passages.iter().filter(is_found).cloned().collect();
    Ok(Asked::new(asked.rig, question, &recalled))
}
