//! The cells of a table's row: apart from each other, styled, and broken into lines.

use super::inline::Inline;
use super::style::Style;
use unicode_width::UnicodeWidthChar;

/// A character and how it looks.
pub type Styled = (char, Style);

/// The lines of a cell.
pub type Cell = Vec<Vec<Styled>>;

/// As many cells as there are columns: what is too many stays in the last one, so that nothing is lost.
pub fn split_into(row: &str, columns: usize) -> Vec<String> {
    let mut cells = split(row);
    if cells.len() > columns {
        let last = cells.split_off(columns - 1).join("|");
        cells.push(last);
    }
    cells.resize(columns, String::new());
    cells
}

/// The cells' sources: `\|` and pipes in code do not split, and `<br>` is a line end.
pub fn split(row: &str) -> Vec<String> {
    let row = row.trim();
    let mut rest = row.strip_prefix('|').unwrap_or(row);
    let mut cells = vec![String::new()];
    while let Some(first) = rest.chars().next() {
        let cell = cells.last_mut().expect("there is always one");
        let length = if rest.starts_with("\\|") {
            cell.push('|');
            2
        } else if first == '\\' {
            // The next character is none of the markers here.
            let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            cell.push_str(&rest[..length]);
            length
        } else if first == '`' {
            let length = code_length(rest);
            cell.push_str(&rest[..length].replace("\\|", "|"));
            length
        } else if let Some(length) = line_end(rest) {
            cell.push('\n');
            length
        } else {
            match first {
                '|' => cells.push(String::new()),
                // A tab has no width of its own that a column could count on.
                '\t' => cell.push(' '),
                _ => cell.push(first),
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    // The pipe at the end opens no cell.
    if cells.len() > 1 && cells.last().is_some_and(|last| last.trim().is_empty()) {
        cells.pop();
    }
    cells
}

/// The bytes of the code span that begins here, or of its backticks if it has no end.
fn code_length(text: &str) -> usize {
    let ticks = |text: &str| text.bytes().take_while(|&b| b == b'`').count();
    let count = ticks(text);
    let mut at = count;
    while let Some(next) = text[at..].find('`') {
        at += next;
        let run = ticks(&text[at..]);
        at += run;
        if run == count {
            return at;
        }
    }
    count
}

/// The bytes of `<br>`, the only way to write a line end in a cell.
fn line_end(text: &str) -> Option<usize> {
    let forms = ["<br>", "<br/>", "<br />"];
    let begins = |form: &&&str| {
        let start = text.get(..form.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(form))
    };
    forms.iter().find(begins).map(|form| form.len())
}

/// The cell's lines with their emphasis and code.
pub fn styled(cell: &str, base: Style) -> Cell {
    let mut lines = vec![Vec::new()];
    let mut show = |character, style| match character {
        '\n' => lines.push(Vec::new()),
        _ => {
            let line = lines.last_mut().expect("there is always one");
            // Spaces at the edges would spoil the alignment.
            if character != ' ' || !line.is_empty() {
                line.push((character, style));
            }
        }
    };
    let mut inline = Inline::new();
    inline.start(base);
    for character in cell.trim().chars() {
        inline.push(character, &mut show);
    }
    inline.end_line(&mut show);
    lines
}

/// Columns that the text takes.
pub fn width(text: &[Styled]) -> usize {
    text.iter().filter_map(|(c, _)| c.width()).sum()
}

/// Breaks a line between words, or inside them where one is too long.
pub fn broken(line: &[Styled], limit: usize) -> Vec<&[Styled]> {
    let mut lines = Vec::new();
    let mut rest = trimmed(line);
    loop {
        let fitting = fitting(rest, limit);
        if fitting == rest.len() {
            lines.push(rest);
            return lines;
        }
        let may_end = |&end: &usize| {
            let is_wide = |at: usize| rest[at].0.width() == Some(2);
            rest[end].0 == ' ' || is_wide(end) || is_wide(end - 1)
        };
        let end = (1..=fitting).rev().find(may_end).unwrap_or(fitting);
        lines.push(trimmed(&rest[..end]));
        rest = trimmed(&rest[end..]);
    }
}

/// How many characters fit, but at least one: a break has to get further.
fn fitting(text: &[Styled], limit: usize) -> usize {
    let mut taken = 0;
    let exceeds = |(character, _): &Styled| {
        taken += character.width().unwrap_or(0);
        taken > limit
    };
    let fitting = text.iter().position(exceeds);
    fitting.map_or(text.len(), |count| count.max(1))
}

fn trimmed(text: &[Styled]) -> &[Styled] {
    let is_ink = |(character, _): &Styled| *character != ' ';
    let Some(start) = text.iter().position(is_ink) else {
        return &[];
    };
    let end = text.iter().rposition(is_ink).map_or(start, |last| last + 1);
    &text[start..end]
}
