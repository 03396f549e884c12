//! How much memory this machine has.

use std::fs;

/// The memory of the machine, or of the container if that has less, in bytes; `None` where the system does not say.
pub(crate) fn total() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total(&text))?;
    let container = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let container = container.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX); // or `max`
    Some(machine.min(container))
}

/// The bytes of the line `MemTotal: … kB`.
fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_in_kilobytes() {
        assert_eq!(mem_total("MemFree: 1 kB\nMemTotal:       24676144 kB\n"), Some(24_676_144 * 1024));
        assert_eq!(mem_total("MemTotal: many kB"), None);
        assert_eq!(mem_total(""), None);
    }
}
