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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ZONE: &str = "America/Los_Angeles";

    fn window(text: &str) -> Window {
        text.parse().expect(text)
    }

    /// A moment in Los Angeles, with its offset, since some are shown twice.
    fn at(text: &str) -> UnixMillis {
        UnixMillis(text.parse::<Timestamp>().expect(text).as_millisecond())
    }

    #[test]
    fn is_open_between_its_times_on_its_days() {
        let tuesday = window("Tue 02:00-06:00 America/Los_Angeles");
        assert!(!tuesday.is_open(at("2026-11-24T01:59:59-08:00")));
        assert!(tuesday.is_open(at("2026-11-24T02:00:00-08:00")));
        assert!(tuesday.is_open(at("2026-11-24T05:59:59-08:00")));
        assert!(!tuesday.is_open(at("2026-11-24T06:00:00-08:00")));
        assert!(!tuesday.is_open(at("2026-11-25T03:00:00-08:00")));
        assert_eq!(tuesday.opens(at("2026-11-24T06:00:00-08:00")), Some(at("2026-12-01T02:00:00-08:00")));
        assert_eq!(tuesday.opens(at("2026-11-24T03:00:00-08:00")), None);
        assert_eq!(tuesday.clock(at("2026-12-01T02:00:00-08:00")), "Tue 2026-12-01 02:00 America/Los_Angeles");
    }

    #[test]
    fn one_that_passes_midnight_belongs_to_the_day_it_begins_on() {
        let night = window("Fri 22:00-02:00 UTC");
        assert!(night.is_open(at("2026-11-27T23:00:00Z")) && night.is_open(at("2026-11-28T01:59:00Z")));
        assert!(!night.is_open(at("2026-11-27T01:00:00Z")) && !night.is_open(at("2026-11-28T22:00:00Z")));
    }

    #[test]
    fn the_hour_that_is_left_out_is_left_out() {
        let early = window("Sun 02:15-02:45 America/Los_Angeles");
        let before = at("2026-03-08T01:59:00-08:00");
        assert!(!early.is_open(UnixMillis(before.0 + 20 * 60_000)));
        assert_eq!(early.opens(before), Some(at("2026-03-15T02:15:00-07:00")));
        let across = window("Sun 02:15-04:00 America/Los_Angeles");
        assert_eq!(across.opens(before), Some(at("2026-03-08T03:00:00-07:00")));
        assert!(across.is_open(at("2026-03-08T03:59:00-07:00")) && !across.is_open(at("2026-03-08T04:00:00-07:00")));
    }

    #[test]
    fn an_hour_that_is_shown_twice_counts_twice() {
        let early = window("Sun 01:00-01:30 America/Los_Angeles");
        assert!(early.is_open(at("2026-11-01T01:10:00-07:00")) && early.is_open(at("2026-11-01T01:10:00-08:00")));
        assert_eq!(early.opens(at("2026-11-01T01:30:00-07:00")), Some(at("2026-11-01T01:00:00-08:00")));
    }

    #[test]
    fn what_is_printed_is_read() {
        for (text, printed) in [
            ("Tue 02:00-06:00 America/Los_Angeles", "Tue 02:00-06:00 America/Los_Angeles"),
            ("  Mon-Fri  22:00-02:00 utc ", "Mon-Fri 22:00-02:00 UTC"),
            ("Sat,Sun 00:00-24:00 UTC", "Sat,Sun 00:00-24:00 UTC"),
            ("Mon-Sun 01:00-02:00 UTC", "daily 01:00-02:00 UTC"),
            ("Sat-Mon 01:00-02:00 UTC", "Mon,Sat,Sun 01:00-02:00 UTC"),
            ("Tue 01:00-02:00 UTC;Thu 03:00-04:00 Europe/Berlin", "Tue 01:00-02:00 UTC; Thu 03:00-04:00 Europe/Berlin"),
        ] {
            assert_eq!(window(text).to_string(), printed);
            assert_eq!(window(printed), window(text));
        }
    }

    #[test]
    fn refuses_what_could_be_misread_and_names_it() {
        for (text, named) in [
            ("", "America/Vancouver"),
            ("02:00-06:00 UTC", "America/Vancouver"),
            ("Tuesday 02:00-06:00 UTC", "\"Tuesday\""),
            ("tue 02:00-06:00 UTC", "\"tue\""),
            ("Tue 2:00-06:00 UTC", "\"2:00\""),
            ("Tue 02:00-25:00 UTC", "\"25:00\""),
            ("Tue 02:60-03:00 UTC", "\"02:60\""),
            ("Tue 02:00 UTC", "\"02:00\""),
            ("Tue 02:00-02:00 UTC", "00:00-24:00"),
            ("Tue 24:00-02:00 UTC", "00:00-24:00"),
            ("Tue 02:00-06:00 PST8", "\"PST8\""),
            ("Tue 02:00-06:00 America/Vancuver", "Vancuver"),
            ("Tue 02:00-06:00 UTC;", "America/Vancouver"),
        ] {
            let refusal = text.parse::<Window>().expect_err(text).to_string();
            assert!(refusal.contains(named), "{text}: {refusal}");
        }
    }

    proptest! {
        /// Round the clock, on the nights on which clocks change too.
        #[test]
        fn is_open_exactly_when_the_clock_on_the_wall_says_so(
            minute in 0_i64..530_000, day in 0_usize..7, from in 0_u16..1440, length in 1_u16..1440,
        ) {
            let to = (from + length) % 1440;
            let (hours, ends) = ([from / 60, from % 60], [to / 60, to % 60]);
            let text = format!("{} {:02}:{:02}-{:02}:{:02} {ZONE}", DAYS[day], hours[0], hours[1], ends[0], ends[1]);
            let open = window(&text);
            let now = Timestamp::from_second(1_767_225_600 + minute * 60).expect("in 2026");
            let shown = TimeZoneDatabase::bundled().get(ZONE).expect("known").to_datetime(now);
            // Minutes since the beginning of the window's day, by the clock on the wall.
            let of_week = |day: i64, minute: i64| day * 1440 + minute;
            let clock = of_week(i64::from(shown.weekday().to_monday_zero_offset()), i64::from(minutes(shown)));
            let since = (clock - of_week(day as i64, i64::from(from))).rem_euclid(7 * 1440);
            let moment = UnixMillis(now.as_millisecond());
            prop_assert_eq!(open.is_open(moment), since < i64::from(length), "{} at {}", text, shown);
            if let Some(opens) = open.opens(moment) {
                prop_assert!(opens > moment && open.is_open(opens) && !open.is_open(UnixMillis(opens.0 - 1)));
            } else {
                prop_assert!(open.is_open(moment));
            }
        }
    }
}
