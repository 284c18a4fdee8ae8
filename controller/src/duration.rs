// SPDX-License-Identifier: Apache-2.0
//! Lengths of time as people write and read them: `30m`, `1h30m`, `90s`.

use std::fmt;
use std::time::Duration;

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write a number and a unit (s, m, h or d), such as 90s, 30m or 1h30m")]
pub struct NotADuration(String);

/// Reads `90s`, `30m`, `1h30m`, `2d`. Zero and a missing unit are refused.
///
/// # Errors
/// If the text is anything else; the error quotes it.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    seconds(text).filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(|| NotADuration(text.to_owned()))
}

fn seconds(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut units = UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, tail) = rest.split_at(end);
        let unit = tail.chars().next()?;
        // Units only go down, so `1m1m` and `5m1h`, which are likelier a mistake than a wish, are refused.
        let (_, factor) = units.find(|(symbol, _)| *symbol == unit)?;
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = &tail[unit.len_utf8()..];
    }
    Some(total)
}

/// A length of time in at most two units: `5s`, `3m12s`, `4h`, `2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(pub Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let text = match seconds {
            0..60 => format!("{seconds}s"),
            60..3_600 if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
            60..600 => format!("{}m{}s", seconds / 60, seconds % 60),
            600..3_600 => format!("{}m", seconds / 60),
            3_600..172_800 => format!("{}h", seconds / 3_600),
            _ => format!("{}d", seconds / 86_400),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, seconds) in [("90s", 90), ("30m", 1_800), ("1h30m", 5_400), ("2d", 172_800), ("1d1h1m1s", 90_061)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else_and_quotes_it() {
        for text in ["", "30", "m", "0s", "1.5h", "-5m", "5 m", "1m1h", "1m1m", "30min", "99999999999999999999s", "3ö"]
        {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.starts_with(&format!("{text:?} is not a duration")), "{error}");
        }
    }

    #[test]
    fn ages_are_short() {
        let ages = [(0, "0s"), (5, "5s"), (60, "1m"), (192, "3m12s"), (754, "12m"), (14_500, "4h"), (200_000, "2d")];
        for (seconds, text) in ages {
            assert_eq!(Age(Duration::from_secs(seconds)).to_string(), text);
        }
    }
}
