//! What is the engine at, in numbers? Gathered in one call for all who tell it.

use std::sync::Arc;

use super::refusal::Refusal;
use super::routes::health::waiting;
use super::routes::models::FragmentsJson;
use super::served::Served;
use crate::engine::{PutAside, RelationInfo};

/// The engine at one moment.
pub(super) struct Overview {
    relations: Vec<RelationInfo>,
    /// Refused records that nobody has dealt with.
    pub(super) n_quarantined: usize,
    /// Sinks that have not taken everything, with the epochs that each is owed.
    pub(super) undelivered: Vec<(String, usize)>,
    /// What sinks have refused for good.
    pub(super) dead_letters: Vec<PutAside>,
    pub(super) fragments: Option<FragmentsJson>,
}

impl Served {
    /// What the engine is at.
    ///
    /// # Errors
    /// What it reports.
    pub(super) async fn overview(self: &Arc<Self>) -> Result<Overview, Refusal> {
        self.ask(|engine| {
            Ok(Overview {
                relations: engine.relations()?,
                // How many there are is told without any of them.
                n_quarantined: engine.quarantine_page(None, None, 0)?.n_records,
                undelivered: engine.undelivered()?,
                dead_letters: engine.dead_letters()?,
                fragments: FragmentsJson::of(engine),
            })
        })
        .await
    }
}

impl Overview {
    /// Whether every view has an epoch, and every source gave what it had.
    pub(super) fn is_ready(&self) -> bool {
        waiting(&self.relations).is_empty()
    }

    pub(super) fn views(&self) -> impl Iterator<Item = &RelationInfo> {
        self.relations.iter().filter(|of| of.kind.is_view())
    }

    /// Sources and tables.
    pub(super) fn streams(&self) -> impl Iterator<Item = &RelationInfo> {
        self.relations.iter().filter(|of| !of.kind.is_view())
    }
}
