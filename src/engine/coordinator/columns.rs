//! What becomes of a stream's rows when other columns are declared than before?
//!
//! A source that [replays](Source::replays) is read anew: what its records said under other names
//! is not in the rows any more. What was given by hand, or posted, is nowhere else: these rows are
//! made to fit, and where one does not, the declaration is an error and all stays as it was. A table's
//! row does not fit where a value of it would be lost: the rows can be changed before the columns are.
//!
//! The columns are stored with the first epoch that holds the rows under them, so a crash before
//! it begins again here.

use std::collections::BTreeMap;

use perennial_connectors::{Rejection, Source};
use perennial_rows::{Key, Row, Schema};

use super::Coordinator;
use super::opening::Durable;
use crate::engine::error::Error;
use crate::state::StoredSchema;

impl Coordinator {
    /// Whether a source that is declared begins anew, since an earlier process declared other columns.
    pub(super) fn is_to_replay(&self, source: &dyn Source) -> bool {
        let before = self.schema_before(source.name().as_str());
        let is_other = |before: &StoredSchema| *before != StoredSchema::of(source.schema());
        source.replays() && before.is_some_and(is_other)
    }

    /// Whether an earlier process stored that a stream has these columns.
    pub(super) fn is_stored(&self, stream: &str, columns: Option<&Schema>) -> bool {
        self.schema_before(stream) == Some(&StoredSchema::of(columns))
    }

    /// The rows that an earlier process left of a stream under other columns, as they `fit` these.
    ///
    /// # Errors
    /// [`Error::UnfitRows`].
    pub(super) fn refitted(
        &self,
        stream: &str,
        columns: Option<&Schema>,
        fit: impl Fn(&Schema, Row) -> Result<Row, Rejection>,
    ) -> Result<BTreeMap<Key, Row>, Error> {
        let mut refitted = BTreeMap::new();
        let Some(columns) = columns.filter(|_| !self.is_stored(stream, columns)) else {
            return Ok(refitted);
        };
        let durable = self.durable.iter();
        let rows = durable.filter_map(|durable: &Durable| durable.restored.rows.get(stream));
        let (mut n_unfit, mut first) = (0, None);
        for (key, row) in rows.flatten() {
            match fit(columns, row.clone().into()) {
                Ok(row) => {
                    refitted.insert(Key::new(key.as_str()), row);
                }
                Err(reason) => {
                    n_unfit += 1;
                    first.get_or_insert((key, reason));
                }
            }
        }
        match first {
            None => Ok(refitted),
            Some((key, reason)) => Err(Error::UnfitRows {
                name: stream.to_owned(),
                n_rows: n_unfit,
                key: key.clone(),
                reason,
            }),
        }
    }

    fn schema_before(&self, stream: &str) -> Option<&StoredSchema> {
        self.durable.as_ref()?.restored.schemas.get(stream)
    }
}
