//! How do rows stand on a terminal? As an aligned table, long values in several lines.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use perennial::connectors::timestamp;
use perennial::rows::{Schema, Tuple, Value};

use super::wording;

/// Columns of a table where the output is no terminal.
const WIDTH: u16 = 160;

/// Rows under the names of their columns, with their number.
pub(crate) fn table(schema: &Schema, rows: &[Tuple], width: Option<u16>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width.unwrap_or(WIDTH))
        .set_header(
            schema
                .columns()
                .iter()
                .map(|column| wording::cell(&column.name)),
        );
    for row in rows {
        table.add_row(row.iter().map(|value| wording::cell(&shown(value))));
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        let is_number = |row: &Tuple| matches!(row[at], Value::Integer(_) | Value::Float(_));
        if !rows.is_empty() && rows.iter().all(is_number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n{}", wording::count(rows.len(), "row"))
}

/// A value as a person reads it: an instant by the calendar.
fn shown(value: &Value) -> String {
    match value {
        Value::Timestamp(milliseconds) => timestamp::text(*milliseconds),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use perennial::rows::{Column, Type};

    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_right() {
        let names = ["name", "n"];
        let schema = Schema::new(names.map(|name| Column::new(name, Type::Any)));
        let row = |name: &str, n: i64| Tuple::from([Value::from(name), n.into()]);
        let text = table(&schema, &[row("a\nb", 5), row("long name", 1000)], None);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(lines.contains(&"a b            5"), "{text}");
        assert!(lines.contains(&"long name   1000"), "{text}");
        assert!(text.ends_with("2 rows"), "{text}");
    }

    #[test]
    fn an_instant_is_shown_by_the_calendar() {
        let schema = Schema::new([Column::new("since", Type::Timestamp)]);
        let row = Tuple::from([Value::Timestamp(1_714_555_800_000)]);
        let text = table(&schema, &[row], None);
        assert!(text.contains("2024-05-01T09:30:00.000Z"), "{text}");
        assert!(text.ends_with("1 row"), "{text}");
    }
}
