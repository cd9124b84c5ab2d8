//! Any tokens at all: the turn is a well-formed list of events, and what it leaves in the conversation can be rendered.
#![no_main]

use fourfold::harmony::{
    Conversation, Developer, Encoder, Event, Mark, Message, Opening, Parser, Position, Reason,
    Tool, ToolNames,
};
use fourfold::tokenizer::{Tokenizer, Vocabulary};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// Texts that mean something in a header, one token each.
const WORDS: [&str; 12] = [
    "assistant",
    "user",
    "analysis",
    "commentary",
    "final",
    "Ġto=",
    "Ġto=functions.f",
    "functions.f",
    "Ġjson",
    "{}",
    "Ġ{",
    "x.y",
];

/// The 256 bytes, the words above, and the format's special tokens.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let printable = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others = (0..=255u8).filter(|byte| !printable(byte)).zip(256u32..);
    let bytes = (0..=255u8).filter(printable).map(char::from);
    let mut tokens: Vec<String> = bytes
        .chain(others.filter_map(|(_, code)| char::from_u32(code)))
        .map(String::from)
        .collect();
    tokens.extend(WORDS.map(String::from));
    let mut kinds = vec![1; tokens.len()];
    let marks = Mark::ALL.map(Mark::text);
    tokens.extend(
        marks
            .iter()
            .chain(&["<|endoftext|>", "<|other|>"])
            .map(|it| (*it).to_owned()),
    );
    kinds.resize(tokens.len(), 3);
    let vocabulary = Vocabulary {
        tokens: &tokens,
        kinds: &kinds,
        merges: None,
        named: &[],
    };
    Tokenizer::new(&vocabulary).expect("a valid vocabulary")
});

fuzz_target!(|bytes: &[u8]| {
    let encoder = Encoder::new(&TOKENIZER).expect("the special tokens are there");
    let function = Tool {
        name: "f".to_owned(),
        description: String::new(),
        parameters: None,
    };
    let mut conversation = Conversation {
        messages: vec![Message::Developer(Developer {
            functions: vec![function],
            ..Developer::default()
        })],
    };
    let mut parser = Parser::new(&encoder, ToolNames::of(&conversation));
    let mut events = Vec::new();
    for pair in bytes.chunks_exact(2) {
        // Bytes above 127 choose among the words and special tokens, so that half of all tokens matter.
        let range = if pair[0] > 127 {
            256..TOKENIZER.vocabulary_len()
        } else {
            0..256
        };
        let id = range.start + usize::from(pair[1]) % range.len();
        parser.push(id as u32, &mut events);
        let over = matches!(events.last(), Some(Event::TurnEnd(_)));
        assert_eq!(over, parser.position() == Position::Done);
    }
    parser.finish(Reason::Length, &mut events);

    let mut open = None;
    for (index, event) in events.iter().enumerate() {
        assert_eq!(
            matches!(event, Event::TurnEnd(_)),
            index + 1 == events.len()
        );
        let kind = std::mem::discriminant(event);
        match event {
            // An empty message has an end and no pieces.
            Event::MessageEnd => open = None,
            Event::TurnEnd(_) => assert!(open.is_none()),
            Event::CallStart { .. } | Event::UndeclaredCall { .. } => {
                assert!(open.replace(kind).is_none())
            }
            Event::CallArguments(piece) => assert!(open.is_some() && !piece.is_empty()),
            Event::Reasoning(piece) | Event::Preamble(piece) | Event::Final(piece) => {
                assert!(open.is_none_or(|open| open == kind) && !piece.is_empty());
                open = Some(kind);
            }
        }
    }
    conversation.messages.extend(parser.into_messages());
    let rendered = encoder.render(&conversation, &Opening::Free);
    assert!(rendered.ids.len() > conversation.messages.len());
});
