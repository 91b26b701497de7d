//! Of a fact that one, five or twenty standing questions ask for: who is read when it is corrected, and when
//! another document contradicts it?
//!
//! The questions stand among all the others of the view. First the passage is corrected; then a document
//! comes, later than all, that says of the same what was said before.

use std::collections::BTreeSet;

use perennial::LocalModel;
use perennial::calibration::Random;
use perennial::calibration::edit::{Edit, Kind};
use perennial::calibration::set::{self, Asked, Passage};

use crate::Options;
use crate::rig::Error;
use crate::table::{Many, key};

/// How a question may be put: `{}` is the question.
const WORDINGS: [&str; 20] = [
    "{}",
    "Tell me: {}",
    "Please answer briefly. {}",
    "According to the documents, {}",
    "I would like to know: {}",
    "{} Answer in a few words.",
    "Look it up for me: {}",
    "A colleague asks: {}",
    "For my notes: {}",
    "{} Say only what the documents say.",
    "Can you find out? {}",
    "One thing is still open: {}",
    "{} Name it.",
    "Question of a customer: {}",
    "Let me ask you this. {}",
    "What do the documents say to this? {}",
    "Quick check: {}",
    "{} Give the answer alone.",
    "We need to know: {}",
    "Once more, please: {}",
];
/// Draws until one is a fact that can be told apart.
const TRIES: usize = 1_000;

/// A fact that is corrected.
struct Fact {
    asked: Asked,
    edit: Edit,
    old: String,
    new: String,
}

/// Prints two rows for each policy and number of questions about one fact.
pub fn measure(name: &str, passages: &[Passage], options: &Options) -> Result<(), Error> {
    let model = LocalModel::open(name)?;
    let documents: Vec<Passage> = passages.iter().take(options.documents).cloned().collect();
    let facts = Fact::draw(&documents, passages, options);
    println!(
        "| model | policy | facts | asked by | what is done | time, of one | tokens | of them read | say the latest | \
         say what was replaced | others read | others that changed |"
    );
    println!("| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for n_askers in &options.askers {
        if *n_askers > WORDINGS.len() {
            return Err(format!("--askers: {} at most", WORDINGS.len()).into());
        }
        let wordings = |fact: &Fact| -> Vec<(String, Asked)> {
            let of = &documents[fact.edit.place].id;
            let wordings = WORDINGS.iter().take(*n_askers);
            wordings
                .map(|wording| (of.clone(), fact.worded(wording)))
                .collect()
        };
        let wordings: Vec<(String, Asked)> = facts.iter().flat_map(wordings).collect();
        let mut asked: Vec<(&str, &Asked)> =
            wordings.iter().map(|(of, asked)| (&**of, asked)).collect();
        // Whoever asks for a fact besides is left out: others are to be others.
        let others = set::questions(&documents, options.questions);
        asked.extend(others.into_iter().filter(|(of, asked)| {
            let is_of = |fact: &Fact| fact.edit.concerns(&documents, &[of], asked);
            !facts.iter().any(is_of)
        }));
        for policy in &options.policies {
            let policy = options.policy(policy)?;
            let (mut many, _) = Many::start(&model, policy, &documents, &asked, options)?;
            let begins = format!(
                "| {} | {policy} | {} | {n_askers} |",
                model.name(),
                facts.len()
            );
            follow(&facts, &mut many, *n_askers, &begins)?;
        }
    }
    Ok(())
}

/// What came of one step for each fact, one after the other.
#[derive(Default)]
struct Followed {
    seconds: f64,
    n_forwarded: usize,
    /// Of those who ask for it: who was read, who says what is said last, and who what was replaced.
    n_read: usize,
    n_latest: usize,
    n_replaced: usize,
    /// Of all others: how many there are, who was read, and whose answer is another.
    n_others: usize,
    n_others_read: usize,
    n_moved: usize,
}

/// Corrects each fact, then contradicts each.
fn follow(facts: &[Fact], many: &mut Many<'_>, n_askers: usize, begins: &str) -> Result<(), Error> {
    let n_asked = facts.len() * n_askers;
    for what in ["corrected", "contradicted"] {
        let mut all = Followed::default();
        for (n, fact) in facts.iter().enumerate() {
            let askers: BTreeSet<String> = (n * n_askers..(n + 1) * n_askers).map(key).collect();
            if what == "corrected" {
                all.add(many, &fact.edit, &askers, (&fact.new, &fact.old))?;
            } else {
                let comes = fact.contradicted(&many.documents, n);
                all.add(many, &comes, &askers, (&fact.old, &fact.new))?;
            }
        }
        let n = facts.len().max(1);
        println!(
            "{begins} {what} | {:.1} s | {} | {} of {n_asked} | {} | {} | {} of {} | {} |",
            all.seconds / n as f64,
            all.n_forwarded / n,
            all.n_read,
            all.n_latest,
            all.n_replaced,
            all.n_others_read,
            all.n_others,
            all.n_moved,
        );
    }
    Ok(())
}

impl Followed {
    fn add(
        &mut self,
        many: &mut Many<'_>,
        edit: &Edit,
        askers: &BTreeSet<String>,
        (latest, replaced): (&str, &str),
    ) -> Result<(), Error> {
        let before = many.answers.clone();
        let cost = many.edit(edit, &mut Default::default())?;
        self.seconds += cost.seconds;
        self.n_forwarded += cost.n_forwarded;
        for (key, now) in &many.answers {
            let is_read = many.read.contains(key);
            if askers.contains(key) {
                let says = |fact| now.as_ref().is_ok_and(|answer| answer.text.contains(fact));
                self.n_read += usize::from(is_read);
                self.n_latest += usize::from(says(latest));
                self.n_replaced += usize::from(says(replaced));
            } else {
                self.n_others += 1;
                self.n_others_read += usize::from(is_read);
                self.n_moved += usize::from(before.get(key) != Some(now));
            }
        }
        Ok(())
    }
}

impl Fact {
    /// As many as there are to be edits, of as many documents.
    fn draw(documents: &[Passage], passages: &[Passage], options: &Options) -> Vec<Self> {
        let mut random = Random(options.seed);
        let mut facts: Vec<Self> = Vec::new();
        for _ in 0..TRIES {
            let one = Self::draw_one(documents, passages, &mut random);
            if let Some(fact) = one
                && facts
                    .iter()
                    .all(|other| other.edit.place != fact.edit.place)
                && facts.len() < options.edits
            {
                facts.push(fact);
            }
        }
        facts
    }

    fn draw_one(documents: &[Passage], passages: &[Passage], random: &mut Random) -> Option<Self> {
        let edit = Edit::draw(Kind::Correct, documents, passages, random)?;
        let (before, after) = (&documents[edit.place], edit.after.as_ref()?);
        let old = edit.replaced.clone()?;
        // Where it stands once, what stands there now is between what stood before it and behind.
        let (head, tail) = before.text.split_once(&*old)?;
        let new = after
            .text
            .strip_prefix(head)?
            .strip_suffix(tail)?
            .to_owned();
        let is_one = !tail.contains(&*old) && !before.text.contains(&*new);
        let mut questions = before.questions.iter();
        let asked = questions
            .find(|asked| asked.answers.contains(&old))?
            .clone();
        is_one.then_some(Self {
            asked,
            edit,
            old,
            new,
        })
    }

    fn worded(&self, wording: &str) -> Asked {
        Asked {
            question: wording.replace("{}", &self.asked.question),
            answers: self.asked.answers.clone(),
        }
    }

    /// A document that comes later than all, and says of the same what was said before.
    fn contradicted(&self, documents: &[Passage], n: usize) -> Edit {
        let of = &documents[self.edit.place];
        let (head, tail) = of.text.split_once(&self.new).unwrap_or((&of.text, ""));
        let begin = head.rfind(". ").map_or(0, |at| at + 2);
        let end = tail.find(". ").map_or(tail.len(), |at| at + 1);
        let says = Passage {
            id: format!("{}/later-{n}", of.article()),
            text: format!("{}{}{}", &head[begin..], self.old, &tail[..end]),
            ..of.clone()
        };
        Edit {
            kind: Kind::Insert,
            place: documents.len(),
            after: Some(says),
            replaced: None,
        }
    }
}
