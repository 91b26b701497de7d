//! Which questions are asked together, and in which words?

use clap::ValueEnum;
use perennial::sql::Session;
use perennial::{Edit, Engine};
use serde::Deserialize;

use super::{Error, Options, rows};

/// How a question is asked in other words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Words {
    /// With a phrase before or behind it.
    Phrases,
    /// As the model puts it, which may be another question.
    Model,
}

/// Phrases in place of `{}` of which stands the question.
const PHRASES: [&str; 4] = [
    "Please tell me: {}",
    "{} I would like to know.",
    "Do you know the answer to this: {}",
    "A question of mine is this one. {}",
];

/// A row of the set.
#[derive(Clone, Deserialize)]
struct Row {
    question: String,
    answers: Vec<String>,
    passages: Vec<Passage>,
}

/// A document.
#[derive(Clone, Deserialize)]
pub struct Passage {
    /// Its title.
    pub title: String,
    /// Its text.
    pub text: String,
}

/// A question as it is asked.
pub struct Asked {
    /// Names it within its group.
    pub key: String,
    /// Its words.
    pub text: String,
    /// Which row asks it: two of one row ask the same.
    pub row: usize,
    /// Gold answers; any of them is right.
    pub gold: Vec<String>,
}

/// Questions over the same passages.
pub struct Group {
    /// The passages.
    pub passages: Vec<Passage>,
    /// The questions.
    pub asked: Vec<Asked>,
}

/// The rows of a file, a few at a time, each question in its own words and in others.
pub fn groups(options: &Options, session: &Session) -> Result<Vec<Group>, Error> {
    let text = std::fs::read_to_string(&options.data)?;
    let read = text
        .lines()
        .take(options.rows)
        .enumerate()
        .map(|(n, line)| {
            let row = serde_json::from_str(line);
            row.map_err(|error| format!("{}:{}: {error}", options.data.display(), n + 1))
        });
    let read: Vec<Row> = read.collect::<Result<_, String>>()?;
    let mut groups = Vec::new();
    for together in read.chunks(options.together.max(1)) {
        let mut group = Group {
            passages: together
                .iter()
                .flat_map(|row| row.passages.clone())
                .collect(),
            asked: Vec::new(),
        };
        for (n, row) in together.iter().enumerate() {
            let mut all = vec![row.question.clone()];
            all.extend(other_words(options, session, &row.question)?);
            for (again, text) in all.into_iter().enumerate() {
                group.asked.push(Asked {
                    key: format!("{n}-{again}"),
                    text,
                    row: n,
                    gold: row.answers.clone(),
                });
            }
        }
        groups.push(group);
    }
    Ok(groups)
}

/// A question in other words.
fn other_words(options: &Options, session: &Session, question: &str) -> Result<Vec<String>, Error> {
    if options.words == Words::Phrases {
        let phrases = PHRASES.iter().cycle().take(options.again);
        return Ok(phrases
            .map(|phrase| phrase.replace("{}", question))
            .collect());
    }
    let engine: &Engine = session.engine();
    if !engine
        .relations()?
        .iter()
        .any(|relation| &*relation.name == "put")
    {
        rows(session, "CREATE TABLE put (key TEXT, text TEXT);")?;
    }
    engine.apply(vec![Edit::upsert("put", "question", question)])?;
    let mut all = Vec::new();
    for again in 0..options.again {
        let way = [
            "Say {text} in other words, as one question.",
            "Ask {text} again, put differently, as one question.",
        ];
        let prompt = way[again % way.len()];
        let said = rows(
            session,
            &format!("SELECT sem_map('{prompt}', max_tokens => 48) FROM put"),
        )?;
        all.extend(
            said.into_iter()
                .flatten()
                .map(|text| text.trim().to_owned()),
        );
    }
    Ok(all)
}
