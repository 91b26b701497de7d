//! Which rooms of a crate does a source file name?
//!
//! A *room* is a module at the top of a crate: a file or a folder beside `lib.rs`. Read are paths
//! that begin at the crate's root (`crate::`, or the crate's own name, for a program beside its
//! library) or lead there (`super::`), with all that stands in their braces. A name that `lib.rs`
//! takes out of a room counts as that room. A glob at the root names all rooms at once, and counts
//! as a room called `*`.
//!
//! Only words and their order are looked at: comments and texts are left out, macros are read as
//! they stand. A path within a macro's body therefore counts, one that a macro puts together does
//! not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// For each room, which others it names, and the first file in which it does.
pub(crate) type Arrows = BTreeMap<(String, String), String>;

/// All arrows between the rooms of the crate in this folder, which is called `name` by programs
/// beside it; and the rooms.
pub(crate) fn arrows(folder: &Path, name: &str) -> (BTreeSet<String>, Arrows) {
    let mut files = Vec::new();
    collect(folder, &mut Vec::new(), &mut files);
    let rooms: BTreeSet<String> = files
        .iter()
        .filter_map(|(module, _)| module.first().cloned())
        .collect();
    let door = fs::read_to_string(folder.join("lib.rs")).expect("a library");
    let facade = facade(&door, &rooms);
    let mut arrows = Arrows::new();
    for (module, text) in &files {
        let Some(room) = module.first() else {
            continue;
        };
        for named in named(text, module, name) {
            let to = match facade.get(&named) {
                Some(room) => room.clone(),
                None if rooms.contains(&named) || named == "*" => named,
                None => continue,
            };
            if to != *room {
                let arrow = (room.clone(), to);
                arrows.entry(arrow).or_insert_with(|| module.join("::"));
            }
        }
    }
    (rooms, arrows)
}

/// Each source file under a folder, with the path of its module; `lib.rs` and `main.rs` have none.
fn collect(folder: &Path, module: &mut Vec<String>, files: &mut Vec<(Vec<String>, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let stem = stem.expect("a name").to_owned();
        if path.is_dir() {
            module.push(stem);
            collect(&path, module, files);
            module.pop();
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let mut of = module.clone();
            if !matches!(&*stem, "mod" | "lib" | "main") {
                of.push(stem);
            }
            files.push((of, fs::read_to_string(&path).expect("UTF-8")));
        }
    }
}

/// Names that the library takes out of its rooms, and the room of each.
fn facade(door: &str, rooms: &BTreeSet<String>) -> BTreeMap<String, String> {
    let words = words(door);
    let mut facade = BTreeMap::new();
    for (at, word) in words.iter().enumerate() {
        let is_taken = at > 0 && words[at - 1] == "use" && rooms.contains(word);
        if is_taken && words.get(at + 1).is_some_and(|word| word == "::") {
            let until = words[at..].iter().position(|word| word == ";");
            let named = &words[at + 1..at + until.unwrap_or(1).max(1)];
            for name in named.iter().filter(|word| is_name(word)) {
                facade.insert(name.clone(), word.clone());
            }
        }
    }
    facade
}

/// The first names of all paths in a file that begin at the root of its crate.
fn named(text: &str, module: &[String], crate_name: &str) -> BTreeSet<String> {
    let words = words(text);
    let mut named = BTreeSet::new();
    // How deep in braces each inline module began.
    let mut inline: Vec<usize> = Vec::new();
    let mut depth = 0;
    for (at, word) in words.iter().enumerate() {
        match &**word {
            "{" => {
                depth += 1;
                if at > 1 && words[at - 2] == "mod" {
                    inline.push(depth);
                }
            }
            "}" => {
                if inline.last() == Some(&depth) {
                    inline.pop();
                }
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        let is_inner = at > 0 && words[at - 1] == "::";
        if is_inner {
            continue;
        }
        let to_root = match &**word {
            "crate" => 1,
            "super" => module.len() + inline.len(),
            word if word == crate_name => 1,
            _ => continue,
        };
        let is_led = |step: usize| {
            let word_at = at + 2 * step;
            let is_step = step == 0 || words.get(word_at).is_some_and(|word| word == "super");
            is_step && words.get(word_at + 1).is_some_and(|word| word == "::")
        };
        if to_root > 0 && (0..to_root).all(is_led) {
            heads(&words[at + 2 * to_root..], &mut named);
        }
    }
    named
}

/// The first names of a path, or of each path of a group.
fn heads(words: &[String], named: &mut BTreeSet<String>) {
    let Some(first) = words.first() else {
        return;
    };
    if first != "{" {
        named.insert(first.clone());
        return;
    }
    let mut depth = 0;
    for (at, word) in words.iter().enumerate() {
        match &**word {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if depth == 1 && matches!(&*words[at - 1], "{" | ",") => {
                named.insert(word.clone());
            }
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The words and signs of a source text, without comments and texts.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(len) = literal(rest) {
            len
        } else if first.is_alphanumeric() || first == '_' {
            let is_end = |c: char| !c.is_alphanumeric() && c != '_';
            let len = rest.find(is_end).unwrap_or(rest.len());
            words.push(rest[..len].to_owned());
            len
        } else if rest.starts_with("::") {
            words.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                words.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[len..];
    }
    words
}

/// How long the text or character is that begins here; none if none does.
fn literal(text: &str) -> Option<usize> {
    let bare = text.strip_prefix('b').unwrap_or(text);
    let prefix = text.len() - bare.len();
    if let Some(raw) = bare.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", &raw[..hashes]);
            let body = &raw[hashes + 1..];
            let len = body.find(&end).map_or(body.len(), |at| at + end.len());
            return Some(prefix + 1 + hashes + 1 + len);
        }
    }
    let quote = bare.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut chars = bare.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            c if c == quote => return Some(prefix + at + 1),
            // A lifetime: a character ends behind one sign, or was escaped.
            _ if quote == '\''
                && !bare[at + c.len_utf8()..].starts_with('\'')
                && !bare.starts_with("'\\") =>
            {
                return None;
            }
            _ => {}
        }
    }
    Some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(module: &[&str], text: &str) -> Vec<String> {
        let module: Vec<String> = module.iter().map(|name| (*name).to_owned()).collect();
        named(text, &module, "perennial").into_iter().collect()
    }

    #[test]
    fn paths_that_leave_a_room_are_seen_however_they_are_written() {
        let state = ["state"];
        assert_eq!(of(&state, "use crate::engine::Edit;"), ["engine"]);
        assert_eq!(of(&state, "fn f() -> crate::engine::Edit {}"), ["engine"]);
        assert_eq!(of(&state, "use super::engine;"), ["engine"]);
        assert_eq!(
            of(&["state", "file"], "use super::super::engine;"),
            ["engine"]
        );
        assert_eq!(
            of(&["cli"], "let e = perennial::engine::Engine;"),
            ["engine"]
        );
        let group = "use crate::{fault, engine::{self, Edit, hub::{Hub}}, Error};";
        assert_eq!(of(&state, group), ["Error", "engine", "fault"]);
        assert_eq!(of(&state, "use crate::*;"), ["*"]);
        let tests = "mod tests { use super::super::engine; } use super::fault;";
        assert_eq!(of(&state, tests), ["engine", "fault"]);
    }

    #[test]
    fn paths_that_stay_comments_and_texts_are_not() {
        for stays in [
            "use super::engine;",
            "mod tests { use super::super::engine; }",
            "// use crate::engine;\n/* crate::engine */",
            "/// [`crate::engine`]\nfn f<'a>(x: &'a str) {}",
            r##"let x = ("crate::engine \" crate::engine", r#"" crate::engine"#, '"', '\'', b'"');"##,
            "pub(crate) fn engine() {}",
            "use other::crate_::engine; use a::super_::engine;",
        ] {
            assert_eq!(of(&["state", "file"], stays), [""; 0], "{stays}");
        }
        let behind = "let c = '\"'; let d = '\\''; fn f<'a>() { crate::engine::x::<'a>() }";
        assert_eq!(of(&["state"], behind), ["engine"]);
    }

    #[test]
    fn what_the_library_takes_out_of_a_room_is_of_that_room() {
        let rooms = BTreeSet::from(["engine".to_owned()]);
        let door = "pub mod engine;\npub use engine::{Edit, Engine};\npub use other::View;";
        let facade = facade(door, &rooms);
        assert_eq!(facade.keys().collect::<Vec<_>>(), ["Edit", "Engine"]);
    }
}
