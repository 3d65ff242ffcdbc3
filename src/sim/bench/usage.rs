//! What a process has used, from `/proc`.

use std::io;
use std::time::Duration;

/// A process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pid: u32,
}

impl Usage {
    pub(super) fn of(pid: u32) -> Self {
        Self { pid }
    }

    /// CPU time since its start, in the kernel's ticks of 10 ms.
    pub(super) fn cpu(self) -> io::Result<Duration> {
        let ticks = cpu_ticks(&self.read("stat")?).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// Resident memory, in bytes.
    pub(super) fn rss(self) -> io::Result<u64> {
        let pages: Option<u64> = self.read("statm")?.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        Ok(pages.ok_or(io::ErrorKind::InvalidData)? * rustix::param::page_size() as u64)
    }

    /// The most resident memory since its start or since [`reset_peak`](Self::reset_peak), in bytes.
    pub(super) fn peak(self) -> io::Result<u64> {
        Ok(kibibytes(&self.read("status")?, "VmHWM").ok_or(io::ErrorKind::InvalidData)? << 10)
    }

    /// Has the peak count from now.
    pub(super) fn reset_peak(self) -> io::Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5")
    }

    fn read(self, file: &str) -> io::Result<String> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid))
    }
}

/// utime and stime of `/proc/PID/stat`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // A name may have blanks and parentheses; the last one ends it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// A line `KEY: N kB` of `/proc/PID/status`.
fn kibibytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 100 1000 10";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(kibibytes("VmPeak:\t 9 kB\nVmHWM:\t    1234 kB\n", "VmHWM"), Some(1234));
        assert_eq!((cpu_ticks("x"), kibibytes("VmHWM: x kB", "VmHWM")), (None, None));
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = Usage::of(std::process::id());
        assert!(usage.rss().unwrap() > 1 << 20);
        assert!(usage.peak().unwrap() >= usage.rss().unwrap() / 2);
        usage.cpu().unwrap();
        assert!(Usage::of(u32::MAX).cpu().is_err());
    }
}
