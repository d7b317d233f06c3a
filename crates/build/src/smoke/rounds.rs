//! When a service is asked, and when it is given up: a state machine over times since its start. Knows no clock.
//!
//! A HEALTHCHECK is asked at once and then oftener than an engine asks, since a build waits for it. It is given up when an
//! engine would call the container unhealthy: after `retries` failures in a row, each an interval after the last, none in
//! the start period. Nobody waits longer than the window.

use std::time::Duration;

use kuz_image::Healthcheck;

/// The window where the request names none. A Python service has imported its packages after a second or two, on a busy
/// machine after several; a shell that never listens should not keep a build for longer.
const WINDOW: Duration = Duration::from_secs(10);
/// No window is longer: a start that takes an hour is none.
pub(super) const LONGEST: Duration = Duration::from_hours(1);
/// Between two questions to a port: soon enough to lose no time, and seldom enough to cost none.
const PACE: Duration = Duration::from_millis(50);
/// The same once it answers, if not well: each question may be a line of its log, whose end is what a failure shows.
const ANSWERED_PACE: Duration = Duration::from_millis(500);
/// Between two HEALTHCHECKs: each starts a program, often Python.
const CHECK_PACE: Duration = Duration::from_millis(500);

/// What engines take where HEALTHCHECK leaves it open.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// The times of one smoke run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Timing {
    pub(super) window: Duration,
    /// Of a HEALTHCHECK, if that is what is asked.
    check: Option<Check>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Timing {
    /// A window that is asked for is kept to; else a start period makes it longer.
    pub(super) fn new(asked: Option<Duration>, healthcheck: Option<&Healthcheck>, is_checked: bool) -> Self {
        let check = healthcheck.map(Check::of);
        let start_period = check.as_ref().map_or(Duration::ZERO, |check| check.start_period);
        let window = asked.unwrap_or_else(|| WINDOW.saturating_add(start_period)).min(LONGEST);
        Self { window, check: check.filter(|_| is_checked) }
    }
}

impl Check {
    fn of(healthcheck: &Healthcheck) -> Self {
        let time = |nanoseconds: i64, default| match u64::try_from(nanoseconds) {
            Ok(0) | Err(_) => default,
            Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
        };
        Self {
            interval: time(healthcheck.interval, INTERVAL),
            timeout: time(healthcheck.timeout, TIMEOUT),
            start_period: time(healthcheck.start_period, Duration::ZERO),
            start_interval: time(healthcheck.start_interval, START_INTERVAL),
            retries: u32::try_from(healthcheck.retries).ok().filter(|retries| *retries > 0).unwrap_or(RETRIES),
        }
    }

    /// How long after a failure it is asked again.
    fn pace(&self, now: Duration) -> Duration {
        let engine = if now < self.start_period { self.start_interval } else { self.interval };
        engine.clamp(PACE, CHECK_PACE)
    }
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// Ask; an answer that takes longer is none.
    Ask {
        /// How long it may take.
        within: Duration,
    },
    /// Wait so long.
    Wait(Duration),
    /// The window is over.
    Late,
    /// HEALTHCHECK has failed so often.
    Unhealthy(u32),
}

/// How it stands.
#[derive(Debug)]
pub(super) struct Rounds {
    timing: Timing,
    /// When the next question is due.
    due: Duration,
    /// Failures that count, and when the last of them began.
    failures: u32,
    counted: Duration,
}

impl Rounds {
    pub(super) fn new(timing: Timing) -> Self {
        Self { timing, due: Duration::ZERO, failures: 0, counted: Duration::ZERO }
    }

    /// What to do, so long after the start.
    pub(super) fn turn(&self, now: Duration) -> Turn {
        let left = self.timing.window.saturating_sub(now);
        let check = self.timing.check.as_ref();
        if check.is_some_and(|check| self.failures >= check.retries) {
            return Turn::Unhealthy(self.failures);
        }
        if left.is_zero() {
            return Turn::Late;
        }
        if now < self.due {
            return Turn::Wait(left.min(self.due.saturating_sub(now)));
        }
        Turn::Ask { within: check.map_or(left, |check| check.timeout.min(left)) }
    }

    /// A question that was asked at `began` has no good answer at `now`: a bad one, or none.
    pub(super) fn failed(&mut self, began: Duration, now: Duration, answered: bool) {
        let Some(check) = &self.timing.check else {
            self.due = now.saturating_add(if answered { ANSWERED_PACE } else { PACE });
            return;
        };
        self.due = now.saturating_add(check.pace(now));
        // As the engine would have asked: an interval after the start, or after the last time.
        if began >= check.start_period && began >= self.counted.saturating_add(check.interval) {
            self.failures += 1;
            self.counted = began;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn healthcheck(interval: u64, timeout: u64, start_period: u64, start_interval: u64, retries: i64) -> Healthcheck {
        let time = |milliseconds: u64| i64::try_from(ms(milliseconds).as_nanos()).unwrap_or_default();
        Healthcheck {
            interval: time(interval),
            timeout: time(timeout),
            start_period: time(start_period),
            start_interval: time(start_interval),
            retries,
            ..Healthcheck::default()
        }
    }

    #[test]
    fn the_window_is_what_is_asked_for_or_what_the_image_needs() {
        let hour = healthcheck(0, 0, 7_200_000, 0, 0);
        for (asked, check, want) in [
            (None, None, WINDOW),
            (Some(ms(3000)), None, ms(3000)),
            (None, Some(healthcheck(0, 0, 40_000, 0, 0)), ms(50_000)),
            (Some(ms(3000)), Some(healthcheck(0, 0, 40_000, 0, 0)), ms(3000)),
            (None, Some(hour), LONGEST),
        ] {
            assert_eq!(Timing::new(asked, check.as_ref(), true).window, want, "{asked:?} {check:?}");
        }
    }

    /// Asks until it is over; every question takes `took` and fails. When the questions were, and the end.
    fn play(timing: Timing, took: Duration, answered: bool) -> (Vec<u128>, Turn) {
        let mut rounds = Rounds::new(timing);
        let (mut now, mut asked) = (Duration::ZERO, Vec::new());
        loop {
            match rounds.turn(now) {
                Turn::Ask { within } => {
                    asked.push(now.as_millis());
                    let began = now;
                    now += took.min(within);
                    rounds.failed(began, now, answered);
                }
                Turn::Wait(time) => {
                    assert!(!time.is_zero(), "it goes on");
                    now += time;
                }
                end => return (asked, end),
            }
        }
    }

    #[test]
    fn a_port_is_asked_all_the_time_until_the_window_is_over() {
        let (asked, end) = play(Timing::new(Some(ms(200)), None, false), ms(0), false);
        assert_eq!((asked, end), (vec![0, 50, 100, 150], Turn::Late));
        // One that answers badly is left in peace for a while.
        let (asked, end) = play(Timing::new(Some(ms(1200)), None, false), ms(10), true);
        assert_eq!((asked, end), (vec![0, 510, 1020], Turn::Late));
        // An answer may take what is left.
        let (asked, end) = play(Timing::new(Some(ms(200)), None, false), ms(5000), false);
        assert_eq!((asked, end), (vec![0], Turn::Late));
        // A HEALTHCHECK that is not asked changes nothing but the window.
        let check = healthcheck(100, 100, 0, 0, 1);
        let (asked, end) = play(Timing::new(Some(ms(200)), Some(&check), false), ms(0), false);
        assert_eq!((asked.len(), end), (4, Turn::Late));
    }

    #[test]
    fn a_healthcheck_fails_when_an_engine_would_say_so() {
        for (check, window, took, want_asked, want_end) in [
            // Nothing said: an engine asks after 30 seconds, which the window does not wait for.
            (healthcheck(0, 0, 0, 0, 0), 2000, 0, vec![0, 500, 1000, 1500], Turn::Late),
            // Faster than ours: as it says. The first that counts is an interval after the start.
            (healthcheck(100, 0, 0, 0, 2), 2000, 0, vec![0, 100, 200], Turn::Unhealthy(2)),
            // Slower than ours: asked oftener, counted as the engine counts.
            (healthcheck(1000, 0, 0, 0, 2), 9000, 0, vec![0, 500, 1000, 1500, 2000], Turn::Unhealthy(2)),
            // In the start period nothing counts, and its own interval holds.
            (healthcheck(1000, 0, 600, 200, 1), 9000, 0, vec![0, 200, 400, 600, 1100], Turn::Unhealthy(1)),
            // A check that hangs is over after its timeout.
            (healthcheck(500, 300, 0, 0, 1), 9000, 60_000, vec![0, 800], Turn::Unhealthy(1)),
            // None is faster than ours to ports.
            (healthcheck(1, 0, 0, 0, 3), 9000, 0, vec![0, 50, 100, 150], Turn::Unhealthy(3)),
        ] {
            let (asked, end) = play(Timing::new(Some(ms(window)), Some(&check), true), ms(took), false);
            assert_eq!((asked, end), (want_asked, want_end), "{check:?}");
        }
    }
}
