//! Faults that tests put into the disk: an error code or the death of the process at the Nth call.
//!
//! A [`FaultPlan`] goes in with the store's options (in text form for end-to-end tests: `17:kill`, `17:enospc`,
//! `17:eio:sticky`); [`Faults`] counts the calls and answers what is to happen at each. It knows nothing of files.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

/// What goes wrong, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPlan {
    /// The call at which it happens, counted from 1.
    pub call: u64,
    /// What happens.
    pub action: FaultAction,
    /// Every later call too, not only the one.
    pub sticky: bool,
}

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultAction {
    /// The call fails with this error code. `ENOSPC` and `EDQUOT` hit only calls that need space.
    Fail(i32),
    /// The process dies before the call; within a write: after half of it.
    Kill,
}

/// A text that is no fault plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no fault plan (want CALL:kill|enospc|edquot|eio|emfile[:sticky])", text.escape_debug())]
pub struct FaultPlanError {
    text: String,
}

impl FromStr for FaultPlan {
    type Err = FaultPlanError;

    fn from_str(text: &str) -> Result<Self, FaultPlanError> {
        let bad = || FaultPlanError { text: text.chars().take(80).collect() };
        let mut parts = text.split(':');
        let call = parts.next().and_then(|part| part.parse().ok()).ok_or_else(bad)?;
        let action = match parts.next() {
            Some("kill") => FaultAction::Kill,
            Some("enospc") => FaultAction::Fail(Errno::NOSPC.raw_os_error()),
            Some("edquot") => FaultAction::Fail(Errno::DQUOT.raw_os_error()),
            Some("eio") => FaultAction::Fail(Errno::IO.raw_os_error()),
            Some("emfile") => FaultAction::Fail(Errno::MFILE.raw_os_error()),
            _ => return Err(bad()),
        };
        let sticky = match parts.next() {
            None => false,
            Some("sticky") => true,
            Some(_) => return Err(bad()),
        };
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Self { call, action, sticky })
    }
}

/// The counter beside a plan.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    plan: Option<FaultPlan>,
    calls: AtomicU64,
    spent: AtomicU64,
}

/// What a call needs, as far as faults care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Disk space or an inode.
    Space,
    /// Neither.
    Nothing,
}

impl Faults {
    pub(crate) fn new(plan: Option<FaultPlan>) -> Self {
        Self { plan, calls: AtomicU64::new(0), spent: AtomicU64::new(0) }
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Counts one call and says what happens to it.
    pub(crate) fn next(&self, needs: Needs) -> Option<FaultAction> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let plan = self.plan?;
        let about_space = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error);
        let hits = match plan.action {
            FaultAction::Fail(code) if about_space.contains(&code) => needs == Needs::Space,
            _ => true,
        };
        if call < plan.call || !hits {
            return None;
        }
        let first = self.spent.fetch_add(1, Ordering::Relaxed) == 0;
        (first || plan.sticky).then_some(plan.action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_parse_and_count() {
        for bad in ["", "x", "1", "1:", "1:boom", "1:eio:always", "1:eio:sticky:"] {
            assert!(bad.parse::<FaultPlan>().is_err(), "{bad}");
        }
        let once = Faults::new(Some("2:eio".parse().unwrap()));
        let hits: Vec<bool> = (0..4).map(|_| once.next(Needs::Nothing).is_some()).collect();
        assert_eq!(hits, [false, true, false, false]);
        let full = Faults::new(Some("2:enospc:sticky".parse().unwrap()));
        let needs = [Needs::Space, Needs::Nothing, Needs::Space, Needs::Space];
        assert_eq!(needs.map(|needs| full.next(needs).is_some()), [false, false, true, true]);
        assert_eq!(full.calls(), 4);
    }
}
