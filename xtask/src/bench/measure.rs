//! Runs workloads: every builder in turn, phase by phase, round by round.
//!
//! In: builders, workloads, floors. Out: for each workload and phase the readings of each builder. The builders take
//! turns, so that a load of the machine that comes and goes meets all of them; who begins changes from round to round.
//! Resets, edits and empty registries are not part of what is timed, and what they wrote is on disk before.

use std::collections::BTreeMap;
use std::fs;

use super::builders::{Builder, Job};
use super::clock::{Clock, Reading, Watched};
use super::floors::Floor;
use super::machine::Moment;
use super::registry::Registry;
use super::room::Room;
use super::svg;
use super::workloads::{Phase, Workload};
use crate::Outcome;
use crate::problem::Problem;
use crate::say;

/// A load is not measured over less: the kernel counts hundredths of seconds.
const LOAD_SECONDS: f64 = 0.5;

/// The readings of one builder or floor in one phase.
#[derive(Debug, Default, Clone)]
pub(super) struct Series {
    pub(super) readings: Vec<Reading>,
    /// Why there are no more.
    pub(super) failed: Option<String>,
}

/// A workload's readings.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// By phase and builder, both as numbers in the order given.
    pub(super) phases: BTreeMap<(usize, usize), Series>,
    /// By floor, in the order given.
    pub(super) floors: BTreeMap<usize, Series>,
}

/// Readings whose load is not known yet.
#[derive(Debug)]
struct Load {
    since: Moment,
    waiting: Vec<Place>,
}

/// Where a reading was put: phase and builder, or a floor; and its number there.
#[derive(Debug, Clone, Copy)]
enum Place {
    Build(usize, usize, usize),
    Floor(usize, usize),
}

/// What all of it needs.
pub(super) struct Bench<'a> {
    pub(super) clock: &'a Clock,
    pub(super) room: &'a Room,
    pub(super) rounds: usize,
    /// Builders much like another are measured in every workload too.
    pub(super) likes: bool,
}

impl Bench<'_> {
    /// Measures one workload.
    pub(super) fn measure(
        &self,
        builders: &mut [Box<dyn Builder>],
        workload: &Workload,
        floors: &[Floor],
    ) -> Outcome<Measured> {
        let mut measured = Measured::default();
        self.warm(builders, workload, &mut measured)?;
        let mut edits = 0;
        for round in 0..self.rounds {
            let mut registries = BTreeMap::new();
            for (phase_number, (phase, repeats)) in workload.phases.iter().enumerate() {
                say(&format!("{}, {} ({} of {})", workload.title, phase.title(), round + 1, self.rounds));
                for repeat in 0..*repeats {
                    if *phase == Phase::Edit {
                        edits += 1;
                        workload.edit(edits)?;
                    }
                    self.turn(
                        builders,
                        (workload, *phase, phase_number),
                        round + repeat,
                        &mut registries,
                        &mut measured,
                    )?;
                }
            }
            drop(registries);
            drop(fs::remove_dir_all(self.room.path.join("registries")));
            self.floors(floors, &mut measured)?;
        }
        Ok(measured)
    }

    /// Whether a builder is measured in a workload.
    pub(super) fn takes_part(&self, builder: &dyn Builder, workload: &Workload) -> bool {
        self.likes || builder.much_like().is_none() || workload.tells_likes_apart()
    }

    /// Steps that are done anew find their base unpacked: one build before.
    fn warm(&self, builders: &mut [Box<dyn Builder>], workload: &Workload, measured: &mut Measured) -> Outcome {
        if workload.phases.iter().all(|(phase, _)| *phase != Phase::NoCache) {
            return Ok(());
        }
        for (number, builder) in builders.iter_mut().enumerate() {
            builder.reset()?;
            if let Err(reason) = self.clock.time(&builder.build(&workload.job), &Watched::default())? {
                let series = Series { readings: Vec::new(), failed: Some(reason) };
                measured.phases.insert((0, number), series);
            }
        }
        Ok(())
    }

    /// Each builder once.
    fn turn(
        &self,
        builders: &mut [Box<dyn Builder>],
        (workload, phase, phase_number): (&Workload, Phase, usize),
        turn: usize,
        registries: &mut BTreeMap<usize, Registry>,
        measured: &mut Measured,
    ) -> Outcome {
        let all: Vec<u32> = builders.iter().flat_map(|builder| builder.daemons()).collect();
        let ours = |registries: &BTreeMap<usize, Registry>| -> Vec<u32> {
            all.iter().copied().chain(registries.values().flat_map(Registry::daemons)).collect()
        };
        let mut load: Option<Load> = None;
        for offset in 0..builders.len() {
            let number = (turn + offset) % builders.len();
            let broken = (0..=phase_number)
                .any(|earlier| measured.phases.get(&(earlier, number)).is_some_and(|one| one.failed.is_some()));
            let measured_here = |one: &&mut Box<dyn Builder>| self.takes_part(one.as_ref(), workload);
            let Some(builder) = builders.get_mut(number).filter(|_| !broken).filter(measured_here) else { continue };
            let job = Job { no_cache: phase == Phase::NoCache, ..workload.job.clone() };
            let command = match phase {
                Phase::Cold => {
                    builder.reset()?;
                    Some(builder.build(&job))
                }
                Phase::NoCache => Some(builder.build(&job)),
                Phase::Noop | Phase::Edit => builder.caches().then(|| builder.build(&job)),
                Phase::Push => {
                    let folder = self.room.path.join("registries").join(number.to_string());
                    let registry = Registry::start(&folder)?;
                    let command = builder.push(&job, &registry.host())?;
                    registries.insert(number, registry);
                    command
                }
                Phase::PushAgain => match registries.get(&number) {
                    Some(registry) => builder.push(&job, &registry.host())?,
                    None => None,
                },
            };
            let Some(command) = command else { continue };
            if matches!(phase, Phase::Cold | Phase::Push) {
                // What was deleted and written before is not this builder's; nor is its load.
                self.room.settle();
                load = None;
            }
            let watched = Watched { programs: builder.programs().to_vec(), daemons: builder.daemons() };
            let mut pending =
                load.take().unwrap_or_else(|| Load { since: Moment::now(&ours(registries)), waiting: Vec::new() });
            let outcome = self.clock.time(&command, &watched)?;
            let series = measured.phases.entry((phase_number, number)).or_default();
            match outcome {
                Ok(reading) => {
                    say(&format!("  {}: {}", builder.name(), svg::seconds(reading.wall)));
                    pending.waiting.push(Place::Build(phase_number, number, series.readings.len()));
                    series.readings.push(reading);
                }
                Err(reason) => {
                    say(&format!("{} fails: {reason}", builder.name()));
                    series.failed = Some(reason);
                }
            }
            load = pending.settle(&ours(registries), measured, phase == Phase::Cold || offset + 1 == builders.len());
        }
        Ok(())
    }

    /// Each floor of the workload, as often as it says.
    fn floors(&self, floors: &[Floor], measured: &mut Measured) -> Outcome {
        for (number, floor) in floors.iter().enumerate() {
            let mut load = Load { since: Moment::now(&[]), waiting: Vec::new() };
            for _ in 0..floor.repeats {
                if measured.floors.get(&number).is_some_and(|series| series.failed.is_some()) {
                    break;
                }
                floor.prepare(self.room)?;
                let outcome = floor.time(self.clock)?;
                let series = measured.floors.entry(number).or_default();
                match outcome {
                    Ok(reading) => {
                        load.waiting.push(Place::Floor(number, series.readings.len()));
                        series.readings.push(reading);
                    }
                    Err(reason) => series.failed = Some(reason),
                }
            }
            load.settle(&[], measured, true);
        }
        Ok(())
    }
}

impl Load {
    /// Writes the load into the readings that wait for it, if it was measured for long enough or `now`.
    fn settle(self, ours: &[u32], measured: &mut Measured, now: bool) -> Option<Self> {
        let moment = Moment::now(ours);
        if !now && moment.seconds_since(&self.since) < LOAD_SECONDS {
            return Some(self);
        }
        let others = moment.others_since(&self.since);
        for place in self.waiting {
            let reading = match place {
                Place::Build(phase, builder, at) => {
                    measured.phases.get_mut(&(phase, builder)).and_then(|series| series.readings.get_mut(at))
                }
                Place::Floor(number, at) => {
                    measured.floors.get_mut(&number).and_then(|series| series.readings.get_mut(at))
                }
            };
            if let Some(reading) = reading {
                reading.others = others;
            }
        }
        None
    }
}

/// A command that has to go well, such as one that prepares a measurement.
pub(super) fn must(outcome: Result<Reading, String>) -> Outcome<Reading> {
    outcome.map_err(Problem::Answer)
}
