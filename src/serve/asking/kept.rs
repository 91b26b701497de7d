//! Which conversations are kept, and which are to go?
//!
//! A conversation is a row of a table of contexts, which is answered anew whenever documents change. So
//! one that nobody asks for costs model work for ever, and their number is bounded: what was not asked for
//! the longest goes first, and what was not asked for a while goes in any case. One that somebody waits
//! for stays. What was never answered goes with the last who waited for it.
//!
//! This only decides. Who holds it takes the rows away.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// With this the keys of conversations begin. Rows of other keys are never touched.
const PREFIX: &str = "asked:";
/// Hexadecimal digits behind it.
const DIGITS: usize = 32;

/// The key of a conversation that has this digest.
pub(super) fn key_of(digest: &blake3::Hash) -> Arc<str> {
    format!("{PREFIX}{}", &digest.to_hex()[..DIGITS]).into()
}

/// Whether a row is a conversation, by its key.
pub(super) fn is_conversation(key: &str) -> bool {
    let digits = key.strip_prefix(PREFIX);
    digits.is_some_and(|digits| {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        digits.len() == DIGITS && digits.bytes().all(is_digit)
    })
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowId {
    pub(super) table: Arc<str>,
    pub(super) key: Arc<str>,
}

/// A conversation.
#[derive(Debug)]
struct Conversation {
    table: Arc<str>,
    /// Of what it says now.
    text: blake3::Hash,
    asked_at: Instant,
    n_waiting: usize,
    /// Whether what it says now was answered once.
    is_answered: bool,
}

/// Why a conversation cannot be asked for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unentered {
    /// As many are kept as may be, and all are waited for.
    Full,
    /// Somebody waits for an answer to an earlier word of it.
    Busy,
}

/// What is to be done for who begins to wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entered {
    /// Whether its row does not stand yet, or says something else.
    pub(super) is_new: bool,
    /// What gives way to it.
    pub(super) gone: Vec<RowId>,
}

/// The conversations that are kept, of all tables.
#[derive(Debug, Default)]
pub(super) struct Kept {
    by_key: HashMap<Arc<str>, Conversation>,
    /// Tables whose conversations of an earlier process are known.
    adopted: BTreeSet<Arc<str>>,
}

impl Kept {
    /// Somebody waits for what a conversation is answered.
    pub(super) fn enter(
        &mut self,
        row: &RowId,
        text: &str,
        now: Instant,
        limit: usize,
    ) -> Result<Entered, Unentered> {
        let text = blake3::hash(text.as_bytes());
        if let Some(of) = self.by_key.get_mut(&row.key) {
            let is_new = of.text != text;
            if is_new && of.n_waiting > 0 {
                return Err(Unentered::Busy);
            }
            of.is_answered &= !is_new;
            of.text = text;
            of.asked_at = now;
            of.n_waiting += 1;
            let gone = Vec::new();
            return Ok(Entered { is_new, gone });
        }
        let gone = self.make_room(limit.saturating_sub(1));
        if self.by_key.len() >= limit {
            return Err(Unentered::Full);
        }
        let of = Conversation {
            table: row.table.clone(),
            text,
            asked_at: now,
            n_waiting: 1,
            is_answered: false,
        };
        self.by_key.insert(row.key.clone(), of);
        Ok(Entered { is_new: true, gone })
    }

    /// Somebody waits no more. Returns the row if it is to go.
    pub(super) fn leave(&mut self, key: &str, was_answered: bool) -> Option<RowId> {
        let of = self.by_key.get_mut(key)?;
        of.n_waiting = of.n_waiting.saturating_sub(1);
        of.is_answered |= was_answered;
        if of.is_answered || of.n_waiting > 0 {
            return None;
        }
        self.remove(key)
    }

    /// What nobody has asked for since this long.
    pub(super) fn expire(&mut self, now: Instant, age: Duration) -> Vec<RowId> {
        let is_old = |of: &Conversation| {
            of.n_waiting == 0 && now.saturating_duration_since(of.asked_at) >= age
        };
        let old: Vec<Arc<str>> = self
            .by_key
            .iter()
            .filter(|(_, of)| is_old(of))
            .map(|(key, _)| key.clone())
            .collect();
        old.iter().filter_map(|key| self.remove(key)).collect()
    }

    /// Whether a conversation is kept.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// How many are kept.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether what an earlier process left in a table is known.
    pub(super) fn has_adopted(&self, table: &str) -> bool {
        self.adopted.contains(table)
    }

    /// Takes over what an earlier process left in a table. Returns what is too much.
    pub(super) fn adopt<'a>(
        &mut self,
        table: &Arc<str>,
        rows: impl IntoIterator<Item = (Arc<str>, &'a str)>,
        now: Instant,
        limit: usize,
    ) -> Vec<RowId> {
        if !self.adopted.insert(table.clone()) {
            return Vec::new();
        }
        for (key, text) in rows {
            if is_conversation(&key) {
                self.by_key.entry(key).or_insert_with(|| Conversation {
                    table: table.clone(),
                    text: blake3::hash(text.as_bytes()),
                    asked_at: now,
                    n_waiting: 0,
                    is_answered: true,
                });
            }
        }
        self.make_room(limit)
    }

    /// Forgets what was kept in tables that are gone.
    pub(super) fn retain_tables(&mut self, is_there: impl Fn(&str) -> bool) {
        self.adopted.retain(|table| is_there(table));
        self.by_key.retain(|_, of| is_there(&of.table));
    }

    /// Removes what was not asked for the longest, until at most `n` are left, or all are waited for.
    fn make_room(&mut self, n: usize) -> Vec<RowId> {
        let mut gone = Vec::new();
        while self.by_key.len() > n {
            let idle = self.by_key.iter().filter(|(_, of)| of.n_waiting == 0);
            let oldest = idle.min_by_key(|(key, of)| (of.asked_at, (*key).clone()));
            let Some(key) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            gone.extend(self.remove(&key));
        }
        gone
    }

    fn remove(&mut self, key: &str) -> Option<RowId> {
        let (key, of) = self.by_key.remove_entry(key)?;
        Some(RowId {
            table: of.table,
            key,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(n: u8) -> RowId {
        RowId {
            table: "questions".into(),
            key: key_of(&blake3::hash(&[n])),
        }
    }

    #[test]
    fn keys_of_conversations_are_told_from_all_others() {
        assert!(is_conversation(&row(1).key));
        for other in [
            "asked:",
            "q1",
            "asked:0123",
            "asked:0123456789abcdef0123456789abcdeg",
            "asked:0123456789ABCDEF0123456789abcdef",
            "asked:0123456789abcdef0123456789abcdef0",
        ] {
            assert!(!is_conversation(other), "{other}");
        }
    }

    #[test]
    fn what_was_never_answered_goes_with_the_last_who_waits() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        for is_new in [true, false] {
            let entered = kept.enter(&row(1), "When?", now, 8).expect("room");
            assert_eq!(entered.is_new, is_new);
        }
        assert_eq!(kept.leave(&row(1).key, false), None);
        assert_eq!(kept.leave(&row(1).key, false), Some(row(1)));
        assert!(!kept.holds(&row(1).key));
        // One who was answered is enough for it to stay.
        kept.enter(&row(1), "When?", now, 8).expect("room");
        kept.enter(&row(1), "When?", now, 8).expect("room");
        assert_eq!(kept.leave(&row(1).key, true), None);
        assert_eq!(kept.leave(&row(1).key, false), None);
        assert!(!kept.enter(&row(1), "When?", now, 8).expect("room").is_new);
    }

    #[test]
    fn a_conversation_goes_on_once_nobody_waits_for_its_last_word() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        kept.enter(&row(1), "When?", now, 8).expect("room");
        let other = kept.enter(&row(1), "Where?", now, 8);
        assert_eq!(other, Err(Unentered::Busy));
        kept.leave(&row(1).key, true);
        assert!(kept.enter(&row(1), "Where?", now, 8).expect("room").is_new);
        // The new word was not answered, though the last one was.
        assert_eq!(kept.leave(&row(1).key, false), Some(row(1)));
    }

    #[test]
    fn what_an_earlier_process_left_is_taken_over_once_and_within_the_limit() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        let table: Arc<str> = "questions".into();
        let rows = [
            (row(1).key, "When?"),
            (row(2).key, "Where?"),
            (Arc::from("q1"), "Why?"),
        ];
        assert_eq!(kept.adopt(&table, rows.clone(), now, 1).len(), 1);
        assert_eq!(kept.len(), 1);
        assert!(kept.adopt(&table, rows, now, 1).is_empty());
        kept.retain_tables(|_| false);
        assert!(kept.len() == 0 && !kept.has_adopted("questions"));
    }

    proptest! {
        /// However many ask, leave and wait: there are never more than the limit, nobody's row goes while
        /// they wait, and each row goes once.
        #[test]
        fn rows_are_bounded_and_no_row_goes_that_somebody_waits_for(
            steps in prop::collection::vec((0..12u8, 0..4u8, any::<bool>()), 1..200),
        ) {
            const LIMIT: usize = 4;
            let (mut kept, start) = (Kept::default(), Instant::now());
            let mut waiting: HashMap<u8, usize> = HashMap::new();
            let mut there: BTreeSet<RowId> = BTreeSet::new();
            for (at, (n, what, flag)) in (0..).zip(steps) {
                let now = start + Duration::from_secs(at);
                let gone = match what {
                    0 | 1 => match kept.enter(&row(n), "text", now, LIMIT) {
                        Ok(entered) => {
                            prop_assert_eq!(entered.is_new, !there.contains(&row(n)));
                            there.insert(row(n));
                            *waiting.entry(n).or_default() += 1;
                            entered.gone
                        }
                        Err(why) => {
                            prop_assert_eq!(why, Unentered::Full);
                            let n_waited_for = waiting.values().filter(|n| **n > 0).count();
                            prop_assert_eq!(n_waited_for, LIMIT);
                            Vec::new()
                        }
                    },
                    2 => match waiting.get_mut(&n) {
                        Some(n_waiting) if *n_waiting > 0 => {
                            *n_waiting -= 1;
                            kept.leave(&row(n).key, flag).into_iter().collect()
                        }
                        _ => Vec::new(),
                    },
                    _ => kept.expire(now, Duration::from_secs(10)),
                };
                for of in gone {
                    prop_assert!(there.remove(&of), "it went twice");
                    let is_waited_for =
                        waiting.iter().any(|(n, n_waiting)| *n_waiting > 0 && row(*n) == of);
                    prop_assert!(!is_waited_for);
                }
                prop_assert!(there.len() <= LIMIT);
                prop_assert_eq!(there.len(), kept.len());
            }
        }
    }
}
