//! What is done to documents, and which gold answers does it change?

use super::random::Random;
use super::set::{Asked, Passage};

/// What is done to documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A fact that a question asks for is replaced by another of its kind.
    Correct,
    /// A sentence about something else is appended to a passage.
    Append,
    /// A passage of the same article comes.
    Insert,
    /// A passage of another article comes.
    Unrelated,
    /// A passage goes.
    Delete,
}

impl Kind {
    /// All of them, in the order in which they are made.
    pub const ALL: [Self; 5] = [
        Self::Correct,
        Self::Append,
        Self::Insert,
        Self::Unrelated,
        Self::Delete,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Correct => "correct",
            Self::Append => "append",
            Self::Insert => "insert",
            Self::Unrelated => "unrelated",
            Self::Delete => "delete",
        }
    }
}

/// An edit of some documents.
#[derive(Clone, Debug)]
pub struct Edit {
    /// What it does.
    pub kind: Kind,
    /// Which document it is about, by its number; one that comes stands behind all.
    pub place: usize,
    /// The document afterwards; none if it goes.
    pub after: Option<Passage>,
    /// The words that are not there any more, where that is a fact.
    pub replaced: Option<String>,
}

impl Edit {
    /// A random edit of `documents`, with what comes taken from `others`; none if there is nothing to
    /// do it to.
    pub fn draw(
        kind: Kind,
        documents: &[Passage],
        others: &[Passage],
        random: &mut Random,
    ) -> Option<Self> {
        let article = documents.first()?.article();
        let place = random.below(documents.len());
        let old = &documents[place];
        let taken = |is_same: bool, random: &mut Random| {
            let stands = |passage: &Passage| documents.iter().any(|d| d.id == passage.id);
            let fits = |p: &&Passage| (p.article() == article) == is_same && !stands(p);
            let fitting: Vec<&Passage> = others.iter().filter(fits).collect();
            (!fitting.is_empty()).then(|| fitting[random.below(fitting.len())].clone())
        };
        let whole = |place, after| Self {
            kind,
            place,
            after,
            replaced: None,
        };
        Some(match kind {
            Kind::Delete => whole(place, None),
            Kind::Insert => whole(documents.len(), Some(taken(true, random)?)),
            Kind::Unrelated => whole(documents.len(), Some(taken(false, random)?)),
            Kind::Append => {
                let other = taken(false, random)?;
                let sentence = other.text.split_inclusive(". ").next()?.trim().to_owned();
                let text = format!("{} {sentence}", old.text);
                whole(
                    place,
                    Some(Passage {
                        text,
                        ..old.clone()
                    }),
                )
            }
            Kind::Correct => {
                let asked = &old
                    .questions
                    .get(random.below(old.questions.len().max(1)))?;
                let fact = asked.answers.first()?;
                let is_kind = |text: &str| text.chars().any(|c| c.is_ascii_digit());
                let others = documents.iter().flat_map(|d| &d.questions);
                let others = others.filter_map(|q| q.answers.first());
                let alike: Vec<&String> = others
                    .filter(|other| {
                        is_kind(other) == is_kind(fact)
                            && !fact.contains(&***other)
                            && !other.contains(&**fact)
                            && other.len().abs_diff(fact.len()) <= fact.len()
                    })
                    .collect();
                if alike.is_empty() || !old.text.contains(&**fact) {
                    return None;
                }
                let new = alike[random.below(alike.len())];
                let text = old.text.replace(&**fact, new);
                Self {
                    replaced: Some(fact.clone()),
                    ..whole(
                        place,
                        Some(Passage {
                            text,
                            ..old.clone()
                        }),
                    )
                }
            }
        })
    }

    /// The documents after it.
    pub fn apply(&self, documents: &[Passage]) -> Vec<Passage> {
        let mut after = documents.to_vec();
        match (&self.after, self.place < documents.len()) {
            (Some(passage), true) => after[self.place] = passage.clone(),
            (Some(passage), false) => after.push(passage.clone()),
            (None, _) => drop(after.remove(self.place)),
        }
        after
    }

    /// Whether the gold answer of a question about the documents with these ids is another afterwards.
    pub fn concerns(&self, documents: &[Passage], of: &[impl AsRef<str>], asked: &Asked) -> bool {
        let place = documents.get(self.place);
        let is_it = place.is_some_and(|d| of.iter().any(|of| of.as_ref() == d.id));
        is_it
            && match (self.kind, &self.replaced) {
                (Kind::Delete, _) => true,
                (_, Some(fact)) => asked.answers.iter().any(|gold| gold.contains(&**fact)),
                _ => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(id: &str, fact: &str) -> Passage {
        Passage {
            id: id.into(),
            title: "Oslo".into(),
            text: format!("It is {fact}. It is large."),
            questions: vec![Asked {
                question: format!("What is {id}?"),
                answers: vec![fact.into()],
            }],
        }
    }

    fn drawn(kind: Kind, documents: &[Passage], others: &[Passage]) -> Option<Edit> {
        Edit::draw(kind, documents, others, &mut Random(7))
    }

    #[test]
    fn each_kind_of_edit_does_what_it_says() {
        let documents = [passage("a/0", "red"), passage("a/1", "tall")];
        let others = [
            &documents[..],
            &[passage("a/2", "old"), passage("b/0", "new")],
        ]
        .concat();
        let after = |kind| {
            drawn(kind, &documents, &others)
                .expect("an edit")
                .apply(&documents)
        };
        assert_eq!(after(Kind::Delete).len(), 1);
        assert_eq!(after(Kind::Insert)[2].id, "a/2");
        assert_eq!(after(Kind::Unrelated)[2].id, "b/0");
        let appended = after(Kind::Append);
        assert!(
            appended
                .iter()
                .any(|d| d.text.ends_with("It is large. It is new.")),
            "{appended:?}"
        );
        let edit = drawn(Kind::Correct, &documents, &others).expect("an edit");
        let fact = edit.replaced.clone().expect("a fact");
        let after = edit.apply(&documents);
        assert!(!after[edit.place].text.contains(&fact), "{after:?}");
        // Where no other fact is of its kind, nothing is corrected.
        assert!(drawn(Kind::Correct, &documents[..1], &others).is_none());
        assert!(drawn(Kind::Delete, &[], &others).is_none());
    }

    #[test]
    fn what_goes_and_what_is_corrected_concerns_the_questions_about_it() {
        let documents = [passage("a/0", "red"), passage("a/1", "tall")];
        let concerned = |edit: &Edit| {
            let of = |d: &Passage| edit.concerns(&documents, &[&*d.id], &d.questions[0]);
            documents.iter().map(of).collect::<Vec<_>>()
        };
        for kind in [Kind::Delete, Kind::Correct] {
            let edit = drawn(kind, &documents, &[]).expect("an edit");
            let mut expected = [false, false];
            expected[edit.place] = true;
            assert_eq!(concerned(&edit), expected, "{kind:?}");
        }
        let edit = drawn(Kind::Insert, &documents, &[passage("a/2", "old")]).expect("an edit");
        assert_eq!(concerned(&edit), [false, false]);
    }
}
