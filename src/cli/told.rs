//! What is told of a statement that was carried out?
//!
//! What was asked for (rows, plans, receipts) goes to standard output; that something was made or
//! changed is said only to who types statements one by one.

use std::io::{self, Write};

use perennial::engine::Receipt;
use perennial::json;
use perennial::sql::{Kind, Outcome};
use serde_json::{Value, json};

use super::live::Live;
use super::table::table;
use super::wording;

/// How outcomes are told.
pub(crate) struct Teller {
    pub(crate) live: Live,
    /// One JSON object a line.
    pub(crate) is_json: bool,
    /// Whether each statement gets a word.
    pub(crate) is_talkative: bool,
    /// Columns of the terminal, where there is one.
    pub(crate) width: Option<u16>,
}

impl Teller {
    /// Tells an outcome. A subscription is not told, but followed.
    ///
    /// # Errors
    /// A failed write.
    pub(crate) fn tell(&self, out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
        match outcome {
            Outcome::Created { kind, name, notice } => {
                self.say(&format!("{} {name} created", noun(*kind)));
                match notice {
                    Some(notice) if self.is_json => {
                        let notice = json!({"event": "notice", "source": name, "message": notice});
                        writeln!(out, "{notice}")?;
                    }
                    Some(notice) => self.live.say(notice),
                    None => {}
                }
            }
            Outcome::Altered { name } => self.say(&format!("view {name} altered")),
            Outcome::Dropped {
                kind,
                name,
                was_there,
            } => self.say(&match was_there {
                true => format!("{} {name} dropped", noun(*kind)),
                false => format!("there was no {} {name}", noun(*kind)),
            }),
            Outcome::Done { n_rows } => self.say(&wording::count(*n_rows, "row")),
            Outcome::Rows {
                schema,
                rows,
                notices,
            } if self.is_json => {
                let names = schema.columns().iter().map(|column| &*column.name);
                let names: Vec<&str> = names.collect();
                let rows: Vec<Value> = rows.iter().map(|row| json::row(schema, row)).collect();
                let mut result = json!({"event": "result", "columns": names, "rows": rows});
                if !notices.is_empty() {
                    result["notices"] = json!(notices);
                }
                writeln!(out, "{result}")?;
            }
            Outcome::Rows {
                schema,
                rows,
                notices,
            } => {
                writeln!(out, "{}", table(schema, rows, self.width))?;
                notices.iter().for_each(|notice| self.live.say(notice));
            }
            Outcome::Plan(plan) if self.is_json => {
                writeln!(out, "{}", json!({"event": "plan", "plan": plan}))?;
            }
            Outcome::Plan(plan) => writeln!(out, "{}", wording::plain(plan))?,
            Outcome::Forgotten(receipt) if self.is_json => {
                writeln!(out, "{}", json!({"event": "forgotten", "receipt": receipt}))?;
            }
            Outcome::Forgotten(receipt) => forgotten(out, receipt, false)?,
            Outcome::MemoryForgotten(receipt) if self.is_json => {
                writeln!(out, "{}", json!({"event": "forgotten", "receipt": receipt}))?;
            }
            Outcome::MemoryForgotten(receipt) => {
                let n = wording::count(receipt.n_records, "record");
                let (by, of) = (&receipt.by, wording::plain(&receipt.of));
                writeln!(out, "{n} of {by} {of} forgotten")?;
                for place in &receipt.remains {
                    let place = wording::plain(place);
                    writeln!(out, "something of it is left: {place}")?;
                }
            }
            Outcome::Granted { is_given } => self.say(match is_given {
                true => "granted",
                false => "revoked",
            }),
            _ => {}
        }
        out.flush()
    }

    fn say(&self, text: &str) {
        if self.is_talkative {
            self.live.say(text);
        }
    }
}

/// Tells that a record is forgotten; whether the answers that were not made without it went with it.
///
/// # Errors
/// A failed write.
pub(crate) fn forgotten(
    out: &mut impl Write,
    receipt: &Receipt,
    went_along: bool,
) -> io::Result<()> {
    let was_there = match receipt.was_there {
        true => "is forgotten",
        false => "was not there; what remembered it is forgotten",
    };
    let answers = wording::count(receipt.n_answers, "answer");
    let become_of = match went_along {
        true => "erased with it, to be made again at the next start",
        false => "made without it",
    };
    let key = wording::plain(&receipt.key);
    let letters = match receipt.n_letters {
        0 => String::new(),
        n => format!(", {} erased", wording::count(n, "dead letter")),
    };
    writeln!(out, "{key} {was_there}: {answers} {become_of}{letters}")?;
    for place in &receipt.remains {
        writeln!(out, "something of it is left: {}", wording::plain(place))?;
    }
    Ok(())
}

fn noun(kind: Kind) -> String {
    kind.keyword().to_lowercase()
}
