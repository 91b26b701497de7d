//! What is said, and what is asked about it?

use std::path::Path;

use perennial::calibration::Random;
use serde::Deserialize;

use crate::rig::Error;
use crate::rig::question::TitledText;

/// Turns of the made-up conversation: more than 18,000 tokens.
const N_MADE_UP: usize = 700;

/// A conversation in order.
pub struct Conversation {
    /// What it is called.
    pub name: String,
    /// Its turns.
    pub turns: Vec<TitledText>,
    /// Each with the number of turns behind which it can be asked, ascending.
    questions: Vec<(usize, String)>,
}

/// A line of LongMemEval's file; other fields are passed over.
#[derive(Deserialize)]
struct Sample {
    conversation: Vec<Said>,
    questions: Vec<Question>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: String,
    date: String,
}

#[derive(Deserialize)]
struct Question {
    question: String,
}

impl Conversation {
    /// The conversations of a file, one after the other.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| at(&error))?;
        let samples: Vec<Sample> = serde_json::from_str(&text).map_err(|error| at(&error))?;
        let mut of = Self {
            name: "LongMemEval".to_owned(),
            turns: Vec::new(),
            questions: Vec::new(),
        };
        for sample in samples {
            of.turns
                .extend(sample.conversation.into_iter().map(|said| TitledText {
                    title: format!("{}, {}", said.role, said.date),
                    text: said.content,
                }));
            let behind = of.turns.len();
            let questions = sample.questions.into_iter();
            of.questions
                .extend(questions.map(|asked| (behind, asked.question)));
        }
        if of.questions.is_empty() {
            return Err(at(&"there are no questions in it").into());
        }
        Ok(of)
    }

    /// Short turns, each a fact of its own, and a question for each.
    pub fn made_up(seed: u64) -> Self {
        const PEOPLE: [&str; 6] = ["Ada", "Bela", "Chen", "Dora", "Emil", "Farah"];
        const PLACES: [&str; 7] = [
            "old harbour",
            "north gate",
            "glass market",
            "river school",
            "hill station",
            "east ward",
            "canal mill",
        ];
        const THINGS: [&str; 8] = [
            "ferry office",
            "library",
            "bakery",
            "swimming hall",
            "post room",
            "bicycle shop",
            "reading circle",
            "tea house",
        ];
        let mut random = Random(seed);
        let (mut turns, mut questions) = (Vec::new(), Vec::new());
        for number in 0..N_MADE_UP {
            let mut one_of = |all: &[&'static str]| all[random.below(all.len())];
            let (who, place, thing) = (one_of(&PEOPLE), one_of(&PLACES), one_of(&THINGS));
            let (hour, price) = (6 + random.below(12), 2 + random.below(90));
            let day = number + 1;
            turns.push(TitledText {
                title: format!("{who}, day {day}"),
                text: format!(
                    "I was at the {place} this morning. The {thing} there opens at {hour} from now on \
                     and asks for {price} crowns."
                ),
            });
            let asked = format!("What did {who} say on day {day} of the {thing} at the {place}?");
            questions.push((number + 1, asked));
        }
        Self {
            name: "made up".to_owned(),
            turns,
            questions,
        }
    }

    /// The `step`th question that can be asked behind so many turns: on the one before, if these are over; from
    /// late ones to early ones by leaps.
    pub fn question(&self, n_turns: usize, step: usize) -> &str {
        let n = self
            .questions
            .partition_point(|(behind, _)| *behind <= n_turns);
        // Before the first conversation has ended, its question is asked all the same.
        let n = n.max(1);
        // A leap that shares no factor with most numbers.
        &self.questions[(n - 1 + step * 101) % n].1
    }
}
