//! Markdown in, terminal text out: whole, and cut into every kind of piece.

mod tables;

use super::emphasis::Reading;
use super::*;

/// The rendering with escape sequences as short tags, checked to be independent of the pieces.
fn rendered(text: &str) -> String {
    let render = |piece: usize| {
        let mut markdown = Markdown::with_wrap(Wrap::with_width(Some(40)));
        let characters: Vec<char> = text.chars().collect();
        let mut out = String::new();
        for piece in characters.chunks(piece) {
            out += &markdown.push(&piece.iter().collect::<String>());
        }
        out + &markdown.finish()
    };
    let whole = render(10_000);
    for piece in [1, 2, 3, 7] {
        assert_eq!(render(piece), whole, "in pieces of {piece}");
    }
    let tags = [
        (code::BOLD, "<b>"),
        (code::DIM, "<d>"),
        (code::ITALIC, "<i>"),
        (code::UNDERLINE, "<u>"),
        (code::STRIKE, "<s>"),
        (code::CYAN, "<c>"),
        (code::RESET, "</>"),
    ];
    let tagged = tags
        .iter()
        .fold(whole, |text, (sequence, tag)| text.replace(sequence, tag));
    assert!(!tagged.contains('\x1b'), "{tagged:?}");
    // A reset before another sequence is how styles change; only the outcome matters here.
    let mut tagged = tagged;
    while tagged.contains("</><") {
        tagged = tagged.replace("</><", "<");
    }
    tagged
}

#[test]
fn emphasis_and_code_inside_text() {
    assert_eq!(
        rendered("a **bold** and *thin* `co*de*` ~~no~~"),
        "</>a <b>bold</> and <i>thin</> <c>co*de*</> <s>no</>\n</>"
    );
    assert_eq!(rendered("***both***"), "<b><i>both</>\n</>");
}

#[test]
fn markers_that_mean_themselves_stay() {
    for text in ["2 * 3 * 4", "snake_case_name", "2*3*4", "a ~ b", r"\(x_1\)"] {
        assert_eq!(rendered(text), format!("</>{text}\n</>"));
    }
    assert_eq!(rendered(r"\*not\*"), "</>*not*\n</>");
    assert_eq!(rendered("ends with *"), "</>ends with *\n</>");
}

/// The rendering without styles and without the line end that the end of the text gets.
fn shown(text: &str) -> String {
    let mut shown = rendered(text);
    for tag in ["</>", "<b>", "<d>", "<i>", "<u>", "<s>", "<c>"] {
        shown = shown.replace(tag, "");
    }
    shown.strip_suffix('\n').unwrap_or(&shown).to_owned()
}

#[test]
fn what_is_no_markup_is_shown_as_it_came() {
    for text in [
        "rm *.txt and *.md",
        "f(*args, **kwargs)",
        "def f(*, a, **b): pass",
        "int *p, **q;",
        "char *a[], *b(void)",
        r"C:\Users\_me",
        r"C:\dir\*.txt",
        r"\\server\_share",
        "a*b > 3*c",
        "x**2 + y**2",
        "2 * (3 + 4)*5",
        "*p, q*r",
        "~~x",
        "~x~ and ~ y",
        "~~~~ x ~~~~",
        "`x",
        "``x`",
        "snake__case and a__b__c",
        "_private and _other",
        "__init__.py, __x__() and *__a_b__",
        "**kwargs and\nno** end",
        "[x](http://a.b/_c_/*d*)",
        r"\[x\] and \(a\) and \]\)",
        r"\(\hat{x}_i = *y*_{j}\)",
        r"n\#1 \# \> \n \",
        "\\[\n+ \\hat{x}_i = y_{j}\n- *a*\n\\]",
        "    *x*",
        "a\n\n    *x* `y`\n    # z\n\n    - *v*",
        "*a **b",
        "a* b* c_ _",
        "****",
    ] {
        assert_eq!(shown(text), text);
    }
}

#[test]
fn closed_emphasis_follows_commonmark() {
    for (text, expected) in [
        ("*a **b** c*", "<i>a <b><i>b<i> c"),
        ("**a *b***", "<b>a <b><i>b"),
        ("***a** b*", "<b><i>a<i> b"),
        ("**a*", "</>*<i>a"),
        ("*a `b* c`", "</>*a <c>b* c"),
        ("*a **b*", "</>*a *<i>b"),
        ("(*a*), \"_b_\"", "</>(<i>a</>), \"<i>b</>\""),
        ("**a:** b", "<b>a:</> b"),
        ("__a:__ b", "<b>a:</> b"),
        ("__a b__ _c_", "<b>a b</> <i>c"),
        ("**__init__**", "<b>__init__"),
        ("~~a *b*~~ c", "<s>a <i><s>b</> c"),
        (
            "\u{4e00}**\u{4e8c}**\u{4e09}",
            "</>\u{4e00}<b>\u{4e8c}</>\u{4e09}",
        ),
        ("# a *b* c", "<b><u>a <b><u><i>b<b><u> c"),
        ("`` `a ``", "<c>`a"),
    ] {
        let shown = rendered(text);
        let shown = shown.trim_end_matches("</>").trim_end_matches('\n');
        assert_eq!(shown.trim_end_matches("</>"), expected, "{text}");
    }
}

#[test]
fn a_backslash_goes_only_where_it_prevents_something() {
    for (text, expected) in [
        (r"\*a\* \_b\_ \`c\`", "*a* _b_ `c`"),
        (r"\*\*a\*\*", "**a**"),
        (r"\~~a~~", "~~a~~"),
        (r"\# a", "# a"),
        (r"\- a", "- a"),
        (r"  \* a", "  * a"),
        (r"\> a", "> a"),
        (r"1\. a", "1. a"),
        (r"\---", "---"),
        (r"\#a", r"\#a"),
        (r"1\.5", r"1\.5"),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

/// Shown early or read as a whole: every short line of these characters.
#[test]
fn what_is_shown_early_is_what_the_whole_line_says() {
    const ALPHABET: [char; 10] = ['*', '_', '~', '`', '\\', 'a', ' ', '.', '(', ']'];
    const LENGTH: u32 = if cfg!(debug_assertions) { 4 } else { 6 };
    for number in 0..ALPHABET.len().pow(LENGTH) {
        let digits = (0..LENGTH).map(|place| number / ALPHABET.len().pow(place));
        let line: Vec<char> = digits.map(|digit| ALPHABET[digit % 10]).collect();
        let reading = Reading::new(&line, '\n', &[], true);
        let looks = line.iter().zip(&reading.looks);
        let visible = looks.filter(|(_, look)| !look.is_hidden);
        let whole: Vec<_> = visible.map(|(&c, look)| (c, look.style)).collect();
        let mut early = Vec::new();
        let mut inline = Inline::new();
        let mut show = |character, style| early.push((character, style));
        for &character in &line {
            inline.push(character, &mut show);
        }
        inline.end_line(&mut show);
        assert_eq!(early, whole, "{line:?}");
    }
}

#[test]
fn text_waits_only_from_a_marker_on() {
    let mut markdown = Markdown::with_wrap(Wrap::with_width(Some(40)));
    assert_eq!(markdown.push("one two *three "), "\x1b[0mone two");
    assert!(markdown.push("four* five ").contains("five"));
    // An opener without an end waits for the line's end, or for enough characters.
    assert_eq!(markdown.push("*six seven "), "");
    assert!(markdown.push("\n").contains(" *six seven"));
    assert_eq!(markdown.push("*"), "");
    assert!(markdown.push(&"word ".repeat(210)).contains("*word word"));
}

#[test]
fn a_start_without_an_end_does_not_wait_for_ever() {
    for start in ["*", "-", " ", "`"] {
        let mut markdown = Markdown::with_wrap(Wrap::with_width(Some(40)));
        assert_ne!(markdown.push(&format!("{}x", start.repeat(3000))), "");
    }
}

#[test]
fn indented_lines_of_a_list_are_no_code() {
    assert_eq!(
        rendered("- a\n\n    *b*\n\nc\n\n    *d*"),
        "</>• a\n</>\n</>    <i>b</>\n</>\n</>c\n</>\n<c>    *d*</>\n</>"
    );
}

#[test]
fn headings_lose_their_marks() {
    assert_eq!(rendered("# One\n## Two"), "<b><u>One\n<b>Two\n</>");
    assert_eq!(rendered("#hashtag"), "</>#hashtag\n</>");
}

#[test]
fn lists_hang_and_get_bullets() {
    let text = "- a list item that is longer than one line\n  * inner\n12. number";
    assert_eq!(
        rendered(text),
        "</>• a list item that is longer than one\n  line\n</>  • inner\n</>12. number\n</>"
    );
}

#[test]
fn code_blocks_keep_every_character() {
    let text = "```rust\nlet a = *b; // **no** `x`\n\n    ``\n```\nafter";
    assert_eq!(
        rendered(text),
        "<d>```rust</>\n<c>let a = *b; // **no** `x`</>\n<c></>\n<c>    ``</>\n<d>```</>\n</>after\n</>"
    );
}

#[test]
fn a_longer_fence_holds_a_shorter_one() {
    let text = "````\n```\n````\nx";
    assert_eq!(
        rendered(text),
        "<d>````</>\n<c>```</>\n<d>````</>\n</>x\n</>"
    );
}

#[test]
fn rules_are_dim() {
    assert_eq!(rendered("---\n"), "<d>---</>\n</>");
}

#[test]
fn an_unfinished_block_ends_cleanly() {
    assert_eq!(rendered("```\ncode"), "<d>```</>\n<c>code</>\n</>");
    assert_eq!(rendered("**bold"), "</>**bold\n</>");
    assert_eq!(rendered(""), "</>");
    assert_eq!(rendered("--"), "</>--\n</>");
}

#[test]
fn long_paragraphs_wrap_between_words() {
    let text = "one two three four five six seven eight nine ten";
    assert_eq!(
        rendered(text),
        "</>one two three four five six seven eight\nnine ten\n</>"
    );
}
