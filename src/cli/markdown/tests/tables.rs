//! Tables, in a window of 40 columns.

use super::{rendered, shown};
use crate::cli::markdown::{Markdown, Wrap};

#[test]
fn columns_are_aligned() {
    let text = "| Left | Middle | Right |\n|:--|:-:|--:|\n| a | b | c |\n| longer | d | 漢字漢 |";
    assert_eq!(
        shown(text),
        "\
Left   │ Middle │  Right
───────┼────────┼───────
a      │   b    │      c
longer │   d    │ 漢字漢"
    );
}

#[test]
fn cells_have_emphasis_and_the_header_is_bold() {
    assert_eq!(
        rendered("|a|**b**|\n|-|-|\n|`c`|*d* e|\n"),
        "<b>a<d> │ <b>b</>\n<d>──┼────</>\n<c>c<d> │ <i>d</> e\n</>"
    );
}

#[test]
fn pipes_in_code_or_after_a_backslash_are_text() {
    let text = "| a | b |\n|---|---|\n| `x|y` | x \\| y |\n| `p\\|q` | 3*4 *z |\n| ` | e |";
    assert_eq!(
        shown(text),
        "a   │ b\n────┼───────\nx|y │ x | y\np|q │ 3*4 *z\n`   │ e"
    );
}

#[test]
fn rows_of_other_lengths_lose_nothing() {
    let text = "| a | b |\n|---|\n| 1 |\n| 1 | 2 | 3 |\n||\nafter";
    assert_eq!(
        shown(text),
        "a │ b\n──┼──────\n1 │ \n1 │ 2 | 3\n  │ \nafter"
    );
}

#[test]
fn a_line_that_is_no_header_is_text() {
    for text in [
        "|x| is no table",
        "|x|\n|y|\n|z|",
        "|x|\n\n|---|",
        "|x|\n|--x|",
        "|x|\n- y",
        "|",
        "|a|\n```\n|---|\n```",
    ] {
        assert_eq!(shown(text).replace('•', "-"), text);
    }
    assert_eq!(
        rendered("|*x*|\n**y**"),
        "</>|<i>x</>|\n<b>y</>\n</>",
        "its emphasis is shown"
    );
}

#[test]
fn what_follows_a_table_is_shown_after_it() {
    let table = "| a |\n|---|\n| b |\n";
    let lines = "a\n─\nb\n";
    for (text, expected) in [
        ("# c", "c"),
        ("\nc", "\nc"),
        ("- c", "• c"),
        ("```\nc\n```", "```\nc\n```"),
        ("---", "---"),
    ] {
        assert_eq!(
            shown(&format!("{table}{text}")),
            format!("{lines}{expected}")
        );
    }
}

#[test]
fn long_cells_break_inside_their_columns() {
    let text = "| Key | Description |\n|---|---|\n| one | some words that are too long for the window |\n| two | a<br>b |";
    assert_eq!(
        shown(text),
        "\
Key │ Description
────┼───────────────────────────────────
one │ some words that are too long for
    │ the window
two │ a
    │ b"
    );
}

#[test]
fn too_many_columns_are_shown_as_source() {
    let row = "| aaaaaaaa | bbbbbbbb | cccccccc | d*dddddd |";
    let text = format!("{row}\n|---|---|---|---|\n{row}");
    assert_eq!(shown(&text), text);
    let bars = "|".repeat(100);
    let text = format!("{bars}\n|-|\n{bars}");
    assert_eq!(shown(&text), text);
}

#[test]
fn a_table_in_a_list_keeps_its_indent() {
    assert_eq!(
        shown("- x\n\n    | a |\n    |---|\n    | b |"),
        "• x\n\n    a\n    ─\n    b"
    );
}

#[test]
fn an_unfinished_table_is_shown() {
    assert_eq!(shown("| a |\n|-"), "a\n─");
    assert_eq!(shown("| a |\n|---|\n| b"), "a\n─\nb");
}

#[test]
fn a_very_long_table_is_shown_before_its_end() {
    let mut markdown = Markdown::with_wrap(Wrap::with_width(Some(40)));
    let mut early = markdown.push("| n | m |\n|---|---|\n");
    for row in 0..200 {
        assert_eq!(early, "", "row {row}");
        early = markdown.push(&format!("| {row} | x |\n"));
    }
    assert_eq!(early.lines().count(), 202);
    let next = markdown.push("| 漢字漢字漢字 | y |\n");
    assert_eq!(next.matches('\n').count(), 2, "{next:?}");
    assert!(markdown.push("after ").contains("after"));
}

#[test]
fn an_endless_row_is_not_held() {
    let mut markdown = Markdown::with_wrap(Wrap::with_width(Some(40)));
    let early = markdown.push(&format!("|{}", "x".repeat(70_000)));
    assert_eq!(early.matches('x').count(), 70_000);
}
