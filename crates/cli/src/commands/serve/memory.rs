//! How much memory the server may take where nobody says.

use std::fs;

/// Where the machine does not say how much it has: what most have.
const UNKNOWN: u64 = 8 << 30;

/// A quarter of the memory of the machine, or of the container if that has less; in bytes.
pub(super) fn quarter() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text)).unwrap_or(UNKNOWN);
    let container = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let container = container.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX); // or `max`
    machine.min(container) / 4
}

/// The bytes of the line `MemTotal: … kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_in_kilobytes() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       24676144 kB\n"), Some(24_676_144 * 1024));
        assert_eq!(total("MemTotal: many kB"), None);
        assert_eq!(total(""), None);
    }
}
