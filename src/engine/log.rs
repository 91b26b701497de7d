//! What of what happens in an engine is an event of the log?
//!
//! | event | level |
//! | --- | --- |
//! | the engine ended, a source failed | error |
//! | a record was refused; a notice: a source, a view or a sink that a person should look at | warn |
//! | an epoch of a view is complete, a source has ended, by which profile a view leaves answers unread | info |
//! | an answer was refreshed, an epoch was committed, a sink was given one | debug |
//!
//! Whoever installs a subscriber of `tracing` hears them, under the target [`TARGET`]; where nobody does,
//! they cost a comparison. The engine's own threads tell them, so a subscriber must not make them wait.
//!
//! # Invariants
//! - No text of a document, a question or an answer is in an event, but for what a reason or a notice shows of
//!   one: its beginning, or the words of a model's server. Names and keys are.
//! - What others have written is a field, in which no line ends; messages are the program's own, but for
//!   those of notices.

use std::time::Duration;

use perennial_ask::Profile;
use perennial_views::Refresh;
use tracing::{debug, error, info, warn};

use super::tracer::{Delivered, Reached, Refreshed, Stored};
use super::update::Update;

/// What the events of an engine are of.
const TARGET: &str = "perennial::engine";

/// Something that subscribers are told, too.
pub(super) fn told(update: &Update) {
    match update {
        Update::Failed { reason } => {
            error!(target: TARGET, reason = reason.as_str(), "the engine has ended");
        }
        Update::SourceFailed { source, message } => error!(
            target: TARGET,
            source = source.as_str(),
            reason = message.as_str(),
            "a source has failed"
        ),
        Update::Rejected(rejected) => warn!(
            target: TARGET,
            source = rejected.source.as_str(),
            place = rejected.offset.to_string().as_str(),
            key = rejected.key.as_ref().map(perennial_rows::Key::as_str),
            reason = rejected.reason.to_string().as_str(),
            "a record was refused"
        ),
        Update::Notice { source, message } => {
            warn!(target: TARGET, source = source.as_str(), "{message}");
        }
        Update::SourceEnded { source } => {
            info!(target: TARGET, source = source.as_str(), "a source has ended");
        }
        Update::EpochComplete(summary) => info!(
            target: TARGET,
            view = &*summary.view,
            epoch = summary.epoch,
            kept = summary.rungs.keep + summary.rungs.skip,
            checked = summary.rungs.verify + summary.rungs.patch,
            appended = summary.rungs.append,
            written = summary.rungs.rewrite + summary.rungs.regenerate,
            failed = summary.rungs.failed,
            tokens = summary.work.n_forwarded(),
            elapsed_ms = ms(summary.elapsed),
            "an epoch is complete"
        ),
        _ => {}
    }
}

/// A view is there that leaves answers unread, by this profile.
pub(super) fn judged(view: &str, profile: &Profile) {
    info!(
        target: TARGET,
        view,
        profile = profile.to_string().as_str(),
        "what an edit does not concern is left unread"
    );
}

/// An answer was refreshed.
pub(super) fn refreshed(refresh: &Refresh) {
    let Refreshed {
        view,
        context,
        epoch,
        reached,
        elapsed,
    } = Refreshed::of(refresh);
    let (key, elapsed_ms) = (context.as_str(), ms(elapsed));
    match reached {
        Ok(Reached { rung, work, .. }) => debug!(
            target: TARGET,
            view,
            key,
            epoch,
            %rung,
            tokens = work.n_forwarded(),
            elapsed_ms,
            "an answer is there"
        ),
        Err(kind) => debug!(
            target: TARGET,
            view,
            key,
            epoch,
            error = kind,
            elapsed_ms,
            "there is no answer"
        ),
    }
}

/// Something was committed to the state directory, or could not be.
pub(super) fn stored(stored: &Stored<'_>) {
    debug!(
        target: TARGET,
        epoch = stored.epoch,
        rows = stored.n_rows,
        answers = stored.n_answers,
        deliveries = stored.n_deliveries,
        is_ok = stored.is_ok,
        elapsed_ms = ms(stored.began.elapsed()),
        "a commit"
    );
}

/// A sink was given an epoch, which it took or not.
pub(super) fn delivered(delivered: &Delivered<'_>) {
    debug!(
        target: TARGET,
        sink = delivered.sink,
        view = delivered.view,
        epoch = delivered.epoch,
        rows = delivered.n_rows,
        is_ok = delivered.is_ok,
        elapsed_ms = ms(delivered.began.elapsed()),
        "a delivery"
    );
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
