//! Is a file read again, in the place of another one, and when is that done?
//!
//! ```text
//!        cut or replaced             holds a record               at rest at its end
//!   No ------------------> Awaited ---------------> Begun ----------------------------> No
//!                                   StartedOver              SaidAgain: what it did
//!                                                            not name again is gone
//! ```
//! A file in the place of another says all there is: so a running source, one that is started again
//! and a new one hold the same. Of a file without a record nothing is believed, unless that is asked
//! for: it is about to be written, or something is wrong.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::{Event, Halt, KeyScope, Notice, Outlet};

/// How long nothing must come for a file to be written whole.
const REST: Duration = Duration::from_millis(500);
/// One that is written to for longer than this is taken for whole: it is a log.
const MAX_UNREST: Duration = Duration::from_secs(2);

/// How far it is.
#[derive(Debug)]
pub(super) struct Again {
    stage: Stage,
    believes_empty: bool,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    No,
    Awaited { is_told: bool },
    Begun { since: Instant },
}

impl Again {
    /// Nothing is read again, unless `is_awaited`.
    pub(super) fn new(is_awaited: bool, believes_empty: bool) -> Self {
        let stage = match is_awaited {
            true => Stage::Awaited { is_told: false },
            false => Stage::No,
        };
        Self {
            stage,
            believes_empty,
        }
    }

    /// Whether not all is said again that will be.
    pub(super) fn is_begun(&self) -> bool {
        matches!(self.stage, Stage::Begun { .. })
    }

    /// What comes next is the beginning of a file in the place of another.
    pub(super) fn start_over(&mut self, out: &Outlet) -> Result<(), Halt> {
        self.finish(out)?;
        self.stage = Stage::Awaited { is_told: false };
        Ok(())
    }

    /// Whether nothing of the file is believed yet.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.stage, Stage::Awaited { .. })
    }

    /// To be told before what the file says is sent.
    pub(super) fn look(&mut self, has_said: bool, out: &Outlet) -> Result<(), Halt> {
        match self.stage {
            Stage::Awaited { .. } if has_said || self.believes_empty => {
                let since = Instant::now();
                self.stage = Stage::Begun { since };
                out.send(Event::StartedOver(KeyScope::all()))
            }
            _ => Ok(()),
        }
    }

    /// Nothing has come for so long, and all that did is sent.
    pub(super) fn rest(&mut self, quiet: Duration, out: &Outlet) -> Result<(), Halt> {
        match self.stage {
            Stage::Begun { since } if quiet >= REST || since.elapsed() >= MAX_UNREST => {
                self.finish(out)
            }
            _ => Ok(()),
        }
    }

    /// Nothing more comes of it.
    pub(super) fn finish(&mut self, out: &Outlet) -> Result<(), Halt> {
        if self.is_begun() {
            self.stage = Stage::No;
            out.send(Event::SaidAgain(KeyScope::all()))?;
        }
        Ok(())
    }

    /// Tells once that the file holds nothing, if so it is.
    pub(super) fn tell_empty(&mut self, path: &Path, out: &Outlet) -> Result<(), Halt> {
        match &mut self.stage {
            Stage::Awaited { is_told } if !*is_told => {
                *is_told = true;
                out.notice(Notice::EmptiedFile {
                    path: path.to_path_buf(),
                })
            }
            _ => Ok(()),
        }
    }
}
