//! The sampling options of `run` and `chat`, with llama.cpp's names.

use anyhow::{Context, anyhow, bail};
use fourfold::sample::{Dry, Random, Repetition, Settings};
use fourfold::tokenizer::Tokenizer;

/// How tokens are chosen
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Flatten (above 1) or sharpen (below 1) the distribution; 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true, value_parser = number)]
    temp: f32,
    /// Choose among the K likeliest tokens; 0 is off
    #[arg(
        long,
        value_name = "K",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    top_k: u32,
    /// Choose among the likeliest tokens that together have probability P
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true, value_parser = number)]
    top_p: f32,
    /// Choose among tokens at least P times as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true, value_parser = number)]
    min_p: f32,
    /// Choose among tokens about as surprising as expected, up to probability P
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true, value_parser = number)]
    typical: f32,
    /// Repeat the choices of an earlier run [default: a new seed each time]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Make tokens that occurred less likely; 1 is off
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true, value_parser = number)]
    repeat_penalty: f32,
    /// How many tokens back the three repetition penalties look; -1 is the whole context
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true, value_parser = window_size)]
    repeat_last_n: i64,
    /// Lower the logit of every token that occurred
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true, value_parser = number)]
    presence_penalty: f32,
    /// Lower the logit of every token by how often it occurred
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true, value_parser = number)]
    frequency_penalty: f32,
    /// Punish repeated passages; 0 is off, 0.8 is usual
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true, value_parser = number)]
    dry_multiplier: f32,
    /// How fast that punishment grows with the passage
    #[arg(long, value_name = "X", default_value_t = 1.75, allow_negative_numbers = true, value_parser = number)]
    dry_base: f32,
    /// The longest passage that may be repeated freely
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2,
        allow_negative_numbers = true
    )]
    dry_allowed_length: usize,
    /// How many tokens back it looks; -1 is the whole context
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, value_parser = window_size)]
    dry_penalty_last_n: i64,
    /// Text that ends a passage [default: line break, colon, quote, star]
    #[arg(long, value_name = "TEXT")]
    dry_sequence_breaker: Vec<String>,
    /// Add to a token's logit: 15043=-2.5, or 15043=-inf to forbid it
    #[arg(long, value_name = "ID=X")]
    logit_bias: Vec<String>,
}

impl SamplingArgs {
    /// Settings for this vocabulary, and the seed.
    pub fn settings(&self, tokenizer: &Tokenizer) -> anyhow::Result<(Settings, u64)> {
        let ids = 0..tokenizer.vocabulary_len() as u32;
        let mut settings = Settings {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical,
            repetition: Repetition {
                repeat: self.repeat_penalty,
                presence: self.presence_penalty,
                frequency: self.frequency_penalty,
                window: window(self.repeat_last_n),
            },
            dry: Dry {
                multiplier: self.dry_multiplier,
                base: self.dry_base,
                allowed_length: self.dry_allowed_length,
                window: window(self.dry_penalty_last_n),
                breakers: Vec::new(),
            },
            logit_bias: Vec::new(),
            exempt: ids.filter(|&id| tokenizer.is_special(id)).collect(),
        };
        settings.dry.breakers = self.breakers(tokenizer);
        for text in &self.logit_bias {
            let bias = bias(text, tokenizer.vocabulary_len())?;
            settings.logit_bias.push(bias);
        }
        // The library knows settings by the names of these options.
        settings.check().map_err(|error| anyhow!("--{error}"))?;
        Ok((settings, self.seed.unwrap_or_else(Random::seed_from_clock)))
    }

    /// Tokens that contain a text which ends a passage.
    fn breakers(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        if self.dry_multiplier == 0.0 {
            return Vec::new();
        }
        let usual = ["\n", ":", "\"", "*"].map(String::from);
        let texts = match self.dry_sequence_breaker.as_slice() {
            [] => &usual,
            given => given,
        };
        let holds_one = |&id: &u32| {
            let token = tokenizer.token_bytes(id);
            let occurs = |text: &String| {
                !text.is_empty()
                    && token
                        .windows(text.len())
                        .any(|part| part == text.as_bytes())
            };
            texts.iter().any(occurs)
        };
        let ids = 0..tokenizer.vocabulary_len() as u32;
        ids.filter(holds_one).collect()
    }
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
fn window_size(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(tokens) if tokens >= -1 => Ok(tokens),
        _ => Err("a number of tokens, or -1 for the whole context, is expected".into()),
    }
}

fn window(tokens: i64) -> usize {
    usize::try_from(tokens).unwrap_or(usize::MAX)
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
        "top-k" => changed.top_k = u32::try_from(whole()?).context("top-k is 0 or more")?,
        "top-p" => changed.top_p = number()?,
        "min-p" => changed.min_p = number()?,
        "typical" => changed.typical_p = number()?,
        "repeat-penalty" => changed.repetition.repeat = number()?,
        "repeat-last-n" => {
            changed.repetition.window = window(window_size(value).map_err(explained)?);
        }
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
    fn a_bias_names_a_token_and_a_number() {
        assert_eq!(bias("7=-2.5", 10).unwrap(), (7, -2.5));
        assert_eq!(bias("7=-inf", 10).unwrap(), (7, f32::NEG_INFINITY));
        for wrong in ["7", "x=1", "7=x", "10=1"] {
            bias(wrong, 10).unwrap_err();
        }
    }
}
