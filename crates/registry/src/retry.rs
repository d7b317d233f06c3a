//! How long to wait before the next try, and when to give up.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::config::Timing;
use crate::error::Cause;

/// The tries of one action at one endpoint.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    timing: &'a Timing,
    others_left: bool,
    attempts: u32,
    failures: u32,
    paused: Duration,
}

impl<'a> Patience<'a> {
    /// Full patience for the last endpoint; with others left, a dead one costs two tries only.
    pub(crate) fn new(timing: &'a Timing, others_left: bool) -> Self {
        let attempts = if others_left { timing.attempts.min(2) } else { timing.attempts };
        Self { timing, others_left, attempts, failures: 0, paused: Duration::ZERO }
    }

    /// Something new arrived: failures in a row start anew, the budget doesn't.
    pub(crate) fn progressed(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next try, or gives the cause back if there is to be none.
    pub(crate) async fn wait(&mut self, cause: Cause) -> Result<(), Cause> {
        self.failures += 1;
        if !cause.is_passing() || self.failures >= self.attempts {
            return Err(cause);
        }
        let pause = match cause.retry_after() {
            // Somebody else can be asked meanwhile.
            Some(asked) if self.others_left && asked > self.timing.longest_pause => return Err(cause),
            Some(asked) => asked.min(self.timing.longest_retry_after),
            None => self.own_pause(),
        };
        if self.paused + pause > self.timing.budget {
            return Err(cause);
        }
        self.paused += pause;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Doubling, with up to a quarter of jitter so that parallel transfers don't come back in step.
    fn own_pause(&self) -> Duration {
        let doubled = self.timing.first_pause.saturating_mul(1 << (self.failures - 1).min(16));
        let pause = doubled.min(self.timing.longest_pause);
        let random = u32::try_from(RandomState::new().hash_one(0_u8) % 256).unwrap_or(0);
        pause + pause * random / 1024
    }
}

/// `Retry-After`: seconds, or a date read against the answer's own `Date`.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let then = httpdate::parse_http_date(text).ok()?;
    let date = headers.get(DATE).and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
    Some(then.duration_since(date.unwrap_or_else(SystemTime::now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        for (date, value, want) in [
            (None, "7", Some(7)),
            (Some("Fri, 15 May 2015 15:34:21 GMT"), "Fri, 15 May 2015 15:34:31 GMT", Some(10)),
            (Some("Fri, 15 May 2015 15:34:21 GMT"), "Fri, 15 May 2015 15:34:01 GMT", Some(0)),
            (None, "soon", None),
            (None, "-1", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            if let Some(date) = date {
                headers.insert(DATE, HeaderValue::from_static(date));
            }
            assert_eq!(retry_after(&headers), want.map(Duration::from_secs), "{value}");
        }
    }
}
