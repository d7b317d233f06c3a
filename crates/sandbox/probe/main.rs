//! What the crate's tests start again as worker and init, and run inside sandboxes.
//!
//! In: an order by name. Out: lines on standard output. No part of the product.

#![expect(unsafe_code, reason = "raw system calls with null arguments, to see what the filter answers")]
#![expect(clippy::print_stdout, reason = "its whole purpose")]

use std::process::ExitCode;

use kuz_sandbox::preflight::Asker;
use kuz_sandbox::{Cancel, Options, RunStep, Stdio, Worker, preflight};

fn main() -> ExitCode {
    if let Some(code) = kuz_sandbox::main_if_reexec() {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    match std::env::args().nth(1).as_deref() {
        Some("calls") => calls(),
        Some("overwrite") => return overwrite(),
        Some("run") => return run(),
        Some("ask") => return ask().map_or(ExitCode::from(9), |()| ExitCode::SUCCESS),
        Some("preflight") => {
            let found = preflight(&Asker::default(), None, &Options::default());
            println!("{:?}\n{}\n{}", found.isolation, found.notes.join(" "), found.mend.unwrap_or_default());
        }
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

/// Keeps hold of this program's file, becomes another program, and then writes to the file.
fn overwrite() -> ExitCode {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    let Ok(exe) = std::fs::File::open("/proc/self/exe") else { return ExitCode::from(3) };
    let Ok(kept) = rustix::io::fcntl_dupfd_cloexec(&exe, 10) else { return ExitCode::from(4) };
    let Ok(()) = rustix::io::fcntl_setfd(&kept, rustix::io::FdFlags::empty()) else { return ExitCode::from(5) };
    let script = format!("echo changed > /proc/self/fd/{0}; echo changed >> /proc/self/fd/{0}", kept.as_raw_fd());
    let _ = std::process::Command::new("/bin/sh").args(["-c", &script]).exec();
    ExitCode::from(6)
}

/// Sends bytes (numbers, after the path) to a socket and prints what comes back, as numbers.
fn ask() -> std::io::Result<()> {
    use std::io::{Read as _, Write as _};
    let mut args = std::env::args().skip(2);
    let mut stream = std::os::unix::net::UnixStream::connect(args.next().unwrap_or_default())?;
    let question: Vec<u8> = args.filter_map(|number| number.parse().ok()).collect();
    stream.write_all(&question)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    println!("{}", answer.iter().map(u8::to_string).collect::<Vec<_>>().join(" "));
    Ok(())
}

/// Runs `sh -c SCRIPT` on the tree `base`: arguments are the trees directory, the name of the new tree, how streams are
/// passed, and the script. Says `isolation` first when the script is empty.
fn run() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(2).collect();
    let [trees, upper, stdio, script] = args.as_slice() else { return ExitCode::from(2) };
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let user = std::env::var("KUZ_TEST_USER").unwrap_or_default();
    let Ok(ids) = kuz_sandbox::ids::detect(uid, gid, &user, None) else { return ExitCode::from(3) };
    let Ok(trees) = std::fs::File::open(trees) else { return ExitCode::from(4) };
    let Ok(worker) = Worker::start(&ids, trees.into(), &Options::default()) else { return ExitCode::from(5) };
    if script.is_empty() {
        println!("{:?}", worker.isolation());
        return ExitCode::SUCCESS;
    }
    let step = RunStep {
        lowers: vec!["base".into()],
        upper: upper.clone(),
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".into(), "/bin".into())],
        stdio: if stdio == "relayed" { Stdio::Relayed } else { Stdio::Inherit },
        ..RunStep::default()
    };
    let exit = worker.run(&step, &mut |_, bytes| print!("{}", String::from_utf8_lossy(bytes)), &Cancel::new());
    let _ = worker.remove(&[step.upper]);
    ExitCode::from(u8::try_from(exit.map_or(125, kuz_sandbox::Exit::shell_code)).unwrap_or(255))
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
