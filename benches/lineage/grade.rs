//! Is an answer right, is its evidence, and does it use what is stale?
//!
//! LineageKV's rules. An answer is JSON; what is broken is salvaged by pattern, and where no
//! `answer` can be found it is the one value of the case that the text names. Answers and values
//! are compared in lower case, with `[a-z0-9.%$ -]` kept and the rest a space.
//!
//! | graded | right if |
//! | --- | --- |
//! | answer | the target stands in it; or it, of 4 characters or more, in the target; or both are one number; and the model did not abstain |
//! | evidence | all current ids are cited and no stale one |
//! | stale use | a stale id is cited, or the stale value stands in the answer |
//!
//! Left out are the paper's rules for free text, of which these cases have none: word overlap,
//! edit distance, number words.

use serde_json::Value;

/// What is right in a case.
pub struct Key {
    /// Answers that are right.
    pub targets: Vec<String>,
    /// The superseded value.
    pub stale_value: String,
    /// Blocks that hold, as the prompt calls them.
    pub current_ids: Vec<String>,
    /// Superseded blocks, as the prompt calls them.
    pub stale_ids: Vec<String>,
}

/// What a model said.
#[derive(Debug, Default, PartialEq)]
pub struct Said {
    answer: String,
    evidence: Vec<String>,
    abstains: bool,
}

/// The measures of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grade {
    /// Whether the answer is right.
    pub is_correct: bool,
    /// Whether the evidence is.
    pub cites_current: bool,
    /// Whether it uses what is stale.
    pub uses_stale: bool,
}

impl Grade {
    /// Grades what was said.
    pub fn of(said: &Said, key: &Key) -> Self {
        let answer = normalised(&said.answer);
        let cites = |id: &String| said.evidence.contains(id);
        let cites_stale = key.stale_ids.iter().any(cites);
        let stale_value = normalised(&key.stale_value);
        let is_correct = key
            .targets
            .iter()
            .any(|target| agrees(&answer, &normalised(target)));
        Self {
            is_correct: is_correct && !said.abstains,
            cites_current: key.current_ids.iter().all(cites) && !cites_stale,
            uses_stale: cites_stale || (!stale_value.is_empty() && answer.contains(&stale_value)),
        }
    }
}

impl Said {
    /// Reads a model's output.
    pub fn read(output: &str, key: &Key) -> Self {
        let text = unfenced(output.trim());
        let object = match (text.find('{'), text.rfind('}')) {
            (Some(open), Some(close)) if open < close => &text[open..=close],
            _ => text,
        };
        let parsed = serde_json::from_str(text).or_else(|_| serde_json::from_str(object));
        let mut said = match parsed {
            Ok(Value::Object(fields)) => Self {
                answer: fields.get("answer").map(plain).unwrap_or_default(),
                evidence: fields.get("evidence_ids").map(ids).unwrap_or_default(),
                abstains: fields.get("abstain").is_some_and(is_true),
            },
            Ok(value) => Self {
                answer: plain(&value),
                ..Self::default()
            },
            Err(_) => salvaged(text),
        };
        let is_usable =
            !said.answer.trim().is_empty() && !said.answer.trim().starts_with(['{', '[']);
        if !is_usable {
            said.answer = only_value(text, key).unwrap_or_default();
        }
        said
    }
}

/// Without the fence that some models put around code.
fn unfenced(text: &str) -> &str {
    let Some(inner) = text.strip_prefix("```") else {
        return text;
    };
    let inner = inner.strip_prefix("json").unwrap_or(inner).trim();
    inner.strip_suffix("```").unwrap_or(inner).trim()
}

/// A value as text, strings without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        _ => false,
    }
}

fn ids(value: &Value) -> Vec<String> {
    match value {
        Value::Array(ids) => ids.iter().map(|id| block_id(&plain(id))).collect(),
        Value::String(id) => vec![block_id(id)],
        _ => Vec::new(),
    }
}

/// `m001`, of `m001`, `m1`, `1` or `id=m001`.
fn block_id(cited: &str) -> String {
    let cited = cited.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'');
    let cited = cited.strip_prefix("id=").unwrap_or(cited);
    match cited.strip_prefix('m').unwrap_or(cited).parse::<usize>() {
        Ok(place) => format!("m{place:03}"),
        Err(_) => cited.to_owned(),
    }
}

/// What can be read of an object that was cut off or is none.
fn salvaged(text: &str) -> Said {
    let answer = field(text, "answer", '"').map(|rest| until(rest, '"').to_owned());
    let evidence = field(text, "evidence_ids", '[').map(|rest| until(rest, ']'));
    let evidence = evidence.unwrap_or_default();
    let cited: Vec<&str> = match evidence.contains('"') {
        true => evidence.split('"').skip(1).step_by(2).collect(),
        false => evidence.split(',').collect(),
    };
    let is_word = |id: &String| {
        let in_word = |c: char| c.is_ascii_alphanumeric() || "_:-".contains(c);
        !id.is_empty() && id.chars().all(in_word)
    };
    Said {
        answer: answer.unwrap_or_default(),
        evidence: cited.into_iter().map(block_id).filter(is_word).collect(),
        abstains: false,
    }
}

/// What follows `"name": open`.
fn field<'a>(text: &'a str, name: &str, open: char) -> Option<&'a str> {
    let quoted = format!("\"{name}\"");
    text.match_indices(&quoted).find_map(|(at, _)| {
        let rest = text[at + quoted.len()..].trim_start().strip_prefix(':')?;
        rest.trim_start().strip_prefix(open)
    })
}

fn until(text: &str, end: char) -> &str {
    text.split(end).next().unwrap_or_default()
}

/// The one of the case's values that a text names, before it begins to repeat the prompt.
fn only_value(text: &str, key: &Key) -> Option<String> {
    const REPEATS: [&str; 5] = [
        "JSON only",
        "Context block",
        "[block_id=",
        "Question:",
        "Return JSON",
    ];
    let end = REPEATS.iter().filter_map(|marker| text.find(marker)).min();
    let text = text[..end.unwrap_or(text.len())].to_lowercase();
    let mut values: Vec<String> = key
        .targets
        .iter()
        .map(|value| value.to_lowercase())
        .collect();
    values.push(key.stale_value.to_lowercase());
    values.sort();
    values.dedup();
    values.retain(|value| names(&text, value));
    match &values[..] {
        [only] => Some(only.clone()),
        _ => None,
    }
}

/// Whether `value` stands in `text` as words of its own.
fn names(text: &str, value: &str) -> bool {
    let is_edge = |c: Option<char>| !c.is_some_and(|c| c.is_ascii_alphanumeric());
    !value.is_empty()
        && text.match_indices(value).any(|(at, found)| {
            let after = &text[at + found.len()..];
            is_edge(text[..at].chars().next_back()) && is_edge(after.chars().next())
        })
}

fn agrees(answer: &str, target: &str) -> bool {
    if target.is_empty() {
        return false;
    }
    answer.contains(target)
        || (answer.len() >= 4 && target.contains(answer))
        || matches!((number(answer), number(target)), (Some(a), Some(b)) if a == b)
}

fn number(text: &str) -> Option<f64> {
    let text = text.trim_start_matches('$').trim_end_matches(['.', '%']);
    text.parse().ok()
}

fn normalised(text: &str) -> String {
    let kept = |c: char| match c {
        'a'..='z' | '0'..='9' | '.' | '%' | '$' | '-' => c,
        _ => ' ',
    };
    let text: String = text.to_lowercase().chars().map(kept).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
