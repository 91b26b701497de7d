//! Does the answer before still stand, by the likelihoods that a server tells?
//!
//! A server that says how likely each token of a prompt was can check an answer without writing one:
//! the answer is sent as the beginning of what the model says, and read in one pass. Where every token
//! is the likeliest the model would have written it; where one is not, what stands before it does.

use perennial_model::generation::DraftCheck;
use serde_json::Value as Json;

/// What a server said of one token of the prompt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Score {
    text: String,
    /// How likely it was, in nats.
    logprob: f32,
    /// By how much another was likelier, in nats.
    regret: f32,
    is_likeliest: bool,
}

/// How an answer stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checked {
    /// Its tokens.
    pub(super) n_tokens: usize,
    /// Bytes of it that stand: up to the first token that is not the likeliest.
    pub(super) n_standing: usize,
    /// Tokens of these.
    pub(super) n_standing_tokens: usize,
    /// By how much another answer was likelier, and how many of its tokens are the likeliest.
    pub(super) check: DraftCheck,
}

/// The tokens of a draft that stands at the end of a prompt, and the bytes of the first that stand before
/// it; nothing where they cannot be told from the prompt's.
fn tokens(draft: &str, scores: &[Json]) -> Option<(Vec<Score>, usize)> {
    let mut tokens: Vec<Score> = Vec::new();
    let mut n_bytes = 0;
    // A template may put a blank before what the model says, as part of its first token.
    while n_bytes < draft.len() {
        let score = score(scores.get(scores.len().checked_sub(tokens.len() + 1)?)?)?;
        n_bytes += score.text.len();
        tokens.push(score);
    }
    tokens.reverse();
    let text: String = tokens.iter().map(|token| token.text.as_str()).collect();
    (text.trim_start() == draft).then(|| {
        let n_blank = text.len() - draft.len();
        (tokens, n_blank)
    })
}

/// How likely the tokens of a draft were that stands at the end of a prompt: of each the byte at which it
/// ends, and its log-probability. Nothing as in [`check`].
pub(super) fn likelihoods(draft: &str, scores: &[Json]) -> Option<Vec<(usize, f32)>> {
    let (tokens, n_blank) = tokens(draft, scores)?;
    let mut end = 0;
    let told = tokens.iter().map(|token| {
        end += token.text.len();
        (end.saturating_sub(n_blank), token.logprob)
    });
    Some(told.collect())
}

/// Checks a draft that stands at the end of a prompt; nothing where its tokens cannot be told from
/// the prompt's.
pub(super) fn check(draft: &str, scores: &[Json]) -> Option<Checked> {
    let (tokens, n_blank) = tokens(draft, scores)?;
    let standing = tokens.iter().take_while(|token| token.is_likeliest);
    let (mut n_standing, mut n_standing_tokens) = (0, 0);
    for token in standing {
        n_standing += token.text.len();
        n_standing_tokens += 1;
    }
    let n_tokens = tokens.len();
    let n_likeliest = tokens.iter().filter(|token| token.is_likeliest).count();
    let regret: f32 = tokens.iter().map(|token| token.regret).sum();
    let mut n_standing = n_standing.saturating_sub(n_blank);
    while !draft.is_char_boundary(n_standing) {
        n_standing -= 1;
    }
    Some(Checked {
        n_tokens,
        n_standing,
        n_standing_tokens,
        check: DraftCheck {
            regret: regret / n_tokens as f32,
            agreement: n_likeliest as f32 / n_tokens as f32,
        },
    })
}

/// `{"1234": {"logprob": -0.1, "rank": 1, "decoded_token": " nine"}, …}`: the token itself, and
/// the likeliest if that is another.
fn score(token: &Json) -> Option<Score> {
    let mut own: Option<(u64, f32, &str)> = None;
    let mut best = f32::NEG_INFINITY;
    for entry in token.as_object()?.values() {
        let rank = entry.get("rank").and_then(Json::as_u64)?;
        let text = entry.get("decoded_token").and_then(Json::as_str)?;
        let logprob = entry.get("logprob").and_then(Json::as_f64);
        let logprob = logprob.map_or(f32::NEG_INFINITY, |logprob| logprob as f32);
        best = best.max(logprob);
        // Of two, the one of the prompt is the less likely: else it would stand alone.
        if own.is_none_or(|(least, ..)| rank > least) {
            own = Some((rank, logprob, text));
        }
    }
    let (rank, logprob, text) = own?;
    let regret = best - logprob;
    Some(Score {
        text: text.to_owned(),
        logprob,
        regret: if regret.is_nan() {
            f32::INFINITY
        } else {
            regret
        },
        is_likeliest: rank == 1,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alone(text: &str) -> Json {
        json!({"7": {"logprob": -0.25, "rank": 1, "decoded_token": text}})
    }

    fn beside(text: &str, likelier: &str) -> Json {
        json!({
            "9": {"logprob": -2.25, "rank": 3, "decoded_token": text},
            "12": {"logprob": -0.25, "rank": 1, "decoded_token": likelier},
        })
    }

    #[test]
    fn an_answer_stands_up_to_the_first_token_that_is_not_the_likeliest() {
        let prompt = [Json::Null, alone("user"), alone("\n")];
        let stands: Vec<Json> = prompt
            .iter()
            .cloned()
            .chain([alone("It"), alone(" is"), alone(" nine.")])
            .collect();
        let checked = check("It is nine.", &stands).expect("its tokens");
        assert_eq!((checked.n_tokens, checked.n_standing), (3, 11));
        assert_eq!(checked.check.regret, 0.0);
        let mut differs = stands.clone();
        differs[4] = beside(" is", " was");
        let checked = check("It is nine.", &differs).expect("its tokens");
        assert_eq!((checked.n_standing, checked.n_standing_tokens), (2, 1));
        assert!((checked.check.regret - 2.0 / 3.0).abs() < 1e-6);
        let mut blank = stands.clone();
        blank[3] = alone(" It");
        let checked = check("It is nine.", &blank).expect("a blank before");
        assert_eq!(checked.n_standing, 11);
        let told = likelihoods("It is nine.", &blank).expect("a blank before");
        assert_eq!(told, [(2, -0.25), (5, -0.25), (11, -0.25)]);
        let told = likelihoods("It is nine.", &differs).expect("its tokens");
        assert_eq!(told[1], (5, -2.25));
    }

    #[test]
    fn tokens_that_are_not_those_of_the_answer_check_nothing() {
        let scores = [Json::Null, alone("It is"), alone(" ten.")];
        assert_eq!(check("It is nine.", &scores), None);
        assert_eq!(check("It is nine, or a little later.", &scores), None);
        assert_eq!(check("ten.", &[json!(3)]), None);
    }
}
