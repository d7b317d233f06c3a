//! Ctrl-C, SIGTERM and SIGHUP: the first asks the work to stop, the second ends the program at once.
//!
//! At first a signal only sets a flag, which the [`Cancel`] looks at. A thread that waits for signals is started when
//! something begins that must be told or that may wait: a build that does nothing starts none. Nothing else is done in a
//! handler. Also remembers which signal it was, for the exit code (128 + number).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Once, PoisonError};

use kuz_build::{Cancel, Source, Trigger};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};

/// The signal that came first; 0 before.
static RECEIVED: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// What must still be done when a second signal ends the program.
type Last = Box<dyn FnOnce() + Send>;

static LAST: Mutex<Option<Last>> = Mutex::new(None);

/// Sets what a second signal does before it ends the program, such as putting a terminal back; `None` takes it away.
pub(crate) fn at_exit(last: Option<Last>) {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = last;
}

/// Listens from now on. What is returned is triggered by the first signal.
pub(crate) fn listen(building: bool) -> Cancel {
    let cancel = listen_loosely(building);
    cancel.attend();
    cancel
}

/// Listens, but starts no thread before that is needed: see [`Cancel::attend`]. Until then the second signal ends the
/// program without a word.
pub(crate) fn listen_loosely(building: bool) -> Cancel {
    let ignored = ignored();
    let wanted = [SIGINT, SIGTERM, SIGHUP].map(|signal| (signal, ignored >> (signal - 1) & 1 == 1));
    let wanted: Vec<i32> = wanted.into_iter().filter(|(_, ignored)| !ignored).map(|(signal, _)| signal).collect();
    let asked = Arc::new(AtomicBool::new(false));
    let mut shutdowns = Vec::new();
    for &signal in &wanted {
        // In this order: whether it is the second is seen before the first is noted. Where handlers cannot be had, the
        // signal ends the program as it does any other.
        shutdowns.extend(flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked)));
        let number = usize::try_from(signal).unwrap_or_default();
        let _ = flag::register_usize(signal, Arc::clone(&RECEIVED), number);
        let _ = flag::register(signal, Arc::clone(&asked));
    }
    Cancel::of_source(|trigger| {
        let (once, flag) = (Once::new(), Arc::clone(&asked));
        let attend = move || once.call_once(|| attend(&wanted, &shutdowns, &flag, &trigger, building));
        Source { asked, attend: Box::new(attend) }
    })
}

/// Starts the thread, which takes over from the flag.
fn attend(wanted: &[i32], shutdowns: &[SigId], asked: &AtomicBool, trigger: &Trigger, building: bool) {
    let before = asked.load(Ordering::SeqCst);
    let Ok(mut signals) = Signals::new(wanted) else { return };
    for shutdown in shutdowns {
        low_level::unregister(*shutdown);
    }
    let mut first = !before;
    if asked.load(Ordering::SeqCst) {
        trigger.cancel();
    }
    let trigger = trigger.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if std::mem::take(&mut first) {
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

/// The signals that this process was started with ignored, as `nohup` does, as a mask: they then stay so.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.unwrap_or_default()
}

/// 128 + the signal's number.
pub(crate) fn exit_code() -> u8 {
    match RECEIVED.load(Ordering::SeqCst) {
        0 => crate::exit_code::INTERRUPTED,
        signal => u8::try_from(128 + signal).unwrap_or(crate::exit_code::INTERRUPTED),
    }
}
