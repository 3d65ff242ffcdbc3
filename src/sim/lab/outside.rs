//! The lab's footing in the machine: what it takes from the host, and the namespaces it lives in.
//!
//! In namespaces mode the binary runs twice. The outer process stays in the host's namespaces: it holds the run
//! directory and the host's end of one link, and starts the inner process under `unshare`. The inner process
//! is the first of a process namespace: when it ends, for whatever reason, the kernel ends everything in the
//! lab, and with that its networks and its mounts. Should the outer process die, the inner one is killed with
//! it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::LabError;
use super::netns::HOST_LINK;
use super::place::{self, Place};
use super::plan::{MANAGEMENT_PREFIX, Range};
use super::wait::until;
use crate::sim::child::tied;

/// First of the ranges for the link between host and lab.
const FIRST_LINK: Ipv4Addr = Ipv4Addr::new(172, 31, 240, 0);
/// How many there are.
const LINKS: u32 = 128;
/// Addresses of one.
const LINK_SIZE: u32 = 1 << (32 - MANAGEMENT_PREFIX);
/// Port whose binding on 127.n.0.1 claims 127.n.0.0/16.
const CLAIM_PORT: u16 = 15999;
/// Loopback ranges a lab may take.
const LOOPBACK_RANGES: std::ops::RangeInclusive<u8> = 64..=250;
/// How long the inner process may take to stop everything.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A loopback range that is ours as long as this value lives.
#[derive(Debug)]
pub struct LoopbackClaim {
    range: Range,
    _guard: TcpListener,
}

impl LoopbackClaim {
    /// The claimed range.
    pub fn range(&self) -> Range {
        self.range
    }
}

/// Claims a free range of 127/8.
///
/// # Errors
/// [`LabError::Missing`] when all are taken.
pub fn free_loopback() -> Result<LoopbackClaim, LabError> {
    LOOPBACK_RANGES
        .into_iter()
        .find_map(|n| {
            let guard = TcpListener::bind((Ipv4Addr::new(127, n, 0, 1), CLAIM_PORT)).ok()?;
            Some(LoopbackClaim { range: Range::Loopback(n), _guard: guard })
        })
        .ok_or_else(|| LabError::Missing {
            what: "no range of 127/8 is free for the lab".to_owned(),
            hint: "stop other labs; the system must route all of 127/8 to itself".to_owned(),
        })
}

/// The inner process and the host's end of the link to it.
#[derive(Debug)]
pub struct Inner {
    child: Child,
    device: String,
}

/// Starts `exe` with `arguments` in namespaces of its own, connected to the host by one link. Its standard
/// output and error are this process's.
///
/// # Errors
/// [`LabError`]; nothing is left behind.
pub async fn enter(exe: &Path, arguments: &[OsString]) -> Result<Inner, LabError> {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(exe).args(arguments);
    let mut child = tied(command).stdin(Stdio::piped()).kill_on_drop(true).spawn().map_err(|source| {
        LabError::Spawn { name: "the lab".to_owned(), program: "unshare".to_owned(), source }
    })?;
    let pid = inner_pid(&mut child).await?;
    let (device, range) = link_host(pid).await?;
    let line = format!("{range} {pid}\n");
    if let Some(pipe) = child.stdin.as_mut() {
        pipe.write_all(line.as_bytes()).await.map_err(LabError::file("write to", "the inner process"))?;
    }
    Ok(Inner { child, device })
}

impl Inner {
    /// Waits for the inner process; once `shutdown` completes it is asked to stop, and killed if it does not.
    ///
    /// # Errors
    /// [`LabError::Wait`].
    pub async fn wait(mut self, shutdown: impl Future<Output = ()>) -> Result<ExitStatus, LabError> {
        let waiting = |source| LabError::Wait { name: "the lab".to_owned(), source };
        // Biased: if both are there, it has ended by itself.
        let ended = tokio::select! {
            biased;
            ended = self.child.wait_with_stdin() => Some(ended),
            () = shutdown => None,
        };
        let status = match ended {
            Some(ended) => ended.map_err(waiting)?,
            None => {
                // The end of its input is the order to stop.
                drop(self.child.stdin.take());
                match tokio::time::timeout(STOP_LIMIT, self.child.wait()).await {
                    Ok(ended) => ended.map_err(waiting)?,
                    Err(_) => {
                        self.child.kill().await.map_err(waiting)?;
                        self.child.wait().await.map_err(waiting)?
                    }
                }
            }
        };
        // Usually gone with the inner end; the kernel may take a moment, we do not.
        let mut delete = Place::Here.command("ip");
        delete.args(["link", "delete", &self.device]);
        let _ = place::run(delete, "removing the host's link", None).await;
        Ok(status)
    }
}

/// `Child::wait` closes standard input first; here it must stay open, it is the lifeline.
trait WaitWithStdin {
    async fn wait_with_stdin(&mut self) -> std::io::Result<ExitStatus>;
}

impl WaitWithStdin for Child {
    async fn wait_with_stdin(&mut self) -> std::io::Result<ExitStatus> {
        let stdin = self.stdin.take();
        let ended = self.wait().await;
        drop(stdin);
        ended
    }
}

/// The process id, as the host sees it, of the first process in the new namespaces.
async fn inner_pid(child: &mut Child) -> Result<u32, LabError> {
    until("the lab's namespaces", Duration::from_secs(10), async || {
        if let Ok(Some(status)) = child.try_wait() {
            return Ok(Err(LabError::Command { what: "unshare".to_owned(), output: status.to_string() }));
        }
        let pid = child.id().ok_or("no process id")?;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.map_err(|error| error.to_string())?;
        let first = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        first.map(Ok).ok_or_else(|| "unshare has no child yet".to_owned())
    })
    .await?
}

/// Connects the host to the network namespace of `pid`: takes a free range, gives the host its first address.
/// The device's name is the claim, so that labs starting at once do not meet.
async fn link_host(pid: u32) -> Result<(String, Ipv4Addr), LabError> {
    let mut show = Place::Here.command("ip");
    show.args(["-4", "route", "show", "table", "all"]);
    let routes = place::run(show, "reading the host's routes", None).await?;
    let mut last = "every range is in use".to_owned();
    for n in 0..LINKS {
        let range = Ipv4Addr::from(u32::from(FIRST_LINK) + n * LINK_SIZE);
        if is_routed(&routes, range) {
            continue;
        }
        let device = format!("tombolo{n}");
        let host = Ipv4Addr::from(u32::from(range) + 1);
        let script = format!(
            "ip link add {device} type veth peer name {HOST_LINK} netns {pid}
ip addr add {host}/{MANAGEMENT_PREFIX} dev {device}
ip link set {device} up
"
        );
        match Place::Here.script("linking the host to the lab", &script).await {
            Ok(_) => return Ok((device, range)),
            Err(error) => last = error.to_string(),
        }
    }
    Err(LabError::Command { what: "linking the host to the lab".to_owned(), output: last })
}

/// Whether a route of the host, other than the default, overlaps the lab's at `range`.
fn is_routed(routes: &str, range: Ipv4Addr) -> bool {
    let first = u32::from(range);
    routes.split_whitespace().filter_map(parse_prefix).any(|(base, length)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(length.min(MANAGEMENT_PREFIX))).unwrap_or(0);
        length > 0 && base & mask == first & mask
    })
}

/// `a.b.c.d` or `a.b.c.d/n`.
fn parse_prefix(text: &str) -> Option<(u32, u8)> {
    let (address, length) = text.split_once('/').unwrap_or((text, "32"));
    Some((u32::from(address.parse::<Ipv4Addr>().ok()?), length.parse().ok()?))
}

/// What the outer process tells the inner one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FromOutside {
    /// The link's range.
    pub range: Range,
    /// The inner process's id as the host sees it.
    pub host_pid: u32,
}

/// The inner process's ear: reads the outer one's line, and afterwards notices its end.
#[derive(Debug)]
pub struct Lifeline {
    ended: oneshot::Receiver<()>,
}

impl Lifeline {
    /// Reads what the outer process says first.
    ///
    /// # Errors
    /// [`LabError::Missing`] when it says something else.
    pub async fn listen() -> Result<(Self, FromOutside), LabError> {
        let (first, line) = oneshot::channel();
        let (cut, ended) = oneshot::channel();
        // A thread of its own, never joined: a read of standard input cannot be called off, and a task of the
        // runtime's would keep the process from ending.
        std::thread::spawn(move || {
            let mut lines = std::io::stdin().lines().map_while(Result::ok);
            // Nobody listens any more: nothing is left to tell.
            let _ = first.send(lines.next().unwrap_or_default());
            lines.for_each(drop);
            let _ = cut.send(());
        });
        let line = line.await.unwrap_or_default();
        let said = parse_line(&line).ok_or_else(|| LabError::Missing {
            what: format!("standard input said {line:?} instead of an address and a process id"),
            hint: "--inside is for the lab itself".to_owned(),
        })?;
        Ok((Self { ended }, said))
    }

    /// Completes when the outer process ends or wants the lab to stop.
    pub async fn cut(self) {
        // An error means that the listening thread is gone, and with it standard input.
        let _ = self.ended.await;
    }
}

fn parse_line(line: &str) -> Option<FromOutside> {
    let (range, pid) = line.split_once(' ')?;
    Some(FromOutside { range: Range::HostLink(range.parse().ok()?), host_pid: pid.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_in_use_are_left_alone() {
        let routes = "default via 192.0.2.1 dev eth0\n172.31.240.32/27 dev tombolo1\n172.31.250.0/24 dev x\n";
        let routed = |text: &str| is_routed(routes, text.parse().unwrap());
        assert!(!routed("172.31.240.0"));
        assert!(routed("172.31.240.32"));
        assert!(routed("172.31.250.32"));
        assert!(is_routed("172.16.0.0/12 dev vpn", FIRST_LINK));
        assert!(is_routed("local 172.31.240.5 dev x", FIRST_LINK));
        assert!(!is_routed("default via 10.0.0.1\n0.0.0.0/0 dev x", FIRST_LINK));
    }

    #[test]
    fn two_labs_get_two_loopback_ranges() {
        let (one, two) = (free_loopback().unwrap(), free_loopback().unwrap());
        assert_ne!(one.range(), two.range());
    }

    #[test]
    fn inner_process_understands_the_outer_one() {
        let said = parse_line("172.31.240.16 4711").unwrap();
        assert_eq!(said.range, Range::HostLink(Ipv4Addr::new(172, 31, 240, 16)));
        assert_eq!(said.host_pid, 4711);
        assert_eq!(parse_line(""), None);
        assert_eq!(parse_line("nonsense"), None);
    }
}
