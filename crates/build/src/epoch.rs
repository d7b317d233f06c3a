//! `SOURCE_DATE_EPOCH=context`, or the name of a stage or context: whose time is meant, to that time.
//!
//! The inputs and a request to the planner in; the same request out, with a number, or with nothing where what is meant
//! has no time: a directory of this machine, an image, a file of the web that says nothing. As in BuildKit that leaves
//! the variable unset; here it is told.

use kuz_image::tar::{Kind, TarReader};
use kuz_image::{Digest, compress};
use kuz_plan::Request;
use kuz_plan::epoch::{Epoch, Fetched, NAME};
use kuz_rootfs::context::{EntryKind, Verdict};

use crate::contexts::LocalContext;
use crate::copy_step::archive;
use crate::download;
use crate::error::{BuildError, Findings};
use crate::event::Event;
use crate::git::{GitSource, Revision};
use crate::inputs::Inputs;
use crate::session::Session;

/// Puts a number in the place of a name.
pub(crate) fn settle(session: &Session<'_>, inputs: &Inputs, wanted: &mut Request) -> Result<(), BuildError> {
    let in_file = |diagnostic| {
        let source = inputs.dockerfile.source.clone();
        BuildError::Findings(Box::new(Findings { file: inputs.file.clone(), source, diagnostics: vec![diagnostic] }))
    };
    // What is wrong with the file itself is better told by the planner, together with all else.
    let Ok(meant) = kuz_plan::source_date_epoch(&inputs.dockerfile, wanted) else { return Ok(()) };
    let (time, whose) = match meant {
        Epoch::Unset | Epoch::Seconds(_) => return Ok(()),
        Epoch::Context => (of_context(&inputs.context)?, inputs.context.shown.clone()),
        Epoch::Named(name) => {
            let named = inputs.named.get(&name);
            let context = named.map(|named| named.open(session)).transpose()?;
            (context.map(of_context).transpose()?.flatten(), format!("the build context `{name}`"))
        }
        Epoch::Image => (None, "an image".to_owned()),
        Epoch::Fetched(fetched) => {
            let whose = format!("`{}`", crate::remote_context::shown(&fetched.source.text));
            let span = fetched.source.span;
            let time = of_source(session, &fetched).map_err(|error| match error {
                BuildError::Input { message, .. } => {
                    in_file(kuz_dockerfile::Diagnostic::error("InvalidSourceDateEpoch", span, message))
                }
                other => other,
            })?;
            (time, whose)
        }
    };
    if time.is_none() {
        let text = format!("{NAME} names {whose}, which has no time of its own: times are not set");
        (session.events)(Event::Note { text });
    }
    wanted.build_args.insert(NAME.to_owned(), time.map_or_else(String::new, |seconds| seconds.to_string()));
    Ok(())
}

/// A commit's time, that of a file from the web, else that of the newest file in a tar.
fn of_context(context: &LocalContext) -> Result<Option<i64>, BuildError> {
    if context.time.is_some() || context.lasts() {
        return Ok(context.time);
    }
    let failed = |error| BuildError::store("read a build context", error);
    let opened = context.open().map_err(failed)?;
    let all = opened.select(b"/", &|_, _| false, &|_, _| Verdict::Keep).map_err(failed)?;
    let entries = all.iter().flat_map(|source| &source.entries);
    let files = entries.filter(|entry| entry.kind == EntryKind::File);
    Ok(files.map(|entry| entry.stamp.mtime.0).max())
}

/// What the only ADD of a stage fetches.
fn of_source(session: &Session<'_>, fetched: &Fetched) -> Result<Option<i64>, BuildError> {
    let text = &fetched.source.text;
    if GitSource::is_meant(text) {
        let source = GitSource::parse(text)
            .map_err(|error| BuildError::input(format!("the address of the git repository cannot be used: {error}")))?;
        let revision = Revision::find(session, &source, fetched.checksum.as_deref())?;
        return Ok(Some(revision.check_out(session)?.time));
    }
    let checksum = fetched.checksum.as_deref().map(str::parse::<Digest>).transpose();
    let checksum = checksum.map_err(|error| BuildError::input(format!("its checksum is no digest: {error}")))?;
    let file = download::fetch(session, text, checksum.as_ref())?;
    if let Some(modified) = file.time() {
        return Ok(Some(modified));
    }
    let mut blob = session.open_blob(&file.blob)?;
    let Some(compression) = archive(&mut blob) else { return Ok(None) };
    let failed =
        |error| BuildError::Refused { action: format!("read {}", crate::remote_context::shown(text)), source: error };
    let mut reader = TarReader::new(compress::reader(compression, blob).map_err(|error| failed(error.into()))?);
    let mut newest = None;
    while let Some(entry) = reader.next().map_err(|error| failed(error.into()))? {
        session.cancelled()?;
        if entry.header().kind == Kind::File {
            newest = newest.max(Some(entry.header().mtime));
        }
    }
    Ok(newest)
}
