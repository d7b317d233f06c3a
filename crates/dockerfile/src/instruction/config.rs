//! Instructions that set the image's configuration: ENV, LABEL, EXPOSE, VOLUME, USER, WORKDIR, STOPSIGNAL, MAINTAINER.

use super::stage::passed_over;
use super::{Scene, at_least_one, blank_name, exactly_one, flags};
use crate::ast::{Pair, Word};
use crate::span::Spanned;
use crate::statement::{Args, Statement};

/// ENV and LABEL.
pub(super) fn pairs(statement: &Statement, scene: &mut Scene<'_>) -> Option<Vec<Pair>> {
    flags::read(statement, &[], scene);
    let Args::Pairs(pairs) = &statement.args else {
        at_least_one(statement, scene);
        return None;
    };
    for pair in pairs.iter().filter(|pair| pair.key.value.is_empty()) {
        blank_name(statement, pair.key.span.to(pair.value.span), scene);
    }
    Some(pairs.clone())
}

/// USER, WORKDIR and MAINTAINER: the rest of the line is one argument.
pub(super) fn single(statement: &Statement, scene: &mut Scene<'_>) -> Option<Word> {
    flags::read(statement, &[], scene);
    text(statement, scene)
}

/// `STOPSIGNAL signal`
pub(super) fn stop_signal(statement: &Statement, scene: &mut Scene<'_>) -> Option<Word> {
    passed_over(statement, scene);
    text(statement, scene)
}

fn text(statement: &Statement, scene: &mut Scene<'_>) -> Option<Word> {
    let Args::Text(word) = &statement.args else {
        exactly_one(statement, scene);
        return None;
    };
    Some(word.clone())
}

/// `EXPOSE port…`, in the order written. Ports are judged when they are expanded.
pub(super) fn expose(statement: &Statement, scene: &mut Scene<'_>) -> Option<Vec<Word>> {
    flags::read(statement, &[], scene);
    let Args::Words(ports) = &statement.args else {
        at_least_one(statement, scene);
        return None;
    };
    Some(ports.clone())
}

/// `VOLUME path…` or its JSON form.
pub(super) fn volume(statement: &Statement, scene: &mut Scene<'_>) -> Option<Vec<Word>> {
    flags::read(statement, &[], scene);
    let (Args::Words(words) | Args::Json(words)) = &statement.args else {
        at_least_one(statement, scene);
        return None;
    };
    if words.is_empty() {
        at_least_one(statement, scene);
        return None;
    }
    for word in words.iter().filter(|word| word.value.trim().is_empty()) {
        scene.error("BlankName", word.span, "VOLUME specified can not be an empty string");
    }
    Some(words.iter().map(|word| Spanned::new(word.value.trim().to_owned(), word.span)).collect())
}
