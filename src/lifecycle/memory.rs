//! Memory: what this process has, and how much it may have before the kernel ends it (Z-40).

use std::io;
use std::path::{Path, PathBuf};

/// Limits from here on are the kernel's way to say that there is none.
const UNLIMITED: u64 = 1 << 60;

/// Resident memory of this process, in bytes, what its allocator keeps for later included. Cost: one read of `/proc`.
///
/// # Errors
/// There is no `/proc`, or it is not Linux's.
pub fn resident() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: Option<u64> = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    Ok(pages.ok_or(io::ErrorKind::InvalidData)? * rustix::param::page_size() as u64)
}

/// The memory that there is for this process, in bytes: the least of the limits of its control groups (version 2 or 1)
/// and the machine's memory. `None` where neither is told.
pub fn room() -> Option<u64> {
    room_below(Path::new("/"))
}

fn room_below(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(limit_files).flatten();
    let limits = limits.filter_map(|file| limit(&std::fs::read_to_string(root.join(file)).ok()?));
    let machine = std::fs::read_to_string(root.join("proc/meminfo")).ok();
    limits.chain(machine.as_deref().and_then(total)).min()
}

/// The files with the limits of one line of `/proc/self/cgroup`: its group's and those of all groups around it.
fn limit_files(line: &str) -> Option<Vec<PathBuf>> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, group) = (fields.next()?, fields.next()?);
    let (tree, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        names if names.split(',').any(|name| name == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    // A group outside of what is mounted here, as in a container without a namespace of its own: the root is its group.
    let group = if group.contains("..") { "" } else { group.trim_start_matches('/') };
    Some(Path::new(group).ancestors().map(|group| Path::new(tree).join(group).join(file)).collect())
}

/// A limit in bytes; `None` for `max`, and for the numbers that mean it.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < UNLIMITED)
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of 1 GiB with these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (file, text) in files.iter().chain(&[("proc/meminfo", "MemFree: 1 kB\nMemTotal:  1048576 kB\n")])
        {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        }
        root
    }

    fn room_of(files: &[(&str, &str)]) -> Option<u64> {
        room_below(machine(files).path())
    }

    const GIB: u64 = 1 << 30;

    #[test]
    fn z40_the_least_limit_of_the_groups_around_it_counts() {
        let groups = ("proc/self/cgroup", "0::/kubepods/pod1/c1\n");
        let own = ("sys/fs/cgroup/kubepods/pod1/c1/memory.max", "max\n");
        assert_eq!(room_of(&[groups, own]), Some(GIB));
        let pod = ("sys/fs/cgroup/kubepods/pod1/memory.max", "524288000\n");
        assert_eq!(room_of(&[groups, own, pod]), Some(524_288_000));
        let all = ("sys/fs/cgroup/kubepods/memory.max", "104857600\n");
        assert_eq!(room_of(&[groups, own, pod, all]), Some(104_857_600));
        // In a container: its group is the root of what it sees.
        let container = [("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "4096\n")];
        assert_eq!(room_of(&container), Some(4096));
        let outside = [("proc/self/cgroup", "0::/../../x\n"), ("sys/fs/cgroup/memory.max", "4096\n")];
        assert_eq!(room_of(&outside), Some(4096));
    }

    #[test]
    fn z40_control_groups_of_version_1_are_read_too() {
        let groups = ("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:hugetlb,memory:/a\n0::/\n");
        let none = ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(room_of(&[groups, none]), Some(GIB));
        let limited = ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "8192\n");
        assert_eq!(room_of(&[groups, limited]), Some(8192));
    }

    #[test]
    fn z40_the_machine_is_the_room_of_who_has_no_limit() {
        assert_eq!(room_of(&[]), Some(GIB));
        let larger = [("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "99999999999999\n")];
        assert_eq!(room_of(&larger), Some(GIB));
        assert_eq!(room_below(Path::new("/nonexistent")), None);
        assert!(resident().expect("Linux") > 1 << 20);
    }
}
