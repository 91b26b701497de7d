//! The rows of a Parquet file, in a program that was built without Parquet.

use std::convert::Infallible;
use std::path::Path;

use super::{Found, Rows};
use crate::{Error, Feature};

/// Rows of a Parquet file: there are none to read.
pub(super) struct ParquetRows(Infallible);

impl ParquetRows {
    /// Opens nothing: [`Error::NotBuilt`], always.
    pub(super) fn open<'a>(
        _path: &Path,
        _of_record: impl Iterator<Item = (&'static str, &'a str, bool)>,
    ) -> Result<Self, Error> {
        Err(Error::NotBuilt {
            feature: Feature::Parquet,
        })
    }
}

impl Rows for ParquetRows {
    fn next(&mut self) -> Result<Option<Found>, Error> {
        match self.0 {}
    }

    fn shown(&self) -> Option<Vec<u8>> {
        match self.0 {}
    }
}
