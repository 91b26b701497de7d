//! What stands in the demo's folder, what is asked, and which edits are made.

/// What the folder is, in words.
pub(super) const ABOUT: &str = "eleven notes for visitors of Tern Island";
/// The instruction of the view.
pub(super) const PROMPT: &str =
    "Answer the question from the documents above, in one full sentence.";
/// What is asked.
pub(super) const QUESTION: &str = "How much does a return ticket for the ferry cost this week?";

macro_rules! document {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../examples/demo/docs/", $name)),
        )
    };
}

/// File names and texts, in the order in which they came to be.
pub(super) const DOCUMENTS: [(&str, &str); 11] = [
    document!("welcome.md"),
    document!("ferry.md"),
    document!("lighthouse.md"),
    document!("bakery.md"),
    document!("camping.md"),
    document!("birds.md"),
    document!("bicycles.md"),
    document!("tidepool.md"),
    document!("weather.md"),
    document!("lantern-night.md"),
    document!("tickets.md"),
];

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// It is written, new.
    Insert(&'static str),
    /// These words become those.
    Replace(&'static str, &'static str),
    /// It is removed.
    Delete,
}

/// One step of the script.
#[derive(Debug)]
pub(super) struct Edit {
    /// In a few words, for the summary.
    pub(super) short: &'static str,
    /// What is done and why it is of interest.
    pub(super) what: &'static str,
    /// The file.
    pub(super) file: &'static str,
    /// What is done to it.
    pub(super) act: Act,
}

/// The script.
pub(super) const EDITS: &[Edit] = &[
    Edit {
        short: "correct a fact",
        what: "In tickets.md, the price is corrected from 12 to 14 crowns.",
        file: "tickets.md",
        act: Act::Replace("12 crowns", "14 crowns"),
    },
    Edit {
        short: "edit something else",
        what: "In lantern-night.md, the choir sings at ten instead of nine.",
        file: "lantern-night.md",
        act: Act::Replace("at nine", "at ten"),
    },
    Edit {
        short: "insert a document",
        what: "A new document, offer.md, lowers the price for this week to 9 crowns.",
        file: "offer.md",
        act: Act::Insert(document!("offer.md").1),
    },
    Edit {
        short: "delete a document",
        what: "The offer is over: offer.md is deleted.",
        file: "offer.md",
        act: Act::Delete,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edit_changes_something() {
        let mut files: Vec<(&str, String)> = DOCUMENTS
            .iter()
            .map(|(name, text)| (*name, (*text).to_owned()))
            .collect();
        for edit in EDITS {
            let at = files.iter().position(|(name, _)| *name == edit.file);
            match (edit.act, at) {
                (Act::Insert(text), None) => files.push((edit.file, text.to_owned())),
                (Act::Replace(from, to), Some(at)) => {
                    assert_eq!(files[at].1.matches(from).count(), 1, "{}", edit.file);
                    files[at].1 = files[at].1.replace(from, to);
                }
                (Act::Delete, Some(at)) => {
                    files.remove(at);
                }
                (act, at) => panic!("{}: {act:?} where the file is at {at:?}", edit.file),
            }
        }
    }
}
