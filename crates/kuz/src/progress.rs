//! Progress on standard error: events to lines, or to a live view on a terminal.
//!
//! Three displays of the same events: statuses (the default where nobody watches: what happens, no output of steps),
//! plain (statuses and every line that a step writes) and a live view. Never touches standard output. Text from
//! outside is cleaned of control characters first.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kuz_build::event::{Event, StepEnd, StepName};

use crate::args::ProgressArg;
use crate::render::{self, Colour};
use crate::verdict;

/// A line that a step is still writing is cut here; the rest follows as lines of its own.
const LINE_BYTES: usize = 4096;

/// Shows events.
#[derive(Debug)]
pub(crate) struct Progress {
    mode: Mode,
    colour: Colour,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Quiet,
    Statuses,
    Plain,
    Live,
}

#[derive(Debug, Default)]
struct State {
    partial: BTreeMap<String, Vec<u8>>,
    fetches: BTreeMap<String, (u64, Option<ProgressBar>)>,
    bars: BTreeMap<String, ProgressBar>,
    screen: Option<MultiProgress>,
    /// Steps that run now: with more than one, each line says whose it is.
    running: usize,
}

impl Progress {
    /// A display as asked for; `auto` looks at standard error.
    pub(crate) fn new(asked: ProgressArg, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let mode = match (asked, quiet) {
            (_, true) | (ProgressArg::Quiet, _) => Mode::Quiet,
            (ProgressArg::Plain, _) => Mode::Plain,
            (ProgressArg::Tty, _) => Mode::Live,
            (ProgressArg::Auto, _) if terminal => Mode::Live,
            (ProgressArg::Auto, _) => Mode::Statuses,
        };
        let colour = if terminal && std::env::var_os("NO_COLOR").is_none() { Colour::On } else { Colour::Off };
        let screen =
            (mode == Mode::Live).then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(12)));
        Self { mode, colour, state: Mutex::new(State { screen, ..State::default() }) }
    }

    /// Whether colours may be used on standard error.
    pub(crate) fn colour(&self) -> Colour {
        self.colour
    }

    /// Takes an event.
    pub(crate) fn on(&self, event: &Event) {
        if self.mode == Mode::Quiet {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Resolved { image, digest, local } => {
                let how = if *local { " (known here)" } else { "" };
                state.say(&format!("base {} is {}{how}", render::clean_line(image), short(digest)));
            }
            Event::FetchStarted { digest, bytes } => state.fetch_started(digest, *bytes),
            Event::FetchProgress { digest, bytes } => {
                if let Some((_, Some(bar))) = state.fetches.get(digest) {
                    bar.set_position(*bytes);
                }
            }
            Event::FetchDone { digest } => state.fetch_done(digest),
            Event::StepStarted(name) => self.started(&mut state, &Shown::step(name)),
            Event::StepOutput { name, bytes, .. } => self.output(&mut state, &Shown::step(name), bytes),
            Event::StepEnded { name, end, took } => self.step_ended(&mut state, name, *end, *took),
            Event::OutputDone { text, took } => {
                state.say(&format!("{} ({})", render::clean_line(text), seconds(*took)));
            }
            Event::Note { text } | Event::Isolation { text } => {
                state.say(&format!("note: {}", render::clean_line(text)));
            }
            Event::Warnings(findings) => state.say(render::findings(findings, self.colour).trim_end()),
            Event::Verdict(found) => state.say(verdict::text(found, self.colour).trim_end()),
            Event::SmokeStarted { command, text } => {
                let label = format!("smoke run: `{}`, {}", render::clean_line(command), render::clean_line(text));
                self.started(&mut state, &Shown { label, ..Shown::smoke() });
            }
            Event::SmokeOutput { bytes, .. } => self.output(&mut state, &Shown::smoke(), bytes),
            Event::SmokeEnded(report) => {
                self.ended(&mut state, &Shown::smoke());
                if let Some(report) = report {
                    state.say(render::smoke_report(report).trim_end());
                }
            }
            // An explanation comes after everything else.
            Event::ResolveStarted { .. }
            | Event::Unpacking { .. }
            | Event::OutputStarted { .. }
            | Event::Explained(_) => {}
        }
    }

    /// Writes text between progress lines.
    pub(crate) fn say(&self, text: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).say(text.trim_end());
    }

    /// Takes the live view off the screen.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bars.values().for_each(ProgressBar::finish_and_clear);
        state.bars.clear();
        if let Some(screen) = &state.screen {
            let _ = screen.clear();
        }
    }

    fn started(&self, state: &mut State, shown: &Shown) {
        state.running += 1;
        if self.mode != Mode::Live {
            state.say(&shown.label);
            return;
        }
        if let Some(screen) = &state.screen {
            let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
            let bar = screen.add(ProgressBar::new_spinner());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_message(shown.label.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            state.bars.insert(shown.key.clone(), bar);
        }
    }

    fn output(&self, state: &mut State, of: &Shown, bytes: &[u8]) {
        if self.mode == Mode::Statuses {
            return;
        }
        let mut buffer = state.partial.remove(&of.key).unwrap_or_default();
        buffer.extend_from_slice(bytes);
        let mut shown = String::new();
        let mut from = 0;
        while let Some(rest) = buffer.get(from..) {
            let end = match rest.iter().position(|&b| b == b'\n') {
                Some(at) => at + 1,
                None if rest.len() > LINE_BYTES => LINE_BYTES,
                None => break,
            };
            let line = String::from_utf8_lossy(rest.get(..end).unwrap_or_default());
            let line = render::clean(line.trim_end());
            match self.mode {
                Mode::Plain if state.running > 1 => {
                    let _ = writeln!(shown, "  [{}] | {line}", of.place);
                }
                Mode::Plain => {
                    let _ = writeln!(shown, "  | {line}");
                }
                Mode::Live => shown = line,
                Mode::Quiet | Mode::Statuses => {}
            }
            from += end;
        }
        buffer.drain(..from);
        if !buffer.is_empty() {
            state.partial.insert(of.key.clone(), buffer);
        }
        if shown.is_empty() {
            return;
        }
        if self.mode == Mode::Plain {
            state.say(shown.trim_end_matches('\n'));
        } else if let Some(bar) = state.bars.get(&of.key) {
            bar.set_message(format!("{} | {shown}", of.label));
        }
    }

    /// Something that was started has ended: its last line is shown, and its place on the screen given up.
    fn ended(&self, state: &mut State, of: &Shown) {
        if state.partial.contains_key(&of.key) {
            self.output(state, of, b"\n");
        }
        state.running = state.running.saturating_sub(1);
        if let Some(bar) = state.bars.remove(&of.key) {
            bar.finish_and_clear();
        }
    }

    fn step_ended(&self, state: &mut State, name: &StepName, end: StepEnd, took: Duration) {
        if end != StepEnd::Cached {
            self.ended(state, &Shown::step(name));
        }
        let mut text = String::new();
        let _ = match end {
            StepEnd::Cached => write!(text, "{} (cached)", label(name)),
            StepEnd::Done if self.mode == Mode::Live => write!(text, "{} ({})", label(name), seconds(took)),
            StepEnd::Done => write!(text, "[{}] done in {}", place(name), seconds(took)),
            StepEnd::Failed => write!(text, "[{}] failed after {}", place(name), seconds(took)),
        };
        state.say(&text);
    }
}

impl State {
    fn say(&self, text: &str) {
        match &self.screen {
            Some(screen) => {
                let _ = screen.suspend(|| writeln!(std::io::stderr(), "{text}"));
            }
            None => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
        }
    }

    fn fetch_started(&mut self, digest: &str, bytes: u64) {
        let bar = self.screen.as_ref().map(|screen| {
            let style = ProgressStyle::with_template("  fetch {msg} {bytes}/{total_bytes} {bytes_per_sec}");
            let bar = screen.add(ProgressBar::new(bytes));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(short(digest).to_owned());
            bar
        });
        self.fetches.insert(digest.to_owned(), (bytes, bar));
    }

    fn fetch_done(&mut self, digest: &str) {
        if let Some((bytes, bar)) = self.fetches.remove(digest) {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
            self.say(&format!("fetched {} ({})", short(digest), megabytes(bytes)));
        }
    }
}

/// How something that runs is told from others.
#[derive(Debug)]
struct Shown {
    key: String,
    place: String,
    label: String,
}

impl Shown {
    fn step(name: &StepName) -> Self {
        Self { key: format!("{}/{}", name.stage, name.step), place: place(name), label: label(name) }
    }

    fn smoke() -> Self {
        Self { key: "smoke run".to_owned(), place: "smoke run".to_owned(), label: "smoke run".to_owned() }
    }
}

fn place(name: &StepName) -> String {
    format!("{} {}/{}", render::clean(&name.stage), name.step, name.steps)
}

fn label(name: &StepName) -> String {
    let text = render::clean(name.text.lines().next().unwrap_or_default());
    let short: String = text.chars().take(160).collect();
    let cut = if short.len() < text.len() || name.text.lines().count() > 1 { " …" } else { "" };
    format!("[{}] {short}{cut}", place(name))
}

fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

fn seconds(took: Duration) -> String {
    if took < Duration::from_millis(100) {
        format!("{:.1} ms", took.as_secs_f64() * 1000.0)
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}

/// Bytes for people, in powers of ten.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
pub(crate) fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
