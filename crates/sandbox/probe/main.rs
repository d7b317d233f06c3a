//! What the crate's tests start again as worker and init, and run inside sandboxes.
//!
//! In: an order by name. Out: lines on standard output. No part of the product.

#![expect(unsafe_code, reason = "raw system calls with null arguments, to see what the filter answers")]
#![expect(clippy::print_stdout, reason = "its whole purpose")]

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = kuz_sandbox::main_if_reexec() {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    match std::env::args().nth(1).as_deref() {
        Some("calls") => calls(),
        Some("spin") => loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        },
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

/// Each call that a filter must refuse, and what came of it, with arguments that do no harm where it's let through.
fn calls() {
    let none: libc::c_long = 0;
    let table: &[(&str, libc::c_long, [libc::c_long; 5])] = &[
        ("mount", libc::SYS_mount, [0; 5]),
        ("umount2", libc::SYS_umount2, [0; 5]),
        ("unshare-user", libc::SYS_unshare, [0x1000_0000, 0, 0, 0, 0]),
        ("setns", libc::SYS_setns, [-1, 0, 0, 0, 0]),
        ("clone-newuser", libc::SYS_clone, [0x1000_0000, 0, 0, 0, 0]),
        ("clone3", libc::SYS_clone3, [0; 5]),
        ("keyctl", libc::SYS_keyctl, [0; 5]),
        ("add_key", libc::SYS_add_key, [0; 5]),
        ("bpf", libc::SYS_bpf, [-1, 0, 0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [0; 5]),
        ("userfaultfd", libc::SYS_userfaultfd, [-1, 0, 0, 0, 0]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0]),
        ("init_module", libc::SYS_init_module, [0; 5]),
        ("perf_event_open", libc::SYS_perf_event_open, [0; 5]),
        ("pivot_root", libc::SYS_pivot_root, [0; 5]),
        ("fsopen", libc::SYS_fsopen, [0; 5]),
        ("open_tree", libc::SYS_open_tree, [-1, 0, 0, 0, 0]),
        ("reboot", libc::SYS_reboot, [0; 5]),
        ("sethostname", libc::SYS_sethostname, [0; 5]),
        ("syslog", libc::SYS_syslog, [3, 0, 0, 0, 0]),
        ("socket-vsock", libc::SYS_socket, [40, 1, 0, 0, 0]),
        ("socket-alg", libc::SYS_socket, [38, 5, 0, 0, 0]),
        ("socket-unix", libc::SYS_socket, [1, 1, 0, 0, 0]),
        ("personality-query", libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0]),
        ("memfd_create", libc::SYS_memfd_create, [c"x".as_ptr() as libc::c_long, 0, 0, 0, 0]),
        ("chroot", libc::SYS_chroot, [0; 5]),
    ];
    for (name, number, a) in table {
        // SAFETY: every pointer argument is null or a C string, which the kernel checks; flags make no call do harm.
        let result = unsafe { libc::syscall(*number, a[0], a[1], a[2], a[3], a[4], none) };
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        println!("{name} {}", if result < 0 { error } else { 0 });
    }
}
