//! What a line of Markdown is, judged by its beginning.

/// What the start of a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Unclear,
    Fence(char, usize),
    Heading(usize),
    /// A list item: where its text begins.
    Item(usize),
    /// A quotation: where its text begins.
    Quote(usize),
    /// A backslash that keeps the line from being one of these: where it stands.
    Escaped(usize),
    Rule,
    TableRow,
    Text,
}

/// What a line is, judged by its beginning, or by all of it once it `ended`.
pub fn classify(line: &str, ended: bool) -> Start {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    let Some(first) = text.chars().next() else {
        return if ended { Start::Text } else { Start::Unclear };
    };
    let run = text.chars().take_while(|&c| c == first).count();
    let rest = &text[run * first.len_utf8()..];
    let is_only_run = rest.is_empty();
    match first {
        '`' | '~' if run >= 3 => Start::Fence(first, run),
        '#' if run <= 6 && rest.starts_with(' ') => Start::Heading(run),
        '|' => Start::TableRow,
        '-' | '*' | '_' if run >= 3 && is_only_run && ended => Start::Rule,
        '-' | '*' | '+' if run == 1 && rest.starts_with(' ') => Start::Item(indent + 2),
        '>' if rest.starts_with(' ') => Start::Quote(indent + run + 1),
        '#' | '`' | '~' | '-' | '*' | '_' | '+' | '>' if is_only_run && !ended => Start::Unclear,
        '0'..='9' => number(text, indent, ended),
        '\\' => escaped(&text[1..], indent, ended),
        _ => Start::Text,
    }
}

/// `12. text` and `12) text`.
fn number(text: &str, indent: usize, ended: bool) -> Start {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let mut rest = text[digits..].chars();
    match (rest.next(), rest.next()) {
        (None, _) if !ended && digits <= 9 => Start::Unclear,
        (Some('.' | ')'), None) if !ended => Start::Unclear,
        (Some('.' | ')'), Some(' ')) => Start::Item(indent + digits + 2),
        // `1\. text` is no list.
        (Some('\\'), None | Some('.' | ')')) if digits <= 9 => {
            let unescaped = format!("{}{}", &text[..digits], &text[digits + 1..]);
            match number(&unescaped, 0, ended) {
                Start::Item(_) => Start::Escaped(indent + digits),
                other => other,
            }
        }
        _ => Start::Text,
    }
}

/// A backslash and then `text`: it goes if there were something to keep from happening.
fn escaped(text: &str, indent: usize, ended: bool) -> Start {
    match text.chars().next() {
        None if !ended => Start::Unclear,
        Some('#' | '-' | '*' | '+' | '>') => match classify(text, ended) {
            unknown @ (Start::Unclear | Start::Text) => unknown,
            _ => Start::Escaped(indent),
        },
        // The markers inside lines have their own rules.
        _ => Start::Text,
    }
}
