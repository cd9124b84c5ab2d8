//! Markdown in, terminal text out: whole, and cut into every kind of piece.

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
fn tables_and_rules_stay_plain() {
    let text = "| a | **b** |\n|---|---|\n---\n";
    assert_eq!(
        rendered(text),
        "| a | **b** |</>\n|---|---|</>\n<d>---</>\n</>"
    );
}

#[test]
fn an_unfinished_block_ends_cleanly() {
    assert_eq!(rendered("```\ncode"), "<d>```</>\n<c>code</>\n</>");
    assert_eq!(rendered("**bold"), "<b>bold\n</>");
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
