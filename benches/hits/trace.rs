//! Who asks about what, and what is edited?

use perennial::bank::LayoutPassage;
use perennial::calibration::Random;
use perennial::calibration::set::Passage;

use crate::Options;
use crate::rig::question::TitledText;
use crate::rig::remembered::Remembered;
use crate::rig::{Error, Rig};

/// What happens.
pub enum Event {
    /// An agent asks; these are what is recalled for it, best first.
    Ask {
        /// As they stand then.
        passages: Vec<LayoutPassage>,
    },
    /// A passage says something else from now on.
    Edit {
        /// What stood.
        old: Box<LayoutPassage>,
        /// What stands.
        new: Box<LayoutPassage>,
    },
}

/// All that happens.
pub struct Trace {
    /// The passages before anything is edited.
    pub first: Vec<LayoutPassage>,
    /// In order.
    pub events: Vec<Event>,
}

/// Draws by Zipf's law.
struct Zipf {
    /// Sums of the weights of the ranks up to each.
    sums: Vec<f64>,
}

impl Zipf {
    fn new(n: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=n).map(|rank| (rank as f64).powf(-exponent));
        let sums = weights.map(|weight| {
            sum += weight;
            sum
        });
        Self {
            sums: sums.collect(),
        }
    }

    /// A rank, from 0.
    fn draw(&self, random: &mut Random) -> usize {
        const ONE: usize = 1 << 52;
        let all = self.sums.last().copied().unwrap_or_default();
        let at = all * random.below(ONE) as f64 / ONE as f64;
        let rank = self.sums.partition_point(|sum| *sum <= at);
        rank.min(self.sums.len().saturating_sub(1))
    }
}

impl Trace {
    /// What happens with these passages.
    pub fn new(
        rig: &Rig,
        passages: &[Passage],
        options: &Options,
        exponent: f64,
    ) -> Result<Self, Error> {
        let asked_about = passages.iter().all(|passage| !passage.questions.is_empty());
        if passages.is_empty() || !asked_about {
            return Err("each passage needs a question".into());
        }
        let mut random = Random(options.seed);
        let mut texts: Vec<TitledText> = passages
            .iter()
            .map(|passage| TitledText {
                title: passage.title.clone(),
                text: passage.text.clone(),
            })
            .collect();
        let memory = Remembered::new()?;
        memory.store((0..).zip(&texts))?;
        let mut stands = rig.layout(&texts)?.passages().to_vec();
        let first = stands.clone();

        // From what is asked about most to what is asked about least.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last + 1));
        }
        let n_agents = usize::from(options.agents);
        let owners: Vec<Option<usize>> = (0..texts.len())
            .map(|_| {
                let is_shared =
                    (random.below(1 << 20) as f64) < options.shared * f64::from(1 << 20);
                let owner = random.below(n_agents);
                (!is_shared).then_some(owner)
            })
            .collect();
        let read_by = |agent: usize| -> Vec<usize> {
            let reads = |at: &usize| owners[*at].is_none_or(|owner| owner == agent);
            order.iter().copied().filter(reads).collect()
        };
        let readable: Vec<Vec<usize>> = (0..n_agents).map(read_by).collect();
        if readable.iter().any(Vec::is_empty) {
            return Err("an agent has nothing to read: share more passages".into());
        }
        let zipf: Vec<Zipf> = readable
            .iter()
            .map(|readable| Zipf::new(readable.len(), exponent))
            .collect();
        let of_all = Zipf::new(order.len(), exponent);

        let mut events = Vec::new();
        for number in 0..options.requests {
            eprint!("\rrequest {} of {}   ", number + 1, options.requests);
            if number > 0 && options.edit_every > 0 && number % options.edit_every == 0 {
                let at = order[of_all.draw(&mut random)];
                let added = format!(" This was looked at again on day {number}.");
                texts[at].text.push_str(&added);
                memory.store([(at, &texts[at])])?;
                let key = at.to_string();
                let edited = rig.layout_of(&texts[at..=at], std::iter::once(&*key))?;
                let new = edited.passages()[0].clone();
                let old = std::mem::replace(&mut stands[at], new.clone());
                events.push(Event::Edit {
                    old: Box::new(old),
                    new: Box::new(new),
                });
            }
            let agent = number % n_agents;
            let about = readable[agent][zipf[agent].draw(&mut random)];
            let questions = &passages[about].questions;
            let question = &questions[random.below(questions.len())].question;
            let best = memory.best(question, texts.len().min(1000))?;
            let best = best.into_iter().filter(|at| readable[agent].contains(at));
            let recalled = best.take(options.best).map(|at| stands[at].clone());
            events.push(Event::Ask {
                passages: recalled.collect(),
            });
        }
        eprintln!();
        Ok(Self { first, events })
    }
}
