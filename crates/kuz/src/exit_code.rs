//! The program's exit codes: a stable table, published in `docs/exit-codes.md`.
//!
//! Maps classes of errors to numbers, nothing else.

use kuz_build::error::Class;

/// All went well.
pub(crate) const SUCCESS: u8 = 0;
/// A step's command failed.
pub(crate) const STEP: u8 = 1;
/// `kuz verify` found an error, or an image of `kuz run --smoke` does not come up.
pub(crate) const UNSOUND: u8 = 1;
/// Wrong arguments.
pub(crate) const USAGE: u8 = 2;
/// The Dockerfile or the context is wrong.
pub(crate) const INPUT: u8 = 3;
/// A registry, credentials or the network.
pub(crate) const REMOTE: u8 = 4;
/// This machine cannot do it.
pub(crate) const ENVIRONMENT: u8 = 5;
/// The store or the disk.
pub(crate) const STORE: u8 = 6;
/// Refused for safety.
pub(crate) const REFUSED: u8 = 7;
/// A mistake in this program.
pub(crate) const BUG: u8 = 70;
/// `kuz run` itself failed, not the program in it (as in docker).
pub(crate) const RUN_FAILED: u8 = 125;
/// Interrupted; 128 + the signal's number for others.
pub(crate) const INTERRUPTED: u8 = 130;

/// The code for a class of errors.
pub(crate) fn of(class: Class) -> u8 {
    match class {
        Class::Step => STEP,
        Class::Input => INPUT,
        Class::Remote => REMOTE,
        Class::Environment => ENVIRONMENT,
        Class::Store => STORE,
        Class::Refused => REFUSED,
        Class::Cancelled => INTERRUPTED,
        Class::Bug => BUG,
    }
}
