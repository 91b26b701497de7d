//! What did a model think, and what did it answer?
//!
//! Reasoning comes in a field of its own, between tags, with its opening tag left out (where the
//! prompt's template wrote it), or unclosed (where the limit of tokens came first). It is never the
//! answer.

/// Tags between which models think.
const TAGS: [(&str, &str); 4] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
];
/// How the final channel of the harmony format begins.
const FINAL_CHANNEL: &str = "<|channel|>final<|message|>";
/// How any channel does.
const CHANNEL: &str = "<|channel|>";

/// The parts of what a model wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// What is for whoever asked; nothing where it has not begun.
    pub(super) answer: Option<&'a str>,
    /// Whether there is thinking among it.
    pub(super) is_thought: bool,
    /// Whether that has no opening tag.
    pub(super) is_unopened: bool,
}

/// Tells the answer from what was thought before it.
pub(super) fn parts(written: &str) -> Parts<'_> {
    let thought = |answer| Parts {
        answer,
        is_thought: true,
        is_unopened: false,
    };
    let text = written.trim_start();
    if text.starts_with(CHANNEL) {
        return thought(
            text.split_once(FINAL_CHANNEL)
                .map(|(_, answer)| answer.trim_start()),
        );
    }
    for (open, close) in TAGS {
        if text.starts_with(open) {
            return thought(
                text.split_once(close)
                    .map(|(_, answer)| answer.trim_start()),
            );
        }
    }
    for (open, close) in TAGS {
        if let Some((before, answer)) = text.split_once(close)
            && !before.contains(open)
        {
            return Parts {
                is_unopened: true,
                ..thought(Some(answer.trim_start()))
            };
        }
    }
    Parts {
        answer: Some(text),
        is_thought: false,
        is_unopened: false,
    }
}

/// What can be shown of an answer that is being written: nothing while it may still turn out to be
/// thinking.
pub(super) fn visible(written: &str) -> Option<&str> {
    let text = written.trim_start();
    let may_open = |tag: &str| !text.is_empty() && tag.starts_with(text);
    let may_be_thinking = TAGS.iter().any(|(open, _)| may_open(open)) || may_open(CHANNEL);
    match may_be_thinking {
        true => None,
        false => parts(written).answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinking_is_no_answer_in_whatever_form_it_comes() {
        for (written, answer, is_thought) in [
            ("Nine.", Some("Nine."), false),
            ("<think>\nhm\n</think>\n\nNine.", Some("Nine."), true),
            ("hm, well\n</think>\nNine.", Some("Nine."), true),
            ("<think>hm", None, true),
            ("<think></think>", Some(""), true),
            ("[THINK]a[/THINK]b", Some("b"), true),
            (
                "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Nine.",
                Some("Nine."),
                true,
            ),
            ("<|channel|>analysis<|message|>hm", None, true),
            // A tag that is spoken of.
            (
                "Write <think> first and </think> last.",
                Some("Write <think> first and </think> last."),
                false,
            ),
        ] {
            let parts = parts(written);
            assert_eq!(
                (parts.answer, parts.is_thought),
                (answer, is_thought),
                "{written}"
            );
        }
    }

    #[test]
    fn what_is_shown_while_it_is_written_is_no_half_tag() {
        let written = "<think>hm</think>Nine";
        let shown: Vec<&str> = (0..=written.len())
            .filter_map(|end| visible(&written[..end]))
            .filter(|text| !text.is_empty())
            .collect();
        assert_eq!(shown, ["N", "Ni", "Nin", "Nine"]);
        assert_eq!(visible("<table>"), Some("<table>"));
    }
}
