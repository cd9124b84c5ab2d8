//! How much memory can still be taken without pushing something else out.

use std::ops::Range;
use std::path::Path;

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

/// Where a control group says how much memory it may have, how much it has, and how much of that is page cache.
struct Group {
    limit: &'static str,
    usage: &'static str,
    cache: &'static str,
}

const VERSION_1: Group = Group {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: "total_cache ",
};
const VERSION_2: Group = Group {
    limit: "memory.max",
    usage: "memory.current",
    cache: "file ",
};

/// What the control groups that this process is in still allow.
fn container() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    allowed_by(&groups, Path::new("/sys/fs/cgroup"))
}

/// The least that is left in any of the `groups`, or in those around them. Inside a container only the root may be there.
fn allowed_by(groups: &str, root: &Path) -> Option<u64> {
    let groups = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (kind, root) = match controllers {
            "" => (VERSION_2, root.to_owned()),
            "memory" => (VERSION_1, root.join("memory")),
            _ => return None,
        };
        let own = root.join(path.trim_start_matches('/'));
        let around = own.ancestors().take_while(|it| it.starts_with(&root));
        around.filter_map(|folder| kind.left(folder)).min()
    });
    groups.min()
}

impl Group {
    /// Bytes that the group of this folder may still take. Its page cache counts as free, because the kernel gives it up first.
    fn left(&self, folder: &Path) -> Option<u64> {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        let limit: u64 = read(self.limit)?.trim().parse().ok()?;
        let usage: u64 = read(self.usage)?.trim().parse().ok()?;
        let statistics = read("memory.stat")?;
        let mut lines = statistics.lines();
        let cache = lines.find_map(|line| line.strip_prefix(self.cache))?;
        let cache: u64 = cache.trim().parse().ok()?;
        Some(limit.saturating_sub(usage.saturating_sub(cache)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = |kind: &Group, folder: &str, limit: &str, usage: u64, cache: u64| {
            let folder = root.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            let statistics = format!("anon 1\n{}{cache}\n", kind.cache);
            std::fs::write(folder.join(kind.limit), format!("{limit}\n")).unwrap();
            std::fs::write(folder.join(kind.usage), format!("{usage}\n")).unwrap();
            std::fs::write(folder.join("memory.stat"), statistics).unwrap();
        };
        let allowed = |groups: &str| allowed_by(groups, root.path());
        assert_eq!(allowed("0::/a/b\n"), None);
        group(&VERSION_2, "a/b", "max", 10, 0);
        assert_eq!(allowed("0::/a/b\n"), None);
        group(&VERSION_2, "a", "1000", 300, 200);
        assert_eq!(allowed("0::/a/b\n"), Some(900));
        // A container sees its own group as the root, and may see its name outside.
        group(&VERSION_2, "", "500", 700, 100);
        assert_eq!(allowed("0::/c\n"), Some(0));
        group(&VERSION_1, "memory/d", "5000", 2000, 1000);
        assert_eq!(allowed("2:cpu,cpuacct:/\n4:memory:/d\n"), Some(4000));
    }

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
