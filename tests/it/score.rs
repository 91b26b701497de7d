//! The measures that the `quality` benchmark judges answers by. They stand here because a
//! benchmark has no test harness of its own.

#[path = "../../benches/quality/score.rs"]
#[allow(dead_code)] // The benchmark uses all of it.
mod measures;

use measures::Score;

fn score(answer: &str, golds: &[&str]) -> Score {
    let golds: Vec<String> = golds.iter().map(|&gold| gold.to_owned()).collect();
    Score::of(answer, &golds)
}

#[test]
fn case_punctuation_articles_and_spaces_do_not_count() {
    let perfect = Score {
        f1: 1.0,
        exact_match: 1.0,
        contains: 1.0,
    };
    assert_eq!(
        score("  The Battle of  Guam.", &["battle of guam"]),
        perfect
    );
    assert_eq!(score("a U.S. theatre", &["US theatre"]), perfect);
}

#[test]
fn part_of_the_words_counts_in_part() {
    let partial = score("Kenji Mori wrote it", &["Kenji Mori"]);
    assert_eq!((partial.exact_match, partial.contains), (0.0, 1.0));
    assert_eq!(score("Mori, Kenji", &["Kenji Mori"]).contains, 0.0);
    assert!((partial.f1 - 2.0 * 0.5 * 1.0 / 1.5).abs() < 1e-12);
}

#[test]
fn repeated_words_count_as_often_as_both_have_them() {
    let repeated = score("very very very good", &["very very bad"]);
    let (precision, recall) = (2.0 / 4.0, 2.0 / 3.0);
    assert!((repeated.f1 - 2.0 * precision * recall / (precision + recall)).abs() < 1e-12);
}

#[test]
fn the_best_gold_answer_counts() {
    assert_eq!(score("Rome", &["Paris", "Rome"]).exact_match, 1.0);
}

#[test]
fn nothing_answers_nothing() {
    assert_eq!(score("", &["Rome"]), Score::default());
    assert_eq!(score("the", &["an"]).f1, 1.0);
    assert_eq!(Score::mean(&[]), Score::default());
}
