// SPDX-License-Identifier: Apache-2.0
//! Tables for people: columns as wide as their widest cell, two spaces between them, nothing from elsewhere unescaped.

use std::fmt;
use std::io::{self, Write};

use windlass_types::escape::Escaped;

use super::terminal::{Tone, toned};

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// A plain cell; text from elsewhere is made harmless here.
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        let text = text.to_string();
        let shown = if text.is_empty() { "-".to_owned() } else { Escaped(&text).to_string() };
        Self { text: shown, tone: None }
    }

    /// In a colour, where colours are wanted.
    #[must_use]
    pub(crate) const fn toned(mut self, tone: Tone) -> Self {
        self.tone = Some(tone);
        self
    }
}

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(crate) const fn new(header: Vec<&'static str>) -> Self {
        Self { header, rows: Vec::new() }
    }

    /// Adds a row; it has a cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push(cells);
    }

    /// Writes the table, each line after `indent`.
    ///
    /// # Errors
    /// If `out` does not take it.
    pub(crate) fn write(&self, out: &mut dyn Write, colour: bool, indent: &str) -> io::Result<()> {
        let widths = self.widths();
        let header: Vec<Cell> =
            self.header.iter().map(|title| Cell { text: (*title).to_owned(), tone: None }).collect();
        std::iter::once(&header).chain(&self.rows).try_for_each(|row| write_row(out, row, &widths, colour, indent))
    }

    fn widths(&self) -> Vec<usize> {
        let column = |index: usize| self.rows.iter().map(move |row| row.get(index).map_or(0, |cell| width(&cell.text)));
        self.header.iter().enumerate().map(|(i, title)| column(i).max().unwrap_or(0).max(width(title))).collect()
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn write_row(out: &mut dyn Write, row: &[Cell], widths: &[usize], colour: bool, indent: &str) -> io::Result<()> {
    write!(out, "{indent}")?;
    for (index, (cell, column)) in row.iter().zip(widths).enumerate() {
        match cell.tone.filter(|_| colour) {
            Some(tone) => write!(out, "{}", toned(true, tone, &cell.text))?,
            None => write!(out, "{}", cell.text)?,
        }
        // The last cell is not padded: trailing spaces wrap on narrow screens.
        if index + 1 < row.len() {
            write!(out, "{:1$}", "", column - width(&cell.text) + 2)?;
        }
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(table: &Table, colour: bool) -> String {
        let mut out = Vec::new();
        table.write(&mut out, colour, "").expect("a vector takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn columns_line_up_and_lines_end_without_spaces() {
        let mut table = Table::new(vec!["NAME", "STATUS"]);
        table.row(vec![Cell::new("größe1"), Cell::new("ok")]);
        table.row(vec![Cell::new("n"), Cell::new("")]);
        assert_eq!(written(&table, false), "NAME    STATUS\ngröße1  ok\nn       -\n");
    }

    #[test]
    fn colours_do_not_move_columns_and_hostile_text_stays_on_its_line() {
        let mut table = Table::new(vec!["A", "B"]);
        table.row(vec![Cell::new("x").toned(Tone::Good), Cell::new("\u{1b}[2J\nnode9  healthy")]);
        assert_eq!(written(&table, true), "A  B\n\u{1b}[32mx\u{1b}[0m  \\u{1b}[2J\\u{a}node9  healthy\n");
    }
}
