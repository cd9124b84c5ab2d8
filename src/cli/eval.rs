//! `fourfold eval`: how many questions of a suite a model answers rightly, by task.

mod suite;

use super::model_file::ModelArgs;
use super::progress::Progress;
use super::prompt::{self, Date};
use super::{input_file, interrupt, talking, terminal};
use anyhow::{Context, bail};
use fourfold::harmony::{Answer, Effort, chat};
use fourfold::sample::Settings;
use fourfold::session::Session;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use suite::{Question, chosen};

/// What the built-in model was never trained on; made by `scripts/demo_suite.py`.
const BUILT_IN: &str = include_str!("../../demo/suite.jsonl");

/// Ask a model the questions of a suite and count the right answers
///
/// A suite is a JSONL file. Each line holds "group" (the task), either "prompt" (text) or "request" (an OpenAI chat request),
/// and "expected": a text, or one of {"text":".."}, {"regex":".."}, {"json":..} and {"call":{"name":"..","arguments":{..}}}.
/// Answers are chosen greedily, and must match exactly but for spaces around a text.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  fourfold eval
  fourfold eval model.gguf --suite questions.jsonl --json
  fourfold eval --part 0.1 --show-wrong 5")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The questions; - is standard input [default: the 1,000 held-out ones of the built-in model]
    #[arg(long, value_name = "FILE")]
    suite: Option<PathBuf>,
    /// Ask only this part of the questions, spread evenly
    #[arg(long, value_name = "PART", default_value_t = 1.0)]
    part: f64,
    /// Most new tokens of an answer, thinking included
    #[arg(short = 'n', long, value_name = "N", default_value_t = 400)]
    max_tokens: usize,
    /// The date that the model is told, as 2025-06-28, or none
    #[arg(long, value_parser = prompt::date, default_value = "2026-11-20")]
    date: Date,
    /// Answer only what a request's schema allows, and call functions with arguments of their schemas only
    #[arg(long)]
    strict: bool,
    /// Print so many wrong answers
    #[arg(long, value_name = "N", default_value_t = 0)]
    show_wrong: usize,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

/// What came of the questions of one task.
#[derive(Default)]
struct Score {
    asked: usize,
    right: usize,
    tokens: usize,
    time: Duration,
}

impl Score {
    fn accuracy(&self) -> f64 {
        self.right as f64 / self.asked.max(1) as f64
    }

    fn speed(&self) -> f64 {
        self.tokens as f64 / self.time.as_secs_f64().max(1e-9)
    }

    fn add(&mut self, other: &Score) {
        self.asked += other.asked;
        self.right += other.right;
        self.tokens += other.tokens;
        self.time += other.time;
    }

    fn object(&self) -> Value {
        json!({"asked": self.asked, "right": self.right, "accuracy": self.accuracy(), "tokens": self.tokens, "tokens_per_second": self.speed()})
    }
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<()> {
    if !(args.part > 0.0 && args.part <= 1.0) {
        bail!(
            "--part is {}, but a part above 0 and up to 1 is expected",
            args.part
        );
    }
    let text = match &args.suite {
        Some(file) => input_file::read_text(file)?,
        None => BUILT_IN.to_owned(),
    };
    let name = match &args.suite {
        Some(file) => input_file::name(file),
        None => "the built-in suite".to_owned(),
    };
    let chosen = chosen(&text, args.part);
    if chosen.is_empty() && text.trim().is_empty() {
        bail!("{name} is empty: a suite has a question on each line");
    }
    if chosen.is_empty() {
        bail!(
            "--part {} of {name} is less than one question: give a larger part",
            args.part
        );
    }
    interrupt::install()?;
    let settings = Settings {
        temperature: 0.0,
        ..Settings::default()
    };
    let mut session = Session::new(talking::generator(&args.model)?, settings, 0)?;
    session.options.max_tokens = Some(args.max_tokens);

    let progress = Progress::things("Asking", "questions", chosen.len());
    let mut scores: BTreeMap<String, Score> = BTreeMap::new();
    let mut wrong_left = args.show_wrong;
    for (number, line) in chosen {
        let place = || format!("{name}, line {number}");
        let question = suite::read(line, &name, number)?;
        let (answer, tokens, time) = ask(&mut session, &question, &args).with_context(place)?;
        let right = question.expected.is_met(&answer).with_context(place)?;
        if !right && wrong_left > 0 {
            wrong_left -= 1;
            progress.print(&wrong(&place(), &question, &answer));
        }
        let score = scores.entry(question.group).or_default();
        score.add(&Score {
            asked: 1,
            right: right.into(),
            tokens,
            time,
        });
        progress.add(1);
    }
    progress.finish();
    print(&scores, args.json)
}

/// The answer, its tokens and the time they took.
fn ask(
    session: &mut Session,
    question: &Question,
    args: &Args,
) -> anyhow::Result<(Answer, usize, Duration)> {
    let request = match (&question.request, &question.prompt) {
        (Some(request), None) => chat::Request::from_value(request)?,
        (None, Some(text)) => {
            let messages = json!([{"role": "user", "content": text}]);
            chat::Request::from_value(&json!({ "messages": messages }))?
        }
        _ => bail!("either \"prompt\" or \"request\" is expected"),
    };
    let date = args.date.text();
    session.options.opening = request.opening.clone();
    session.set_conversation(request.conversation(date, Effort::Medium));
    if args.strict {
        session.options.answer = match &request.response_schema {
            Some(schema) => Some(session.generator().grammars()?.json_schema(schema)?),
            None => None,
        };
        session.constrain_calls()?;
    }
    let begin = Instant::now();
    let mut answer = Answer::default();
    let mut generation = session
        .turn(&mut |_| !interrupt::requested())?
        .stop_when(&interrupt::requested);
    for event in generation.by_ref() {
        answer.add(&event?);
        if interrupt::requested() {
            bail!(interrupt::Interrupted);
        }
    }
    let outcome = generation.finish()?;
    Ok((answer, outcome.tokens.len(), begin.elapsed()))
}

/// A wrong answer as a line of text.
fn wrong(place: &str, question: &Question, answer: &Answer) -> String {
    let messages = question
        .request
        .as_ref()
        .map(|request| &request["messages"]);
    let last = messages.and_then(|messages| messages.as_array()?.last()?["content"].as_str());
    let asked = last.or(question.prompt.as_deref()).unwrap_or_default();
    let calls: Vec<_> = answer
        .calls
        .iter()
        .map(|call| format!("{} {}", call.tool, call.arguments))
        .collect();
    let line = format!(
        "{place}: {asked:?} gave {:?} {}after {:?}",
        answer.content,
        calls.join(" ") + " ",
        answer.reasoning
    );
    terminal::harmless(&line)
}

fn print(scores: &BTreeMap<String, Score>, as_json: bool) -> anyhow::Result<()> {
    let mut all = Score::default();
    scores.values().for_each(|score| all.add(score));
    let mut out = terminal::stdout();
    if as_json {
        let groups: BTreeMap<_, _> = scores
            .iter()
            .map(|(group, score)| (group, score.object()))
            .collect();
        writeln!(out, "{}", json!({"groups": groups, "all": all.object()}))?;
        return Ok(out.flush()?);
    }
    let width = scores
        .keys()
        .map(|group| terminal::plain(group).chars().count())
        .max()
        .unwrap_or(0)
        .max(4);
    writeln!(
        out,
        "{:width$}  asked  right  accuracy  tokens  tokens/s",
        "task"
    )?;
    for (group, score) in scores
        .iter()
        .map(|(group, score)| (group.as_str(), score))
        .chain([("all", &all)])
    {
        let Score {
            asked,
            right,
            tokens,
            ..
        } = score;
        let group = terminal::plain(group);
        let (percent, speed) = (100.0 * score.accuracy(), score.speed());
        writeln!(
            out,
            "{group:width$}  {asked:5}  {right:5}  {percent:7.1}%  {tokens:6}  {speed:8.0}"
        )?;
    }
    Ok(out.flush()?)
}
