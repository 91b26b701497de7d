//! How much memory can still be had?

/// Bytes of memory of this machine, or, where there is one, the limit on this process's group; `None` where the
/// system does not say.
pub fn total() -> Option<u64> {
    let machine = meminfo("MemTotal:", &std::fs::read_to_string("/proc/meminfo").ok()?)?;
    Some(group_limit().map_or(machine, |group| group.min(machine)))
}

/// Bytes that the system could give this process without swapping; `None` where the
/// system does not say. A limit on this process's group counts as well.
pub(crate) fn available() -> Option<u64> {
    let machine = meminfo(
        "MemAvailable:",
        &std::fs::read_to_string("/proc/meminfo").ok()?,
    )?;
    Some(group_available().map_or(machine, |group| group.min(machine)))
}

/// A line of this name, in bytes.
fn meminfo(name: &str, text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// A file of this process's control group.
fn group(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()
}

/// The limit of a container's control group.
fn group_limit() -> Option<u64> {
    // Without a limit the file says `max`, which is no number.
    group("memory.max")?.trim().parse().ok()
}

/// What that limit leaves.
fn group_available() -> Option<u64> {
    let limit = group_limit()?;
    let used: u64 = group("memory.current")?.trim().parse().ok()?;
    // Cached files are counted as used, and are given back under pressure.
    let cached = group("memory.stat")
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("inactive_file "))?;
            line.trim().parse::<u64>().ok()
        })
        .unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_bytes() {
        let text = "MemTotal:       24684092 kB\nMemAvailable:   22480164 kB\n";
        let available = meminfo("MemAvailable:", text);
        assert_eq!(available, Some(22_480_164 * 1024));
        assert_eq!(meminfo("MemTotal:", text), Some(24_684_092 * 1024));
        assert_eq!(meminfo("MemAvailable:", "MemTotal: 1 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_memory() {
        assert!(available().is_some_and(|bytes| bytes > 0));
        assert!(total() >= available());
    }
}
