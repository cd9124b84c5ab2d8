//! How a config.json scales positions, in the spellings of old and new transformers.

use crate::fields::{Fields, absent};
use crate::{Error, Result};
use fourfold_quantize::gguf::keys::MOST_CONTEXT;

/// How positions beyond the original context are scaled.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the checkpoint's own")]
pub struct Yarn {
    pub factor: f32,
    pub original_max_position_embeddings: u32,
    pub beta_fast: f32,
    pub beta_slow: f32,
    /// Whether the ramp's ends are rounded outwards to whole dimensions.
    pub truncate: bool,
    /// Replaces `0.1 ln(factor) + 1` as the factor on sine and cosine.
    pub attention_factor: Option<f32>,
}

impl Yarn {
    /// That of the published models, which transformers takes for a config.json without any.
    const PUBLISHED: Self = Self {
        factor: 32.0,
        original_max_position_embeddings: 4096,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: false,
        attention_factor: None,
    };
}

impl Fields {
    /// `rope_parameters` holds everything in files of transformers 5; before, `rope_theta` stood outside. Of a file
    /// with both, transformers reads `rope_scaling`; of one with neither, it takes the published scaling.
    pub fn rope(
        &self,
        max_position_embeddings: u32,
        notes: &mut Vec<String>,
    ) -> Result<(f32, Option<Yarn>)> {
        let scaling = ["rope_scaling", "rope_parameters"]
            .into_iter()
            .find(|key| self.get(key).is_some());
        let scaling = match scaling {
            Some(key) => Some(
                self.object(key)
                    .ok_or_else(|| self.wrong(key, "an object"))?,
            ),
            None => None,
        };
        let theta = match &scaling {
            Some(inside) if inside.get("rope_theta").is_some() => inside.number("rope_theta")?,
            _ if self.get("rope_theta").is_some() => self.number("rope_theta")?,
            _ => {
                notes.push(absent("rope_theta", 150_000));
                150_000.0
            }
        };
        let Some(scaling) = scaling else {
            let taken = "the published models' YaRN (factor 32, from 4096 positions)";
            notes.push(absent("rope_scaling", taken));
            return Ok((theta, Some(Yarn::PUBLISHED)));
        };
        let named = ["rope_type", "type"].into_iter();
        let mut named = named.filter(|key| scaling.fields.contains_key(*key));
        let kind = match named.next() {
            None => "default",
            Some(key) => (scaling.text(key)).ok_or_else(|| scaling.wrong(key, "a name"))?,
        };
        if kind == "default" {
            return Ok((theta, None));
        }
        if kind != "yarn" {
            let message = format!("scales positions by {kind:?}; gpt-oss uses `yarn`");
            return Err(Error::file(&self.path, message));
        }
        let factor = scaling.number("factor")?;
        let original_context = "original_max_position_embeddings";
        let yarn = Yarn {
            factor,
            original_max_position_embeddings: match scaling.get(original_context) {
                Some(_) => scaling.limited(original_context, MOST_CONTEXT.into())?,
                None => self.initial_context(max_position_embeddings, notes)?,
            },
            beta_fast: scaling.number_or("beta_fast", 32.0)?,
            beta_slow: scaling.number_or("beta_slow", 1.0)?,
            // What transformers assumes where the field is absent.
            truncate: scaling.flag("truncate")?.unwrap_or(true),
            attention_factor: scaling.attention_factor(factor)?,
        };
        Ok((theta, Some(yarn)))
    }

    /// The original context of a scaling that leaves it out.
    fn initial_context(
        &self,
        max_position_embeddings: u32,
        notes: &mut Vec<String>,
    ) -> Result<u32> {
        let missing = "config.json scales positions without `original_max_position_embeddings`;";
        let (context, note) = match self.get("initial_context_length") {
            Some(_) => {
                let context = self.limited("initial_context_length", MOST_CONTEXT.into())?;
                let note = format!(
                    "{missing} its `initial_context_length`, {context}, is taken (transformers takes `max_position_embeddings`, {max_position_embeddings})"
                );
                (context, note)
            }
            None => {
                let note = format!(
                    "{missing} its `max_position_embeddings`, {max_position_embeddings}, is taken, as transformers does; the published models have 4096"
                );
                (max_position_embeddings, note)
            }
        };
        notes.push(note);
        Ok(context)
    }

    /// Within a scaling: the factor on sine and cosine, or the two numbers that make it. Of one of them alone
    /// transformers takes no notice.
    fn attention_factor(&self, factor: f32) -> Result<Option<f32>> {
        if self.get("attention_factor").is_some() {
            return self.number("attention_factor").map(Some);
        }
        let above = self.number_or("mscale", 0.0)?;
        let below = self.number_or("mscale_all_dim", 0.0)?;
        let scale = |weight: f32| 0.1 * weight * factor.ln() + 1.0;
        Ok((above != 0.0 && below != 0.0).then(|| scale(above) / scale(below)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use crate::config::Config;
    use crate::config::tests::parse;

    #[test]
    fn old_and_new_spellings_of_rope_say_the_same() {
        let old = parse(|_| {}).unwrap();
        let yarn = old.yarn.as_ref().unwrap();
        assert_eq!(
            (old.rope_theta, yarn.factor, yarn.truncate),
            (150_000.0, 32.0, false)
        );
        let new = parse(|fields| {
            let mut rope = fields.remove("rope_scaling").unwrap();
            rope["rope_theta"] = fields.remove("rope_theta").unwrap();
            let kind = rope.as_object_mut().unwrap().remove("rope_type").unwrap();
            rope["type"] = kind;
            fields.insert("rope_parameters".into(), rope);
        });
        assert_eq!(new.unwrap(), old);
    }

    #[test]
    fn scaling_that_is_given_counts_as_it_is() {
        type Edit = fn(&mut Map<String, Value>);
        let edited = |edit: Edit| parse(edit).unwrap();
        let config = edited(|f| f["rope_scaling"] = serde_json::json!({"rope_type": "default"}));
        assert_eq!((config.yarn, config.notes.len()), (None, 0));

        let drop_original: Edit = |f| {
            let scaling = f["rope_scaling"].as_object_mut().unwrap();
            scaling.remove("original_max_position_embeddings");
        };
        let context = |config: &Config| {
            config
                .yarn
                .clone()
                .unwrap()
                .original_max_position_embeddings
        };
        let config = parse(drop_original).unwrap();
        assert_eq!(context(&config), 4096);
        assert!(
            config.notes[0].contains("its `initial_context_length`, 4096, is taken"),
            "{:?}",
            config.notes
        );
        let config = parse(|f| {
            drop_original(f);
            f.remove("initial_context_length");
        });
        let config = config.unwrap();
        assert_eq!(context(&config), 131_072);
        assert!(
            config.notes[0].contains("131072, is taken"),
            "{:?}",
            config.notes
        );

        // Of both spellings, transformers reads the old one.
        let config = edited(|f| {
            let other = serde_json::json!({"rope_type": "default", "rope_theta": 7});
            f.insert("rope_parameters".into(), other);
        });
        assert_eq!(config, edited(|_| {}));
    }

    #[test]
    fn mscale_makes_an_attention_factor_as_in_transformers() {
        let factor = |fields: Value| {
            let config = parse(|f| {
                let scaling = f["rope_scaling"].as_object_mut().unwrap();
                scaling.extend(fields.as_object().unwrap().clone());
            });
            config.unwrap().yarn.unwrap().attention_factor
        };
        use serde_json::json;
        // transformers' get_mscale(32, 1.5) / get_mscale(32, 0.5).
        let found = factor(json!({"mscale": 1.5, "mscale_all_dim": 0.5})).unwrap();
        assert!((found - 1.295_386_9).abs() < 1e-6, "{found}");
        assert_eq!(factor(json!({"mscale": 1, "mscale_all_dim": 1})), Some(1.0));
        // One alone means nothing there.
        assert_eq!(factor(json!({"mscale": 1.5})), None);
        let all = json!({"mscale": 1.5, "mscale_all_dim": 0.5, "attention_factor": 1.25});
        assert_eq!(factor(all), Some(1.25));
    }
}
