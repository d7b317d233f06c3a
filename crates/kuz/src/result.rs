//! The one JSON object of `kuz build`, written once and only once.
//!
//! Success, failure, wrong arguments, panics and signals all come through here; whoever is first wins, the others write
//! nothing. It goes to standard output, or to standard error when an output with `dest=-` occupies that.

use std::ffi::OsString;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use kuz_build::contract::OutputResult;

static WRITTEN: AtomicBool = AtomicBool::new(false);
static TO_STDERR: AtomicBool = AtomicBool::new(false);

/// Looks at the bare arguments, before anything can go wrong with them: whether this is a build, whose every end is an
/// object, and whether an output asks for standard output.
pub(crate) fn prepare(arguments: &[OsString]) -> bool {
    let words: Vec<_> = arguments.iter().skip(1).map(|word| word.to_string_lossy()).collect();
    let building = words.iter().find(|word| !word.starts_with('-')).is_some_and(|word| word == "build");
    if building && words.iter().any(|word| word.split(',').any(|part| part.ends_with("dest=-"))) {
        stdout_is_taken();
    }
    building
}

/// From now on the object goes to standard error: standard output carries an image.
pub(crate) fn stdout_is_taken() {
    TO_STDERR.store(true, Ordering::SeqCst);
}

/// Writes the object, unless one was written. Gives whether it was this one, and it could be written.
pub(crate) fn write(result: &OutputResult) -> bool {
    if WRITTEN.swap(true, Ordering::SeqCst) {
        return false;
    }
    let mut line = serde_json::to_string(result).unwrap_or_default();
    line.push('\n');
    let written = if TO_STDERR.load(Ordering::SeqCst) {
        std::io::stderr().write_all(line.as_bytes())
    } else {
        let mut stdout = std::io::stdout();
        stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush())
    };
    written.is_ok()
}

/// Writes a failure with this message, made one line.
pub(crate) fn fail(message: &str) {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    write(&OutputResult { message: Some(line), ..OutputResult::default() });
}

/// A panic says what to do with it, without a backtrace of ours.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let words = panic.payload_as_str().unwrap_or("no message");
        let _ = writeln!(
            std::io::stderr(),
            "error: internal error at {place}: {words}\n  this is a bug in kuz: please report it with the Dockerfile and these lines"
        );
    }));
}
