//! Which process has a file locked?
//!
//! Linux tells in `/proc/locks`, by the number of the file. Elsewhere, or where the lock is of another
//! container, nobody is named: a wrong name would be worse than none.

use std::path::Path;

/// The process that has a file locked, for people; none where that is not known.
pub(super) fn of(path: &Path) -> Option<String> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let process = locked_by(&locks, number(path)?)?;
    let called = std::fs::read_to_string(format!("/proc/{process}/comm"));
    Some(match called {
        Ok(called) => format!("process {process} ({})", called.trim()),
        Err(_) => format!("process {process}"),
    })
}

#[cfg(unix)]
fn number(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Some(std::fs::metadata(path).ok()?.ino())
}

#[cfg(not(unix))]
fn number(_path: &Path) -> Option<u64> {
    None
}

/// The one process that has the file of this number locked. None where it may be another file of that
/// number, on another device, or a process that is not seen here.
fn locked_by(locks: &str, number: u64) -> Option<u32> {
    let mut holders = locks.lines().filter_map(|line| {
        // `1: FLOCK ADVISORY WRITE 9849 fe:00:10797179 0 EOF`; who waits has `->` behind its number.
        let parts: Vec<&str> = line.split_whitespace().collect();
        let [_, kind, _, _, process, file, ..] = parts[..] else {
            return None;
        };
        let is_it = kind != "->" && file.rsplit(':').next()?.parse::<u64>() == Ok(number);
        is_it.then(|| process.parse().ok()).flatten()
    });
    let first = holders.next().filter(|process| *process > 0)?;
    holders.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_process_that_has_a_file_locked_is_found() {
        let locks = "1: FLOCK  ADVISORY  WRITE 9849 fe:00:107 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 77 fe:00:107 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 9632 fe:00:109 0 EOF\n\
                     3: POSIX  ADVISORY  READ 9632 fe:00:109 8 9\n\
                     4: FLOCK  ADVISORY  WRITE 5 fe:00:110 0 EOF\n\
                     5: FLOCK  ADVISORY  WRITE 6 fe:01:110 0 EOF\n\
                     6: FLOCK  ADVISORY  WRITE 0 fe:00:111 0 EOF\n\
                     7: nonsense\n";
        let by = |number| locked_by(locks, number);
        assert_eq!((by(107), by(109)), (Some(9849), Some(9632)));
        // Two devices have a file of this number; a process of another container is none here.
        assert_eq!((by(110), by(111), by(7)), (None, None, None));
    }
}
