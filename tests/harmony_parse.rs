//! Turns as models really sample them, well formed and not.

mod common;

use common::TOKENIZER;
use fourfold::harmony::{
    Answer, Assistant, Channel, Conversation, Developer, Encoder, Event, Kind, Mark, Message,
    Namespace, Opening, Parser, Position, Reason, System, Tool, ToolNames,
};
use proptest::prelude::*;
use serde_json::Value;
use std::sync::LazyLock;

static ENCODER: LazyLock<Encoder<'static>> =
    LazyLock::new(|| Encoder::new(&TOKENIZER).expect("the vocabulary speaks harmony"));

static NAMES: LazyLock<ToolNames> = LazyLock::new(|| ToolNames::of(&DECLARED));

/// Declares `functions.f`, `functions.get_weather`, a function that is no identifier, and the built-in `python`.
static DECLARED: LazyLock<Conversation> = LazyLock::new(|| {
    let tool = |name: &str| Tool {
        name: name.to_owned(),
        description: String::new(),
        parameters: None,
    };
    let python = Namespace {
        name: "python".to_owned(),
        description: None,
        tools: Vec::new(),
    };
    Conversation {
        messages: vec![
            Message::System(System {
                built_in: vec![python],
                ..System::default()
            }),
            Message::Developer(Developer {
                functions: ["f", "get_weather", "web-search"].map(tool).to_vec(),
                ..Developer::default()
            }),
        ],
    }
});

/// Tokens of a text in which special tokens are written by name.
fn tokens(text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let names = Mark::ALL.iter().map(|mark| mark.text());
        let first = names
            .chain(["<|endoftext|>", "<|reserved_200009|>"])
            .filter_map(|name| Some((rest.find(name)?, name)))
            .min();
        let (at, name) = first.unwrap_or((rest.len(), ""));
        TOKENIZER.encode_into(&rest[..at], &mut ids);
        ids.extend(TOKENIZER.special(name));
        rest = &rest[at + name.len()..];
    }
    ids
}

fn parser() -> Parser<'static> {
    Parser::new(&ENCODER, NAMES.clone())
}

/// All events of a turn that generation stopped at a limit, if the turn did not end before.
fn events(text: &str) -> Vec<Event> {
    let mut parser = parser();
    let mut events = Vec::new();
    for id in tokens(text) {
        parser.push(id, &mut events);
    }
    parser.finish(Reason::Length, &mut events);
    assert_well_formed(&events);
    events
}

fn answer(text: &str) -> Answer {
    events(text).iter().collect()
}

/// Reasoning, content, calls and reason in short.
fn summary(text: &str) -> (String, String, Vec<(String, String)>, Reason) {
    let answer = answer(text);
    let calls = answer.calls.into_iter();
    (
        answer.reasoning,
        answer.content,
        calls.map(|call| (call.tool, call.arguments)).collect(),
        answer.reason.expect("the turn ended"),
    )
}

fn content(text: &str) -> (String, Reason) {
    let (reasoning, content, calls, reason) = summary(text);
    assert_eq!((reasoning.as_str(), calls.len()), ("", 0), "{text}");
    (content, reason)
}

fn call(text: &str) -> (String, String) {
    let (_, content, calls, reason) = summary(text);
    assert_eq!(
        (content.as_str(), reason),
        ("", Reason::ToolCalls),
        "{text}"
    );
    assert_eq!(calls.len(), 1, "{text}");
    calls[0].clone()
}

fn pair(left: &str, right: &str) -> (String, String) {
    (left.to_owned(), right.to_owned())
}

/// A turn is messages and one end; a message is pieces of one kind and an end.
fn assert_well_formed(events: &[Event]) {
    let mut open: Option<&Event> = None;
    for (index, event) in events.iter().enumerate() {
        let is_last = index + 1 == events.len();
        assert_eq!(matches!(event, Event::TurnEnd(_)), is_last, "{events:?}");
        match event {
            Event::MessageEnd | Event::TurnEnd(_) => {
                assert!(
                    !matches!(event, Event::TurnEnd(_)) || open.is_none(),
                    "{events:?}"
                );
                open = None;
            }
            Event::CallArguments(piece) => {
                assert!(matches!(open, Some(Event::CallStart { .. })), "{events:?}");
                assert!(!piece.is_empty());
            }
            Event::CallStart { .. } | Event::UndeclaredCall { .. } => {
                assert!(open.is_none(), "{events:?}");
                open = Some(event);
            }
            Event::Reasoning(piece) | Event::Preamble(piece) | Event::Final(piece) => {
                let same = open.is_none_or(|open| {
                    std::mem::discriminant(open) == std::mem::discriminant(event)
                });
                assert!(same && !piece.is_empty(), "{events:?}");
                open = Some(event);
            }
        }
    }
}

#[test]
fn whole_turns_are_read_as_the_reference_reads_them() {
    let fixtures: Vec<Value> = serde_json::from_str(include_str!("fixtures/harmony/parse.json"))
        .expect("the fixtures are JSON");
    for fixture in fixtures {
        let ids: Vec<u32> = serde_json::from_value(fixture["ids"].clone()).expect("ids");
        let mut parser = parser();
        let mut events = Vec::new();
        ids.iter().for_each(|&id| parser.push(id, &mut events));
        assert_well_formed(&events);
        let expected = fixture["messages"].as_array().expect("messages");
        assert_eq!(parser.messages().len(), expected.len());
        for (message, expected) in parser.messages().iter().zip(expected) {
            let Message::Assistant(Assistant { kind, text, .. }) = message else {
                panic!("{message:?} is not the model's");
            };
            let (channel, recipient) = match kind {
                Kind::Reasoning => ("analysis", None),
                Kind::Preamble => ("commentary", None),
                Kind::Final => ("final", None),
                Kind::Call { tool, channel } => (channel.name(), Some(format!("functions.{tool}"))),
            };
            assert_eq!(expected["channel"], channel);
            assert_eq!(expected["recipient"].as_str(), recipient.as_deref());
            assert_eq!(expected["text"], *text);
        }
    }
}

#[test]
fn a_whole_turn_as_events() {
    assert_eq!(
        events(
            "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hi!<|return|>"
        ),
        [
            Event::Reasoning("hm".to_owned()),
            Event::MessageEnd,
            Event::Final("Hi".to_owned()),
            Event::Final("!".to_owned()),
            Event::MessageEnd,
            Event::TurnEnd(Reason::Stop),
        ]
    );
    assert_eq!(
        events(
            "<|channel|>commentary<|message|>Wait<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>"
        ),
        [
            Event::Preamble("Wait".to_owned()),
            Event::MessageEnd,
            Event::CallStart {
                tool: "f".to_owned()
            },
            Event::CallArguments("{}".to_owned()),
            Event::MessageEnd,
            Event::TurnEnd(Reason::ToolCalls),
        ]
    );
}

// One test for each row of the table of what models get wrong.

#[test]
fn a_final_with_a_constrained_content_type() {
    for header in [
        "final <|constrain|>json",
        "final<|constrain|>json",
        "final <|constrain|> json",
    ] {
        let text = format!("<|channel|>{header}<|message|>{{}}<|return|>");
        assert_eq!(content(&text), ("{}".to_owned(), Reason::Stop));
    }
}

#[test]
fn a_final_with_a_bare_content_type() {
    assert_eq!(
        content("<|channel|>final json<|message|>{}<|return|>"),
        ("{}".to_owned(), Reason::Stop)
    );
}

#[test]
fn junk_in_the_header_is_passed_over() {
    for header in [
        " to=functions.f<|channel|>commentary<|constrain|>json <|constrain|>json",
        " to=functions.f<|channel|>commentary whatever <|constrain|>json",
        "<|channel|>commentary to=functions.f please <|constrain|>json now",
        "<|channel|>commentary <|constrain|>json to=functions.f",
        "<|channel|>commentaryto=functions.f json",
        "<|channel|>commentary to=functions.f<|reserved_200009|><|constrain|>json",
    ] {
        let text = format!("{header}<|message|>{{\"a\":1}}<|call|>");
        assert_eq!(call(&text), pair("f", "{\"a\":1}"), "{header}");
    }
}

#[test]
fn the_last_channel_wins_over_a_stray_one() {
    let text = "<|channel|>commentary to=assistant<|channel|>final<|message|>Hi<|return|>";
    assert_eq!(content(text), ("Hi".to_owned(), Reason::Stop));
}

#[test]
fn a_start_inside_a_message_begins_the_next() {
    let text =
        "<|channel|>analysis<|message|>hm<|start|>assistant<|channel|>final<|message|>Hi<|return|>";
    assert_eq!(
        summary(text),
        ("hm".to_owned(), "Hi".to_owned(), vec![], Reason::Stop)
    );
}

#[test]
fn a_channel_after_an_end_needs_no_start() {
    for between in ["<|end|>", "<|end|>assistant", "", "<|end|> "] {
        let text = format!(
            "<|channel|>analysis<|message|>hm{between}<|channel|>final<|message|>Hi<|return|>"
        );
        let (reasoning, content, ..) = summary(&text);
        assert_eq!(
            (reasoning.as_str(), content.as_str()),
            ("hm", "Hi"),
            "{between}"
        );
    }
}

#[test]
fn a_start_repeated_after_the_prompt_is_skipped() {
    for start in [
        "<|start|>assistant",
        "<|start|>assistant<|start|>assistant",
        "<|start|>",
    ] {
        let text = format!("{start}<|channel|>final<|message|>Hi<|return|>");
        assert_eq!(content(&text), ("Hi".to_owned(), Reason::Stop));
    }
}

#[test]
fn a_header_without_message_is_followed_by_its_text() {
    for text in [
        "<|channel|>final Hello there<|end|>",
        "Hello there<|end|>",
        "<|channel|>final\nHello there<|return|>",
    ] {
        assert_eq!(content(text).0, "Hello there");
    }
    assert_eq!(answer("<|channel|>analysis hmm<|end|>").reasoning, "hmm");
    assert_eq!(
        call("<|channel|>commentary to=functions.f <|constrain|>json {\"a\":1}<|call|>"),
        pair("f", "{\"a\":1}")
    );
}

#[test]
fn text_without_a_header_is_the_answer() {
    assert_eq!(
        content("It is 4.<|return|>"),
        ("It is 4.".to_owned(), Reason::Stop)
    );
    assert_eq!(
        content("assistant professors know"),
        ("assistant professors know".to_owned(), Reason::Length)
    );
    // It is shown while it comes, once it is too long for a header or has a second line.
    let mut parser = parser();
    let mut events = Vec::new();
    for id in tokens("First line.\nSecond") {
        parser.push(id, &mut events);
    }
    assert_eq!(Answer::from_iter(&events).content, "First line.\nSecond");
    assert_eq!(parser.position(), Position::Final);
}

#[test]
fn a_recipient_without_to_or_with_a_glued_type() {
    for header in [
        "<|channel|>commentary functions.get_weather <|constrain|>json",
        "<|channel|>commentary to=functions.get_weatherjson",
        "<|channel|>commentary functions.get_weatherjson",
        "<|channel|>commentary to= functions.get_weather",
        "<|channel|>commentary to=get_weather",
        "<|start|>functions.get_weather<|channel|>commentary",
    ] {
        let text = format!("{header}<|message|>{{}}<|call|>");
        assert_eq!(call(&text), pair("get_weather", "{}"), "{header}");
    }
}

#[test]
fn a_recipient_of_assistant_with_a_channel_behind_it() {
    let text = " to=assistant<|channel|>analysis<|message|>hm<|end|>";
    assert_eq!(answer(text).reasoning, "hm");
}

#[test]
fn calls_of_undeclared_tools_do_not_leak() {
    for recipient in [
        "container.exec",
        "repo_browser.print_tree",
        "functions.nothing",
        "browser.search",
    ] {
        for channel in ["analysis", "commentary"] {
            let text =
                format!("<|channel|>{channel} to={recipient} code<|message|>{{\"cmd\":1}}<|call|>");
            let events = events(&text);
            let answer = Answer::from_iter(&events);
            assert_eq!(
                (answer.reasoning + &answer.content, answer.calls.len()),
                (String::new(), 0)
            );
            assert_eq!(answer.reason, Some(Reason::Stop));
            assert_eq!(
                events[0],
                Event::UndeclaredCall {
                    recipient: recipient.to_owned(),
                    arguments: "{\"cmd\":1}".to_owned(),
                }
            );
        }
    }
}

#[test]
fn a_function_called_on_the_analysis_channel() {
    assert_eq!(
        call("<|channel|>analysis to=functions.f<|message|>{}<|call|>"),
        pair("f", "{}")
    );
    assert_eq!(
        call("<|channel|>analysis to=python code<|message|>1 +<|call|>"),
        pair("python", "1 +")
    );
}

#[test]
fn a_call_that_does_not_end_with_call() {
    let header = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>";
    for end in [
        "<|end|>",
        "<|return|>",
        "<|endoftext|>",
        "",
        "<|start|>assistant",
    ] {
        assert_eq!(
            call(&format!("{header}{{\"a\":[1]}}{end}")),
            pair("f", "{\"a\":[1]}"),
            "{end}"
        );
        let (_, content, calls, reason) = summary(&format!("{header}{{\"a\":[1{end}"));
        assert_eq!(
            (content.as_str(), calls.len(), reason),
            ("", 0, Reason::Length),
            "{end}"
        );
    }
    // The model says that it is whole, whatever it is.
    assert_eq!(
        call(&format!("{header}print(1)<|call|>")),
        pair("f", "print(1)")
    );
    assert_eq!(call(&format!("{header}<|call|>")), pair("f", ""));
}

#[test]
fn a_turn_cut_off_in_a_header_says_nothing() {
    for text in [
        "",
        "<|channel|>",
        "<|channel|>analysis",
        "<|channel|>commentary to=functions.f",
        "<|start|>assistant",
    ] {
        assert_eq!(events(text), [Event::TurnEnd(Reason::Length)], "{text}");
    }
}

#[test]
fn what_the_model_says_for_others_is_not_shown() {
    for role in [
        "user",
        "system",
        "functions.f to=assistant",
        "user:ada",
        "developer",
    ] {
        let text =
            format!("<|channel|>final<|message|>Hi<|end|><|start|>{role}<|message|>obey<|end|>");
        assert_eq!(content(&text), ("Hi".to_owned(), Reason::Length), "{role}");
    }
}

#[test]
fn names_that_are_no_identifiers_come_back() {
    for name in ["functions.web_search", "functions.web-search", "web_search"] {
        let text = format!("<|channel|>commentary to={name} json<|message|>{{}}<|call|>");
        assert_eq!(call(&text), pair("web-search", "{}"));
    }
}

#[test]
fn a_character_over_two_tokens_comes_whole() {
    let mut ids = tokens("<|channel|>final<|message|>");
    for byte in "é😀".bytes() {
        TOKENIZER.encode_bytes_into(&[byte], &mut ids);
    }
    let mut parser = parser();
    let mut events = Vec::new();
    ids.iter().for_each(|&id| parser.push(id, &mut events));
    assert_eq!(
        events,
        [Event::Final("é".to_owned()), Event::Final("😀".to_owned())]
    );
}

#[test]
fn the_position_tells_what_may_be_constrained() {
    let mut parser = parser();
    let mut events = Vec::new();
    let mut position_after = |text: &str| {
        tokens(text)
            .iter()
            .for_each(|&id| parser.push(id, &mut events));
        format!("{:?}", parser.position())
    };
    assert_eq!(position_after(""), "Header");
    assert_eq!(
        position_after("<|channel|>analysis<|message|>"),
        "Reasoning"
    );
    assert_eq!(position_after("hm<|end|>"), "Header");
    assert_eq!(
        position_after("<|start|>assistant<|channel|>commentary<|message|>"),
        "Preamble"
    );
    assert_eq!(
        position_after("<|end|><|start|>assistant<|channel|>final <|constrain|>json"),
        "Header"
    );
    assert_eq!(position_after("<|message|>"), "Final");
    assert_eq!(
        position_after("{<|end|><|channel|>commentary to=functions.web_search<|message|>"),
        "Call(\"web-search\")"
    );
    assert_eq!(position_after("{}<|call|>"), "Done");
}

#[test]
fn an_opening_is_fed_to_the_parser_first() {
    let mut parser = parser();
    let mut events = Vec::new();
    for id in ENCODER.opening(&Opening::Call("web-search".to_owned()), &NAMES) {
        parser.push(id, &mut events);
    }
    assert_eq!(parser.position(), Position::Call("web-search"));
}

#[test]
fn messages_render_to_the_tokens_that_were_sampled() {
    let turn = concat!(
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant",
        "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\":1}<|call|>"
    );
    let mut sampled = tokens(turn);
    // "Hm." in other tokens than an encoder gives.
    let whole = TOKENIZER.encode("Hm");
    let at = sampled
        .windows(whole.len())
        .position(|window| window == whole)
        .expect("Hm");
    let mut split = TOKENIZER.encode("H");
    split.extend(TOKENIZER.encode("m"));
    assert_ne!(split, whole);
    sampled.splice(at..at + whole.len(), split);

    let mut parser = parser();
    let mut events = Vec::new();
    sampled.iter().for_each(|&id| parser.push(id, &mut events));
    let messages = parser.into_messages();
    assert_eq!(messages.len(), 2);
    let rendered = ENCODER.render(&Conversation { messages }, &Opening::None);
    let mut expected = tokens("<|start|>assistant");
    expected.extend(sampled);
    assert_eq!(rendered.ids, expected);
}

#[test]
fn a_final_message_is_kept_with_end_instead_of_return() {
    let mut parser = parser();
    let mut events = Vec::new();
    for id in tokens("<|channel|>final<|message|>Hi<|return|>") {
        parser.push(id, &mut events);
    }
    assert_eq!(
        parser.messages(),
        [Message::Assistant(Assistant {
            kind: Kind::Final,
            text: "Hi".to_owned(),
            sampled: Some(tokens("<|channel|>final<|message|>Hi<|end|>")),
        })]
    );
}

#[test]
fn a_made_up_tool_gets_an_error_it_can_read() {
    // The call is kept, so that a tool result with the error can follow it.
    let mut parser = parser();
    let mut events = Vec::new();
    for id in tokens("<|channel|>analysis to=container.exec code<|message|>{}<|call|>") {
        parser.push(id, &mut events);
    }
    let mut messages = parser.into_messages();
    let kind = Kind::Call {
        tool: "container.exec".to_owned(),
        channel: Channel::Commentary,
    };
    assert!(matches!(&messages[..], [Message::Assistant(it)] if it.kind == kind));
    messages.push(Message::ToolResult {
        tool: "container.exec".to_owned(),
        channel: Channel::Commentary,
        text: "no such tool".to_owned(),
    });
    let ids = ENCODER
        .render(&Conversation { messages }, &Opening::None)
        .ids;
    let text = TOKENIZER.decode(&ids);
    assert!(text.ends_with("<|start|>container.exec to=assistant<|channel|>commentary<|message|>no such tool<|end|>"), "{text}");
}

#[test]
fn long_turns_take_linear_time() {
    for unit in [
        "<|channel|>",
        "<|constrain|>",
        "<|start|>",
        "<|end|>",
        "\n",
        " to=x",
        " a",
        "<|channel|>final ",
        "<|start|>assistant\n",
    ] {
        let mut ids = tokens(unit).repeat(300_000 / tokens(unit).len());
        ids.extend(tokens("<|message|>"));
        let began = std::time::Instant::now();
        let mut parser = parser();
        let mut events = Vec::new();
        ids.iter().for_each(|&id| parser.push(id, &mut events));
        parser.finish(Reason::Length, &mut events);
        assert_well_formed(&events);
        assert!(
            began.elapsed().as_secs() < 20,
            "{unit:?} took {:?}",
            began.elapsed()
        );
    }
}

/// Tokens that matter to the parser, and some that do not.
fn token() -> impl Strategy<Value = Vec<u32>> {
    let pieces = [
        "<|start|>",
        "<|end|>",
        "<|message|>",
        "<|channel|>",
        "<|constrain|>",
        "<|call|>",
        "<|return|>",
        "<|endoftext|>",
        "<|reserved_200009|>",
        "assistant",
        "user",
        "analysis",
        "commentary",
        "final",
        " to=functions.f",
        "functions.get_weather",
        " to=assistant",
        " json",
        "json",
        "{\"a\":1}",
        "{",
        "}",
        "Hello",
        " ",
        "\n",
        "python",
        "container.exec",
        "é",
    ];
    prop_oneof![
        10 => prop::sample::select(pieces.to_vec()).prop_map(tokens),
        1 => (0..201_088u32).prop_map(|id| vec![id]),
        1 => any::<u32>().prop_map(|id| vec![id]),
        1 => any::<u8>().prop_map(|byte| { let mut ids = Vec::new(); TOKENIZER.encode_bytes_into(&[byte], &mut ids); ids }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn any_tokens_give_well_formed_events(ids in prop::collection::vec(token(), 0..60), cut in any::<bool>()) {
        let mut parser = parser();
        let mut events = Vec::new();
        for id in ids.concat() {
            parser.push(id, &mut events);
        }
        let is_done = parser.position() == Position::Done;
        prop_assert_eq!(is_done, matches!(events.last(), Some(Event::TurnEnd(_))));
        parser.finish(if cut { Reason::Length } else { Reason::Stop }, &mut events);
        assert_well_formed(&events);
        // What was kept reads the same again when it is rendered from its text.
        for message in parser.into_messages() {
            let Message::Assistant(mut assistant) = message else {
                panic!("{message:?} is not the model's");
            };
            if matches!(&assistant.kind, Kind::Call { tool, .. } if NAMES.resolve(&NAMES.recipient(tool)).is_none()) {
                continue;
            }
            assistant.sampled = None;
            let message = Message::Assistant(assistant);
            let mut conversation = DECLARED.clone();
            conversation.messages.push(message.clone());
            let rendered = ENCODER.render(&conversation, &Opening::None);
            let span = rendered.spans.last().expect("a span").ids.clone();
            let mut parser = self::parser();
            for &id in &rendered.ids[span] {
                parser.push(id, &mut events);
            }
            let mut again = parser.into_messages();
            if let [Message::Assistant(assistant)] = &mut again[..] {
                assistant.sampled = None;
            }
            prop_assert_eq!(again, [message]);
        }
    }
}
