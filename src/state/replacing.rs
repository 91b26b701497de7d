//! What are sinks told by a state that was restored from a backup?
//!
//! Such a state goes back to an earlier epoch, and what its sinks were told does not. So it begins
//! another *origin*, remembers those that it had, and knows no sink any more: each is new, and gets all
//! that stands. That first delivery *replaces* what was delivered under the former origins: rows of
//! these that it does not name are gone ([`Sink::replace`](perennial_connectors::Sink::replace)). It is
//! noted with the delivery, and struck off with it, so that a crash in between changes nothing.

use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::format::{FORMER_PREFIX, MANIFEST, ORIGIN_KEY, OUTBOX, REPLACES_PREFIX, SINKS, UPSERTS};

/// Begins another origin: no sink is known, and none is owed anything.
pub(super) fn begin(txn: &WriteTransaction, origin: u64) -> Result<(), redb::Error> {
    txn.open_table(SINKS)?.retain(|_, _| false)?;
    txn.open_table(OUTBOX)?.retain(|_, _| false)?;
    txn.open_table(UPSERTS)?.retain(|_, _| false)?;
    let mut manifest = txn.open_table(MANIFEST)?;
    manifest.retain(|key, _| !key.starts_with(REPLACES_PREFIX))?;
    let former = manifest.insert(ORIGIN_KEY, origin)?.map(|of| of.value());
    if let Some(former) = former {
        manifest.insert(&*format!("{FORMER_PREFIX}{former:016x}"), former)?;
    }
    Ok(())
}

/// The origins that a state had before it was restored.
pub(super) fn former(
    manifest: &impl ReadableTable<&'static str, u64>,
) -> Result<Vec<u64>, redb::Error> {
    let mut former = Vec::new();
    for entry in manifest.range(FORMER_PREFIX..)? {
        let (key, origin) = entry?;
        if !key.value().starts_with(FORMER_PREFIX) {
            break;
        }
        former.push(origin.value());
    }
    Ok(former)
}

/// Notes of a sink that is new that its first delivery replaces what former origins delivered, if there
/// are any.
pub(super) fn note_new(txn: &WriteTransaction, sink: &str) -> Result<(), redb::Error> {
    let mut manifest = txn.open_table(MANIFEST)?;
    if !former(&manifest)?.is_empty() {
        manifest.insert(&*key_of(sink), 1)?;
    }
    Ok(())
}

/// Notes that a sink has taken that delivery.
pub(super) fn note_replaced(txn: &WriteTransaction, sink: &str) -> Result<(), redb::Error> {
    txn.open_table(MANIFEST)?.remove(&*key_of(sink))?;
    Ok(())
}

/// Whether the next delivery of a sink is that one.
pub(super) fn is_noted(txn: &ReadTransaction, sink: &str) -> Result<bool, redb::Error> {
    let manifest = txn.open_table(MANIFEST)?;
    Ok(manifest.get(&*key_of(sink))?.is_some())
}

/// Forgets it of sinks that are not declared any more.
pub(super) fn retain(
    txn: &WriteTransaction,
    is_declared: impl Fn(&str) -> bool,
) -> Result<(), redb::Error> {
    let mut manifest = txn.open_table(MANIFEST)?;
    manifest.retain(|key, _| {
        let sink = key.strip_prefix(REPLACES_PREFIX);
        sink.is_none_or(&is_declared)
    })?;
    Ok(())
}

fn key_of(sink: &str) -> String {
    format!("{REPLACES_PREFIX}{sink}")
}
