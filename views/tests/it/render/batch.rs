//! What does the scripted model say of a group, from nothing?
//!
//! The plainest way: a function that calls itself over the set of the rows. It shares no code with
//! the dataflow but what a task is.

use std::collections::BTreeSet;

use perennial_ask::scripted;
use perennial_ask::task::Subject;
use perennial_ask::{Output, Task};
use perennial_rows::Value;
use perennial_rows::encoding::Encoder;

type Member = (u64, Vec<Value>);

/// What is said of rows by a model that attends to so many positions.
pub(super) fn aggregate(
    prompt: &str,
    max_tokens: usize,
    n_positions: usize,
    rows: impl IntoIterator<Item = Vec<Value>>,
) -> Value {
    let task = Task::new(prompt, Output::Text { max_tokens }).unwrap();
    let room = n_positions - n_positions / 8;
    let group = Group {
        task,
        n_bytes: room.saturating_sub(prompt.len() + max_tokens),
    };
    let known = rows.into_iter().filter(|row| !row.contains(&Value::Null));
    let members: BTreeSet<Member> = known.map(|row| (place(&row), row)).collect();
    match members.is_empty() {
        true => Value::Null,
        false => group.node(&members.into_iter().collect::<Vec<_>>(), 0),
    }
}

fn place(row: &[Value]) -> u64 {
    let digest = Encoder::new()
        .values(row)
        .digest("perennial 1 place in a group");
    u64::from_be_bytes(digest[..8].try_into().unwrap())
}

struct Group {
    task: Task,
    n_bytes: usize,
}

impl Group {
    fn node(&self, members: &[Member], level: usize) -> Value {
        let mut answers = Vec::new();
        self.slots(members, (0, 16), level, &mut answers);
        if answers.contains(&Value::Null) {
            return Value::Null;
        }
        match &answers[..] {
            [only] => only.clone(),
            several => {
                let task = self.task.clone().of(Subject::Answers { at_most: 16 });
                scripted::output(&task, several)
            }
        }
    }

    fn slots(&self, all: &[Member], (from, to): (u64, u64), level: usize, said: &mut Vec<Value>) {
        let is_within = |(place, _): &&Member| {
            let digit = place >> (60 - 4 * level) & 15;
            from <= digit && digit < to
        };
        let members: Vec<Member> = all.iter().filter(is_within).cloned().collect();
        if members.is_empty() {
            return;
        }
        let bytes = members.iter().flat_map(|(_, row)| row).map(|value| {
            let text = value.as_text();
            text.map_or(48, |text| text.len() + text.len() / 16 + 24)
        });
        if members.len() == 1 || members.len() <= 32 && bytes.sum::<usize>() <= self.n_bytes {
            said.push(self.leaf(&members));
        } else if to - from > 1 {
            let middle = (from + to) / 2;
            self.slots(&members, (from, middle), level, said);
            self.slots(&members, (middle, to), level, said);
        } else if level < 7 {
            said.push(self.node(&members, level + 1));
        } else {
            said.extend(members.chunks(1).map(|member| self.leaf(member)));
        }
    }

    fn leaf(&self, members: &[Member]) -> Value {
        let values: Vec<Value> = members.iter().flat_map(|(_, row)| row.clone()).collect();
        scripted::output(&self.task.clone().of(Subject::Rows), &values)
    }
}
