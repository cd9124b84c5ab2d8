//! Generating with the built-in model: what must not change the tokens, and what must.

use fourfold::generate::{Event, Finish, Generator, Outcome, Request};
use fourfold::harmony::{Assistant, Message, ResponseFormat};
use fourfold::model::{Logits, Model, Options};
use fourfold::sample::{Sampler, Settings};
use fourfold::session::{Loaded, Session};
use fourfold_quantize::gguf::Gguf;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

fn generator() -> Generator {
    Generator::demo().unwrap()
}

fn greedy() -> Settings {
    Settings {
        temperature: 0.0,
        ..Settings::default()
    }
}

/// A text with repetitions, longer than three windows of the demo model.
fn long_text() -> String {
    let lines =
        (0..40).map(|line| format!("line {line}: the quick brown fox jumps over {line} dogs\n"));
    lines.collect()
}

/// Continues plain text and gives the new tokens.
fn continue_raw(
    generator: &mut Generator,
    text: &str,
    settings: Settings,
    seed: u64,
    speculate: bool,
) -> Vec<u32> {
    let prompt = generator.tokenizer().encode(text);
    // Plain text is not what the model was trained on: without this it ends at once.
    let tokenizer = generator.tokenizer();
    let ids = 0..tokenizer.vocabulary_len() as u32;
    let settings = Settings {
        logit_bias: ids
            .filter(|&id| tokenizer.is_special(id))
            .map(|id| (id, f32::NEG_INFINITY))
            .collect(),
        ..settings
    };
    let mut sampler = Sampler::new(settings, seed).unwrap();
    let mut request = Request::raw(prompt, &mut sampler);
    request.max_tokens = Some(120);
    request.speculate = speculate;
    let mut generation = generator.generate(request, &mut |_| true).unwrap();
    for event in &mut generation {
        event.unwrap();
    }
    generation.finish().unwrap().tokens
}

fn session(settings: Settings) -> Session {
    Session::new(generator(), settings, 11).unwrap()
}

/// One turn; its outcome is accepted.
fn say(session: &mut Session, text: &str) -> (Outcome, String) {
    session.say(text);
    let mut answer = String::new();
    let mut turn = session.turn(&mut |_| true).unwrap();
    for event in &mut turn {
        if let Event::Final(piece) = event.unwrap() {
            answer += &piece;
        }
    }
    let outcome = turn.finish().unwrap();
    session.accept(&outcome);
    (outcome, answer)
}

#[test]
fn a_turn_stops_before_the_next_token() {
    let mut session = session(greedy());
    session.say("What is 2 + 3?");
    let asked = std::cell::Cell::new(0);
    // The first two tokens open a message's header and give no event.
    let stop = || asked.replace(asked.get() + 1) == 2;
    let mut turn = session.turn(&mut |_| true).unwrap().stop_when(&stop);
    let events: Vec<Event> = turn.by_ref().map(Result::unwrap).collect();
    assert!(
        matches!(events[..], [.., Event::TurnEnd(_)]),
        "nothing but the end: {events:?}"
    );
    let outcome = turn.finish().unwrap();
    assert_eq!(
        (outcome.finish, outcome.tokens.len()),
        (Finish::Interrupted, 2)
    );
}

#[test]
fn an_end_that_only_the_file_names_ends_a_turn() {
    let mut as_ever = session(greedy());
    let (whole, _) = say(&mut as_ever, "What is 2 + 3?");
    let [.., end, _] = whole.tokens[..] else {
        panic!("no answer");
    };
    let mut bytes = std::fs::read("demo/demo.gguf").unwrap();
    let key = b"tokenizer.ggml.eos_token_id";
    let at = bytes.windows(key.len()).position(|window| window == key);
    // Behind the key and four bytes of its type.
    let value = at.unwrap() + key.len() + 4;
    bytes[value..value + 4].copy_from_slice(&end.to_le_bytes());
    let file = Gguf::from_bytes(bytes).unwrap();
    let model = Model::from_file(file, Path::new("patched.gguf"), Options::default()).unwrap();
    let generator = Generator::new(Arc::new(model)).unwrap();
    let mut patched = Session::new(generator, greedy(), 11).unwrap();
    let (cut, _) = say(&mut patched, "What is 2 + 3?");
    let first = whole.tokens.iter().position(|&token| token == end).unwrap();
    assert_eq!(cut.finish, Finish::Stop);
    assert_eq!(cut.tokens, whole.tokens[..=first]);
    // Behind what was said comes the format's end alone.
    let Some(Message::Assistant(Assistant { sampled, .. })) = cut.messages.last() else {
        panic!("no message");
    };
    let said = sampled.as_ref().unwrap();
    assert!(whole.tokens[..first].ends_with(&said[..said.len() - 1]));
}

#[test]
fn the_cut_of_a_prompt_does_not_change_its_logits() {
    let model = fourfold::demo::model(Options::default()).unwrap();
    let tokens = generator().tokenizer().encode(&long_text());
    let tokens = &tokens[..400];
    let last = |piece: usize| {
        let mut sequence = model.new_sequence();
        let mut logits = Logits::default();
        for piece in tokens.chunks(piece) {
            model.extend(&mut sequence, piece, &mut logits).unwrap();
        }
        logits.last().to_vec()
    };
    let whole = last(400);
    for piece in [1, 3, 17, 64, 199] {
        assert!(last(piece) == whole, "pieces of {piece} tokens");
    }
}

#[test]
fn speculation_changes_no_token() {
    for settings in [greedy(), Settings::default()] {
        let text = long_text() + "line 1: the quick";
        let plain = continue_raw(&mut generator(), &text, settings.clone(), 7, false);
        let mut drafting = generator();
        let drafted = continue_raw(&mut drafting, &text, settings, 7, true);
        assert_eq!(plain, drafted);
        let statistics = drafting.speculation();
        assert!(
            statistics.drafted > 0,
            "nothing was drafted, so nothing was tested"
        );
    }
}

#[test]
fn a_seed_repeats_an_answer_and_another_does_not() {
    // Hot, because the demo model is sure of itself.
    let hot = || Settings {
        temperature: 2.0,
        ..Settings::default()
    };
    let text = "Once upon a time";
    let first = continue_raw(&mut generator(), text, hot(), 7, true);
    let second = continue_raw(&mut generator(), text, hot(), 7, true);
    assert_eq!(first, second);
    let other = continue_raw(&mut generator(), text, hot(), 8, true);
    assert_ne!(first, other);
}

#[test]
fn a_later_turn_reads_only_what_is_new() {
    let mut session = session(Settings::default());
    let (first, _) = say(&mut session, &format!("Remember this: {}", long_text()));
    assert_eq!(first.prefill.cached, 0);
    let (second, _) = say(&mut session, "What is 3 + 4?");
    // Everything up to the first answer was there; the answer lost its thinking and is read again.
    assert!(
        second.prefill.cached >= first.prefill.computed - 1,
        "{second:?}"
    );
    assert!(
        second.prefill.computed < first.tokens.len() + 40,
        "{second:?}"
    );
}

#[test]
fn preparing_changes_the_time_and_not_the_tokens() {
    let answers = |prepare: bool| {
        let mut session = session(Settings::default());
        say(&mut session, &format!("Remember this: {}", long_text()));
        if prepare {
            assert!(session.can_prepare());
            session.prepare(&mut |_| true).unwrap();
            assert!(!session.can_prepare());
        }
        let (outcome, _) = say(&mut session, "What is 3 + 4?");
        (outcome.tokens, outcome.prefill.computed)
    };
    let (plain, computed) = answers(false);
    let (prepared, computed_after) = answers(true);
    assert_eq!(plain, prepared);
    assert!(computed_after < computed, "{computed_after} of {computed}");
}

#[test]
fn a_reloaded_session_continues_token_for_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.session");
    let mut original = session(Settings::default());
    // Beyond the window of 128 tokens, and beyond the slack that allows taking tokens back.
    say(&mut original, &format!("Remember this: {}", long_text()));
    say(&mut original, "Sort 42, 7, 19.");
    original.save(&file).unwrap();
    let (wanted, _) = say(&mut original, "What is 12 + 30?");

    let mut restored = session(Settings::default());
    let loaded = restored.load(&file, false).unwrap();
    assert_eq!(loaded, Loaded::Newest);
    let (got, _) = say(&mut restored, "What is 12 + 30?");
    assert_eq!(got.tokens, wanted.tokens);
    assert_eq!(got.prefill, wanted.prefill);

    // The next save adds what is new, which is less than it all.
    let first = file.metadata().unwrap().len();
    restored.save(&file).unwrap();
    assert!(file.metadata().unwrap().len() < 2 * first);
    let (wanted, _) = say(&mut restored, "What is 5 + 5?");
    let mut again = session(Settings::default());
    assert_eq!(again.load(&file, false).unwrap(), Loaded::Newest);
    let (got, _) = say(&mut again, "What is 5 + 5?");
    assert_eq!(got.tokens, wanted.tokens);
    assert_eq!(got.prefill, wanted.prefill);

    // From the text alone, all of it is read again.
    let mut rebuilt = session(Settings::default());
    assert_eq!(rebuilt.load(&file, true).unwrap(), Loaded::Newest);
    let (got, _) = say(&mut rebuilt, "What is 12 + 30?");
    assert_eq!(got.prefill.cached, 0);
}

#[test]
fn a_session_keeps_how_tokens_are_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.session");
    let mut chosen = Settings {
        temperature: 0.3,
        top_k: 40,
        logit_bias: vec![(7, f32::NEG_INFINITY), (8, -1.1)],
        exempt: vec![1, 2],
        ..Settings::default()
    };
    chosen.dry.breakers = vec![3];
    session(chosen.clone()).save(&file).unwrap();
    let current = Settings {
        exempt: vec![1, 2],
        ..greedy()
    };

    let mut restored = session(current.clone());
    let _ = restored.load(&file, false).unwrap();
    assert_eq!(restored.settings(), &chosen);

    // Another vocabulary's tokens mean nothing here.
    let mut rebuilt = session(current);
    let _ = rebuilt.load(&file, true).unwrap();
    chosen.logit_bias.clear();
    chosen.dry.breakers.clear();
    assert_eq!(rebuilt.settings(), &chosen);
}

#[test]
fn a_session_that_cannot_be_continued_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.session");
    let mut wrong = session(greedy());
    wrong.developer().response_formats = vec![ResponseFormat {
        name: "wrong".into(),
        description: None,
        schema: json!({"type": "strng"}),
    }];
    wrong.save(&file).unwrap();

    let mut session = session(greedy());
    say(&mut session, "What is 2 + 3?");
    let before = session.conversation().clone();
    let error = session.load(&file, false).unwrap_err().to_string();
    assert!(error.contains("strng"), "{error}");
    assert_eq!(session.conversation(), &before);
    let (outcome, _) = say(&mut session, "What is 12 + 30?");
    assert!(outcome.prefill.cached > 0);
}

#[test]
fn what_another_program_saved_meanwhile_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shared.session");
    let [mut one, mut other] = [session(greedy()), session(greedy())];
    // Both begin before there is a file.
    one.claim(&file);
    other.claim(&file);
    one.say("I am Ann.");
    one.save(&file).unwrap();
    let error = other.save(&file).unwrap_err().to_string();
    assert!(error.contains("changed by another program"), "{error}");
    // Its own it may replace as often as it likes.
    one.say("Who am I?");
    one.save(&file).unwrap();
    let _ = other.load(&file, false).unwrap();
    assert_eq!(other.conversation(), one.conversation());
    other.save(&file).unwrap();
    assert!(one.save(&file).is_err());
    one.save(&folder.path().join("mine.session")).unwrap();
}

#[test]
fn answering_again_computes_nothing() {
    let mut session = session(Settings::default());
    let (first, _) = say(&mut session, &long_text());
    assert!(session.take_back_answer());
    let mut turn = session.turn(&mut |_| true).unwrap();
    (&mut turn).for_each(|event| drop(event.unwrap()));
    let outcome = turn.finish().unwrap();
    assert_eq!(
        (outcome.prefill.computed, outcome.prefill.cached),
        (0, first.prefill.computed)
    );
}

#[test]
fn answers_follow_a_schema_and_thinking_does_not() {
    let schema = json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": false
    });
    let mut checked = 0;
    for seed in 0..8 {
        let settings = Settings {
            temperature: 1.4,
            ..Settings::default()
        };
        let mut session = Session::new(generator(), settings, seed).unwrap();
        session.set_schema("person", schema.clone()).unwrap();
        session.options.max_tokens = Some(2000);
        let (outcome, answer) = say(&mut session, "Mia is 9 years old.");
        if outcome.finish == Finish::Length {
            continue;
        }
        let value: Value = serde_json::from_str(&answer)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}: {answer}"));
        assert!(
            value["name"].is_string() && value["age"].as_u64().unwrap() < 100,
            "{value}"
        );
        assert!(outcome.reasoning_tokens > 0, "it thought, in free text");
        checked += 1;
    }
    assert!(checked > 4, "of eight answers {checked} came to an end");
}

#[test]
fn a_prompt_that_is_too_long_is_refused_with_numbers() {
    let options = Options {
        context: 50,
        ..Options::default()
    };
    let model = fourfold::demo::model(options).unwrap();
    let mut generator = Generator::new(model.into()).unwrap();
    let prompt = generator.tokenizer().encode(&long_text())[..60].to_vec();
    let mut sampler = Sampler::new(greedy(), 0).unwrap();
    let error = generator
        .generate(Request::raw(prompt, &mut sampler), &mut |_| true)
        .err()
        .unwrap();
    let message = error.to_string();
    assert!(
        message.contains("60 tokens")
            && message.contains("holds 50")
            && message.contains("10 tokens"),
        "{message}"
    );

    let prompt = generator.tokenizer().encode(&long_text())[..40].to_vec();
    let mut generation = generator
        .generate(Request::raw(prompt, &mut sampler), &mut |_| true)
        .unwrap();
    (&mut generation).for_each(|event| drop(event.unwrap()));
    let outcome = generation.finish().unwrap();
    assert_eq!(
        (outcome.finish, outcome.tokens.len()),
        (Finish::ContextFull, 10)
    );
}

#[test]
fn reading_can_be_interrupted_and_goes_on_where_it_was() {
    let mut generator = generator();
    let prompt = generator.tokenizer().encode(&long_text().repeat(3));
    assert!(prompt.len() > 1024);
    let mut sampler = Sampler::new(greedy(), 0).unwrap();
    let stopped = generator
        .generate(Request::raw(prompt.clone(), &mut sampler), &mut |done| {
            done < 500
        })
        .is_err();
    assert!(stopped);
    let generation = generator
        .generate(Request::raw(prompt, &mut sampler), &mut |_| true)
        .unwrap();
    assert_eq!(generation.finish().unwrap().prefill.cached, 512);
}
