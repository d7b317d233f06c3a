//! The seccomp profile of RUN: a table of calls in, a BPF program for the kernel out.
//!
//! Semantics are those of Docker's default profile: `EPERM` for what isn't listed, `ENOSYS` for `clone3` (its flags lie
//! in memory that a filter cannot see, and C libraries fall back to `clone`), argument checks for `clone`, `socket` and
//! `personality`. Programs of the machine's 32-bit sibling (i386, arm) run under the same rules with its own numbers;
//! the x32 variant and unknown architectures get `ENOSYS`, as on a kernel without them.
//!
//! The program is a binary search over call numbers. This module only compiles it; `sys` hands it to the kernel.

mod table;

use table::{ALLOWED, FILTERED};

/// One BPF instruction, in the kernel's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Insn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_FIRST_ARGUMENT: u32 = 16;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = ERRNO | 0x1;
const ENOSYS: u32 = ERRNO | 0x26;

/// `CLONE_NEW*` except time: no new namespaces.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
/// Calls of the x32 variant carry this bit.
#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

/// The address families that `socket` may name, as ranges: not `AF_ALG`, `AF_VSOCK` and dead protocols.
const FAMILIES: [(u32, u32); 8] = [(0, 11), (13, 18), (21, 22), (24, 24), (26, 33), (35, 36), (39, 39), (41, 45)];
/// `PER_LINUX`, `PER_LINUX32`, each also with `UNAME26`, and the query.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];

/// The architectures of a kernel: audit number and column of the table.
#[cfg(target_arch = "x86_64")]
const ARCHES: [(u32, usize); 2] = [(0xc000_003e, 0), (0x4000_0003, 1)];
#[cfg(target_arch = "aarch64")]
const ARCHES: [(u32, usize); 2] = [(0xc000_00b7, 2), (0x4000_0028, 3)];

/// What happens to a call, or where the search goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Return(u32),
    Clone,
    Socket,
    Personality,
}

/// The program for this machine.
pub(crate) fn program() -> Vec<Insn> {
    let mut out = vec![op(LOAD, OFFSET_ARCH)];
    for (arch, column) in ARCHES {
        let body = by_number(arch, column);
        out.push(Insn { code: JUMP_EQUAL, jt: 1, jf: 0, k: arch });
        out.push(op(JUMP, length(&body)));
        out.extend(body);
    }
    out.push(op(RETURN, ENOSYS));
    out
}

fn by_number(arch: u32, column: usize) -> Vec<Insn> {
    let mut calls: Vec<(u32, Verdict)> = Vec::with_capacity(ALLOWED.len() + FILTERED.len());
    let number = |row: &table::Row| row.1.get(column).copied().and_then(|number| u32::try_from(number).ok());
    calls.extend(ALLOWED.iter().filter_map(|row| Some((number(row)?, Verdict::Return(ALLOW)))));
    for row in &FILTERED {
        let verdict = match row.0 {
            "clone" => Verdict::Clone,
            "socket" => Verdict::Socket,
            "personality" => Verdict::Personality,
            _ => Verdict::Return(ENOSYS),
        };
        calls.extend(number(row).map(|number| (number, verdict)));
    }
    calls.sort_unstable_by_key(|call| call.0);
    let mut steps = vec![(0, Verdict::Return(EPERM))];
    for (number, verdict) in calls {
        step(&mut steps, number, number, verdict);
    }
    #[cfg(target_arch = "x86_64")]
    if ARCHES.first().is_some_and(|first| first.0 == arch) {
        steps.push((X32_BIT, Verdict::Return(ENOSYS)));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = arch;
    let mut out = vec![op(LOAD, OFFSET_NUMBER)];
    out.extend(search(&steps));
    out
}

/// Sets `first..=last` to `verdict` in a list of steps (start, verdict) that ends before `first`.
fn step(steps: &mut Vec<(u32, Verdict)>, first: u32, last: u32, verdict: Verdict) {
    // The step that resets to EPERM at exactly `first` is replaced; equal neighbours are joined.
    if steps.last().is_some_and(|step| step.0 == first) {
        steps.pop();
    }
    if steps.last().is_none_or(|step| step.1 != verdict) {
        steps.push((first, verdict));
    }
    if let Some(next) = last.checked_add(1) {
        steps.push((next, Verdict::Return(EPERM)));
    }
}

/// Code that finds the last step not above the loaded value. Far jumps go through `JUMP`, whose offset has 32 bits.
fn search(steps: &[(u32, Verdict)]) -> Vec<Insn> {
    let (left, right) = steps.split_at(steps.len() / 2);
    match right.first() {
        None => vec![op(RETURN, EPERM)],
        Some((_, verdict)) if left.is_empty() => verdict_code(*verdict),
        Some((start, _)) => {
            let left = search(left);
            let mut out = vec![Insn { code: JUMP_AT_LEAST, jt: 0, jf: 1, k: *start }, op(JUMP, length(&left))];
            out.extend(left);
            out.extend(search(right));
            out
        }
    }
}

fn verdict_code(verdict: Verdict) -> Vec<Insn> {
    match verdict {
        Verdict::Return(value) => vec![op(RETURN, value)],
        Verdict::Clone => vec![
            op(LOAD, OFFSET_FIRST_ARGUMENT),
            op(AND, CLONE_NAMESPACES),
            Insn { code: JUMP_EQUAL, jt: 0, jf: 1, k: 0 },
            op(RETURN, ALLOW),
            op(RETURN, EPERM),
        ],
        Verdict::Socket => first_argument(FAMILIES.iter().copied()),
        Verdict::Personality => first_argument(PERSONALITIES.iter().map(|&value| (value, value))),
    }
}

/// Allows the call when its first argument (64 bits) lies in one of the ranges, which ascend.
fn first_argument(ranges: impl Iterator<Item = (u32, u32)>) -> Vec<Insn> {
    let mut steps = vec![(0, Verdict::Return(EPERM))];
    for (first, last) in ranges {
        step(&mut steps, first, last, Verdict::Return(ALLOW));
    }
    let mut out = vec![
        op(LOAD, OFFSET_FIRST_ARGUMENT + 4),
        Insn { code: JUMP_EQUAL, jt: 1, jf: 0, k: 0 },
        op(RETURN, EPERM),
        op(LOAD, OFFSET_FIRST_ARGUMENT),
    ];
    out.extend(search(&steps));
    out
}

fn op(code: u16, k: u32) -> Insn {
    Insn { code, jt: 0, jf: 0, k }
}

fn length(code: &[Insn]) -> u32 {
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn run(program: &[Insn], arch: u32, number: u32, argument: u64) -> u32 {
        let (mut at, mut acc) = (0_usize, 0_u32);
        loop {
            let insn = program[at];
            at += 1;
            match insn.code {
                LOAD => {
                    acc = match insn.k {
                        OFFSET_NUMBER => number,
                        OFFSET_ARCH => arch,
                        OFFSET_FIRST_ARGUMENT => u32::try_from(argument & 0xffff_ffff).unwrap(),
                        20 => u32::try_from(argument >> 32).unwrap(),
                        other => panic!("load from {other}"),
                    }
                }
                AND => acc &= insn.k,
                JUMP => at += insn.k as usize,
                JUMP_EQUAL => at += usize::from(if acc == insn.k { insn.jt } else { insn.jf }),
                JUMP_AT_LEAST => at += usize::from(if acc >= insn.k { insn.jt } else { insn.jf }),
                RETURN => return insn.k,
                other => panic!("code {other}"),
            }
        }
    }

    #[test]
    fn every_number_gets_the_tables_answer() {
        let program = program();
        assert!(program.len() < 4096, "the kernel takes 4096 instructions, not {}", program.len());
        for (arch, column) in ARCHES {
            let listed = |rows: &[table::Row], number: u32| {
                rows.iter().find(|row| u32::try_from(row.1[column]) == Ok(number)).map(|row| row.0)
            };
            for number in 0..1000 {
                let answer = run(&program, arch, number, 0);
                let expected = match (listed(ALLOWED, number), listed(&FILTERED, number)) {
                    (None, Some("clone3")) => ENOSYS,
                    (Some(_), None) | (None, Some(_)) => ALLOW,
                    (None, None) => EPERM,
                    (Some(name), Some(_)) => panic!("{name} is in both tables"),
                };
                assert_eq!(answer, expected, "arch {arch:#x}, call {number}");
            }
        }
        assert_eq!(run(&program, 0x1234, 0, 0), ENOSYS);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(run(&program, ARCHES[0].0, X32_BIT | 1, 0), ENOSYS);
    }

    #[test]
    fn arguments_decide() {
        let program = program();
        for (arch, column) in ARCHES {
            let number =
                |name: &str| u32::try_from(FILTERED.iter().find(|row| row.0 == name).unwrap().1[column]).unwrap();
            let table = [
                ("clone", 0x11, ALLOW),
                ("clone", 0x1000_0011, EPERM),
                ("clone", 0x0002_0000, EPERM),
                ("clone", 0x003d_0f00, ALLOW),
                ("socket", 2, ALLOW),
                ("socket", 16, ALLOW),
                ("socket", 11, ALLOW),
                ("socket", 12, EPERM),
                ("socket", 38, EPERM),
                ("socket", 40, EPERM),
                ("socket", 45, ALLOW),
                ("socket", 46, EPERM),
                ("socket", 0x1_0000_0002, EPERM),
                ("personality", 0, ALLOW),
                ("personality", 8, ALLOW),
                ("personality", 4, EPERM),
                ("personality", 0x2_0008, ALLOW),
                ("personality", 0x4_0000, EPERM),
                ("personality", 0xffff_ffff, ALLOW),
                ("personality", 0xffff_ffff_ffff_ffff, EPERM),
            ];
            for (name, argument, expected) in table {
                assert_eq!(run(&program, arch, number(name), argument), expected, "{name}({argument:#x})");
            }
        }
    }

    #[test]
    fn dangerous_calls_are_not_in_the_table() {
        let never = "mount umount2 unshare setns keyctl add_key request_key bpf io_uring_setup userfaultfd \
                     open_by_handle_at init_module finit_module kexec_load perf_event_open reboot swapon fsopen \
                     move_mount open_tree mount_setattr pivot_root process_madvise pidfd_getfd iopl";
        for name in never.split_whitespace() {
            assert!(ALLOWED.iter().all(|row| row.0 != name), "{name}");
        }
    }
}
