//! HEALTHCHECK and its options.

use super::flags::{self, Flags, Takes};
use super::stage::passed_over;
use super::{Scene, at_least_one, command_of, count, duration};
use crate::ast::{Command, Healthcheck};
use crate::statement::{Args, Statement};

pub(super) const FLAGS: [(&str, Takes); 5] = [
    ("interval", Takes::Text),
    ("timeout", Takes::Text),
    ("start-period", Takes::Text),
    ("start-interval", Takes::Text),
    ("retries", Takes::Text),
];
/// Shorter intervals are refused; zero stands for what the base or the engine says.
const SHORTEST: i64 = 1_000_000;

/// `HEALTHCHECK NONE` or `HEALTHCHECK [options] CMD …`
pub(super) fn read(statement: &Statement, scene: &mut Scene<'_>) -> Option<Healthcheck> {
    let Args::Typed(kind, args) = &statement.args else {
        at_least_one(statement, scene);
        return None;
    };
    match kind.value.to_uppercase().as_str() {
        "NONE" => {
            passed_over(statement, scene);
            if **args != Args::None {
                count(statement, "HEALTHCHECK NONE takes no arguments", scene);
            }
            Some(Healthcheck::None)
        }
        "CMD" => Some(check(statement, args, scene)),
        other => {
            let message = format!("Unknown type {other:?} in HEALTHCHECK (try CMD)");
            let hint = format!("write HEALTHCHECK [flags] CMD {} …", kind.value);
            scene.refuse("InvalidHealthcheck", kind.span, message, hint);
            None
        }
    }
}

fn check(statement: &Statement, args: &Args, scene: &mut Scene<'_>) -> Healthcheck {
    let flags = flags::read(statement, &FLAGS, scene);
    let command = command_of(args, statement.span);
    let empty = match &command {
        Command::Exec(words) => words.is_empty(),
        Command::Shell(word) => word.value.is_empty(),
    };
    if empty {
        count(statement, "Missing command after HEALTHCHECK CMD", scene);
    }
    Healthcheck::Check {
        command,
        interval: interval(&flags, "interval", scene),
        timeout: interval(&flags, "timeout", scene),
        start_period: interval(&flags, "start-period", scene),
        start_interval: interval(&flags, "start-interval", scene),
        retries: retries(&flags, scene),
    }
}

fn interval(flags: &Flags, name: &str, scene: &mut Scene<'_>) -> i64 {
    let Some(word) = flags.text(name).filter(|word| !word.value.is_empty()) else { return 0 };
    match duration::parse(&word.value) {
        Ok(nanoseconds) if nanoseconds == 0 || nanoseconds >= SHORTEST => return nanoseconds,
        Ok(_) => {
            let message = format!("Interval {name:?} cannot be less than 1ms");
            scene.error("InvalidHealthcheck", word.span, message);
        }
        Err(error) => {
            let hint = match error {
                duration::DurationError::MissingUnit(text) => format!("write --{name}={text}s for seconds"),
                _ => format!("write a number and its unit, such as --{name}=30s or --{name}=1m30s"),
            };
            let error = duration::parse(&word.value).err().map_or_else(String::new, |error| error.to_string());
            scene.refuse("InvalidHealthcheck", word.span, error, hint);
        }
    }
    0
}

fn retries(flags: &Flags, scene: &mut Scene<'_>) -> i64 {
    let Some(word) = flags.text("retries").filter(|word| !word.value.is_empty()) else { return 0 };
    let digits = word.value.strip_prefix(['+', '-']).unwrap_or(&word.value);
    let message = match word.value.parse::<i32>() {
        Ok(retries) if retries >= 0 => return i64::from(retries),
        Ok(retries) => format!("--retries cannot be negative ({retries})"),
        Err(_) => {
            let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let reason = if number { "value out of range" } else { "invalid syntax" };
            format!("strconv.ParseInt: parsing {:?}: {reason}", word.value)
        }
    };
    scene.error("InvalidHealthcheck", word.span, message);
    0
}
