//! How much memory can still be taken without pushing something else out.

use std::ops::Range;

/// Free bytes of this machine, or of the container's limit if that is less; `None` where the system does not say.
pub fn available() -> Option<u64> {
    let machine = meminfo("MemAvailable:")?;
    Some(container().map_or(machine, |container| container.min(machine)))
}

/// All bytes of memory of this machine.
pub fn total() -> Option<u64> {
    meminfo("MemTotal:")
}

/// Has the system read these bytes of a file's map from the disk, without waiting for them.
pub fn read_ahead(bytes: &[u8]) {
    // Linux takes no more of one request than the disk takes at once: 12 GB were "read" within 18 ms.
    const REQUEST: usize = 1 << 20;
    const LARGEST_PAGE: usize = 1 << 16;
    let first = bytes.as_ptr() as usize / LARGEST_PAGE * LARGEST_PAGE;
    let end = bytes.as_ptr() as usize + bytes.len();
    for start in (first..end).step_by(REQUEST) {
        will_need(start..end.min(start + REQUEST));
    }
}

#[cfg(target_os = "linux")]
fn will_need(range: Range<usize>) {
    // SAFETY: this advice does not change the content of memory, whosever it is.
    unsafe {
        libc::madvise(
            range.start as *mut libc::c_void,
            range.len(),
            libc::MADV_WILLNEED,
        )
    };
}

#[cfg(not(target_os = "linux"))]
fn will_need(_: Range<usize>) {}

fn meminfo(field: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What the control group still allows; its page cache counts as free, because the kernel gives it up first.
fn container() -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/memory.{name}")).ok();
    let limit: u64 = read("max")?.trim().parse().ok()?;
    let current: u64 = read("current")?.trim().parse().ok()?;
    let statistics = read("stat")?;
    let file: u64 = statistics
        .lines()
        .find_map(|line| line.strip_prefix("file "))?
        .trim()
        .parse()
        .ok()?;
    Some(limit.saturating_sub(current.saturating_sub(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_changes_nothing_wherever_it_begins_and_ends() {
        let numbers: Vec<u8> = (0..3 << 20).map(|index| (index / 7) as u8).collect();
        let expected = numbers.clone();
        for range in [0..0, 0..1, 1..numbers.len(), 65_535..2_000_001] {
            read_ahead(&numbers[range]);
        }
        assert_eq!(numbers, expected);
    }
}
