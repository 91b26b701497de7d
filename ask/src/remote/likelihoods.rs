//! Which choice does a row make likelier?
//!
//! A server that tells the likeliest first tokens of an answer lets a choice be read from them, as it is
//! read from a local model's logits: what the model would say of no row is taken off, for a model is
//! inclined to some answers whatever it reads (contextual calibration, as in `local`).

use serde_json::Value as Json;

/// How many tokens are asked for: the most that servers give.
pub(super) const N_LIKELIEST: usize = 20;
/// How much less likely than the last that was told one is taken to be that was not.
const BELOW_THE_LAST: f32 = 1.0;

/// The likeliest first tokens of an answer with their log-probabilities, in nats.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Likeliest(Vec<(String, f32)>);

impl Likeliest {
    /// Those of a reply's choice: `{"logprobs": {"content": [{"top_logprobs": [{"token": …,
    /// "logprob": …}, …]}]}}`.
    pub(super) fn of(choice: &Json) -> Option<Self> {
        let top = choice
            .pointer("/logprobs/content/0/top_logprobs")?
            .as_array()?;
        let told = top.iter().filter_map(|entry| {
            let token = entry.get("token")?.as_str()?.to_owned();
            let logprob = entry.get("logprob")?.as_f64()? as f32;
            logprob.is_finite().then_some((token, logprob))
        });
        Some(Self(told.collect())).filter(|likeliest| likeliest.0.len() > 1)
    }

    /// Whether first tokens tell these choices apart.
    pub(super) fn tells_apart<S: AsRef<str>>(&self, choices: &[S]) -> bool {
        self.begin(choices).is_some()
    }

    /// How likely each choice begins, in nats, as far as that was told; nothing where first tokens do
    /// not tell choices apart, or none of them begins any.
    fn begin<S: AsRef<str>>(&self, choices: &[S]) -> Option<Vec<Option<f32>>> {
        let begins = |choice: &str, token: &str| {
            let token = token.trim().to_lowercase();
            !token.is_empty() && choice.to_lowercase().starts_with(&token)
        };
        let mut of_choices: Vec<Option<f32>> = vec![None; choices.len()];
        for (token, logprob) in &self.0 {
            let mut begun = (0..choices.len()).filter(|i| begins(choices[*i].as_ref(), token));
            let (Some(only), None) = (begun.next(), begun.next()) else {
                if choices.iter().any(|choice| begins(choice.as_ref(), token)) {
                    return None;
                }
                continue;
            };
            let known = of_choices[only].get_or_insert(*logprob);
            *known = known.max(*logprob);
        }
        let is_any = of_choices.iter().any(Option::is_some);
        is_any.then_some(of_choices)
    }

    /// What a choice is taken to be that was not told.
    fn untold(&self) -> f32 {
        let told = self.0.iter().map(|(_, logprob)| *logprob);
        told.fold(0.0, f32::min) - BELOW_THE_LAST
    }
}

/// How much likelier a row makes each choice than no row does, in nats; nothing where that cannot be
/// told. Of a choice that was told neither with the row nor without, nothing is known but that it is
/// unlikely: it is the last that is chosen.
pub(super) fn gains<S: AsRef<str>>(
    row: &Likeliest,
    neutral: &Likeliest,
    choices: &[S],
) -> Option<Vec<f32>> {
    let (of_row, of_none) = (row.begin(choices)?, neutral.begin(choices)?);
    let gain = |told: (Option<f32>, Option<f32>)| match told {
        (None, None) => f32::NEG_INFINITY,
        (a, b) => a.unwrap_or_else(|| row.untold()) - b.unwrap_or_else(|| neutral.untold()),
    };
    Some(of_row.into_iter().zip(of_none).map(gain).collect())
}

/// The place of the highest of some numbers; of equals the first, as everywhere.
pub(super) fn highest(gains: &[f32]) -> usize {
    (0..gains.len()).fold(0, |best, i| if gains[i] > gains[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn likeliest(tokens: &[(&str, f64)]) -> Likeliest {
        let top: Vec<Json> = tokens
            .iter()
            .map(|(token, logprob)| json!({"token": token, "logprob": logprob}))
            .collect();
        let choice = json!({"logprobs": {"content": [{"token": "x", "top_logprobs": top}]}});
        Likeliest::of(&choice).expect("tokens")
    }

    #[test]
    fn what_the_model_is_inclined_to_is_taken_off() {
        let choices = ["Yes", "No"];
        let neutral = likeliest(&[("No", -0.2), ("Yes", -1.9), ("**", -7.0)]);
        let row = likeliest(&[("No", -0.5), ("Yes", -1.0), ("NO", -8.0)]);
        let chosen = |row| gains(row, &neutral, &choices).map(|gains| highest(&gains));
        assert_eq!(chosen(&row), Some(0));
        assert_eq!(chosen(&neutral), Some(0), "of equals the first");
        let silent = likeliest(&[("No", -0.1), (" no", -6.0)]);
        assert_eq!(chosen(&silent), Some(1));
    }

    #[test]
    fn what_was_told_nowhere_is_not_chosen() {
        // The last of what was told is less likely without the row: that says nothing of `blue`.
        let choices = ["blue", "red", "green"];
        let row = likeliest(&[("red", -0.1), ("green", -2.0), ("**", -4.0)]);
        let neutral = likeliest(&[("red", -0.05), ("green", -1.0), ("**", -9.0)]);
        let gains = gains(&row, &neutral, &choices).expect("gains");
        assert_eq!(highest(&gains), 1, "{gains:?}");
        assert_eq!(gains[0], f32::NEG_INFINITY);
        assert!(crate::task::score(&gains).is_finite());
    }

    #[test]
    fn choices_that_begin_alike_are_not_told_apart_by_one_token() {
        let row = likeliest(&[("No", -0.5), ("Yes", -1.0)]);
        assert_eq!(gains(&row, &row, &["No", "No idea"]), None);
        assert_eq!(gains(&row, &row, &["left", "right"]), None);
        assert_eq!(Likeliest::of(&json!({"logprobs": null})), None);
    }
}
