//! Columns that are as wide as what stands in them.

use super::Line;

/// Blanks between two columns.
const GAP: usize = 2;

/// Rows of cells as lines. The last column is not filled up.
pub(crate) fn table(rows: Vec<Vec<Line>>) -> Vec<Line> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(Line::width).max().unwrap_or_default()
        })
        .collect();
    let line = |row: Vec<Line>| {
        let cells = row.into_iter().zip(&widths);
        cells.fold(Line::default(), |line, (cell, width)| {
            line.and(cell.padded(width + GAP))
        })
    };
    rows.into_iter().map(line).collect()
}
