//! How much does what is known of an answer count, for one decoder?
//!
//! What a change pulls is the same whatever model answers; how likely the answer has to change then, and
//! how wrong it is if it stays, is the model's own. A *profile* has both: coefficients and a regret, with
//! what they were fitted on and how well they tell there. It is a file of JSON:
//!
//! ```json
//! {
//!   "version": 1,
//!   "decoder": {"name": "smollm2-135m", "digest": "b179…"},
//!   "fitted_on": {"set": "squad dev", "articles": 22, "edits": 550},
//!   "coefficients": {"bias": -3.7, "closeness": 1.4, "lead": 8.0, "passage_lead": 4.3, "lost": 3.9, "mass": 0.63},
//!   "regret": 1.6,
//!   "curve": {"answers": 21875, "concerned": 402, "auc": 0.9922, …}
//! }
//! ```
//!
//! The decoder is named by the digest of its checkpoint, so a file under another name, and another
//! arithmetic over the same weights, have the same profile; another quantization has none.
//!
//! **Nothing that is stored depends on it.** A profile decides what `BOUNDED` leaves unread, and an
//! answer that was left unread is not exact. The memo notes exact answers only, and those are a function of
//! the request: were the profile in a request's digest, all of them would be asked again after
//! calibration, for the same tokens. Nor is it in what a view is declared to say: the answers that stand
//! were right within the bound by the guess of then, audits watch over them as before, and the next change
//! is judged by the new profile, together with the regret that was expected already. That a view has
//! fallen back is not taken back by another profile either, since audits of the view say more of it than
//! articles of others: it begins anew when it is declared with another bound.

use std::fmt;

use perennial_model::digest::ModelDigest;
use serde::{Deserialize, Serialize};

use super::{Curve, Pulled};

/// The form of the file, and what its numbers mean: which things are known of an answer, by which embedding
/// model. It grows where any of that changes, and then every decoder is calibrated anew.
const VERSION: u32 = 1;
/// A constant, and one for each thing that is known of an answer.
pub(super) const N: usize = 6;
/// Bytes of a profile's text, at most.
pub(super) const MAX_BYTES: usize = 1 << 16;
/// No coefficient that was ever fitted is near this.
const MAX_COEFFICIENT: f32 = 1e4;
/// Nor is a regret, in nats a token.
const MAX_REGRET: f32 = 100.0;
/// Bytes of a name.
const MAX_NAME: usize = 200;
/// Decimals of fitted coefficients: more are noise.
const DECIMALS: f64 = 1e3;

/// By what the regret of unread answers is expected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    version: u32,
    /// Whose it is; nothing of the one that stands in for those without.
    decoder: Option<DecoderName>,
    /// What it was fitted on.
    fitted_on: FittedOn,
    /// How much each thing counts that is known of an answer.
    coefficients: Coefficients,
    /// Regret of an answer that has reason to change, in nats a token, on average.
    regret: f32,
    /// How well it tells, of articles that it was not fitted on.
    curve: Curve,
}

/// Which decoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderName {
    /// What people call it.
    pub name: String,
    /// Of its checkpoint.
    #[serde(with = "hexadecimal")]
    pub digest: ModelDigest,
}

/// What a profile was fitted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedOn {
    /// What people call the set of passages and questions.
    pub set: String,
    /// Articles, or rows, with documents and questions of their own.
    pub articles: usize,
    /// Edits of all of them.
    pub edits: usize,
}

/// How much each thing counts that is known of an answer, in log-odds that it has to change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coefficients {
    /// Where nothing pulls.
    pub bias: f32,
    /// Of each unit of closeness.
    pub closeness: f32,
    /// Of the lead.
    pub lead: f32,
    /// Of the passages' lead.
    pub passage_lead: f32,
    /// Where none of the answer's words stand any more.
    pub lost: f32,
    /// Of the logarithm of one more than the mass.
    pub mass: f32,
}

/// What is known of an answer, as coefficients go with it.
pub(super) fn known(pulled: &Pulled) -> [f64; N] {
    [
        1.0,
        pulled.closeness.into(),
        pulled.lead.into(),
        pulled.passage_lead.into(),
        pulled.lost.into(),
        f64::from(pulled.mass).ln_1p(),
    ]
}

impl Coefficients {
    pub(super) fn from_array(of: [f64; N]) -> Self {
        let rounded = |c: f64| ((c * DECIMALS).round() / DECIMALS) as f32;
        let [bias, closeness, lead, passage_lead, lost, mass] = of.map(rounded);
        Self {
            bias,
            closeness,
            lead,
            passage_lead,
            lost,
            mass,
        }
    }

    /// In the order of their fields.
    pub fn as_array(&self) -> [f32; N] {
        [
            self.bias,
            self.closeness,
            self.lead,
            self.passage_lead,
            self.lost,
            self.mass,
        ]
    }

    /// The chance that a change gives an answer reason to be another.
    pub fn chance(&self, pulled: &Pulled) -> f32 {
        let of = self.as_array().into_iter().zip(known(pulled));
        let at: f64 = of.map(|(c, x)| f64::from(c) * x).sum();
        (1.0 / (1.0 + (-at).exp())) as f32
    }
}

impl Profile {
    /// What was fitted for a decoder.
    ///
    /// # Errors
    /// What cannot be, for people: a number that is none, a name that is empty or too long.
    pub fn new(
        decoder: DecoderName,
        fitted_on: FittedOn,
        (coefficients, regret): (Coefficients, f32),
        curve: Curve,
    ) -> Result<Self, String> {
        let profile = Self {
            version: VERSION,
            decoder: Some(decoder),
            fitted_on,
            coefficients,
            regret,
            curve,
        };
        profile.check()?;
        Ok(profile)
    }

    /// Reads the text of a profile.
    ///
    /// # Errors
    /// Where it goes wrong, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        if text.len() > MAX_BYTES {
            return Err(format!("it has more than {MAX_BYTES} bytes"));
        }
        let Version { version } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!(
                "it is of version {version}, and this program knows version {VERSION}"
            ));
        }
        let profile: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        profile.check()?;
        Ok(profile)
    }

    fn check(&self) -> Result<(), String> {
        let names = self.decoder.iter().map(|decoder| &decoder.name);
        for name in names.chain([&self.fitted_on.set]) {
            if name.trim().is_empty() || name.len() > MAX_NAME {
                return Err(format!(
                    "a name has 1 to {MAX_NAME} bytes, and {name:?} has not"
                ));
            }
        }
        let is_sound = |c: &f32| c.is_finite() && c.abs() <= MAX_COEFFICIENT;
        if let Some(c) = self.coefficients.as_array().iter().find(|c| !is_sound(c)) {
            return Err(format!(
                "a coefficient lies within {MAX_COEFFICIENT} of 0, and {c} does not"
            ));
        }
        let regret = self.regret;
        if !(regret > 0.0 && regret <= MAX_REGRET) {
            return Err(format!(
                "the regret lies above 0 and is {MAX_REGRET} at most, and {regret} does not"
            ));
        }
        Ok(())
    }

    /// As a file has it.
    pub fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("a profile has names and numbers only") + "\n"
    }

    /// Whose it is; nothing of the default, which stands in for decoders without one.
    pub fn decoder(&self) -> Option<&DecoderName> {
        self.decoder.as_ref()
    }

    /// Whether it stands in for decoders without one of their own.
    pub fn is_default(&self) -> bool {
        self.decoder.is_none()
    }

    /// What it was fitted on.
    pub fn fitted_on(&self) -> &FittedOn {
        &self.fitted_on
    }

    /// How much each thing counts.
    pub fn coefficients(&self) -> &Coefficients {
        &self.coefficients
    }

    /// Regret of an answer that has reason to change, in nats a token, on average.
    pub fn regret(&self) -> f32 {
        self.regret
    }

    /// How well it tells, of articles that it was not fitted on.
    pub fn curve(&self) -> &Curve {
        &self.curve
    }

    /// The regret of an answer that is expected if it were read, in nats a token.
    pub fn expected_regret(&self, pulled: &Pulled) -> f32 {
        self.regret * self.coefficients.chance(pulled)
    }
}

/// `the profile of smollm2-135m (22 articles of squad dev)`.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.decoder {
            Some(decoder) => write!(f, "the profile of {}", decoder.name)?,
            None => f.write_str("the default profile")?,
        }
        let FittedOn { set, articles, .. } = &self.fitted_on;
        write!(f, " ({articles} articles of {set})")
    }
}

/// A digest as people read it.
mod hexadecimal {
    use perennial_model::digest::ModelDigest;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(digest: &ModelDigest, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(digest)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ModelDigest, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A profile of `decoder`, of these coefficients.
    pub(in crate::pull) fn profile(digest: [u8; 32], coefficients: Coefficients) -> Profile {
        let decoder = DecoderName {
            name: "tiny".into(),
            digest: ModelDigest::from_bytes(digest),
        };
        let fitted_on = FittedOn {
            set: "sums".into(),
            articles: 3,
            edits: 15,
        };
        let curve = Curve::of([(0.3, true), (0.1, false)], 0.05);
        Profile::new(decoder, fitted_on, (coefficients, 1.5), curve).expect("sound")
    }

    pub(in crate::pull) const COEFFICIENTS: Coefficients = Coefficients {
        bias: -3.125,
        closeness: 1.4,
        lead: 8.0,
        passage_lead: 4.3,
        lost: 3.9,
        mass: 0.63,
    };

    #[test]
    fn a_profile_reads_back_as_itself_and_names_its_decoder_in_digits() {
        let profile = profile([7; 32], COEFFICIENTS);
        let text = profile.text();
        assert!(text.contains(&"07".repeat(32)), "{text}");
        assert_eq!(Profile::parse(&text), Ok(profile.clone()));
        assert_eq!(
            profile.to_string(),
            "the profile of tiny (3 articles of sums)"
        );
    }

    #[test]
    fn expected_regret_is_the_chance_of_what_is_known_times_the_regret() {
        let profile = profile([7; 32], COEFFICIENTS);
        let pulled = Pulled {
            closeness: 0.5,
            lead: 0.25,
            passage_lead: -0.5,
            lost: 0.25,
            mass: 1.0,
        };
        // -3.125 + .7 + 2 - 2.15 + .975 + .63 ln 2
        let at = -1.6 + 0.63 * std::f32::consts::LN_2;
        let chance = 1.0 / (1.0 + (-at).exp());
        assert!((profile.expected_regret(&pulled) - 1.5 * chance).abs() < 1e-6);
    }

    #[test]
    fn what_is_no_profile_is_refused_for_a_reason() {
        let text = profile([7; 32], COEFFICIENTS).text();
        let with = |old: &str, new: &str| {
            assert!(text.contains(old), "{old}");
            text.replace(old, new)
        };
        for (text, says) in [
            (String::new(), "EOF"),
            ("[]".into(), "invalid length 0"),
            ("{}".into(), "missing field `version`"),
            (with("\"version\": 1", "\"version\": 2"), "of version 2"),
            (with("\"bias\"", "\"bios\""), "unknown field `bios`"),
            (with("\"lead\": 8.0,", ""), "missing field `lead`"),
            (with("-3.125", "-12345.5"), "within 10000"),
            (with("-3.125", "1e999"), "out of range"),
            (with("-3.125", "\"low\""), "invalid type: string"),
            (with("\"regret\": 1.5", "\"regret\": 0"), "above 0"),
            (with("\"regret\": 1.5", "\"regret\": -1"), "above 0"),
            (with(&"07".repeat(32), "07"), "64 hexadecimal digits"),
            (with("\"tiny\"", "\" \""), "a name has"),
            (with("\"articles\": 3", "\"articles\": -3"), "-3"),
            (format!("{text}{text}"), "trailing characters"),
            (" ".repeat(MAX_BYTES + 1), "more than"),
        ] {
            let reason = Profile::parse(&text).expect_err(says);
            assert!(reason.contains(says), "{says}: {reason}");
        }
    }
}
