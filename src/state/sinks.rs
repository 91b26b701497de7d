//! What are sinks owed, and what were they given?
//!
//! What a sink is owed stands with the epoch that made it, and is struck off when it was delivered. Of a view of a
//! query it is known by digests what its sinks have, so that only what differs is delivered.

use perennial_connectors::Delivery;
use redb::ReadableTable as _;

use super::format::{self, OUTBOX, SINKS, UPSERTS};
use super::{State, StateError, replacing};
use crate::engine::upserts::digest_of_row;

/// A sink that is declared, or was and is not there now.
pub(crate) struct DeclaredSink<'a> {
    pub name: &'a str,
    pub view: &'a str,
    /// Whether it is known only once its view's first epoch is there.
    pub is_waiting: bool,
    /// Of one that is new: what it is owed, if anything.
    pub snapshot: Option<Option<&'a Delivery>>,
}

impl State {
    /// Notes which sinks there are, and for a new one that it is owed this and nothing else; what
    /// others were owed is dropped, and so is what was given of views that no sink takes any more.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub(crate) fn declare_sinks(&self, sinks: &[DeclaredSink<'_>]) -> Result<(), StateError> {
        self.write(|txn| {
            let known = || sinks.iter().filter(|sink| !sink.is_waiting);
            let is_declared = |name: &str| known().any(|sink| sink.name == name);
            let is_taken = |view: &str| known().any(|sink| sink.view == view);
            let mut upserts = txn.open_table(UPSERTS)?;
            drop_upserts(&mut upserts, is_taken)?;
            let mut table = txn.open_table(SINKS)?;
            table.retain(|sink, _| is_declared(sink))?;
            let mut outbox = txn.open_table(OUTBOX)?;
            outbox.retain(|(sink, _), _| is_declared(sink))?;
            replacing::retain(txn, is_declared)?;
            for sink in known() {
                table.insert(sink.name, sink.view)?;
                let Some(snapshot) = sink.snapshot else {
                    continue;
                };
                replacing::note_new(txn, sink.name)?;
                outbox.retain(|(of, _), _| of != sink.name)?;
                if let Some(delivery) = snapshot {
                    let bytes = format::encode_delivery(delivery);
                    outbox.insert((sink.name, delivery.epoch), bytes.as_slice())?;
                    for row in &delivery.rows {
                        if let Some(digest) = digest_of_row(row) {
                            upserts.insert((sink.view, &*row.key), digest)?;
                        }
                    }
                }
            }
            Ok(())
        })
    }

    /// Whether the next delivery of a sink is the first since the state was restored.
    ///
    /// # Errors
    /// [`StateError::Damaged`].
    pub(crate) fn replaces(&self, sink: &str) -> Result<bool, StateError> {
        self.read(|txn| replacing::is_noted(txn, sink))
    }

    /// What a sink is owed, in order.
    ///
    /// # Errors
    /// [`StateError::Damaged`].
    pub(crate) fn owed(&self, sink: &str) -> Result<Vec<Delivery>, StateError> {
        self.read(|txn| {
            let outbox = txn.open_table(OUTBOX)?;
            let owed = outbox.range((sink, 0)..=(sink, u64::MAX))?;
            owed.map(|entry| format::decode_delivery(entry?.1.value()))
                .collect()
        })
    }

    /// Strikes off what a sink has got, up to an epoch. Not at once durable: after a crash it
    /// may be owed again.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub(crate) fn delivered(&self, sink: &str, epoch: u64) -> Result<(), StateError> {
        let write = || -> Result<(), redb::Error> {
            let db = self.db();
            let mut txn = db.begin_write()?;
            txn.set_durability(redb::Durability::None)?;
            txn.open_table(OUTBOX)?
                .retain_in((sink, 0)..=(sink, epoch), |_, _| false)?;
            replacing::note_replaced(&txn, sink)?;
            txn.commit()?;
            Ok(())
        };
        write().map_err(|error| StateError::write(&self.path, error))
    }

    /// Of what sinks are owed, drops rows that a later delivery says anew.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub(crate) fn keep_last_deliveries(
        &self,
        mut keep_last: impl FnMut(&str, &mut Delivery),
    ) -> Result<(), StateError> {
        self.write(|txn| {
            let mut outbox = txn.open_table(OUTBOX)?;
            let mut kept = Vec::new();
            for entry in outbox.iter()?.rev() {
                let (key, bytes) = entry?;
                let (sink, epoch) = key.value();
                let mut delivery: Delivery = format::decode_delivery(bytes.value())?;
                keep_last(sink, &mut delivery);
                kept.push((sink.to_owned(), epoch, delivery));
            }
            for (sink, epoch, delivery) in kept {
                outbox.insert(
                    (&*sink, epoch),
                    format::encode_delivery(&delivery).as_slice(),
                )?;
            }
            Ok(())
        })
    }
}

/// Adds rows to the last delivery that is owed to a sink, in the place of older ones of the same keys: so
/// what it is owed does not outgrow what the view says.
pub(super) fn add_merged(
    outbox: &mut redb::Table<'_, (&str, u64), &[u8]>,
    sink: &str,
    delivery: &Delivery,
) -> Result<(), redb::Error> {
    let last = outbox.range((sink, 0)..=(sink, u64::MAX))?.next_back();
    let last = last.transpose()?.map(|(key, bytes)| {
        let delivery: Result<Delivery, _> = format::decode_delivery(bytes.value());
        delivery.map(|delivery| (key.value().1, delivery))
    });
    let mut merged = delivery.clone();
    if let Some((epoch, last)) = last.transpose()? {
        outbox.remove((sink, epoch))?;
        merged = merged.and_before(last.rows);
    }
    outbox.insert(
        (sink, merged.epoch),
        format::encode_delivery(&merged).as_slice(),
    )?;
    Ok(())
}

/// Drops what was given of views that are not taken. Of those that are, one row is looked at.
fn drop_upserts(
    upserts: &mut redb::Table<'_, (&str, &str), [u8; 32]>,
    is_taken: impl Fn(&str) -> bool,
) -> Result<(), redb::Error> {
    let mut from = String::new();
    loop {
        let next = upserts.range((&*from, "")..)?.next().transpose()?;
        let Some(view) = next.map(|(key, _)| key.value().0.to_owned()) else {
            return Ok(());
        };
        // The least text behind the view's name.
        from = format!("{view}\0");
        if !is_taken(&view) {
            upserts.retain_in((&*view, "")..(&*from, ""), |_, _| false)?;
        }
    }
}
