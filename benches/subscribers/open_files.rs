//! As many sockets as there are clients: more than a process is given by default.

use super::Error;

/// Raises the limit of open files of this process, and of those that it starts, to so many.
#[cfg(unix)]
pub(super) fn allow(n_files: usize) -> Result<(), Error> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = u64::try_from(n_files)?;
    if soft >= wanted {
        return Ok(());
    }
    if hard < wanted {
        return Err(format!(
            "{wanted} files are to be open at once, and the system allows {hard}: `ulimit -Hn` tells, \
             --idle and --subscribers ask for less"
        )
        .into());
    }
    Ok(setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?)
}

/// Other systems have no such limit.
#[cfg(not(unix))]
pub(super) fn allow(_n_files: usize) -> Result<(), Error> {
    Ok(())
}
