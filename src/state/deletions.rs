//! When was a record deleted, by the account of who deleted it?
//!
//! So that an older version which comes later is late after a restart, too. The times stand in the
//! manifest: a program that does not know them goes on without.

use std::collections::{BTreeMap, HashMap};

use redb::{ReadableTable, WriteTransaction};

use super::format::{DELETED_PREFIX, MANIFEST};

/// By stream: when keys were deleted, in milliseconds since 1970.
pub(super) type Times = HashMap<String, BTreeMap<String, i64>>;

/// Notes when these keys of streams were deleted, or forgets it.
pub(super) fn put<'a>(
    txn: &WriteTransaction,
    deletions: impl Iterator<Item = (&'a str, &'a str, Option<i64>)>,
) -> Result<(), redb::Error> {
    let mut manifest = txn.open_table(MANIFEST)?;
    for (stream, key, at_ms) in deletions {
        let name = format!("{DELETED_PREFIX}{}:{stream}{key}", stream.len());
        match at_ms {
            Some(at_ms) => manifest.insert(&*name, at_ms.cast_unsigned())?,
            None => manifest.remove(&*name)?,
        };
    }
    Ok(())
}

/// All that are noted.
pub(super) fn all(manifest: &impl ReadableTable<&'static str, u64>) -> Result<Times, redb::Error> {
    let mut times = Times::new();
    for entry in manifest.range(DELETED_PREFIX..)? {
        let (name, at_ms) = entry?;
        let Some(of) = name.value().strip_prefix(DELETED_PREFIX) else {
            break;
        };
        let Some((stream, key)) = parts(of) else {
            let what = format!("a deletion: {:?}", name.value());
            return Err(redb::Error::Corrupted(what));
        };
        let of_stream = times.entry(stream.to_owned()).or_default();
        of_stream.insert(key.to_owned(), at_ms.value().cast_signed());
    }
    Ok(times)
}

/// A stream and a key, behind the bytes of the first.
fn parts(of: &str) -> Option<(&str, &str)> {
    let (len, rest) = of.split_once(':')?;
    rest.split_at_checked(len.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_keys_are_told_apart_whatever_they_hold() {
        let db = redb::Database::builder();
        let backend = redb::backends::InMemoryBackend::new();
        let db = db.create_with_backend(backend).expect("in memory");
        let txn = db.begin_write().expect("begins");
        let noted = [
            ("a", "b:c", -1),
            ("a:", "b", 2),
            ("é", "", 3),
            ("", "1:a", i64::MIN),
        ];
        let given = noted.map(|(stream, key, at_ms)| (stream, key, Some(at_ms)));
        put(&txn, given.into_iter()).expect("written");
        put(&txn, [("a", "b:c", None), ("a", "none", None)].into_iter()).expect("written");
        let times = all(&txn.open_table(MANIFEST).expect("there")).expect("whole");
        let mut found = Vec::new();
        for (stream, of) in &times {
            found.extend(of.iter().map(|(key, at_ms)| (&**stream, &**key, *at_ms)));
        }
        found.sort_unstable();
        let mut expected = noted[1..].to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}
