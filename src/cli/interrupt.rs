//! What happens on Ctrl-C?
//!
//! Before the watch has begun there is nothing to end: the program exits at once, with
//! code 130. From then on the watch is asked to end, and pays its sinks and its recording what it owes
//! them. Should that take longer than [`GRACE`], or be interrupted once more, the program exits anyway:
//! nothing on disk is in the making then, and what is owed is kept with the state.
//!
//! A program that was started to outlive its terminal (`nohup`) is not ended with it.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use super::failure::Failure;
use super::stderr;

/// How long an orderly end may take: a sink has five seconds to take what it is owed.
const GRACE: Duration = Duration::from_secs(8);
/// How long it may take without a word.
const SILENCE: Duration = Duration::from_secs(1);
/// Exit code of a program that was interrupted: 128 and the signal's number.
pub(crate) const INTERRUPTED: u8 = 130;

/// Whether the user wants to end.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<State>);

#[derive(Default)]
struct State {
    is_raised: AtomicBool,
    /// Whether someone looks at `is_raised`.
    is_watched: AtomicBool,
    /// Whether the program goes on after what was interrupted.
    is_lasting: AtomicBool,
    /// Exit code should the orderly end take too long.
    exit_code: AtomicU8,
}

impl Interrupt {
    /// Listens to the signals that end programs.
    ///
    /// # Errors
    /// If the system refuses to.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let interrupt = Self::default();
        interrupt.ends_with(INTERRUPTED);
        let heard = interrupt.clone();
        let outlives_terminal = ignore_hangup();
        ctrlc::set_handler(move || heard.hear()).map_err(|error| Failure::Io {
            action: "listen to Ctrl-C".into(),
            source: std::io::Error::other(error),
        })?;
        if outlives_terminal {
            ignore_hangup();
        }
        Ok(interrupt)
    }

    /// From here on, an interruption ends what goes on, and not the program; a second one before
    /// anyone has looked does.
    pub(crate) fn last(&self) {
        self.0.is_lasting.store(true, Ordering::SeqCst);
    }

    /// What was to be ended has ended.
    pub(crate) fn lower(&self) {
        self.0.is_raised.store(false, Ordering::SeqCst);
    }

    fn hear(&self) {
        let is_repeated = self.0.is_raised.swap(true, Ordering::SeqCst);
        if self.0.is_lasting.load(Ordering::SeqCst) && !is_repeated {
            return;
        }
        if self.0.is_watched.load(Ordering::SeqCst) && !is_repeated {
            let late = self.clone();
            std::thread::spawn(move || {
                std::thread::sleep(SILENCE);
                stderr::line(
                    "ending: waiting for what is under way and owed; once more ends at once",
                );
                std::thread::sleep(GRACE - SILENCE);
                late.exit();
            });
            return;
        }
        self.exit();
    }

    fn exit(&self) -> ! {
        if std::io::stderr().is_terminal() {
            // Whatever bar was being drawn ends here; there is nobody left to tell.
            let _ = writeln!(std::io::stderr());
        }
        std::process::exit(self.0.exit_code.load(Ordering::SeqCst).into());
    }

    /// Promises to look at [`Interrupt::is_raised`] often.
    pub(crate) fn watch(&self) {
        self.0.is_watched.store(true, Ordering::SeqCst);
    }

    /// The exit code of an interruption from now on.
    pub(crate) fn ends_with(&self, code: u8) {
        self.0.exit_code.store(code, Ordering::SeqCst);
    }

    /// The exit code of an interruption now.
    pub(crate) fn exit_code(&self) -> u8 {
        self.0.exit_code.load(Ordering::SeqCst)
    }

    /// Whether the user wants to end.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.is_raised.load(Ordering::SeqCst)
    }
}

/// Has the end of the terminal ignored. Returns whether it was.
#[cfg(unix)]
fn ignore_hangup() -> bool {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: to ignore a signal runs no code when it comes.
    let before = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
    matches!(before, Ok(SigHandler::SigIgn))
}

#[cfg(not(unix))]
fn ignore_hangup() -> bool {
    false
}
