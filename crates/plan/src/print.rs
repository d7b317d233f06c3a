//! A plan as text, for people and for comparison: the same plan is always the same text.
//!
//! Strings are quoted and control characters escaped, so that nothing in a Dockerfile can disturb a terminal. Values
//! of proxy variables are not shown. The machine's form is JSON ([`json`]).

use std::fmt::{self, Write as _};

use kuz_image::Config;
use serde_json::Value;

use crate::plan::{Base, Copy, ImageSource, Mount, Network, Op, Plan, Run, Source, Stage, Word};

/// The plan as JSON, without spans and warnings.
pub fn json(plan: &Plan) -> Result<Value, serde_json::Error> {
    serde_json::to_value(plan)
}

/// The plan as text.
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_plan(&mut out, plan);
    out
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(self))
    }
}

fn write_plan(out: &mut String, plan: &Plan) -> fmt::Result {
    if let Some(epoch) = plan.source_date_epoch {
        writeln!(out, "source date epoch {epoch}")?;
    }
    for stage in &plan.stages {
        write_stage(out, stage)?;
    }
    for warning in &plan.warnings {
        writeln!(out, "warning {}: {}", warning.rule, plain(&warning.message))?;
    }
    Ok(())
}

fn write_stage(out: &mut String, stage: &Stage) -> fmt::Result {
    write!(out, "stage {}", stage.number)?;
    if let Some(name) = &stage.name {
        write!(out, " {name}")?;
    }
    write!(out, " for {} on ", stage.platform)?;
    match &stage.base {
        Base::Scratch => writeln!(out, "scratch")?,
        Base::Stage(id) => writeln!(out, "plan stage {}", id.0)?,
        Base::Image(image) => writeln!(out, "{}", source_image(image))?,
    }
    for step in &stage.steps {
        writeln!(out, "  {}", plain(&step.created_by))?;
        match &step.op {
            Op::Run(run) => write_run(out, run)?,
            Op::Copy(copy) => write_copy(out, "copy", copy)?,
            Op::Add(copy) => write_copy(out, "add", copy)?,
            Op::MakeDir(dir) => writeln!(out, "    mkdir {:?} user {:?}", dir.path, dir.user)?,
            Op::Nothing => {}
        }
    }
    write_config(out, &stage.config.config)
}

fn write_run(out: &mut String, run: &Run) -> fmt::Result {
    writeln!(out, "    run {:?}", run.argv)?;
    for (name, value) in run.env.iter() {
        writeln!(out, "      env {}={value:?}", plain(name))?;
    }
    for (name, _) in &run.proxies {
        writeln!(out, "      proxy {}", plain(name))?;
    }
    writeln!(out, "      cwd {:?} user {:?}", run.cwd, run.user)?;
    if run.network == Network::None {
        writeln!(out, "      network none")?;
    }
    if run.insecure {
        writeln!(out, "      insecure")?;
    }
    for script in &run.scripts {
        writeln!(out, "      script {:?} {:?}", script.name, script.content)?;
    }
    run.mounts.iter().try_for_each(|mount| write_mount(out, mount))
}

fn write_mount(out: &mut String, mount: &Mount) -> fmt::Result {
    out.write_str("      mount ")?;
    match mount {
        Mount::Bind { from, source: path, target, writable } => {
            let mode = if *writable { "rw" } else { "ro" };
            writeln!(out, "bind {} {path:?} at {target:?} {mode}", source(from))
        }
        Mount::Cache { id, from, source: path, target, readonly, sharing, mode, uid, gid } => {
            write!(out, "cache {id:?} at {target:?} {sharing:?} {mode:04o} {uid}:{gid}")?;
            if let Some(from) = from {
                write!(out, " from {} {path:?}", source(from))?;
            }
            writeln!(out, "{}", if *readonly { " ro" } else { "" })
        }
        Mount::Tmpfs { target, size } => {
            write!(out, "tmpfs at {target:?}")?;
            size.map_or(Ok(()), |size| write!(out, " of {size}"))?;
            writeln!(out)
        }
        Mount::Secret { id, target, env, required, mode, uid, gid } => {
            write!(out, "secret {id:?}")?;
            write_place(out, target.as_deref(), *required, (*mode, *uid, *gid))?;
            env.as_ref().map_or(Ok(()), |env| write!(out, " env {env:?}"))?;
            writeln!(out)
        }
        Mount::Ssh { id, target, required, mode, uid, gid } => {
            write!(out, "ssh {id:?}")?;
            write_place(out, target.as_deref(), *required, (*mode, *uid, *gid))?;
            writeln!(out)
        }
    }
}

fn write_place(
    out: &mut String,
    target: Option<&str>,
    required: bool,
    (mode, uid, gid): (u32, u32, u32),
) -> fmt::Result {
    if let Some(target) = target {
        write!(out, " at {target:?}")?;
    }
    write!(out, " {mode:04o} {uid}:{gid}{}", if required { " required" } else { "" })
}

fn write_copy(out: &mut String, verb: &str, copy: &Copy) -> fmt::Result {
    let sources: Vec<&str> = copy.sources.iter().map(|Word { text, .. }| text.as_str()).collect();
    writeln!(out, "    {verb} {} {sources:?} to {:?}", source(&copy.from), copy.dest)?;
    for file in &copy.inline {
        writeln!(out, "      inline {:?} {:?}", file.name, file.content)?;
    }
    for (name, value) in [("chown", &copy.chown), ("chmod", &copy.chmod), ("checksum", &copy.checksum)] {
        if let Some(value) = value {
            writeln!(out, "      {name} {value:?}")?;
        }
    }
    if !copy.exclude.is_empty() {
        writeln!(out, "      exclude {:?}", copy.exclude)?;
    }
    if let Some(unpack) = copy.unpack {
        writeln!(out, "      unpack {unpack}")?;
    }
    for (name, given) in [("link", copy.link), ("parents", copy.parents), ("keep-git-dir", copy.keep_git_dir)] {
        if given {
            writeln!(out, "      {name}")?;
        }
    }
    Ok(())
}

/// The text with its control characters escaped and all else as it is.
fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, c| {
        if c.is_control() {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
        plain
    })
}

fn source(source: &Source) -> String {
    match source {
        Source::Context => "context".to_owned(),
        Source::Stage(id) => format!("plan stage {}", id.0),
        Source::Image(image) => source_image(image),
        Source::Named(name) => format!("directory {name:?}"),
    }
}

fn source_image(image: &ImageSource) -> String {
    format!("{} ({}, {} layers)", image.reference, image.manifest.short(), image.layers.len())
}

/// The fields that are set, each on a line, as the image's JSON has them.
fn write_config(out: &mut String, config: &Config) -> fmt::Result {
    let Ok(Value::Object(fields)) = serde_json::to_value(config) else { return Ok(()) };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        writeln!(out, "  = {} {value}", plain(name))?;
    }
    Ok(())
}
