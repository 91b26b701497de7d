//! A tree of lines: how a row, and what it comes from, is told.

use std::fmt::Write as _;

/// Lines that are told of one tree.
const MAX_LINES: usize = 400;
/// Characters of a text that is quoted.
const MAX_QUOTED: usize = 100;

/// A line, and those below it.
#[derive(Debug, Default)]
pub(super) struct Branch {
    pub(super) text: String,
    pub(super) branches: Vec<Branch>,
}

impl Branch {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            branches: Vec::new(),
        }
    }

    /// A branch below.
    pub(super) fn push(&mut self, branch: Self) {
        self.branches.push(branch);
    }

    /// A line below.
    pub(super) fn line(&mut self, text: impl Into<String>) {
        self.push(Self::new(text));
    }

    /// The tree, without a last line break.
    pub(super) fn told(&self) -> String {
        let (mut told, mut n_left) = (self.text.clone(), MAX_LINES);
        self.tell_below(&mut told, "", &mut n_left);
        if n_left == 0 {
            told.push_str("\n…");
        }
        told
    }

    fn tell_below(&self, told: &mut String, indent: &str, n_left: &mut usize) {
        for (at, branch) in self.branches.iter().enumerate() {
            if *n_left == 0 {
                return;
            }
            *n_left -= 1;
            let is_last = at + 1 == self.branches.len();
            let corner = if is_last { "└" } else { "├" };
            write!(told, "\n{indent}{corner} {}", branch.text).ok();
            let below = format!("{indent}{} ", if is_last { " " } else { "│" });
            branch.tell_below(told, &below, n_left);
        }
    }
}

/// The beginning of a text on one line, in quotes.
pub(super) fn quoted(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let flat = words.join(" ");
    let beginning: String = flat.chars().take(MAX_QUOTED).collect();
    match beginning.len() < flat.len() {
        true => format!("\"{beginning}…\""),
        false => format!("\"{flat}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_told_line_by_line_and_a_large_one_is_cut() {
        let mut tree = Branch::new("a");
        let mut b = Branch::new("b");
        b.line("c");
        tree.push(b);
        tree.line("d");
        assert_eq!(tree.told(), "a\n├ b\n│ └ c\n└ d");
        let mut wide = Branch::new("a");
        (0..MAX_LINES + 1).for_each(|n| wide.line(n.to_string()));
        assert!(wide.told().ends_with("\n…"));
        assert_eq!(wide.told().lines().count(), MAX_LINES + 2);
    }

    #[test]
    fn a_quote_is_one_line_and_short() {
        assert_eq!(quoted("one\n  two"), "\"one two\"");
        let long = quoted(&"é".repeat(200));
        assert_eq!(long.chars().count(), MAX_QUOTED + 3);
    }
}
