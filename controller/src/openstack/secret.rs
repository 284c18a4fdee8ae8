// SPDX-License-Identifier: Apache-2.0
//! Text that must not be seen: passwords, tokens, user-data.
//!
//! It has no `Display` and is not serialised by itself, so that whoever sends it says so. Services repeat in their
//! refusals what they were sent: [`Secret::hide_in`] takes it out again.

use std::fmt;

use serde::Deserialize;

/// What stands in the place of a secret.
const HIDDEN: &str = "(secret)";

/// Shorter ones are not looked for in other text: they would be found everywhere, and hide nothing that cannot be guessed.
const SHORTEST_BYTES: usize = 4;

/// A text that must not be seen. Its `Debug` does not tell even its length.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a text out of sight.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the place where it is needed.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// A text without this secret in it.
    #[must_use]
    pub fn hide_in(&self, text: &str) -> String {
        if self.0.len() < SHORTEST_BYTES { text.to_owned() } else { text.replace(&self.0, HIDDEN) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn shows_nothing_of_itself_and_is_taken_out_of_what_others_say() {
        let secret = Secret::new("hunter22");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "(secret) Some((secret))");
        assert_eq!(
            secret.hide_in("Value: hunter22. 'hunter22' is too long"),
            "Value: (secret). '(secret)' is too long"
        );
        assert_eq!(Secret::new("").hide_in("abc"), "abc");
    }
}
