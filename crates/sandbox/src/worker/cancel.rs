//! Ending commands from another thread.
//!
//! In: a request to stop, or a signal to forward. Out: messages to the workers of all commands that run under this
//! [`Cancel`]. Holds no thread and no timer: the grace period is the worker's.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::order::Poke;
use crate::protocol::Channel;

/// Stops the commands that were started with it. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    cancelled: bool,
    running: Vec<Weak<Channel>>,
    children: Vec<Weak<Mutex<State>>>,
}

impl Cancel {
    /// Nothing cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that is cancelled together with this one, and can be cancelled alone.
    #[must_use]
    pub fn child(&self) -> Self {
        let child = Self::new();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        child.0.lock().unwrap_or_else(PoisonError::into_inner).cancelled = state.cancelled;
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cancelled
    }

    fn poke(&self, poke: &Poke, cancelled: bool) {
        let (running, children): (Vec<Arc<Channel>>, Vec<_>) = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.push(Arc::downgrade(channel));
        !state.cancelled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
