//! Which tokens are there, and what may each of them?
//!
//! ```text
//! # roles       token                             only these
//! admin         5f0c7c1e0a6b4c27a7e5d3f1b9b0c2d4
//! read          0b1f6f4d8a3e47f3a1c5e7d9f2b4c6e8  answers urgent
//! read,write    c3d5e7f9a1b24c6d8e0f1a2b3c4d5e6f  docs answers
//! ask           d4e6f8a0b2c35d7e9f1a3b5c7d9e0f2a  answers tenant=acme
//! ```
//!
//! # Invariants
//! - Only digests of tokens are kept, all of them are compared, and each comparison takes as long whatever
//!   they share.
//! - A file that cannot be read changes nothing: what was read last holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// The shortest token, in bytes.
const TOKEN_MIN: usize = 16;
/// The longest.
const TOKEN_MAX: usize = 1024;
/// The largest file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// What a token may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Role {
    /// Ask views, and be told the answers to that alone.
    Ask,
    /// Look, and ask.
    Read,
    /// Feed streams and tables.
    Write,
    /// All, statements that declare included.
    Admin,
}

impl Role {
    fn of(word: &str) -> Option<Self> {
        match word {
            "ask" => Some(Self::Ask),
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }

    /// As it stands in a file of tokens.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// What somebody may who was let in.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    roles: BTreeSet<Role>,
    /// The streams and views to which it is restricted, if it is.
    only: Option<BTreeSet<String>>,
    /// Columns, and the values with which it asks.
    bound: BTreeMap<String, String>,
    /// Tells it from others, and says nothing of the token. None where there are no tokens.
    asker: Option<Arc<str>>,
}

impl Grant {
    /// That of who is on this machine, where there are no tokens.
    pub(super) fn all() -> Self {
        Self::of_roles([Role::Admin])
    }

    /// That of who has these roles for all streams and views.
    pub(super) fn of_roles(roles: impl IntoIterator<Item = Role>) -> Self {
        Self {
            roles: roles.into_iter().collect(),
            only: None,
            bound: BTreeMap::new(),
            asker: None,
        }
    }

    /// Whether it has a role.
    pub(super) fn has(&self, role: Role) -> bool {
        let is_implied = role == Role::Ask && self.roles.contains(&Role::Read);
        is_implied || self.roles.contains(&role) || self.roles.contains(&Role::Admin)
    }

    /// Columns, and the values with which it asks.
    pub(super) fn bound(&self) -> &BTreeMap<String, String> {
        &self.bound
    }

    /// What tells it from others, in what it asks and in counts. It stays whatever else the file says.
    pub(super) fn asker(&self) -> Option<&Arc<str>> {
        self.asker.as_ref()
    }

    /// Whether it reaches a stream or a view.
    pub(super) fn reaches(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name))
    }

    /// Whether it is restricted to some streams and views.
    pub(super) fn is_restricted(&self) -> bool {
        self.only.is_some()
    }
}

/// Why a file of tokens cannot be used. The tokens are not shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line of it is none.
    #[error("{path}:{line}: {reason}; write ROLES TOKEN [NAME …], as `read,write 0b1f… docs`")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// It has no token.
    #[error("{path}: there is no token in it; write ROLES TOKEN [NAME …], as `admin 5f0c…`")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// The tokens of a server, as its file says them.
pub struct Tokens {
    path: PathBuf,
    known: RwLock<Arc<Known>>,
}

struct Known {
    text: blake3::Hash,
    tokens: Vec<(blake3::Hash, Grant)>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads a file of tokens.
    ///
    /// # Errors
    /// [`TokensError`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, TokensError> {
        let path = path.into();
        let known = read(&path)?;
        Ok(Self {
            path,
            known: RwLock::new(Arc::new(known)),
        })
    }

    /// Reads it again. Whether it says something else.
    ///
    /// # Errors
    /// [`TokensError`]; what was known holds then.
    pub fn reread(&self) -> Result<bool, TokensError> {
        let new = read(&self.path)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = known.text != new.text;
        if is_other {
            *known = Arc::new(new);
        }
        Ok(is_other)
    }

    /// What a token may; none if it is unknown.
    pub(super) fn grant(&self, token: &[u8]) -> Option<Grant> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.clone();
        let digest = blake3::hash(token);
        // All are looked at, so that the time tells nothing of where it stands.
        let mut found = None;
        for (of, grant) in &known.tokens {
            if *of == digest {
                found = Some(grant);
            }
        }
        found.cloned()
    }

    /// What a token may by now that was let in with this: none once its line is gone.
    pub(super) fn renewed(&self, before: &Grant) -> Option<Grant> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.clone();
        let asker = before.asker.as_ref()?;
        let mut grants = known.tokens.iter().map(|(_, grant)| grant);
        grants
            .find(|grant| grant.asker.as_ref() == Some(asker))
            .cloned()
    }
}

fn read(path: &Path) -> Result<Known, TokensError> {
    let unreadable = |source| TokensError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let n_bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if n_bytes > FILE_MAX {
        return Err(unreadable(std::io::Error::other("the file is over 1 MiB")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let tokens = all(&text).map_err(|(line, reason)| TokensError::Malformed {
        path: path.to_owned(),
        line,
        reason,
    })?;
    if tokens.is_empty() {
        return Err(TokensError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(Known {
        text: blake3::hash(text.as_bytes()),
        tokens,
    })
}

/// The tokens of a file's text, each with its grant; else which line is none, and why.
pub(super) fn all(text: &str) -> Result<Vec<(blake3::Hash, Grant)>, (usize, String)> {
    let mut tokens = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (digest, grant) = parse(line).map_err(|reason| (number, reason))?;
        if tokens.iter().any(|(of, _)| *of == digest) {
            return Err((number, "this token stands above already".to_owned()));
        }
        tokens.push((digest, grant));
    }
    Ok(tokens)
}

fn parse(line: &str) -> Result<(blake3::Hash, Grant), String> {
    let mut words = line.split_whitespace();
    let roles = words.next().unwrap_or_default().split(',');
    let roles = roles.map(|word| Role::of(word).ok_or("the roles are ask, read, write and admin"));
    let roles: BTreeSet<Role> = roles.collect::<Result<_, _>>()?;
    let token = words.next().ok_or("the token is missing")?;
    if !(TOKEN_MIN..=TOKEN_MAX).contains(&token.len()) {
        let n = token.len();
        return Err(format!(
            "the token is {n} bytes long, where {TOKEN_MIN} to {TOKEN_MAX} are expected"
        ));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the token holds characters that are not ASCII".to_owned());
    }
    let (mut only, mut bound) = (BTreeSet::new(), BTreeMap::new());
    for word in words {
        match word.split_once('=') {
            None => drop(only.insert(word.to_owned())),
            Some((column, value)) if !column.is_empty() && !value.is_empty() => {
                if bound.insert(column.to_owned(), value.to_owned()).is_some() {
                    return Err(format!("the column {column} stands there twice"));
                }
            }
            Some(_) => return Err("write COLUMN=VALUE, as tenant=acme".to_owned()),
        }
    }
    // Who looks at a view sees the rows of all.
    if !bound.is_empty() && roles.iter().any(|role| *role != Role::Ask) {
        return Err("COLUMN=VALUE is for the role `ask` alone".to_owned());
    }
    if !only.is_empty() && roles.contains(&Role::Admin) {
        return Err("who may do all is not restricted to some names".to_owned());
    }
    let grant = Grant {
        roles,
        only: (!only.is_empty()).then_some(only),
        bound,
        asker: Some(asker_of(token)),
    };
    Ok((blake3::hash(token.as_bytes()), grant))
}

/// What stands for a token in what it asks: not to be turned back, and not that by which it is known.
fn asker_of(token: &str) -> Arc<str> {
    let key = blake3::derive_key("perennial 2026 who asks", token.as_bytes());
    blake3::Hash::from(key).to_hex().as_str().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<Tokens, TokensError> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("tokens");
        std::fs::write(&path, text).expect("writable");
        Tokens::open(path)
    }

    #[test]
    fn a_token_may_what_its_line_says() {
        let tokens = open(
            "# who\n\nadmin aaaaaaaaaaaaaaaa\nread bbbbbbbbbbbbbbbb answers\n\
             read,write cccccccccccccccc\n",
        )
        .expect("tokens");
        let admin = tokens.grant(b"aaaaaaaaaaaaaaaa").expect("known");
        assert!(admin.has(Role::Read) && admin.has(Role::Write) && admin.reaches("x"));
        let reader = tokens.grant(b"bbbbbbbbbbbbbbbb").expect("known");
        assert!(reader.has(Role::Read) && !reader.has(Role::Write) && !reader.has(Role::Admin));
        assert!(reader.reaches("answers") && !reader.reaches("docs"));
        let both = tokens.grant(b"cccccccccccccccc").expect("known");
        assert!(both.has(Role::Read) && both.has(Role::Write) && !both.has(Role::Admin));
        for wrong in [
            "",
            "aaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaab",
            "aaaaaaaaaaaaaaaaa",
        ] {
            assert!(tokens.grant(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn who_may_ask_only_asks_and_with_the_columns_of_its_line() {
        let tokens = open(
            "ask aaaaaaaaaaaaaaaa answers tenant=acme\nread bbbbbbbbbbbbbbbb\nwrite cccccccccccccccc\n",
        )
        .expect("tokens");
        let asker = tokens.grant(b"aaaaaaaaaaaaaaaa").expect("known");
        assert!(asker.has(Role::Ask) && !asker.has(Role::Read) && !asker.has(Role::Write));
        assert!(
            asker.reaches("answers") && !asker.reaches("docs") && !asker.reaches("tenant=acme")
        );
        assert_eq!(
            asker.bound().get("tenant").map(String::as_str),
            Some("acme")
        );
        let reader = tokens.grant(b"bbbbbbbbbbbbbbbb").expect("known");
        assert!(reader.has(Role::Ask) && reader.bound().is_empty());
        assert!(
            !tokens
                .grant(b"cccccccccccccccc")
                .expect("known")
                .has(Role::Ask)
        );
        assert!(asker.asker().is_some() && asker.asker() != reader.asker());
    }

    #[test]
    fn a_line_that_is_none_is_named_and_its_token_is_not_shown() {
        for (text, part) in [
            ("", "no token"),
            ("# nothing", "no token"),
            ("admin", ":1: the token is missing"),
            ("root 0123456789abcdef", "the roles are"),
            ("read, 0123456789abcdef", "the roles are"),
            ("read short-secret", "12 bytes"),
            ("read 0123456789abcdéf", "not ASCII"),
            ("admin 0123456789abcdef docs", "not restricted"),
            ("read 0123456789abcdef tenant=acme", "`ask` alone"),
            ("ask,read 0123456789abcdef tenant=acme", "`ask` alone"),
            ("ask 0123456789abcdef tenant=", "COLUMN=VALUE"),
            ("ask 0123456789abcdef a=1 a=2", "twice"),
            (
                "read 0123456789abcdef\nwrite 0123456789abcdef",
                ":2: this token",
            ),
        ] {
            let error = open(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(
                !error.contains("0123456789") && !error.contains("short-secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_token_is_told_from_others_alike_wherever_it_stands() {
        let asker = |text: &str| {
            let grant = open(text).expect("tokens").grant(b"bbbbbbbbbbbbbbbb");
            grant.expect("known").asker().cloned().expect("an asker")
        };
        let behind = asker("read aaaaaaaaaaaaaaaa\nread bbbbbbbbbbbbbbbb\n");
        assert_eq!(behind, asker("read bbbbbbbbbbbbbbbb\n"));
        assert_eq!(behind, asker("write bbbbbbbbbbbbbbbb docs\n"));
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("tokens");
        std::fs::write(&path, "read aaaaaaaaaaaaaaaa\n").expect("writable");
        let tokens = Tokens::open(&path).expect("tokens");
        assert!(!tokens.reread().expect("reads"));
        std::fs::write(&path, "nonsense\n").expect("writable");
        assert!(tokens.reread().is_err());
        assert!(tokens.grant(b"aaaaaaaaaaaaaaaa").is_some());
        std::fs::write(&path, "read bbbbbbbbbbbbbbbb\n").expect("writable");
        assert!(tokens.reread().expect("reads"));
        assert!(tokens.grant(b"aaaaaaaaaaaaaaaa").is_none());
        assert!(tokens.grant(b"bbbbbbbbbbbbbbbb").is_some());
    }

    #[test]
    fn what_was_let_in_may_what_its_line_says_by_now() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("tokens");
        std::fs::write(&path, "read aaaaaaaaaaaaaaaa\nread bbbbbbbbbbbbbbbb\n").expect("writable");
        let tokens = Tokens::open(&path).expect("tokens");
        let before = tokens.grant(b"aaaaaaaaaaaaaaaa").expect("known");
        // Its line is another, and the second now.
        let text = "read bbbbbbbbbbbbbbbb\nread aaaaaaaaaaaaaaaa docs\n";
        std::fs::write(&path, text).expect("writable");
        assert!(tokens.reread().expect("reads"));
        let now = tokens.renewed(&before).expect("known");
        assert!(now.reaches("docs") && !now.reaches("answers"));
        std::fs::write(&path, "read bbbbbbbbbbbbbbbb\n").expect("writable");
        assert!(tokens.reread().expect("reads"));
        assert!(tokens.renewed(&before).is_none());
    }
}
