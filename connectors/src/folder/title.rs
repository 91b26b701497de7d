//! What does a file call itself? A Markdown file by the text of its first heading.
//!
//! A parser decides what a heading is: a `#` in a code block, or in the metadata at a file's
//! beginning, is none.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::excerpt::prefix;

/// Longer headings are cut here, in bytes.
const TITLE_LIMIT: usize = 256;

/// The first heading's text, if there is one that is not empty.
pub(super) fn markdown_title(text: &str) -> Option<String> {
    let options = Options::ENABLE_YAML_STYLE_METADATA_BLOCKS | Options::ENABLE_STRIKETHROUGH;
    let mut title = None;
    for event in Parser::new_ext(text, options) {
        match event {
            Event::Start(Tag::Heading { .. }) => title = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                let title = cut(&title.take().unwrap_or_default());
                if title.is_some() {
                    return title;
                }
            }
            Event::Text(part) | Event::Code(part) => {
                if let Some(title) = &mut title {
                    title.push_str(&part);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some(title) = &mut title {
                    title.push(' ');
                }
            }
            _ => {}
        }
    }
    None
}

/// A title of these words, in one line and not too long; none if there are none.
pub(super) fn cut(words: &str) -> Option<String> {
    let words: Vec<&str> = words.split_whitespace().collect();
    let title = words.join(" ");
    (!title.is_empty()).then(|| prefix(&title, TITLE_LIMIT).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_heading_is_the_title() {
        let cases = [
            ("# One\n\n# Two\n", Some("One")),
            (
                "Some words.\n\n## `code` and *stress* ##\n",
                Some("code and stress"),
            ),
            ("Set\nby line\n===\n", Some("Set by line")),
            ("```\n# code\n```\n\n# Real\n", Some("Real")),
            ("---\n# comment: x\ntitle: y\n---\n\n# Real\n", Some("Real")),
            ("#\n\n## Second\n", Some("Second")),
            ("#hashtag\n", None),
            ("", None),
        ];
        for (text, title) in cases {
            assert_eq!(markdown_title(text).as_deref(), title, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_short_title_or_none(text in "(# )?\\PC{0,400}") {
            if let Some(title) = markdown_title(&text) {
                prop_assert!(!title.is_empty() && title.len() <= TITLE_LIMIT);
            }
        }
    }
}
