//! Cases of other builders' test suites, where they are at hand.
//!
//! `KUZ_CONFORMANCE` names their folder; else it's looked for beside the checkout.

#[cfg(test)]
mod conformance {
    pub(crate) mod corpus;
    pub(crate) mod dump;
    mod ignoring;
    mod instructions;
    mod linting;
    mod parsing;
    mod words;
}
