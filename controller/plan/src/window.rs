// SPDX-License-Identifier: Apache-2.0
//! When nodes may go down: `Tue 02:00-06:00 America/Vancouver`, or several of these with `;` between them.
//!
//! What counts is what a clock on the wall there shows, so that the answer can be checked by looking at one. On the night
//! on which clocks go forward the hour that is left out is left out here too; when they go back, a time that is shown
//! twice counts twice.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{DateTime, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span as Duration, Timestamp};
use serde::{Deserialize, Serialize};
use windlass_types::time::UnixMillis;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

const EVERY_DAY: &str = "daily";

const MINUTES_OF_A_DAY: u16 = 24 * 60;

/// A week, and another one if the time falls into the hour that is left out.
const SEARCHED_DAYS: i64 = 15;

/// More than anybody can keep in mind.
const MOST_SPANS: usize = 16;

/// When nodes may go down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window(Vec<Span>);

/// Text that is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAWindow {
    /// Another form.
    #[error("a window is days, times and a time zone, such as \"Tue 02:00-06:00 America/Vancouver\"")]
    Form,
    /// No day.
    #[error("{0:?} is no day: Mon to Sun, Mon-Fri, Sat,Sun or daily")]
    Day(String),
    /// No time.
    #[error("{0:?} is no time: 00:00 to 24:00")]
    Time(String),
    /// Ends when it begins.
    #[error("{0:?} is no span of time: for a whole day write 00:00-24:00")]
    Empty(String),
    /// No time zone.
    #[error("{0:?} is no time zone: names are such as America/Vancouver, Europe/Berlin or UTC")]
    Zone(String),
    /// Too many.
    #[error("a window has at most {MOST_SPANS} parts")]
    TooMany,
}

/// One stretch of a week. Minutes of the day; one that ends before it begins ends on the day after.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    days: [bool; 7],
    from: u16,
    to: u16,
    zone: TimeZone,
}

impl Window {
    /// Whether a node may go down now.
    #[must_use]
    pub fn is_open(&self, now: UnixMillis) -> bool {
        Timestamp::from_millisecond(now.0).is_ok_and(|now| self.0.iter().any(|span| span.is_open(now)))
    }

    /// When it opens; `None` if it is open, or does not open within two weeks.
    #[must_use]
    pub fn opens(&self, now: UnixMillis) -> Option<UnixMillis> {
        if self.is_open(now) {
            return None;
        }
        let moment = Timestamp::from_millisecond(now.0).ok()?;
        let candidates = self.0.iter().flat_map(|span| span.candidates(moment));
        let later = candidates.filter(|candidate| *candidate > moment);
        let open = later.filter(|candidate| self.0.iter().any(|span| span.is_open(*candidate)));
        open.min().map(|first| UnixMillis(first.as_millisecond()))
    }

    /// A moment as a clock in the window's (first) time zone shows it.
    #[must_use]
    pub fn clock(&self, moment: UnixMillis) -> String {
        let zone = self.0.first().map_or(TimeZone::UTC, |span| span.zone.clone());
        let name = zone.iana_name().unwrap_or("UTC").to_owned();
        Timestamp::from_millisecond(moment.0)
            .map(|moment| format!("{} {name}", zone.to_datetime(moment).strftime("%a %Y-%m-%d %H:%M")))
            .unwrap_or_default()
    }
}

impl Span {
    fn is_open(&self, now: Timestamp) -> bool {
        let local = self.zone.to_datetime(now);
        let minute = minutes(local);
        let today = usize::from(local.weekday().to_monday_zero_offset().unsigned_abs());
        let yesterday = (today + 6) % 7;
        if self.from < self.to {
            return self.days[today] && (self.from..self.to).contains(&minute);
        }
        (self.days[today] && minute >= self.from) || (self.days[yesterday] && minute < self.to)
    }

    /// Every moment at which it may open: when its beginning is shown, and when clocks are put forward or back.
    fn candidates(&self, now: Timestamp) -> Vec<Timestamp> {
        let today = self.zone.to_datetime(now).date();
        let start = Time::midnight() + Duration::new().minutes(i64::from(self.from));
        let starts = (-1..=SEARCHED_DAYS).filter_map(|ahead| {
            let day = today.checked_add(Duration::new().days(ahead)).ok()?;
            let shown = self.zone.to_ambiguous_timestamp(day.to_datetime(start));
            Some([shown.earlier().ok(), shown.later().ok()])
        });
        let end = now.checked_add(Duration::new().hours(24 * SEARCHED_DAYS)).unwrap_or(Timestamp::MAX);
        let changes = self.zone.following(now).map(|change| change.timestamp()).take_while(|change| *change < end);
        starts.flatten().flatten().chain(changes).collect()
    }
}

fn minutes(local: DateTime) -> u16 {
    u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs())
}

impl FromStr for Window {
    type Err = NotAWindow;

    fn from_str(text: &str) -> Result<Self, NotAWindow> {
        let spans = text.split(';').map(str::parse).collect::<Result<Vec<_>, _>>()?;
        if spans.len() > MOST_SPANS { Err(NotAWindow::TooMany) } else { Ok(Self(spans)) }
    }
}

impl FromStr for Span {
    type Err = NotAWindow;

    fn from_str(text: &str) -> Result<Self, NotAWindow> {
        let words: Vec<_> = text.split_ascii_whitespace().collect();
        let [days, times, zone] = words[..] else { return Err(NotAWindow::Form) };
        let (from, to) = times.split_once('-').ok_or_else(|| NotAWindow::Time(times.to_owned()))?;
        let (from, to) = (time(from)?, time(to)?);
        if from == MINUTES_OF_A_DAY || from == to {
            return Err(NotAWindow::Empty(times.to_owned()));
        }
        let zone = TimeZoneDatabase::bundled().get(zone).map_err(|_| NotAWindow::Zone(zone.to_owned()))?;
        Ok(Self { days: days_of(days)?, from, to, zone })
    }
}

fn days_of(text: &str) -> Result<[bool; 7], NotAWindow> {
    if text == EVERY_DAY {
        return Ok([true; 7]);
    }
    let day = |name: &str| DAYS.iter().position(|known| *known == name).ok_or_else(|| NotAWindow::Day(name.to_owned()));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut next, last) = (day(first)?, day(last)?);
        while next != last {
            days[next] = true;
            next = (next + 1) % 7;
        }
        days[last] = true;
    }
    Ok(days)
}

fn time(text: &str) -> Result<u16, NotAWindow> {
    let wrong = || NotAWindow::Time(text.to_owned());
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let number = |digits: &str| {
        let is_plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_plain { digits.parse::<u16>().map_err(|_| wrong()) } else { Err(wrong()) }
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let all = hour * 60 + minute;
    if minute > 59 || all > MINUTES_OF_A_DAY { Err(wrong()) } else { Ok(all) }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, span) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            write!(f, "{between}{span}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { days, from, to, zone } = self;
        let zone = zone.iana_name().unwrap_or("UTC");
        let (from, to) = ([from / 60, from % 60], [to / 60, to % 60]);
        write!(f, "{} {:02}:{:02}-{:02}:{:02} {zone}", shown_days(days), from[0], from[1], to[0], to[1])
    }
}

/// Three days or more in a row as a range.
fn shown_days(days: &[bool; 7]) -> String {
    if days.iter().all(|day| *day) {
        return EVERY_DAY.to_owned();
    }
    let mut parts = Vec::new();
    let mut first = 0;
    while first < 7 {
        let length = days[first..].iter().take_while(|day| **day).count();
        match length {
            0 => {}
            1 | 2 => parts.extend(DAYS[first..first + length].iter().map(|name| (*name).to_owned())),
            _ => parts.push(format!("{}-{}", DAYS[first], DAYS[first + length - 1])),
        }
        first += length.max(1);
    }
    parts.join(",")
}

impl TryFrom<String> for Window {
    type Error = NotAWindow;

    fn try_from(text: String) -> Result<Self, NotAWindow> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}
