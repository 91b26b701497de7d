//! Of which views is one made whose questions share answers?
//!
//! `SHARE` makes questions that ask the same one question; `BASES` names questions whose answers are kept, out
//! of which others are answered. Neither is an operator: what they mean is a script of views as anybody could
//! write it, so it is maintained, traced and explained as all views are.
//!
//! ```text
//! questions -> asked -> wholes -> parts -> meanings -> facts -> composed -> from_known -----+
//!                |        |                   ^         ^                                   +-> the view
//!                |        +--------------------------------------> plain -> from_documents -+
//! bases -> known -----------------------------+---------+                                   |
//!                +--------------------------------------------------------------------------+
//! ```
//! The names of these views begin with that of the whole.

use std::fmt::Write as _;
use std::sync::Arc;

use perennial_rows::Float;

use super::options::ViewOption;
use super::print::{Identifier, Quoted};
use super::statement::{CreateContinuousView, Name, Spanned};

/// What a model is asked of two questions that are similar.
const IS_SAME: &str = "Are both {text} the same question in other words?";
/// What it is asked of a question that may be made of others.
const PARTS: &str = "List each question that {text} asks.";
/// Most questions that one is made of.
const MAX_PARTS: usize = 8;
/// Of so many questions is one a part that is proposed.
const MIN_WHOLES: usize = 2;
/// The name of what is proposed, behind that of the view.
const CANDIDATES: &str = "candidates";

impl CreateContinuousView {
    /// How similar questions are that may be the same, where they share answers.
    pub fn share(&self) -> Option<Float> {
        self.options.iter().find_map(|option| match option.of {
            ViewOption::Share(threshold) => Some(threshold),
            _ => None,
        })
    }

    /// The relation of questions whose answers are kept for others, and where it is named.
    pub fn bases(&self) -> Option<Name> {
        self.options.iter().find_map(|option| match &option.of {
            ViewOption::Bases(name) => Some(Name::new(name.clone(), option.span)),
            _ => None,
        })
    }

    /// The view of questions that are proposed, where there is one.
    pub fn candidates(&self) -> Option<Arc<str>> {
        self.bases().map(|_| self.part(CANDIDATES))
    }

    /// The script of the views that it is made of, where its questions share answers. The one of its own name
    /// is among them.
    pub fn made_of(&self) -> Option<String> {
        let threshold = self.share()?.get();
        let mut script = Vec::new();
        let questions = Identifier(&self.context.of);
        let model = self.model();
        let is_same = |of: &str| {
            let prompt = Quoted(IS_SAME);
            format!("sem_dedup({of}, {prompt}, threshold => {threshold}{model})")
        };
        let asked = self.part("asked");
        let wholes = self.part("wholes");
        script.push(format!(
            "CREATE VIEW {} AS SELECT key, text, {} AS asked_as FROM {questions}",
            Identifier(&asked),
            is_same("text"),
        ));
        script.push(format!(
            "CREATE VIEW {} AS SELECT DISTINCT asked_as AS key, asked_as AS text, asked_as AS whole FROM {} \
             WHERE asked_as IS NOT NULL",
            Identifier(&wholes),
            Identifier(&asked),
        ));
        let answered = |out_of: &str, by: &str| {
            format!(
                "SELECT a.key, a.text AS question, a.asked_as, {} AS out_of, f.text FROM {} AS a JOIN {} AS f \
                 ON f.key = a.asked_as",
                Quoted(out_of),
                Identifier(&asked),
                Identifier(by),
            )
        };
        let from_documents = self.part("from_documents");
        let mut answers = answered("documents", &from_documents);
        match self.bases() {
            None => script.push(self.answering(&from_documents, &wholes).to_string()),
            Some(bases) => {
                self.composed(&mut script, &bases.of, &is_same("text"));
                let plain = self.part("plain");
                script.push(self.answering(&from_documents, &plain).to_string());
                let from_known = answered("known answers", &self.part("from_known"));
                answers = format!("{answers} UNION ALL {from_known}");
            }
        }
        let name = Identifier(&self.name.of);
        script.push(format!("CREATE VIEW {name} AS {answers}"));
        Some(script.join(";\n"))
    }

    /// The views of questions that are answered out of known answers, and of those that are proposed.
    fn composed(&self, script: &mut Vec<String>, bases: &str, is_same: &str) {
        let part = |name: &str| Identifier(&self.part(name)).to_string();
        let (wholes, known, parts) = (part("wholes"), part("known"), part("parts"));
        let (meanings, facts, open) = (part("meanings"), part("facts"), part("open_parts"));
        let (composed, plain, proposed) = (part("composed"), part("plain"), part(CANDIDATES));
        script.push(self.answering(&self.part("known"), bases).to_string());
        let (prompt, model) = (Quoted(PARTS), self.model());
        script.push(format!(
            "CREATE VIEW {parts} AS SELECT key AS whole, sem_extract_all({prompt}, part => TEXT, \
             max_rows => {MAX_PARTS}{model}) FROM {wholes}"
        ));
        script.push(format!(
            "CREATE VIEW {meanings} AS SELECT text, {is_same} AS meaning FROM (SELECT part AS text FROM {parts} \
             WHERE part IS NOT NULL UNION SELECT question FROM {known}) AS t"
        ));
        script.push(format!(
            "CREATE VIEW {facts} AS SELECT p.whole || ' / ' || p.part || ' / ' || k.key AS key, p.whole, p.part, \
             k.key AS base, k.question || ' ' || k.text AS text FROM {parts} AS p \
             JOIN {meanings} AS m ON m.text = p.part JOIN {meanings} AS same ON same.meaning = m.meaning \
             JOIN {known} AS k ON k.question = same.text"
        ));
        script.push(format!(
            "CREATE VIEW {open} AS SELECT whole, part FROM {parts} AS p WHERE NOT EXISTS (SELECT * FROM {facts} \
             AS f WHERE f.whole = p.whole AND f.part = p.part)"
        ));
        script.push(format!(
            "CREATE VIEW {composed} AS SELECT key, text, whole FROM {wholes} AS w WHERE EXISTS (SELECT * FROM \
             {facts} AS f WHERE f.whole = w.whole) AND NOT EXISTS (SELECT * FROM {open} AS o \
             WHERE o.whole = w.whole)"
        ));
        script.push(format!(
            "CREATE VIEW {plain} AS SELECT key, text FROM {wholes} AS w WHERE NOT EXISTS (SELECT * FROM \
             {composed} AS c WHERE c.key = w.key)"
        ));
        let mut from_known = self.answering(&self.part("from_known"), &self.part("composed"));
        from_known.data_source.of = self.part("facts");
        from_known.reads = None;
        let whole = Name::new("whole".into(), self.name.span);
        from_known.matching = vec![whole];
        script.push(from_known.to_string());
        script.push(format!(
            "CREATE VIEW {proposed} AS SELECT m.meaning AS question, count(DISTINCT o.whole) AS n FROM {open} AS o \
             JOIN {meanings} AS m ON m.text = o.part GROUP BY m.meaning \
             HAVING count(DISTINCT o.whole) >= {MIN_WHOLES}"
        ));
    }

    /// The name of one of the views that it is made of.
    fn part(&self, of: &str) -> Arc<str> {
        format!("{}_{of}", self.name.of).into()
    }

    /// What names its model as an argument, where it names one.
    fn model(&self) -> String {
        let mut argument = String::new();
        for option in &self.options {
            if let ViewOption::Model(name) = &option.of {
                write!(argument, ", model => {}", Identifier(name)).ok();
            }
        }
        argument
    }

    /// The same of other questions, which share nothing.
    fn answering(&self, name: &str, questions: &str) -> Self {
        let own = |option: &&Spanned<ViewOption>| {
            !matches!(option.of, ViewOption::Share(_) | ViewOption::Bases(_))
        };
        let mut view = self.clone();
        view.name.of = name.into();
        view.context.of = questions.into();
        view.options = self.options.iter().filter(own).cloned().collect();
        view
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Script, Statement, parse};
    use super::*;

    fn declared(options: &str) -> CreateContinuousView {
        let text = format!(
            "CREATE CONTINUOUS VIEW \"My answers\" AS LLM_GENERATE(PROMPT = 'It''s', CONTEXT = STREAM(questions), \
             DATA_SOURCE = MEMORY(notes) AS 'anna') WITH ({options})"
        );
        let mut statements = parse(&Script::new("x.sql", text)).expect("reads");
        let Statement::CreateContinuousView(view) = statements.remove(0).of else {
            panic!("a view");
        };
        view
    }

    /// The names of the views that it is made of, and the whole script as it reads.
    fn made(view: &CreateContinuousView) -> (Vec<String>, String) {
        let text = view.made_of().expect("shares");
        let statements = parse(&Script::new("made.sql", text)).expect("reads");
        let names = statements.iter().map(|statement| match &statement.of {
            Statement::CreateView(view) => view.name.of.to_string(),
            Statement::CreateContinuousView(view) => {
                assert!(view.made_of().is_none(), "{view:?}");
                view.name.of.to_string()
            }
            other => panic!("{other}"),
        });
        let printed: Vec<String> = statements.iter().map(|s| s.of.to_string()).collect();
        (names.collect(), printed.join("\n"))
    }

    #[test]
    fn questions_share_nothing_unless_told() {
        assert!(declared("MAX_TOKENS = 8").made_of().is_none());
        assert!(declared("MAX_TOKENS = 8").candidates().is_none());
        assert!(declared("SHARE = 0.9").candidates().is_none());
    }

    #[test]
    fn what_is_shared_is_made_of_views_that_keep_the_options_and_are_read() {
        let view = declared("SHARE = 0.9, MAX_TOKENS = 8, MODEL = small");
        let (names, script) = made(&view);
        let ends: Vec<&str> = names
            .iter()
            .map(|name| &name["My answers".len()..])
            .collect();
        assert_eq!(ends, ["_asked", "_wholes", "_from_documents", ""]);
        let reader =
            "DATA_SOURCE = MEMORY(notes) AS 'anna') WITH (MAX_TOKENS = 8, MODEL = 'small')";
        assert_eq!(script.matches(reader).count(), 1, "{script}");
        assert_eq!(
            script.matches("threshold => 0.9, model => small").count(),
            1,
            "{script}"
        );
        assert!(!script.contains("SHARE"), "{script}");
    }

    #[test]
    fn bases_are_answered_and_what_is_made_of_them_reads_their_answers_only() {
        let view = declared("SHARE = 1, BASES = \"Kept ones\"");
        let (names, script) = made(&view);
        assert_eq!(names.len(), 13, "{names:?}");
        assert_eq!(names.last().map(String::as_str), Some("My answers"));
        let candidates = view.candidates().expect("some are proposed");
        assert!(names.contains(&candidates.to_string()), "{names:?}");
        assert!(
            script.contains("CONTEXT = STREAM(\"Kept ones\")"),
            "{script}"
        );
        let facts = "DATA_SOURCE = STREAM(\"My answers_facts\") MATCHING (whole)";
        assert_eq!(script.matches(facts).count(), 1, "{script}");
        assert_eq!(
            script.matches("MEMORY(notes) AS 'anna'").count(),
            2,
            "{script}"
        );
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let of = |matching: &str, options: &str| {
            let text = format!(
                "CREATE CONTINUOUS VIEW a AS LLM_GENERATE(CONTEXT = STREAM(b), DATA_SOURCE = STREAM(c)
                 {matching}) WITH ({options})"
            );
            let read = parse(&Script::new("x.sql", text));
            read.expect_err(options).to_string()
        };
        for (matching, options, says) in [
            (
                "MATCHING (d)",
                "SHARE = 0.9",
                "may not see the same documents",
            ),
            ("", "BASES = kept", "BASES without SHARE"),
            ("", "SHARE = 0", "above 0 and up to 1"),
            ("", "SHARE = 1.01", "above 0 and up to 1"),
            ("", "SHARE", "above 0 and up to 1"),
            ("", "SHARE = 0.9, BASES = ''", "expected a string"),
        ] {
            let said = of(matching, options);
            assert!(said.contains(says), "{options}: {said}");
        }
        let altered = parse(&Script::new("x.sql", "ALTER VIEW a SET (SHARE = 0.9)"));
        let said = altered.expect_err("is fixed").to_string();
        assert!(
            said.contains("SHARE of a view that is kept cannot be changed"),
            "{said}"
        );
        let shown = parse(&Script::new("x.sql", "SHOW CANDIDATES"));
        assert!(
            shown
                .expect_err("of which view")
                .to_string()
                .contains("expected FROM")
        );
    }
}
