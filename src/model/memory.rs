//! How much memory can still be taken without pushing something else out.

/// Free bytes of this machine, or of the container's limit if that is less; `None` where the system does not say.
pub fn available() -> Option<u64> {
    let machine = meminfo("MemAvailable:")?;
    Some(container().map_or(machine, |container| container.min(machine)))
}

/// All bytes of memory of this machine.
pub fn total() -> Option<u64> {
    meminfo("MemTotal:")
}

/// Tells the system that these bytes of a file's map will not be read again soon, so that their memory is the first to
/// be used for something else. What they say stays the same.
pub fn give_back<T>(numbers: &[T]) {
    #[cfg(target_os = "linux")]
    {
        // A whole number of pages of any size in use; the ends stay.
        const LARGEST_PAGE: usize = 1 << 16;
        let start = (numbers.as_ptr() as usize).next_multiple_of(LARGEST_PAGE);
        let end = numbers.as_ptr() as usize + size_of_val(numbers);
        let end = end / LARGEST_PAGE * LARGEST_PAGE;
        if start < end {
            // SAFETY: advice about memory that is borrowed; this one never changes its content.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_PAGEOUT) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = numbers;
}

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
