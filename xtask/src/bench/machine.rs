//! What `/proc` says of this machine and its processes.
//!
//! In: process ids. Out: trees of processes, CPU seconds, peaks of memory, how busy the machine was and with whose work.
//! Numbers of processes that end meanwhile are left out: nothing here fails for that.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A kernel thread's parent.
const KERNEL_THREADS: u32 = 2;

/// CPU time in seconds: of a process itself, and of the children that it has waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Used {
    parent: u32,
    own: f64,
    waited_for: f64,
}

fn stat(pid: u32) -> Option<Used> {
    used(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A line of `/proc/PID/stat`; the name in parentheses may hold anything.
fn used(line: &str) -> Option<Used> {
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let seconds = |at: usize| fields.get(at)?.parse::<f64>().ok().map(|ticks| ticks / ticks_per_second());
    Some(Used {
        parent: fields.get(1)?.parse().ok()?,
        own: seconds(11)? + seconds(12)?,
        waited_for: seconds(13)? + seconds(14)?,
    })
}

#[expect(clippy::cast_precision_loss, reason = "about a hundred")]
fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        // Kernels without this file are rare; a bench there sees the first process only.
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
    }
    found
}

/// These processes and everything below them.
pub(super) fn tree(roots: &[u32]) -> Vec<u32> {
    let mut found = roots.to_vec();
    let mut seen: BTreeSet<u32> = roots.iter().copied().collect();
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        found.extend(children(pid).into_iter().filter(|child| seen.insert(*child)));
        at += 1;
    }
    found
}

/// CPU seconds that processes have used, with those of their ended children.
pub(super) fn cpu(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|pid| stat(*pid)).map(|used| used.own + used.waited_for).sum()
}

/// Lets peaks count from now on. Only root may do that for others.
pub(super) fn forget_peaks(pids: &[u32]) {
    for pid in pids {
        // A kernel that refuses leaves the older, higher peak: stated too high rather than too low.
        drop(fs::write(format!("/proc/{pid}/clear_refs"), "5"));
    }
}

/// Peak of resident memory in bytes of those processes that run one of these programs.
pub(super) fn peak(pids: &[u32], programs: &[&str]) -> u64 {
    pids.iter().filter(|pid| runs_one_of(**pid, programs)).filter_map(|pid| high_water(*pid)).sum()
}

fn runs_one_of(pid: u32, programs: &[&str]) -> bool {
    let Ok(path) = fs::read_link(format!("/proc/{pid}/exe")) else { return false };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    programs.contains(&name.trim_end_matches(" (deleted)"))
}

fn high_water(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    kilobytes.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|count| count * 1024)
}

/// A moment's sums, in seconds of CPU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Seconds since the machine's start, by its count of ticks.
    all: f64,
    busy: f64,
    ours: f64,
    kernel: f64,
}

impl Moment {
    /// Now. `daemons` are ours, beside this process and what it starts.
    pub(super) fn now(daemons: &[u32]) -> Self {
        let (busy, all) = fs::read_to_string("/proc/stat").ok().and_then(|text| busy(&text)).unwrap_or_default();
        let kernel = processes().into_iter().filter_map(stat).filter(|used| used.parent == KERNEL_THREADS);
        let kernel = kernel.map(|used| used.own).sum();
        // The daemons are children of this process, not yet waited for.
        let ours = cpu(&[std::process::id()]) + cpu(&tree(daemons));
        Self { all, busy, ours, kernel }
    }

    /// Which part of the machine somebody else used since then: neither we nor the kernel's own threads, which write for
    /// everybody. What the host of a virtual machine took away counts as others' too.
    pub(super) fn others_since(&self, before: &Self) -> f64 {
        let all = self.all - before.all;
        let ours = (self.ours - before.ours).max(0.0) + (self.kernel - before.kernel).max(0.0);
        if all > 0.0 { ((self.busy - before.busy - ours) / all).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Seconds by the wall since then.
    pub(super) fn seconds_since(&self, before: &Self) -> f64 {
        (self.all - before.all) / processors()
    }
}

/// Busy and all seconds of the first line of `/proc/stat`.
fn busy(text: &str) -> Option<(f64, f64)> {
    // user nice system idle iowait irq softirq steal; guest time is in user time already.
    let fields: Vec<f64> =
        text.lines().next()?.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    let all: f64 = fields.iter().sum();
    let idle = fields.get(3)? + fields.get(4)?;
    Some(((all - idle) / ticks_per_second(), all / ticks_per_second()))
}

#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn processors() -> f64 {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64
}

/// One line about the machine, without its name.
pub(super) fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kilobytes: u64 = kilobytes.trim().trim_end_matches("kB").trim().parse().unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel: String = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    let count = processors();
    format!(
        "{count} processors ({}), {} GiB of memory, Linux {kernel}",
        model.trim_start_matches([' ', '\t', ':']),
        kilobytes >> 20
    )
}

/// The type of the file system that a directory lies on, as `/proc/self/mountinfo` names it.
pub(super) fn file_system(path: &Path) -> String {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = table.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        Some((before.split(' ').nth(4)?.to_owned(), after.split(' ').next()?.to_owned()))
    });
    let below = mounts.filter(|(place, _)| path.starts_with(place));
    below.max_by_key(|(place, _)| place.len()).map_or_else(|| "unknown".into(), |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 100 50 30 20 20 0 1 0 99";
        let ticks = ticks_per_second();
        let expected = Used { parent: 3, own: 150.0 / ticks, waited_for: 50.0 / ticks };
        assert_eq!(used(line), Some(expected));
        assert_eq!(used("7 (a"), None);
    }

    #[test]
    fn busy_is_all_but_idle_and_waiting() {
        let ticks = ticks_per_second();
        let (busy, all) = busy("cpu  100 10 50 800 20 5 5 10 70 0\ncpu0 1\n").unwrap();
        assert!((busy * ticks - 180.0).abs() < 1e-6 && (all * ticks - 1000.0).abs() < 1e-6, "{busy} {all}");
    }

    #[test]
    fn others_are_what_is_neither_idle_nor_ours() {
        let before = Moment { all: 100.0, busy: 50.0, ours: 10.0, kernel: 1.0 };
        for (busy, ours, kernel, expected) in
            [(58.0, 14.0, 1.0, 0.4), (58.0, 17.0, 2.0, 0.0), (50.0, 10.0, 1.0, 0.0), (58.0, 30.0, 1.0, 0.0)]
        {
            let after = Moment { all: 110.0, busy, ours, kernel };
            assert!((after.others_since(&before) - expected).abs() < 1e-9, "{after:?}");
        }
    }

    #[test]
    fn a_child_is_in_the_tree_of_this_process() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let found = tree(&[std::process::id()]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()), "{found:?}");
    }

    #[test]
    fn this_process_has_a_peak_under_its_own_name_only() {
        let own = std::process::id();
        let exe = std::env::current_exe().unwrap();
        let name = exe.file_name().unwrap().to_str().unwrap();
        assert!(peak(&[own], &[name]) > 100_000);
        assert_eq!(peak(&[own], &["another"]), 0);
    }
}
