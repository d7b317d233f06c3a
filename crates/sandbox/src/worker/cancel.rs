//! Ending commands from another thread.
//!
//! In: a request to stop, or a signal to forward. Out: messages to the workers of all commands that run under this
//! [`Cancel`]. Holds no thread and no timer: the grace period is the worker's. Signals to this process are a [`Source`]: it
//! begins to listen on a thread only when there is something that must be told, until then a flag is enough.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::order::Poke;
use crate::protocol::Channel;

/// Stops the commands that were started with it. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    source: Option<Arc<Source>>,
}

#[derive(Debug, Default)]
struct State {
    cancelled: bool,
    running: Vec<Weak<Channel>>,
    children: Vec<Weak<Inner>>,
}

/// Where requests to stop come from.
pub struct Source {
    /// Set by the first request.
    pub asked: Arc<AtomicBool>,
    /// From now on each request must lead to [`Cancel::cancel`]. May be called often.
    pub attend: Box<dyn Fn() + Send + Sync>,
}

/// Cancels what belongs to a [`Source`].
#[derive(Debug, Clone)]
pub struct Trigger(Weak<Inner>);

impl Trigger {
    /// As [`Cancel::cancel`].
    pub fn cancel(&self) {
        if let Some(inner) = self.0.upgrade() {
            Cancel(inner).cancel();
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_asked(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.asked.load(Ordering::SeqCst))
    }
}

impl Cancel {
    /// Nothing cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that is cancelled also by these requests. `source` is given a way to [`Self::cancel`] it.
    pub fn of_source(source: impl FnOnce(Trigger) -> Source) -> Self {
        Self(Arc::new_cyclic(|inner| {
            let source = source(Trigger(Weak::clone(inner)));
            Inner { state: Mutex::default(), source: Some(Arc::new(source)) }
        }))
    }

    /// Something begins that may wait without asking [`Self::is_cancelled`], or that a request must reach at once.
    pub fn attend(&self) {
        if let Some(source) = &self.0.source {
            (source.attend)();
        }
    }

    /// One that is cancelled together with this one, and can be cancelled alone.
    #[must_use]
    pub fn child(&self) -> Self {
        let mut state = self.0.state();
        let begin = State { cancelled: state.cancelled, ..State::default() };
        let child = Self(Arc::new(Inner { state: Mutex::new(begin), source: self.0.source.clone() }));
        state.children.retain(|child| child.strong_count() > 0);
        state.children.push(Arc::downgrade(&child.0));
        drop(state);
        child
    }

    /// Ends all commands, also those that would start later: SIGTERM, and SIGKILL after their grace. A second call
    /// doesn't wait for the grace.
    pub fn cancel(&self) {
        self.poke(&Poke::Cancel, true);
    }

    /// Forwards a signal to the running commands.
    pub fn signal(&self, number: i32) {
        self.poke(&Poke::Signal(number), false);
    }

    /// Was it cancelled?
    pub fn is_cancelled(&self) -> bool {
        self.0.is_asked() || self.0.state().cancelled
    }

    fn poke(&self, poke: &Poke, cancelled: bool) {
        let (running, children): (Vec<Arc<Channel>>, Vec<_>) = {
            let mut state = self.0.state();
            state.cancelled |= cancelled;
            state.running.retain(|channel| channel.strong_count() > 0);
            let running = state.running.iter().filter_map(Weak::upgrade).collect();
            (running, state.children.iter().filter_map(Weak::upgrade).collect())
        };
        for channel in running {
            // One that has just ended doesn't hear it, which is fine.
            let _ = channel.send(poke, &[]);
        }
        for child in children {
            Self(child).poke(poke, cancelled);
        }
    }

    /// From now on, a command listens on this channel; `false` if it was cancelled before it could hear of it.
    pub(super) fn register(&self, channel: &Arc<Channel>) -> bool {
        self.attend();
        let mut state = self.0.state();
        state.running.push(Arc::downgrade(channel));
        !state.cancelled && !self.0.is_asked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_attended_only_when_something_must_hear_of_it() {
        let (asked, attended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let cancel = Cancel::of_source(|trigger| {
            let attended = Arc::clone(&attended);
            let attend = move || {
                attended.store(true, Ordering::SeqCst);
                trigger.cancel();
            };
            Source { asked: Arc::clone(&asked), attend: Box::new(attend) }
        });
        let child = cancel.child();
        assert!(!cancel.is_cancelled() && !child.is_cancelled());
        asked.store(true, Ordering::SeqCst);
        assert!(cancel.is_cancelled() && child.is_cancelled() && !attended.load(Ordering::SeqCst));
        asked.store(false, Ordering::SeqCst);
        child.attend();
        assert!(attended.load(Ordering::SeqCst) && cancel.is_cancelled() && child.is_cancelled());
    }

    #[test]
    fn a_child_hears_its_parent_and_not_the_other_way_round() {
        let parent = Cancel::new();
        let (one, two) = (parent.child(), parent.child());
        one.cancel();
        assert_eq!((parent.is_cancelled(), one.is_cancelled(), two.is_cancelled()), (false, true, false));
        parent.cancel();
        assert!(two.is_cancelled());
        assert!(parent.child().is_cancelled(), "born late");
    }
}
