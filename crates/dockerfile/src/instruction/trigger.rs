//! ONBUILD: an instruction for whoever builds on the image.

use super::{Scene, at_least_one, flags};
use crate::ast::OnBuild;
use crate::statement::{Args, Statement};

/// `ONBUILD instruction`
pub(super) fn read(statement: &Statement, scene: &mut Scene<'_>) -> Option<OnBuild> {
    flags::read(statement, &[], scene);
    let Args::Statement(inner) = &statement.args else {
        at_least_one(statement, scene);
        return None;
    };
    let refused = match inner.name().as_str() {
        "ONBUILD" => Some((
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
            "triggers are done once, by the next build: write ONBUILD once",
        )),
        name @ "FROM" => Some((
            format!("{name} isn't allowed as an ONBUILD trigger"),
            "triggers are done right after the FROM of whoever builds on this image, which has chosen its base",
        )),
        name @ "MAINTAINER" => Some((
            format!("{name} isn't allowed as an ONBUILD trigger"),
            "a label can be one: ONBUILD LABEL org.opencontainers.image.authors=\"…\"",
        )),
        _ => None,
    };
    if let Some((message, hint)) = refused {
        scene.refuse("InvalidOnbuild", inner.keyword.span, message, hint);
        return None;
    }
    let instruction = super::read(inner, scene)?;
    let mut text = statement.tail.clone();
    for heredoc in &statement.heredocs {
        // As it stands in the file, tabs included: whoever reads it strips them.
        text.push('\n');
        text.push_str(&scene.source[heredoc.body.start..heredoc.body.end]);
        text.push_str(&heredoc.name);
    }
    Some(OnBuild { text, instruction: Box::new(instruction) })
}
