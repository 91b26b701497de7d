use perennial_ask::scripted::{ERROR_WORD, Scripted, ScriptedEmbedder};
use perennial_model::digest::ModelDigest;
use serde_json::json;

use super::*;

const OPTIONS: CalibrationOptions = CalibrationOptions {
    articles: 9,
    documents: 4,
    questions: 20,
    edits: 10,
    max_tokens: 60,
    bound: 0.05,
    seed: 7,
};

/// So many towns of three documents with two questions each, of which each asks for one word of a sentence.
fn towns(n: usize, with: &str) -> Set {
    const HOURS: [&str; 6] = ["five", "seven", "eight", "ten", "noon", "three"];
    let mut lines = String::new();
    for town in 0..n {
        for document in 0..3 {
            let facts = [0, 1].map(|i| {
                (
                    format!("gate{town}x{document}x{i}"),
                    HOURS[document * 2 + i],
                )
            });
            let sentence =
                |(gate, hour): &(String, &str)| format!("Here {gate} opens by {hour} daily.");
            let asked = |(gate, hour): &(String, &str)| json!({"question": format!("When is it that {gate}{with}"), "answers": [hour]});
            let line = json!({
                "id": format!("town{town}/{document}"),
                "title": format!("Town {town}"),
                "text": facts.each_ref().map(sentence).join(" "),
                "questions": facts.each_ref().map(asked),
            });
            lines.push_str(&format!("{line}\n"));
        }
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("towns.jsonl");
    std::fs::write(&path, lines).expect("writable");
    Set::read(&path).expect("a set")
}

fn decoder() -> DecoderName {
    DecoderName {
        name: "scripted".into(),
        digest: ModelDigest::from_bytes([3; 32]),
    }
}

fn calibrated(set: &Set, options: CalibrationOptions) -> Result<Calibration, CalibrationError> {
    let embedder = Arc::new(ScriptedEmbedder::default());
    let model = (decoder(), &Scripted::new() as &dyn AnswerModel);
    calibrate(model, embedder, set, &options, &mut |_, _| {})
}

#[test]
fn a_profile_says_whose_it_is_on_what_it_was_fitted_and_how_well_it_tells() {
    let set = towns(4, "");
    let of = calibrated(&set, OPTIONS).expect("calibrates");
    let profile = &of.profile;
    assert_eq!(profile.decoder(), Some(&decoder()));
    let fitted_on = FittedOn {
        set: "towns".into(),
        articles: 4,
        edits: 40,
    };
    assert_eq!(profile.fitted_on(), &fitted_on);
    // Two facts are corrected and two documents of two answers go, in each town.
    let curve = profile.curve();
    assert_eq!((curve.concerned, of.n_read), (24, 24));
    assert!(curve.auc > Some(0.95), "{curve:?}");
    // An answer that has to change is another altogether, or one that stays by chance.
    assert!(
        profile.regret() > 0.5 && profile.regret() <= 1.0,
        "{profile:?}"
    );
    let n_concerned = |kind: Kind| {
        let of_kind = of.by_kind.iter().find(|(of, _)| *of == kind);
        of_kind.map(|(_, curve)| curve.concerned)
    };
    assert_eq!(n_concerned(Kind::Correct), Some(8));
    assert_eq!(n_concerned(Kind::Append), Some(0));
    assert_eq!(of.by_default.concerned, curve.concerned);
    // What was written reads back, and it is the same in every run.
    assert_eq!(Profile::parse(&profile.text()).as_ref(), Ok(profile));
    assert_eq!(&calibrated(&set, OPTIONS).expect("again").profile, profile);
}

#[test]
fn progress_ends_where_it_said() {
    let set = towns(3, "");
    let mut told = Vec::new();
    let embedder = Arc::new(ScriptedEmbedder::default());
    let model = Scripted::new();
    calibrate(
        (decoder(), &model),
        embedder,
        &set,
        &OPTIONS,
        &mut |done, total| {
            told.push((done, total));
        },
    )
    .expect("calibrates");
    // Six answers and ten edits of each of three towns.
    assert_eq!(told.len(), 48);
    assert!(
        told.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "{told:?}"
    );
    assert_eq!(told.last(), Some(&(48, 48)));
}

#[test]
fn too_little_to_fit_is_refused_with_what_is_needed() {
    let error = calibrated(&towns(2, ""), OPTIONS).expect_err("two articles");
    let says = error.to_string();
    assert!(
        says.contains("towns.jsonl: 2 of its articles") && says.contains("3 are needed"),
        "{says}"
    );
    let one_edit = CalibrationOptions {
        edits: 1,
        ..OPTIONS
    };
    let error = calibrated(&towns(3, ""), one_edit).expect_err("three answers");
    assert!(
        error.to_string().contains("3 of 18 answers had to change"),
        "{error}"
    );
}

#[test]
fn a_question_that_the_model_cannot_answer_is_named() {
    let error = calibrated(&towns(3, &format!(" {ERROR_WORD}")), OPTIONS).expect_err("fails");
    let says = error.to_string();
    assert!(
        says.contains("gate0x0x0") && says.contains("of town0") && says.contains("asked to fail"),
        "{says}"
    );
}
