//! The history line of each instruction (`created_by`), letter by letter as BuildKit writes it.
//!
//! Values in, text out. BuildKit prints Go values with Go's formats, so this page knows three of those: quoted
//! strings (`%q`), lists (`[a b]`) and durations (`1m30s`).

use std::fmt::Write as _;

use kuz_image::Healthcheck;

/// `RUN |2 A=1 B=2 /bin/sh -c command # buildkit`
pub(crate) fn run(variables: &[String], argv: &[String]) -> String {
    let mut line = String::from("RUN ");
    if !variables.is_empty() {
        let _ = write!(line, "|{} {} ", variables.len(), variables.join(" "));
    }
    line.push_str(&argv.join(" "));
    line.push_str(" # buildkit");
    line
}

/// `ENV A=1 B=2`, also for LABEL.
pub(crate) fn pairs(keyword: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(keyword.to_owned(), |mut line, (key, value)| {
        let _ = write!(line, " {key}={value}");
        line
    })
}

/// `CMD ["a" "b"]`, also for ENTRYPOINT.
pub(crate) fn command(keyword: &str, argv: &[String]) -> String {
    let quoted: Vec<String> = argv.iter().map(|word| quote(word)).collect();
    format!("{keyword} [{}]", quoted.join(" "))
}

/// `EXPOSE [80/tcp 81/tcp]`, also for VOLUME and SHELL.
pub(crate) fn list(keyword: &str, words: &[String]) -> String {
    format!("{keyword} [{}]", words.join(" "))
}

/// `HEALTHCHECK {Test:[CMD-SHELL true] Interval:30s …}`
pub(crate) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        check.test.as_deref().unwrap_or_default().join(" "),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries
    )
}

/// A string as Go's `%q` shows it.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            c if c.is_ascii_control() => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control()
                || (c != ' ' && c.is_whitespace())
                || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{feff}') =>
            {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Nanoseconds as Go's `time.Duration` shows them.
fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    let shown = match all {
        0 => return "0s".to_owned(),
        1..1_000 => format!("{all}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(all, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(all, 1_000_000)),
        _ => {
            let (hours, minutes) = (all / 3_600_000_000_000, all / 60_000_000_000 % 60);
            let seconds = decimal(all % 60_000_000_000, 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, _) => format!("{minutes}m{seconds}s"),
                _ => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{shown}")
}

/// `number / unit` with as many places as are needed; `unit` is a power of ten.
fn decimal(number: u64, unit: u64) -> String {
    let places = unit.ilog10() as usize;
    let fraction = format!("{:0places$}", number % unit);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { (number / unit).to_string() } else { format!("{}.{fraction}", number / unit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_look_like_those_of_go() {
        for (nanoseconds, want) in [
            (0, "0s"),
            (5, "5ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (1_500_000_000, "1.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_661_000_000_001, "1h1m1.000000001s"),
            (-1_000_000_000, "-1s"),
        ] {
            assert_eq!(duration(nanoseconds), want);
        }
    }

    #[test]
    fn strings_are_quoted_as_by_go() {
        for (text, want) in [
            ("a", r#""a""#),
            ("say \"hi\"\\", r#""say \"hi\"\\""#),
            ("a\nb\tc\x1b\x7f", r#""a\nb\tc\x1b\x7f""#),
            ("кузница", "\"кузница\""),
            ("\u{a0}\u{85}", r#""\u00a0\u0085""#),
        ] {
            assert_eq!(quote(text), want);
        }
    }
}
