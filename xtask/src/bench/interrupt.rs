//! Ctrl-C and SIGTERM: the running command is ended and the bench cleans up, instead of leaving daemons and mounts behind.
//!
//! In: signals, and which command runs. Out: a problem from [`check`], which everything that waits asks afterwards.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Outcome;
use crate::problem::Problem;

static RECEIVED: AtomicBool = AtomicBool::new(false);
/// The process group of the running command; 0: none.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// Starts to listen, for the rest of the program's life.
pub(super) fn listen() -> Outcome {
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]);
    let mut signals = signals.map_err(|source| Problem::Start { program: "listening for signals".into(), source })?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            let again = RECEIVED.swap(true, Ordering::SeqCst);
            if let Some(group) = Pid::from_raw(RUNNING.load(Ordering::SeqCst)) {
                // It may have ended meanwhile, which is what is wanted.
                let _gone = kill_process_group(group, if again { Signal::KILL } else { Signal::TERM });
            }
        }
    });
    Ok(())
}

/// Says which command to end.
pub(super) fn now_running(group: Option<u32>) {
    RUNNING.store(group.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0), Ordering::SeqCst);
}

/// A problem if a signal came.
pub(super) fn check() -> Outcome {
    if RECEIVED.load(Ordering::SeqCst) { Err(Problem::Failed("interrupted".into())) } else { Ok(()) }
}
