//! What becomes of what others wrote behind the last epoch of a file, such as somebody's note?
//!
//! It goes to a file beside it, `FILE.rest`, with the permissions of the file, before it is cut off there. What a
//! crash may have left of an epoch does not: lines that are rows, one that was not finished, and room without
//! contents. Such rows are delivered again.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The ending of the file beside it.
const REST: &str = ".rest";
/// Most bytes of that file: what does not fit is cut off, which is told.
const MAX_BYTES: u64 = 1 << 20;
/// Most bytes of a line that is looked at whole: a row may be long.
const LINE_BYTES: u64 = 64 << 20;

/// The path with an ending behind its name.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Where what others wrote to a file goes.
pub(super) fn path_beside(path: &Path) -> PathBuf {
    beside(path, REST)
}

/// Puts aside what others wrote, of what stands behind the last epoch of a file. Returns what is to be told of
/// that, if anything is.
///
/// # Errors
/// What cannot be read or written: nothing is to be cut off then.
pub(super) fn put_aside(path: &Path, file: &File, behind: impl Read) -> io::Result<Option<String>> {
    let rest = path_beside(path);
    let of_rest = |error: io::Error| {
        let said = format!(
            "what others wrote there cannot go to {}: {error}",
            rest.display()
        );
        io::Error::new(error.kind(), said)
    };
    let room = match std::fs::metadata(&rest) {
        Ok(found) => MAX_BYTES.saturating_sub(found.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => MAX_BYTES,
        Err(error) => return Err(of_rest(error)),
    };
    let notes = Notes::read(behind, room as usize)?;
    if notes.n_kept + notes.n_lost == 0 {
        return Ok(None);
    }
    if notes.n_kept > 0 {
        append(&rest, file, &notes.kept).map_err(of_rest)?;
    }
    let mut told = format!(
        "others wrote behind the last epoch: lines that were moved to {}: {}",
        rest.display(),
        notes.n_kept
    );
    if notes.n_lost > 0 {
        told.push_str(&format!(
            "; that it had no room for, and that are gone: {}",
            notes.n_lost
        ));
    }
    Ok(Some(told))
}

/// Lines of others.
#[derive(Debug, Default, PartialEq, Eq)]
struct Notes {
    kept: Vec<u8>,
    n_kept: usize,
    n_lost: usize,
}

impl Notes {
    /// Reads them out of what stands behind an epoch, as many as there is room for, in bytes.
    fn read(behind: impl Read, room: usize) -> io::Result<Self> {
        let (mut notes, mut reader, mut line) =
            (Self::default(), BufReader::new(behind), Vec::new());
        loop {
            line.clear();
            let mut bounded = reader.by_ref().take(LINE_BYTES);
            let n_read = bounded.read_until(b'\n', &mut line)?;
            if n_read == 0 {
                return Ok(notes);
            }
            if is_of_an_epoch(&line) {
                continue;
            }
            if line.last() != Some(&b'\n') {
                line.push(b'\n');
            }
            if notes.kept.len() + line.len() <= room {
                notes.kept.extend_from_slice(&line);
                notes.n_kept += 1;
            } else {
                notes.n_lost += 1;
            }
        }
    }
}

/// Whether a crash may have left a line of an epoch that was being written.
fn is_of_an_epoch(line: &[u8]) -> bool {
    let Some(whole) = line.strip_suffix(b"\n") else {
        // Its end is not there: it is a row, unless it is no object at all.
        return line.starts_with(b"{") || is_blank(line);
    };
    let is_row = |value: Value| value.get("view").is_some() && value.get("epoch").is_some();
    is_blank(whole) || serde_json::from_slice(whole).is_ok_and(is_row)
}

/// Whether it says nothing: a file system may have given room and not filled it.
fn is_blank(line: &[u8]) -> bool {
    line.iter()
        .all(|byte| byte.is_ascii_whitespace() || *byte == 0)
}

/// Adds to the file beside it; a new one has the permissions of the file.
fn append(rest: &Path, file: &File, notes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    // Until it has those.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut opened = options.open(rest)?;
    if opened.metadata()?.len() == 0 {
        opened.set_permissions(file.metadata()?.permissions())?;
    }
    opened.write_all(notes)?;
    opened.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(behind: &[u8], room: usize) -> (String, usize) {
        let notes = Notes::read(behind, room).expect("readable");
        let kept = String::from_utf8_lossy(&notes.kept).into_owned();
        assert_eq!(kept.lines().count(), notes.n_kept);
        (kept, notes.n_lost)
    }

    #[test]
    fn words_of_others_are_kept_and_what_a_crash_left_is_not() {
        let row = "{\"epoch\":3,\"view\":\"v\",\"key\":\"a\"}\n";
        for left in ["", "\n", "\0\0\0", "\0\n\n", row, "{\"epoch\":3,\"vi", "{"] {
            assert_eq!(read(left.as_bytes(), 100), (String::new(), 0), "{left:?}");
            let noted = format!("{row}seen by Ann\n{row}{left}");
            assert_eq!(read(noted.as_bytes(), 100).0, "seen by Ann\n", "{left:?}");
        }
        // The last line need not end, and what Ann says may be JSON.
        assert_eq!(read(b"seen by Ann", 100).0, "seen by Ann\n");
        assert_eq!(read(b"{\"seen\":1}\n", 100).0, "{\"seen\":1}\n");
        // Written behind a row that was cut off.
        let both = "{\"epoch\":3,\"viseen by Ann\n";
        assert_eq!(read(both.as_bytes(), 100).0, both);
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        assert_eq!(read(b"one\ntwo\nthree\n", 8), ("one\ntwo\n".to_owned(), 1));
        assert_eq!(read(b"three\none\n", 4), ("one\n".to_owned(), 1));
    }
}
