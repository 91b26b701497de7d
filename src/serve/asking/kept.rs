//! Which conversations are kept, and which are to go?
//!
//! A conversation is a row of a table of contexts, which is answered anew whenever documents change. So
//! one that nobody asks for costs model work for ever, and their number is bounded: what was not asked for
//! the longest goes first, and what was not asked for a while goes in any case. One that somebody waits
//! for stays. What was never answered goes with the last who waited for it. A token has half of all at most:
//! beyond that its own give way.
//!
//! This only decides. Who holds it takes the rows away.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::turns::share;

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
    /// Who asks, where there are tokens and it is known.
    asker: Option<Arc<str>>,
    /// Of what it says now.
    text: blake3::Hash,
    /// Whether its row says so.
    is_written: bool,
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
        asker: Option<&str>,
        text: &str,
        now: Instant,
        limit: usize,
    ) -> Result<Entered, Unentered> {
        let text = blake3::hash(text.as_bytes());
        if let Some(of) = self.by_key.get_mut(&row.key) {
            let is_other = of.text != text;
            if is_other && of.n_waiting > 0 {
                return Err(Unentered::Busy);
            }
            of.is_answered &= !is_other;
            of.is_written &= !is_other;
            of.text = text;
            of.asked_at = now;
            of.n_waiting += 1;
            return Ok(Entered {
                is_new: !of.is_written,
                gone: Vec::new(),
            });
        }
        let gone = self.give_way(asker, limit)?;
        let of = Conversation {
            table: row.table.clone(),
            asker: asker.map(Arc::from),
            text,
            is_written: false,
            asked_at: now,
            n_waiting: 1,
            is_answered: false,
        };
        self.by_key.insert(row.key.clone(), of);
        Ok(Entered { is_new: true, gone })
    }

    /// Whether somebody waits for what a conversation is answered to this, or it was answered to it.
    pub(super) fn says(&self, key: &str, text: &str) -> bool {
        let text = blake3::hash(text.as_bytes());
        self.by_key.get(key).is_some_and(|of| of.text == text)
    }

    /// The row of a conversation says what it does.
    pub(super) fn note_written(&mut self, key: &str) {
        if let Some(of) = self.by_key.get_mut(key) {
            of.is_written = true;
        }
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
                    asker: None,
                    text: blake3::hash(text.as_bytes()),
                    is_written: true,
                    asked_at: now,
                    n_waiting: 0,
                    is_answered: true,
                });
            }
        }
        self.make_room(limit, |_| true)
    }

    /// Forgets what was kept in tables that are gone.
    pub(super) fn retain_tables(&mut self, is_there: impl Fn(&str) -> bool) {
        self.adopted.retain(|table| is_there(table));
        self.by_key.retain(|_, of| is_there(&of.table));
    }

    /// Makes room for one more of who asks. Nothing is removed where that is not enough.
    fn give_way(&mut self, asker: Option<&str>, limit: usize) -> Result<Vec<RowId>, Unentered> {
        let is_own = |of: &Conversation| asker.is_some() && of.asker.as_deref() == asker;
        let share = share(limit);
        let waited_for = || self.by_key.values().filter(|of| of.n_waiting > 0);
        if waited_for().count() >= limit || waited_for().filter(|of| is_own(of)).count() >= share {
            return Err(Unentered::Full);
        }
        let mut gone = self.make_room(share.saturating_sub(1), is_own);
        gone.extend(self.make_room(limit.saturating_sub(1), |_| true));
        Ok(gone)
    }

    /// Removes what of these was not asked for the longest, until at most `n` are left, or all are waited for.
    fn make_room(&mut self, n: usize, is_of: impl Fn(&Conversation) -> bool) -> Vec<RowId> {
        let these = || self.by_key.iter().filter(|(_, of)| is_of(of));
        let n_too_many = these().count().saturating_sub(n);
        if n_too_many == 0 {
            return Vec::new();
        }
        let idle = these().filter(|(_, of)| of.n_waiting == 0);
        let mut idle: Vec<(Instant, Arc<str>)> =
            idle.map(|(key, of)| (of.asked_at, key.clone())).collect();
        idle.sort();
        let oldest = idle.into_iter().take(n_too_many);
        oldest.filter_map(|(_, key)| self.remove(&key)).collect()
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
            let entered = kept.enter(&row(1), None, "When?", now, 8).expect("room");
            assert_eq!(entered.is_new, is_new);
            kept.note_written(&row(1).key);
        }
        assert_eq!(kept.leave(&row(1).key, false), None);
        assert_eq!(kept.leave(&row(1).key, false), Some(row(1)));
        assert!(!kept.holds(&row(1).key));
        // One who was answered is enough for it to stay.
        kept.enter(&row(1), None, "When?", now, 8).expect("room");
        kept.enter(&row(1), None, "When?", now, 8).expect("room");
        kept.note_written(&row(1).key);
        assert_eq!(kept.leave(&row(1).key, true), None);
        assert_eq!(kept.leave(&row(1).key, false), None);
        let again = kept.enter(&row(1), None, "When?", now, 8).expect("room");
        assert!(!again.is_new);
    }

    #[test]
    fn who_joins_does_not_count_on_a_row_that_is_not_written() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        kept.enter(&row(1), None, "When?", now, 8).expect("room");
        let joined = kept.enter(&row(1), None, "When?", now, 8).expect("room");
        assert!(joined.is_new);
        // Of other words the row has to be written again.
        kept.note_written(&row(1).key);
        kept.leave(&row(1).key, true);
        kept.leave(&row(1).key, true);
        let other = kept.enter(&row(1), None, "Where?", now, 8).expect("room");
        assert!(other.is_new);
    }

    #[test]
    fn who_has_left_is_not_written_and_neither_are_words_of_before() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        kept.enter(&row(1), None, "When?", now, 8).expect("room");
        assert!(kept.says(&row(1).key, "When?"));
        kept.leave(&row(1).key, false);
        assert!(!kept.says(&row(1).key, "When?"), "it was taken back");
        kept.enter(&row(1), None, "Where?", now, 8).expect("room");
        assert!(
            !kept.says(&row(1).key, "When?"),
            "another word stands there"
        );
        assert!(kept.says(&row(1).key, "Where?"));
    }

    #[test]
    fn one_who_asks_has_half_of_all_and_takes_no_more_from_others() {
        let (mut kept, start) = (Kept::default(), Instant::now());
        let ask = |kept: &mut Kept, n: u8, asker| {
            let now = start + Duration::from_secs(n.into());
            let entered = kept.enter(&row(n), Some(asker), "?", now, 4).expect("room");
            kept.leave(&row(n).key, true);
            entered.gone
        };
        for n in [1, 2] {
            assert_eq!(ask(&mut kept, n, "other"), []);
        }
        for n in [3, 4] {
            assert_eq!(ask(&mut kept, n, "greedy"), []);
        }
        // Its own give way, though those of the other are older.
        for n in 5..40 {
            assert_eq!(ask(&mut kept, n, "greedy"), [row(n - 2)]);
        }
        assert!(kept.holds(&row(1).key) && kept.holds(&row(2).key));
        // A third takes what was not asked for the longest.
        assert_eq!(ask(&mut kept, 40, "third"), [row(1)]);
    }

    #[test]
    fn one_whose_share_is_waited_for_waits_and_others_do_not() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        let mut enter = |n, asker| {
            kept.enter(&row(n), Some(asker), "?", now, 4)
                .map(|of| of.gone)
        };
        assert_eq!(enter(1, "greedy"), Ok(vec![]));
        assert_eq!(enter(2, "greedy"), Ok(vec![]));
        assert_eq!(enter(3, "greedy"), Err(Unentered::Full));
        assert_eq!(enter(4, "other"), Ok(vec![]));
    }

    #[test]
    fn a_conversation_goes_on_once_nobody_waits_for_its_last_word() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        kept.enter(&row(1), None, "When?", now, 8).expect("room");
        let other = kept.enter(&row(1), None, "Where?", now, 8);
        assert_eq!(other, Err(Unentered::Busy));
        kept.leave(&row(1).key, true);
        assert!(
            kept.enter(&row(1), None, "Where?", now, 8)
                .expect("room")
                .is_new
        );
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
                    0 | 1 => match kept.enter(&row(n), None, "text", now, LIMIT) {
                        Ok(entered) => {
                            prop_assert_eq!(entered.is_new, !there.contains(&row(n)));
                            kept.note_written(&row(n).key);
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
