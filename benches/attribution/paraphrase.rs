//! The same in other words, by rule: sentences in the opposite order, and some words for others that mean about the same.
//!
//! A rule gives the same text every time and asks no model. What it gives is clumsy, and it need not be read.

/// Words and what stands for them.
const OTHERS: [(&str, &str); 36] = [
    ("also", "too"),
    ("although", "though"),
    ("because", "since"),
    ("began", "started"),
    ("big", "large"),
    ("built", "constructed"),
    ("but", "yet"),
    ("called", "named"),
    ("city", "town"),
    ("country", "nation"),
    ("during", "in the course of"),
    ("first", "earliest"),
    ("found", "discovered"),
    ("from", "out of"),
    ("gave", "granted"),
    ("great", "major"),
    ("however", "still"),
    ("including", "among them"),
    ("it", "this"),
    ("known", "famous"),
    ("large", "big"),
    ("made", "produced"),
    ("many", "numerous"),
    ("more", "further"),
    ("most", "the majority of"),
    ("often", "frequently"),
    ("only", "just"),
    ("people", "persons"),
    ("small", "little"),
    ("such", "of this kind"),
    ("the", "this"),
    ("used", "employed"),
    ("was", "had been"),
    ("were", "had been"),
    ("which", "that"),
    ("with", "along with"),
];

/// A text in other words.
pub fn paraphrased(text: &str) -> String {
    let mut sentences: Vec<&str> = text.split(". ").map(|s| s.trim_end_matches('.')).collect();
    sentences.reverse();
    let said = sentences.iter().map(|sentence| {
        let words = sentence.split(' ').map(other);
        words.collect::<Vec<_>>().join(" ")
    });
    let mut said = said.collect::<Vec<_>>().join(". ");
    said.push('.');
    said
}

fn other(word: &str) -> &str {
    let found = OTHERS.binary_search_by(|(from, _)| from.cmp(&word));
    found.map_or(word, |at| OTHERS[at].1)
}
