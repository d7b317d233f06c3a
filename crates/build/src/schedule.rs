//! Which stage is done when: one after the other in the order of the file, or several side by side with `--jobs`.
//!
//! In: a plan's stages and a function that does one. Out: all of them done, or the first failure; then everything else
//! that runs is stopped. A stage begins once all stages that it stands on or reads from are done.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use kuz_plan::plan::Stage;

use crate::error::BuildError;
use crate::execute::StageDone;
use crate::session::Session;

/// The stages of a plan that are done, each at its place in the plan.
#[derive(Debug)]
pub(crate) struct Stages(Vec<OnceLock<StageDone>>);

impl Stages {
    /// None of so many is done.
    pub(crate) fn none_of(count: usize) -> Self {
        Self(std::iter::repeat_with(OnceLock::new).take(count).collect())
    }

    /// This one is done. It stays as it was if it was before.
    pub(crate) fn set(&self, place: usize, stage: StageDone) {
        if let Some(slot) = self.0.get(place) {
            let _ = slot.set(stage);
        }
    }

    /// A stage, if it is done.
    pub(crate) fn get(&self, place: usize) -> Option<&StageDone> {
        self.0.get(place)?.get()
    }

    /// The target.
    pub(crate) fn last(&self) -> Option<&StageDone> {
        self.0.last()?.get()
    }
}

/// The first failure of a build, whoever met it. What is stopped because of it fails too, and is not heard.
#[derive(Debug, Default)]
pub(crate) struct FirstFailure(Mutex<Option<BuildError>>);

impl FirstFailure {
    /// Takes note of a failure and stops all other work.
    pub(crate) fn note(&self, session: &Session<'_>, error: BuildError) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*first {
            None | Some(BuildError::Cancelled) => *first = Some(error),
            Some(_) => {}
        }
        drop(first);
        session.work.cancel();
    }

    /// The failure, if there was one.
    pub(crate) fn take(&self) -> Option<BuildError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How far the stages are: which were begun, and how many of them are not done yet.
#[derive(Debug)]
struct Board {
    begun: Vec<bool>,
    running: usize,
    stopped: bool,
}

/// Does all stages, `jobs` at a time; with one job on the caller's thread alone.
pub(crate) fn all(
    session: &Session<'_>,
    stages: &[Stage],
    jobs: usize,
    failure: &FirstFailure,
    work: &(dyn Fn(usize, &Stage, &Stages) -> Result<StageDone, BuildError> + Sync),
) -> Stages {
    let done = Stages::none_of(stages.len());
    let board = Mutex::new(Board { begun: vec![false; stages.len()], running: 0, stopped: false });
    let changed = Condvar::new();
    let take = || -> Option<usize> {
        let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if board.stopped || board.begun.iter().all(|begun| *begun) {
                return None;
            }
            let ready = |(place, stage): (usize, &Stage)| {
                let waits = stage.needs().iter().any(|need| done.get(need.0).is_none());
                (!board.begun.get(place).copied().unwrap_or(true) && !waits).then_some(place)
            };
            if let Some(place) = stages.iter().enumerate().find_map(ready) {
                if let Some(begun) = board.begun.get_mut(place) {
                    *begun = true;
                }
                board.running += 1;
                return Some(place);
            }
            if board.running == 0 {
                // Nothing will ever be ready: a plan that needs a later stage.
                board.stopped = true;
                failure.note(session, BuildError::input("a stage needs a later one"));
                return None;
            }
            board = changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    };
    let drive = || {
        while let Some(place) = take() {
            let Some(stage) = stages.get(place) else { return };
            let outcome = work(place, stage, &done);
            let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
            board.running -= 1;
            match outcome {
                Ok(finished) => done.set(place, finished),
                Err(error) => {
                    board.stopped = true;
                    failure.note(session, error);
                }
            }
            changed.notify_all();
        }
    };
    if jobs <= 1 || stages.len() <= 1 {
        drive();
    } else {
        std::thread::scope(|scope| {
            for _ in 1..jobs.min(stages.len()) {
                scope.spawn(drive);
            }
            drive();
        });
    }
    done
}
