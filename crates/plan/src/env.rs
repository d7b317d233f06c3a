//! Variables as a step sees them: in the order of their first setting, each with its last value.
//!
//! A file may have 50,000 ENVs and as many RUNs, each of which sees another environment. So an [`Env`] is a chain of
//! settings that it shares with the environments before it: taking a copy costs nothing, adding to one costs the same
//! however long it is, and only who asks for the pairs pays for them. Looks nothing up: that is [`crate::scope`]'s.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::work;

/// Variables in order, of which a copy costs nothing.
#[derive(Clone, Default)]
pub struct Env {
    last: Option<Arc<Setting>>,
}

/// One variable that was set, and all that was set before.
struct Setting {
    name: Arc<str>,
    value: Arc<str>,
    before: Env,
}

impl Env {
    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<Arc<str>>, value: impl Into<Arc<str>>) {
        let before = std::mem::take(self);
        self.last = Some(Arc::new(Setting { name: name.into(), value: value.into(), before }));
    }

    /// Every variable once, in the order of their first setting.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().into_iter()
    }

    /// As [`Self::iter`], owned.
    pub fn to_vec(&self) -> Vec<(String, String)> {
        self.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        let settings = std::iter::successors(self.last.as_deref(), |setting| setting.before.last.as_deref());
        let settings: Vec<&Setting> = settings.collect();
        work::done(settings.len());
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for setting in settings.into_iter().rev() {
            let place = *places.entry(&setting.name).or_insert(pairs.len());
            match pairs.get_mut(place) {
                Some(pair) => pair.1 = &setting.value,
                None => pairs.push((&setting.name, &setting.value)),
            }
        }
        pairs
    }
}

/// A long chain is let go of in a loop: one call within another for each setting would exhaust the stack.
impl Drop for Env {
    fn drop(&mut self) {
        let mut last = self.last.take();
        while let Some(setting) = last {
            last = Arc::into_inner(setting).and_then(|mut setting| setting.before.last.take());
        }
    }
}

impl<N: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut env = Self::default();
        pairs.into_iter().for_each(|(name, value)| env.set(name, value));
        env
    }
}

impl PartialEq for Env {
    fn eq(&self, other: &Self) -> bool {
        self.pairs() == other.pairs()
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Env {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_again_keeps_the_place_and_earlier_copies() {
        let mut env: Env = [("A", "1"), ("B", "2")].into_iter().collect();
        let before = env.clone();
        env.set("A", "3");
        assert_eq!(env.iter().collect::<Vec<_>>(), [("A", "3"), ("B", "2")]);
        assert_eq!(before.iter().collect::<Vec<_>>(), [("A", "1"), ("B", "2")]);
        assert_ne!(env, before);
        assert_eq!(serde_json::to_string(&env).unwrap(), r#"[["A","3"],["B","2"]]"#);
    }

    #[test]
    fn long_chains_are_dropped() {
        let mut env = Env::default();
        let mut kept = Vec::new();
        for number in 0..300_000 {
            env.set(format!("V{number}"), "x");
            if number % 1000 == 0 {
                kept.push(env.clone());
            }
        }
        drop(env);
        kept.rotate_left(100);
        drop(kept);
    }
}
