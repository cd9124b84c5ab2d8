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
