//! The sampling options of `run` and `chat`, with llama.cpp's names.

use super::ollama::Modelfile;
use anyhow::{Context, anyhow, bail};
use fourfold::sample::{Random, Settings};
use fourfold::session::Session;
use fourfold::tokenizer::Tokenizer;

/// How tokens are chosen
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Flatten (above 1) or sharpen (below 1) the distribution; 0 always takes the likeliest token [default: 1]
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = number)]
    temp: Option<f32>,
    /// Choose among the K likeliest tokens; 0 is off [default: 0]
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    top_k: Option<u32>,
    /// Choose among the likeliest tokens that together have probability P [default: 1]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = number)]
    top_p: Option<f32>,
    /// Choose among tokens at least P times as likely as the likeliest [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = number)]
    min_p: Option<f32>,
    /// Choose among tokens about as surprising as expected, up to probability P [default: 1]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = number)]
    typical: Option<f32>,
    /// Repeat the choices of an earlier run [default: a new seed each time]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Make tokens that occurred less likely; 1 is off [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    repeat_penalty: Option<f32>,
    /// How many tokens back the three repetition penalties look; -1 is the whole context [default: 64]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = window)]
    repeat_last_n: Option<usize>,
    /// Lower the logit of every token that occurred [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    presence_penalty: Option<f32>,
    /// Lower the logit of every token by how often it occurred [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    frequency_penalty: Option<f32>,
    /// Punish repeated passages; 0 is off, 0.8 is usual [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    dry_multiplier: Option<f32>,
    /// How fast that punishment grows with the passage [default: 1.75]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    dry_base: Option<f32>,
    /// The longest passage that may be repeated freely [default: 2]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    dry_allowed_length: Option<usize>,
    /// How many tokens back it looks [default: the whole context]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = window)]
    dry_penalty_last_n: Option<usize>,
    /// Text that ends a passage [default: line break, colon, quote, star]
    #[arg(long, value_name = "TEXT")]
    dry_sequence_breaker: Vec<String>,
    /// Add to a token's logit: 15043=-2.5, or 15043=-inf to forbid it
    #[arg(long, value_name = "ID=X")]
    logit_bias: Vec<String>,
}

impl SamplingArgs {
    /// Settings for this vocabulary, and the seed. What the options leave open, the model may say.
    pub fn settings(
        &self,
        tokenizer: &Tokenizer,
        model: &Modelfile,
    ) -> anyhow::Result<(Settings, u64)> {
        let ids = 0..tokenizer.vocabulary_len() as u32;
        let mut settings = Settings {
            exempt: ids.filter(|&id| tokenizer.is_special(id)).collect(),
            ..Settings::default()
        };
        settings.dry.breakers = breakers(tokenizer, &USUAL_BREAKERS);
        model.apply(&mut settings);
        self.change(&mut settings, tokenizer)?;
        let seed = self.seed.or(model.seed());
        Ok((settings, seed.unwrap_or_else(Random::seed_from_clock)))
    }

    /// Changes in a session what these options ask for; the rest stays.
    pub fn apply(&self, session: &mut Session) -> anyhow::Result<()> {
        let mut settings = session.settings().clone();
        self.change(&mut settings, session.generator().tokenizer())?;
        session.set_settings(settings)?;
        if let Some(seed) = self.seed {
            session.set_seed(seed)?;
        }
        Ok(())
    }

    fn change(&self, settings: &mut Settings, tokenizer: &Tokenizer) -> anyhow::Result<()> {
        let Settings {
            repetition, dry, ..
        } = settings;
        replace(&mut settings.temperature, self.temp);
        replace(&mut settings.top_k, self.top_k);
        replace(&mut settings.top_p, self.top_p);
        replace(&mut settings.min_p, self.min_p);
        replace(&mut settings.typical_p, self.typical);
        replace(&mut repetition.repeat, self.repeat_penalty);
        replace(&mut repetition.presence, self.presence_penalty);
        replace(&mut repetition.frequency, self.frequency_penalty);
        replace(&mut repetition.window, self.repeat_last_n);
        replace(&mut dry.multiplier, self.dry_multiplier);
        replace(&mut dry.base, self.dry_base);
        replace(&mut dry.allowed_length, self.dry_allowed_length);
        replace(&mut dry.window, self.dry_penalty_last_n);
        if !self.dry_sequence_breaker.is_empty() {
            dry.breakers = breakers(tokenizer, &self.dry_sequence_breaker);
        }
        if !self.logit_bias.is_empty() {
            let biases = self.logit_bias.iter();
            let biases = biases.map(|text| bias(text, tokenizer.vocabulary_len()));
            settings.logit_bias = biases.collect::<anyhow::Result<_>>()?;
        }
        // The library knows settings by the names of these options.
        settings.check().map_err(|error| anyhow!("--{error}"))
    }
}

fn replace<T: Copy>(setting: &mut T, asked_for: Option<T>) {
    *setting = asked_for.unwrap_or(*setting);
}

const USUAL_BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];

/// Tokens that contain a text which ends a passage.
fn breakers(tokenizer: &Tokenizer, texts: &[impl AsRef<[u8]>]) -> Vec<u32> {
    let holds_one = |&id: &u32| {
        let token = tokenizer.token_bytes(id);
        let occurs =
            |text: &[u8]| !text.is_empty() && token.windows(text.len()).any(|part| part == text);
        texts.iter().any(|text| occurs(text.as_ref()))
    };
    let ids = 0..tokenizer.vocabulary_len() as u32;
    ids.filter(holds_one).collect()
}

/// Reads a number. The rules for each setting name the end of a range that people miss; further out than this is no number
/// to compute with.
fn number(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(number) if number.abs() <= 1e6 => Ok(number),
        _ => Err("a finite number up to 1000000 is expected".into()),
    }
}

/// Reads how far back a penalty looks.
fn window(text: &str) -> Result<usize, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(usize::MAX),
        Ok(tokens @ 0..) => Ok(tokens as usize),
        _ => Err("a number of tokens, or -1 for the whole context, is expected".into()),
    }
}

fn bias(text: &str, vocabulary: usize) -> anyhow::Result<(u32, f32)> {
    let expected = || format!("--logit-bias {text:?} is not of the form ID=X, such as 15043=-2.5");
    let (id, amount) = text.split_once('=').with_context(expected)?;
    let id: u32 = id.trim().parse().with_context(expected)?;
    let amount: f32 = amount.trim().parse().with_context(expected)?;
    if id as usize >= vocabulary {
        bail!("--logit-bias names token {id}, but the vocabulary has {vocabulary} tokens");
    }
    Ok((id, amount))
}

/// Changes one setting by its name, for the REPL's /set; the seed is not among them.
pub fn set(settings: &mut Settings, name: &str, value: &str) -> anyhow::Result<()> {
    let explained = |expected| anyhow!("{name} is {value:?}, but {expected}");
    let number = || number(value).map_err(explained);
    let whole = || -> anyhow::Result<i64> {
        value
            .parse()
            .map_err(|_| anyhow!("{name} takes a whole number, not {value:?}"))
    };
    let mut changed = settings.clone();
    match name {
        "temp" => changed.temperature = number()?,
        "top-k" => {
            let top_k = u32::try_from(whole()?);
            changed.top_k = top_k.map_err(|_| anyhow!("top-k is from 0 to {}", u32::MAX))?;
        }
        "top-p" => changed.top_p = number()?,
        "min-p" => changed.min_p = number()?,
        "typical" => changed.typical_p = number()?,
        "repeat-penalty" => changed.repetition.repeat = number()?,
        "repeat-last-n" => changed.repetition.window = window(value).map_err(explained)?,
        "presence-penalty" => changed.repetition.presence = number()?,
        "frequency-penalty" => changed.repetition.frequency = number()?,
        "dry-multiplier" => changed.dry.multiplier = number()?,
        "dry-base" => changed.dry.base = number()?,
        "dry-allowed-length" => {
            changed.dry.allowed_length =
                usize::try_from(whole()?).context("dry-allowed-length is 0 or more")?;
        }
        _ => bail!("there is no setting {name:?}: /params lists them"),
    }
    changed.check()?;
    *settings = changed;
    Ok(())
}

/// The settings as /params shows them.
pub fn list(settings: &Settings) -> Vec<(&'static str, String)> {
    let repetition = &settings.repetition;
    let back = |window: usize| match window {
        usize::MAX => "the whole context".to_string(),
        window => window.to_string(),
    };
    vec![
        ("temp", settings.temperature.to_string()),
        ("top-k", settings.top_k.to_string()),
        ("top-p", settings.top_p.to_string()),
        ("min-p", settings.min_p.to_string()),
        ("typical", settings.typical_p.to_string()),
        ("repeat-penalty", repetition.repeat.to_string()),
        ("repeat-last-n", back(repetition.window)),
        ("presence-penalty", repetition.presence.to_string()),
        ("frequency-penalty", repetition.frequency.to_string()),
        ("dry-multiplier", settings.dry.multiplier.to_string()),
        ("dry-base", settings.dry.base.to_string()),
        (
            "dry-allowed-length",
            settings.dry.allowed_length.to_string(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;

    #[test]
    fn settings_are_changed_by_name_and_refused_whole() {
        let mut settings = Settings::default();
        for (name, _) in list(&Settings::default()) {
            set(&mut settings, name, "1").unwrap();
        }
        assert_eq!((settings.top_k, settings.min_p), (1, 1.0));
        assert_eq!(settings.repetition.window, 1);
        let before = settings.clone();
        for (name, value) in [
            ("temp", "warm"),
            ("top-p", "2"),
            ("top-k", "-1"),
            ("temp", "inf"),
            ("repeat-last-n", "-5"),
            ("dry-allowed-length", "-1"),
            ("heat", "1"),
        ] {
            set(&mut settings, name, value).unwrap_err();
        }
        assert_eq!(settings, before);
    }

    #[test]
    fn help_tells_the_defaults() {
        let command = SamplingArgs::augment_args(clap::Command::new("run"));
        for (name, value) in list(&Settings::default()) {
            let argument = command
                .get_arguments()
                .find(|it| it.get_long() == Some(name));
            let help = argument.unwrap().get_help().unwrap().to_string();
            assert!(
                help.ends_with(&format!("[default: {value}]")),
                "{name}: {help}"
            );
        }
    }

    #[test]
    fn a_bias_names_a_token_and_a_number() {
        assert_eq!(bias("7=-2.5", 10).unwrap(), (7, -2.5));
        assert_eq!(bias("7=-inf", 10).unwrap(), (7, f32::NEG_INFINITY));
        for wrong in ["7", "x=1", "7=x", "10=1"] {
            bias(wrong, 10).unwrap_err();
        }
    }
}
