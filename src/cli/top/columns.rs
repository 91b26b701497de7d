//! A table in as many columns as a terminal has room for: what matters least gives way first.

use super::super::paint::{Span, Style};
use super::frame::Line;

/// Blanks between columns.
const GAP: usize = 2;
/// The least that is left of the first column, where its texts are longer.
const MIN_NAME: usize = 12;

/// A column.
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Whether its cells stand at the right.
    pub(super) is_number: bool,
    /// The column of the highest number gives way first. The first column of a table never does.
    pub(super) gives_way: u8,
}

/// Rows under the names of their columns. Each row has a cell for each column.
pub(super) fn table(columns: &[Column], rows: Vec<Vec<Span>>, width: usize) -> Vec<Line> {
    let natural = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(Span::width);
        cells.chain([columns[at].name.len()]).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..columns.len()).map(natural).collect();
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    // Of the first column, as much as there is room for beside the others.
    let rest = |shown: &[usize], widths: &[usize]| -> usize {
        shown[1..].iter().map(|at| widths[*at] + GAP).sum()
    };
    let least = widths[0].min(MIN_NAME);
    while shown.len() > 1 && least + rest(&shown, &widths) > width {
        let last = (1..shown.len()).max_by_key(|at| columns[shown[*at]].gives_way);
        shown.remove(last.unwrap_or(1));
    }
    widths[0] = widths[0].min(width.saturating_sub(rest(&shown, &widths)));
    let line = |cells: Vec<Span>| -> Line {
        let mut line = Line::new();
        for (at, cell) in cells
            .into_iter()
            .enumerate()
            .filter(|(at, _)| shown.contains(at))
        {
            let cell = cell.cut(widths[at]);
            let blanks = " ".repeat(widths[at].saturating_sub(cell.width()));
            let gap = " ".repeat(if at == 0 { 0 } else { GAP });
            line.push(Span::new(Style::Plain, gap));
            match columns[at].is_number {
                true => line.extend([Span::new(Style::Plain, blanks), cell]),
                false => line.extend([cell, Span::new(Style::Plain, blanks)]),
            }
        }
        line
    };
    let names = columns.iter();
    let names = names.map(|column| Span::new(Style::Faint, column.name));
    let head = line(names.collect());
    let rows: Vec<Line> = rows.into_iter().map(line).collect();
    [vec![head], rows].concat()
}

#[cfg(test)]
mod tests {
    use super::super::super::paint::Paint;
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column {
            name: "view",
            is_number: false,
            gives_way: 0,
        },
        Column {
            name: "rows",
            is_number: true,
            gives_way: 1,
        },
        Column {
            name: "status",
            is_number: false,
            gives_way: 2,
        },
    ];

    fn drawn(names: [&str; 2], width: usize) -> Vec<String> {
        let row = |name: &str, n: &str| {
            [name, n, "fresh"]
                .map(|text| Span::new(Style::Plain, text))
                .to_vec()
        };
        let rows = vec![row(names[0], "5"), row(names[1], "1,000")];
        let lines = table(&COLUMNS, rows, width);
        let draw = |line| Paint::plain().draw(line).trim_end().to_owned();
        lines.into_iter().map(draw).collect()
    }

    #[test]
    fn numbers_stand_right_under_their_names() {
        let lines = drawn(["answers", "urgent"], 80);
        assert_eq!(
            lines,
            [
                "view      rows  status",
                "answers      5  fresh",
                "urgent   1,000  fresh",
            ]
        );
    }

    #[test]
    fn what_matters_least_gives_way_and_names_are_cut() {
        let lines = drawn(["answers", "urgent"], 16);
        assert_eq!(
            lines,
            ["view      rows", "answers      5", "urgent   1,000"]
        );
        assert_eq!(
            drawn(["answers", "urgent"], 8),
            ["view", "answers", "urgent"]
        );
        let lines = drawn(["a view of a very long name", "urgent"], 30);
        assert_eq!(lines[1], "a view of a ve…      5  fresh");
        for width in [1, 5, 12, 19, 20, 21, 40] {
            for line in drawn(["a view of a very long name", "urgent"], width) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }
}
