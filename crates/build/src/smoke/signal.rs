//! STOPSIGNAL: a name or a number to a number.
//!
//! Names are those that planning lets pass, with or without `SIG`; real-time signals are counted as engines count them.

use kuz_plan::SIGNALS;

/// What stops an image that names nothing.
const DEFAULT: i32 = 15;
/// The first and the last real-time signal that programs may use.
const REAL_TIME: (i32, i32) = (34, 64);

/// A signal and its name for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signal {
    pub(super) number: i32,
    pub(super) name: String,
}

impl Signal {
    /// The signal that an image is stopped with; `None` for what is none.
    pub(super) fn of_image(stop_signal: Option<&str>) -> Option<Self> {
        let number = match stop_signal.map(str::trim).filter(|text| !text.is_empty()) {
            None => DEFAULT,
            Some(text) => number(text)?,
        };
        Some(Self { number, name: name(number) })
    }
}

fn number(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let plain = || SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let real_time = || {
        let (first, last) = REAL_TIME;
        match name.split_at_checked("RTMIN".len())? {
            ("RTMIN", offset) => Some(first + offset.strip_prefix('+')?.parse::<i32>().ok()?),
            ("RTMAX", offset) => Some(last - offset.strip_prefix('-')?.parse::<i32>().ok()?),
            _ => None,
        }
    };
    let found = text.parse().ok().or_else(plain).or_else(real_time)?;
    (1..=REAL_TIME.1).contains(&found).then_some(found)
}

/// `SIGTERM`, or `signal 34` for one without a name.
pub(super) fn name(number: i32) -> String {
    match SIGNALS.iter().find(|(_, known)| *known == number && number < REAL_TIME.0) {
        Some((name, _)) => format!("SIG{name}"),
        None => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_engines_read_them() {
        for (text, want) in [
            (None, Some((15, "SIGTERM"))),
            (Some(""), Some((15, "SIGTERM"))),
            (Some("SIGQUIT"), Some((3, "SIGQUIT"))),
            (Some("term"), Some((15, "SIGTERM"))),
            (Some("9"), Some((9, "SIGKILL"))),
            (Some("SIGRTMIN+3"), Some((37, "signal 37"))),
            (Some("RTMAX-30"), Some((34, "signal 34"))),
            (Some("RTMIN"), Some((34, "signal 34"))),
            (Some("28"), Some((28, "SIGWINCH"))),
            (Some("0"), None),
            (Some("65"), None),
            (Some("-9"), None),
            (Some("SIGFOO"), None),
            (Some("RTMIN+31"), None),
            (Some("RTMINx"), None),
            (Some("é"), None),
        ] {
            let got = Signal::of_image(text);
            assert_eq!(got.as_ref().map(|signal| (signal.number, signal.name.as_str())), want, "{text:?}");
        }
    }
}
