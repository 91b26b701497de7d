//! How far was each partition of a topic read, and is it still the same topic?
//!
//! Offsets alone do not tell a topic from another of its name. So the digest of the last
//! message is kept with its offset, and reading goes on *at* that message: if it is the same,
//! what came before it stands; if it is another, or the log ends before it, the topic was made
//! anew. Where compaction removed it, the next message is further on, and is believed; but a gap in what
//! came while nobody read may have held a deletion ([`Arrival::Skipped`]).

use std::collections::BTreeMap;

use rdkafka::message::Message;
use rdkafka::{Offset as Start, TopicPartitionList};

use crate::{NextMessage, Offset};

/// The partitions of a topic, as far as they were read.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    by_number: BTreeMap<i32, Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    /// Where reading goes on; none before the first message.
    next: Option<NextMessage>,
    /// Whether the message before `next` is still to be seen again.
    is_unproven: bool,
    /// Whether all that stood there when it was read is read.
    is_at_end: bool,
    /// Whether messages came while nobody read them, and not all of these are read.
    is_behind: bool,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the next one.
    New,
    /// It would be, but that messages before it were removed while nobody read.
    Skipped,
    /// It was read before.
    Known,
    /// It stands where another one was: this is another topic of the same name.
    Foreign,
}

/// The first message that a partition still has, and the one after its last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) low: i64,
    pub(super) high: i64,
}

/// What the extent of a partition says of where it was to be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It can be read on.
    Sound,
    /// Messages from the first offset up to the second were removed before they were read.
    Lost(i64, i64),
    /// It is shorter than what was read of it.
    Foreign,
}

impl Partitions {
    /// Goes on where an earlier run ended.
    pub(super) fn resume(next: &BTreeMap<i32, NextMessage>) -> Self {
        let partition = |next: &NextMessage| Partition {
            next: Some(*next),
            is_unproven: true,
            is_at_end: false,
            is_behind: true,
        };
        let by_number = next.iter().map(|(number, next)| (*number, partition(next)));
        Self {
            by_number: by_number.collect(),
        }
    }

    /// Whether these are known, and no others.
    pub(super) fn are(&self, numbers: &[i32]) -> bool {
        self.by_number.keys().eq(numbers)
    }

    /// Whether a partition is known that is not among these.
    pub(super) fn exceed(&self, numbers: &[i32]) -> bool {
        self.by_number.keys().any(|known| !numbers.contains(known))
    }

    /// Adds those that are not known, to be read from their beginning.
    pub(super) fn add(&mut self, numbers: &[i32]) {
        for number in numbers {
            self.by_number.entry(*number).or_default();
        }
    }

    /// All are to be read from their beginning.
    pub(super) fn forget(&mut self) {
        for partition in self.by_number.values_mut() {
            *partition = Partition::default();
        }
    }

    /// The last message of each is to be seen again.
    pub(super) fn doubt(&mut self) {
        for partition in self.by_number.values_mut() {
            partition.is_unproven = partition.next.is_some();
            partition.is_at_end = false;
        }
    }

    /// Nobody could read for a while.
    pub(super) fn fall_behind(&mut self) {
        for partition in self.by_number.values_mut() {
            partition.is_behind = partition.next.is_some();
        }
    }

    /// Messages that were skipped are not missed.
    pub(super) fn skip(&mut self) {
        for partition in self.by_number.values_mut() {
            partition.is_behind = false;
        }
    }

    /// Whether all that stood there is read.
    pub(super) fn are_at_end(&self) -> bool {
        !self.by_number.is_empty() && self.by_number.values().all(|p| p.is_at_end)
    }

    /// Takes a message in.
    pub(super) fn arrive(&mut self, message: &impl Message) -> Arrival {
        let partition = self.by_number.entry(message.partition()).or_default();
        let digest = digest(message);
        if let Some(next) = partition.next {
            let is_last = message.offset() == next.offset - 1;
            let is_unproven = std::mem::take(&mut partition.is_unproven);
            if is_last && is_unproven && digest != next.last {
                return Arrival::Foreign;
            }
            if message.offset() < next.offset {
                return Arrival::Known;
            }
            if message.offset() > next.offset && partition.is_behind {
                return Arrival::Skipped;
            }
        }
        partition.next = Some(NextMessage {
            offset: message.offset() + 1,
            last: digest,
        });
        Arrival::New
    }

    /// Notes that a partition has no further message for now. Whether it can be the one that
    /// was read before.
    pub(super) fn end(&mut self, number: i32) -> bool {
        match self.by_number.get_mut(&number) {
            Some(partition) => {
                partition.is_at_end = true;
                partition.is_behind &= partition.is_unproven;
                !partition.is_unproven
            }
            // Of an assignment before this one.
            None => true,
        }
    }

    /// Compares with what a partition holds, and moves on where messages are lost.
    pub(super) fn stand(&mut self, number: i32, extent: Extent) -> Standing {
        let Some(partition) = self.by_number.get_mut(&number) else {
            return Standing::Sound;
        };
        let Some(next) = &mut partition.next else {
            return Standing::Sound;
        };
        if extent.high < next.offset {
            return Standing::Foreign;
        }
        // The last message is no more, if its partition ended without it; what follows it may be
        // whole.
        if extent.low < next.offset {
            partition.is_unproven &= !partition.is_at_end;
            return Standing::Sound;
        }
        partition.is_unproven = false;
        let from = std::mem::replace(&mut next.offset, extent.low);
        match from == extent.low {
            true => Standing::Sound,
            false => Standing::Lost(from, extent.low),
        }
    }

    /// Which partitions there are.
    pub(super) fn numbers(&self) -> Vec<i32> {
        self.by_number.keys().copied().collect()
    }

    /// Where each is to be read on.
    pub(super) fn assignment(&self, topic: &str) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(self.by_number.len());
        for (number, partition) in &self.by_number {
            let start = match partition.next {
                None => Start::Beginning,
                Some(next) if partition.is_unproven => Start::Offset(next.offset - 1),
                Some(next) => Start::Offset(next.offset),
            };
            let added = list.add_partition_offset(topic, *number, start);
            debug_assert!(added.is_ok(), "offsets that were read are sound");
        }
        list
    }

    /// Where a run would resume that has all that came so far.
    pub(super) fn position(&self, topic: &str) -> Offset {
        let read = self.by_number.iter();
        Offset::Partitions {
            topic: topic.to_owned(),
            next: read
                .filter_map(|(number, p)| Some((*number, p.next?)))
                .collect(),
        }
    }
}

/// What tells one message from another at the same place.
fn digest(message: &impl Message) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("perennial connectors message digest v1");
    hasher.update(&message.timestamp().to_millis().unwrap_or(-1).to_le_bytes());
    for part in [message.key(), message.payload()] {
        let len = part.map_or(u64::MAX, |bytes| bytes.len() as u64);
        hasher.update(&len.to_le_bytes());
        hasher.update(part.unwrap_or_default());
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    use super::*;

    fn message(offset: i64, text: &str) -> OwnedMessage {
        let payload = Some(text.as_bytes().to_vec());
        OwnedMessage::new(
            payload,
            None,
            "t".to_owned(),
            Timestamp::NotAvailable,
            0,
            offset,
            None,
        )
    }

    /// Partition 0 of a run that read messages 0 and 1 and was started again.
    fn resumed() -> Partitions {
        let mut first = Partitions::default();
        first.add(&[0]);
        assert_eq!(first.arrive(&message(0, "a")), Arrival::New);
        assert_eq!(first.arrive(&message(1, "b")), Arrival::New);
        match first.position("t") {
            Offset::Partitions { next, .. } => Partitions::resume(&next),
            other => panic!("{other:?}"),
        }
    }

    fn start(partitions: &Partitions) -> Start {
        partitions.assignment("t").elements()[0].offset()
    }

    #[test]
    fn reading_goes_on_at_the_last_message_which_is_not_taken_twice() {
        let mut same = resumed();
        assert_eq!(start(&same), Start::Offset(1));
        assert_eq!(same.arrive(&message(1, "b")), Arrival::Known);
        assert_eq!(same.arrive(&message(2, "c")), Arrival::New);
        assert_eq!(start(&same), Start::Offset(3));
        assert!(same.end(0) && same.are_at_end());
    }

    #[test]
    fn another_topic_of_the_name_is_told() {
        assert_eq!(resumed().arrive(&message(1, "x")), Arrival::Foreign);
        assert!(!resumed().end(0), "it ends before its last message");
        let shorter = Extent { low: 0, high: 1 };
        assert_eq!(resumed().stand(0, shorter), Standing::Foreign);
        let mut forgotten = resumed();
        forgotten.forget();
        assert_eq!(start(&forgotten), Start::Beginning);
        assert!(resumed().exceed(&[]) && !resumed().exceed(&[0, 1]));
    }

    #[test]
    fn one_that_is_doubted_while_it_is_read_is_told_too() {
        let mut read = resumed();
        assert_eq!(read.arrive(&message(1, "b")), Arrival::Known);
        assert_eq!(read.arrive(&message(2, "c")), Arrival::New);
        assert!(read.end(0) && read.are_at_end());
        read.doubt();
        assert!(!read.are_at_end());
        assert_eq!(start(&read), Start::Offset(2));
        assert_eq!(read.arrive(&message(2, "x")), Arrival::Foreign);
    }

    #[test]
    fn a_last_message_that_compaction_removed_is_no_other_topic() {
        let mut ended = resumed();
        assert!(!ended.end(0));
        let as_long = Extent { low: 0, high: 2 };
        assert_eq!(ended.stand(0, as_long), Standing::Sound);
        assert_eq!(start(&ended), Start::Offset(2));
        assert!(ended.end(0));
    }

    #[test]
    fn what_is_removed_while_nobody_reads_is_noticed_and_later_compaction_is_believed() {
        let mut behind = resumed();
        assert_eq!(behind.arrive(&message(1, "b")), Arrival::Known);
        assert_eq!(behind.arrive(&message(2, "c")), Arrival::New);
        assert_eq!(behind.arrive(&message(7, "x")), Arrival::Skipped);
        assert_eq!(start(&behind), Start::Offset(3), "it is not taken in");
        behind.skip();
        assert_eq!(behind.arrive(&message(7, "x")), Arrival::New);
        // The last one may be removed, too.
        assert_eq!(resumed().arrive(&message(2, "c")), Arrival::New);
        assert_eq!(resumed().arrive(&message(3, "d")), Arrival::Skipped);
        // Whoever reads along misses nothing, until nobody can.
        let mut along = resumed();
        assert_eq!(along.arrive(&message(1, "b")), Arrival::Known);
        assert!(along.end(0));
        assert_eq!(along.arrive(&message(7, "x")), Arrival::New);
        along.fall_behind();
        assert_eq!(along.arrive(&message(9, "y")), Arrival::Skipped);
        along.forget();
        assert_eq!(along.arrive(&message(9, "y")), Arrival::New);
    }

    #[test]
    fn loss_is_told() {
        let stand = |low, high| resumed().stand(0, Extent { low, high });
        assert_eq!(stand(0, 9), Standing::Sound);
        assert_eq!(stand(2, 2), Standing::Sound);
        assert_eq!(stand(5, 9), Standing::Lost(2, 5));
        let mut lost = resumed();
        lost.stand(0, Extent { low: 5, high: 9 });
        assert_eq!(start(&lost), Start::Offset(5));
    }
}
