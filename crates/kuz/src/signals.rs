//! Ctrl-C, SIGTERM and SIGHUP: the first asks the work to stop, the second ends the program at once.
//!
//! A thread waits for signals and triggers a [`Cancel`]; nothing is done in a handler. Also remembers which signal it
//! was, for the exit code (128 + number).

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use kuz_build::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// What must still be done when a second signal ends the program.
type Last = Box<dyn FnOnce() + Send>;

static LAST: Mutex<Option<Last>> = Mutex::new(None);

/// Sets what a second signal does before it ends the program, such as putting a terminal back; `None` takes it away.
pub(crate) fn at_exit(last: Option<Last>) {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = last;
}

/// Starts to listen. What is returned is triggered by the first signal.
pub(crate) fn listen(building: bool) -> Cancel {
    let cancel = Cancel::new();
    let trigger = cancel.clone();
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal));
    if let Ok(mut signals) = Signals::new(wanted) {
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if RECEIVED.swap(signal, Ordering::SeqCst) == 0 {
                    trigger.cancel();
                    continue;
                }
                if building {
                    crate::result::fail("interrupted");
                }
                if let Some(last) = LAST.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    last();
                }
                #[expect(clippy::exit, reason = "the second signal ends the program wherever it is")]
                std::process::exit(i32::from(exit_code()));
            }
        });
    }
    cancel
}

/// Whether this process was started with the signal ignored, as `nohup` does: it then stays so.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// 128 + the signal's number.
pub(crate) fn exit_code() -> u8 {
    match RECEIVED.load(Ordering::SeqCst) {
        0 => crate::exit_code::INTERRUPTED,
        signal => u8::try_from(128 + signal).unwrap_or(crate::exit_code::INTERRUPTED),
    }
}
