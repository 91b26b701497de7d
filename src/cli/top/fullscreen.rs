//! All of the terminal, for as long as this lives: it is as it was afterwards, whatever ended it.

use std::io::{self, Stdout, Write as _};
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::Print;
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};

/// What was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// To end.
    Quit,
    /// Nothing, or nothing that means anything.
    Other,
}

/// The terminal on standard output.
pub(super) struct Fullscreen {
    out: Stdout,
}

impl Fullscreen {
    /// Takes it.
    ///
    /// # Errors
    /// What the terminal refuses.
    pub(super) fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        // From here on it is given back.
        let mut this = Self { out: io::stdout() };
        execute!(this.out, EnterAlternateScreen, Hide)?;
        Ok(this)
    }

    /// Columns that can be written in, and lines.
    ///
    /// # Errors
    /// What the terminal does not tell.
    pub(super) fn size(&self) -> io::Result<(usize, usize)> {
        let (columns, lines) = size()?;
        // Terminals differ in what is cleared behind a character in the last column.
        let columns = usize::from(columns).saturating_sub(1);
        Ok((columns, usize::from(lines)))
    }

    /// Shows these lines, of which each is no longer than a line, and no more than there are.
    ///
    /// # Errors
    /// A failed write.
    pub(super) fn show(&mut self, lines: impl Iterator<Item = String>) -> io::Result<()> {
        queue!(self.out, BeginSynchronizedUpdate)?;
        for (at, line) in (0..).zip(lines) {
            let end = Clear(ClearType::UntilNewLine);
            queue!(self.out, MoveTo(0, at), Print(line), end)?;
        }
        queue!(
            self.out,
            Clear(ClearType::FromCursorDown),
            EndSynchronizedUpdate
        )?;
        self.out.flush()
    }

    /// What is typed within a while.
    ///
    /// # Errors
    /// A terminal that is gone.
    pub(super) fn input(&mut self, within: Duration) -> io::Result<Input> {
        if !event::poll(within)? {
            return Ok(Input::Other);
        }
        Ok(match event::read()? {
            Event::Key(key) => meaning(key),
            _ => Input::Other,
        })
    }
}

impl Drop for Fullscreen {
    fn drop(&mut self) {
        // There is nobody to tell where that fails.
        let _ = execute!(self.out, Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// What a key means.
fn meaning(key: KeyEvent) -> Input {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        _ if key.kind == KeyEventKind::Release => Input::Other,
        // No signal comes of it while keys are read one by one.
        KeyCode::Char('c') if is_control => Input::Quit,
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Input::Quit,
        _ => Input::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_escape_and_control_c_end_it_and_nothing_else_does() {
        let plain = KeyModifiers::NONE;
        let key = |code, modifiers| meaning(KeyEvent::new(code, modifiers));
        for (code, modifiers) in [
            (KeyCode::Char('q'), plain),
            (KeyCode::Char('Q'), KeyModifiers::SHIFT),
            (KeyCode::Esc, plain),
            (KeyCode::Char('c'), KeyModifiers::CONTROL),
        ] {
            assert_eq!(key(code, modifiers), Input::Quit, "{code:?}");
        }
        for code in [KeyCode::Char('c'), KeyCode::Enter, KeyCode::Down] {
            assert_eq!(key(code, plain), Input::Other, "{code:?}");
        }
        let released = KeyEvent::new_with_kind(KeyCode::Esc, plain, KeyEventKind::Release);
        assert_eq!(meaning(released), Input::Other);
    }
}
