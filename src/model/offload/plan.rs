//! What goes on a GPU: a pure function of the model's sizes, the card's free memory and what was asked for.
//!
//! Memory on a card is worth what one token reads of it. A token reads all of the attention's weights, the head and
//! the cache, but only 4 of 32 or 128 experts. So the attention of every layer and the head come first, and then the
//! experts of as many layers as fit; the others stay on the processor, where our own kernels read them. Only a card
//! too small for that gets fewer layers. `docs/gpu.md` has the arithmetic and the results for cards of 6 to 80 GB.

use super::table::gib;
use crate::kernels::page::PAGE;

/// Logits that are computed at once on a device; their rows are long.
pub const HEAD_ROWS: usize = 32;
/// Contexts that are tried, in this order, if none was asked for: a whole model with a shorter context is faster than
/// a part of it with a long one. The last is taken when even it does not bring the whole model onto the card.
const CONTEXTS: [usize; 4] = [131_072, 65_536, 32_768, 16_384];
const CONTEXT_OF_A_PART: usize = 32_768;
/// Pages of a windowed layer: window and slack of a sequence (4), a batch of 512 tokens (8), and snapshots. Those that
/// do not fit wait in the host's memory.
const WINDOW_PAGES: usize = 32;
/// Pages beyond the context, for copies of pages that snapshots share.
const SPARE_PAGES: usize = 4;

/// How much memory the parts of a model take.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// One per layer.
    pub layers: Vec<LayerSize>,
    /// The last norm and the head.
    pub head: u64,
    /// Bytes of one position of a layer's cache.
    pub position: u64,
    /// Positions that the model was made for.
    pub context: usize,
    /// Tokens that pass through the layers together.
    pub chunk: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Numbers of all query heads of a token.
    pub queries: usize,
    /// Numbers of the experts that a token is sent to: their width times their number.
    pub expert_numbers: usize,
    /// Rows of the head.
    pub vocabulary: usize,
}

/// One layer.
#[derive(Clone, Copy, Debug)]
pub struct LayerSize {
    /// Attention and its norm.
    pub attention: u64,
    /// Experts, their norm and the router.
    pub experts: u64,
    /// Positions that a token sees, if not all.
    pub window: Option<usize>,
}

/// A device to place layers on.
#[derive(Clone, Debug)]
pub struct Card {
    /// Its name, such as Vulkan0.
    pub name: String,
    /// What its driver calls it.
    pub description: String,
    /// Free bytes.
    pub free: u64,
    /// All bytes.
    pub total: u64,
    /// Whether it is faster than the processor as a rule, so that it is used unasked.
    pub worthwhile: bool,
}

/// How many layers, as asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Amount {
    /// As many as fit.
    #[default]
    Auto,
    /// Every layer.
    All,
    /// This many.
    Exactly(usize),
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Layers on the device, counted from the last; the head goes with them.
    pub layers: Amount,
    /// First layers whose experts stay on the processor.
    pub cpu_moe: Amount,
    /// Positions that the cache must hold.
    pub context: Option<usize>,
    /// Most bytes to take on the device.
    pub budget: Option<u64>,
}

/// What goes where, and what it takes on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The device's name.
    pub device: String,
    /// What its driver calls it.
    pub description: String,
    /// Bytes that may be used, headroom already taken off.
    pub usable: u64,
    /// Bytes that stay free for the driver and for others.
    pub headroom: u64,
    /// The model's layers.
    pub layers: usize,
    /// The first layer on the device; all later ones are there too, and the head.
    pub first: usize,
    /// The first layer whose experts are on the device.
    pub first_experts: usize,
    /// Positions that the cache holds.
    pub context: usize,
    /// Pages of 64 positions of the layers that see everything.
    pub pages: usize,
    /// Pages of 64 positions of the windowed layers.
    pub window_pages: usize,
    /// What it all takes.
    pub bytes: Bytes,
}

/// Bytes on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Attention and its norms.
    pub attention: u64,
    /// Experts, their norms and routers.
    pub experts: u64,
    /// The head.
    pub head: u64,
    /// Keys and values.
    pub cache: u64,
    /// Values between the operations of a pass.
    pub scratch: u64,
}

impl Bytes {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.attention + self.experts + self.head + self.cache + self.scratch
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// Not enough memory for what was asked for.
    #[error("{asked} takes {} on {device}, where {} can be used: {instead}", gib(*needed), gib(*usable))]
    TooLarge {
        /// The wish, in words.
        asked: String,
        /// The device.
        device: String,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that there are.
        usable: u64,
        /// What would fit.
        instead: String,
    },
    /// A number of layers that the model does not have.
    #[error("{option} is {given}, but the model has {layers} layers")]
    Layers {
        /// The option's name.
        option: &'static str,
        /// What was given.
        given: usize,
        /// What there is.
        layers: usize,
    },
}

/// Places a model on a card; `None` if nothing of it fits and nothing was insisted on.
pub fn plan(sizes: &Sizes, card: &Card, wish: &Wish) -> Result<Option<Plan>, PlanError> {
    let count = sizes.layers.len();
    for (option, amount) in [("--gpu-layers", wish.layers), ("--cpu-moe", wish.cpu_moe)] {
        if let Amount::Exactly(given) = amount
            && given > count
        {
            return Err(PlanError::Layers {
                option,
                given,
                layers: count,
            });
        }
    }
    if wish.layers == Amount::Exactly(0) {
        return Ok(None);
    }
    let planner = Planner { sizes, card, wish };
    let whole = |context| planner.place(0, 0, context);
    let context = match wish.context {
        Some(context) => context.min(sizes.context),
        None => CONTEXTS
            .map(|context| context.min(sizes.context))
            .into_iter()
            .find(|&context| whole(context).fits())
            .unwrap_or(CONTEXT_OF_A_PART.min(sizes.context)),
    };
    let found = planner.search(context);
    if found.is_some() || (wish.layers, wish.cpu_moe) == (Amount::Auto, Amount::Auto) {
        return Ok(found);
    }
    Err(planner.too_large(context))
}

struct Planner<'a> {
    sizes: &'a Sizes,
    card: &'a Card,
    wish: &'a Wish,
}

impl Planner<'_> {
    /// The best plan that fits.
    fn search(&self, context: usize) -> Option<Plan> {
        let count = self.sizes.layers.len();
        let firsts = match self.wish.layers {
            Amount::Auto => 0..count,
            Amount::All => 0..1,
            Amount::Exactly(layers) => count - layers..count - layers + 1,
        };
        let plans = firsts.flat_map(|first| {
            let experts = match self.wish.cpu_moe {
                Amount::Auto => first..count + 1,
                Amount::All => count..count + 1,
                Amount::Exactly(layers) => layers.max(first)..layers.max(first) + 1,
            };
            experts.map(move |first_experts| (first, first_experts))
        });
        plans
            .map(|(first, experts)| self.place(first, experts, context))
            .find(Plan::fits)
    }

    /// What a placement takes.
    fn place(&self, first: usize, first_experts: usize, context: usize) -> Plan {
        let Sizes { layers, .. } = self.sizes;
        // A card that is also a desktop's loses memory while we run: the driver, other programs, fragments.
        let headroom = (self.card.total / 32).clamp(256 << 20, 1 << 30);
        let free = self.card.free.saturating_sub(headroom);
        let pages = context.div_ceil(PAGE) + SPARE_PAGES;
        let window_pages = pages.min(WINDOW_PAGES);
        let cache = layers[first..].iter().map(|layer| {
            let pages = layer.window.map_or(pages, |_| window_pages);
            (pages * PAGE) as u64 * self.sizes.position
        });
        let bytes = Bytes {
            attention: layers[first..].iter().map(|layer| layer.attention).sum(),
            experts: layers[first_experts..]
                .iter()
                .map(|layer| layer.experts)
                .sum(),
            head: self.sizes.head,
            cache: cache.sum(),
            scratch: self.scratch(first_experts < layers.len(), pages + window_pages),
        };
        Plan {
            device: self.card.name.clone(),
            description: self.card.description.clone(),
            usable: self.wish.budget.map_or(free, |budget| budget.min(free)),
            headroom,
            layers: layers.len(),
            first,
            first_experts,
            context,
            pages,
            window_pages,
            bytes,
        }
    }

    /// Values that live at the same time in the widest pass, and a quarter more for what the backend takes itself.
    fn scratch(&self, experts: bool, pages: usize) -> u64 {
        let sizes = self.sizes;
        let masks = 2 * pages * PAGE;
        let stream = 4 * 4 * sizes.dim;
        let attention = 4 * 4 * sizes.queries;
        let experts = if experts {
            4 * 4 * sizes.expert_numbers
        } else {
            0
        };
        let logits = 4 * HEAD_ROWS * sizes.vocabulary;
        let numbers = sizes.chunk * (masks + stream + attention + experts) + logits;
        (numbers + numbers / 4 + (32 << 20)) as u64
    }

    fn too_large(&self, context: usize) -> PlanError {
        let count = self.sizes.layers.len();
        let (first, layers) = match self.wish.layers {
            Amount::Auto | Amount::All => (0, "all layers".to_string()),
            Amount::Exactly(1) => (count - 1, "the last layer".to_string()),
            Amount::Exactly(layers) => (count - layers, format!("the last {layers} layers")),
        };
        let (first_experts, experts) = match self.wish.cpu_moe {
            Amount::Auto | Amount::All => (count, "without any experts".to_string()),
            Amount::Exactly(layers) => (
                layers.max(first),
                format!("with the experts of the first {layers} on the processor"),
            ),
        };
        let asked = self.place(first, first_experts, context);
        let auto = Wish {
            layers: Amount::Auto,
            cpu_moe: Amount::Auto,
            ..self.wish.clone()
        };
        let planner = Planner {
            wish: &auto,
            ..*self
        };
        let instead = match planner.search(context) {
            Some(plan) => format!(
                "--gpu-layers {} --cpu-moe {} fits",
                count - plan.first,
                plan.first_experts
            ),
            None => "nothing of this model fits there with this context: give a smaller --ctx, or --no-gpu".into(),
        };
        PlanError::TooLarge {
            asked: format!("{layers} {experts} and {context} positions"),
            device: self.card.name.clone(),
            needed: asked.bytes.total(),
            usable: asked.usable,
            instead,
        }
    }
}

impl Plan {
    /// Whether there is room for it.
    fn fits(&self) -> bool {
        self.bytes.total() <= self.usable
    }

    /// Bytes that are left beside the headroom.
    pub fn left(&self) -> u64 {
        self.usable.saturating_sub(self.bytes.total())
    }

    /// Layers on the device.
    pub fn device_layers(&self) -> usize {
        self.layers - self.first
    }

    /// Pages of layers with this window.
    pub fn places(&self, window: Option<usize>) -> usize {
        window.map_or(self.pages, |_| self.window_pages)
    }

    /// Whether a layer's experts are on the device.
    pub fn has_experts(&self, layer: usize) -> bool {
        layer >= self.first_experts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// The sizes of the published files: experts in MXFP4, dense matrices in Q8_0, the rest in f32.
    fn published(layers: usize, experts: usize) -> Sizes {
        let (dim, ff, queries, keys, vocabulary) = (2880, 2880, 4096, 512, 201_088);
        let q8_0 = |rows: usize, columns: usize| rows * columns / 32 * 34;
        let mxfp4 = |rows: usize, columns: usize| rows * columns / 32 * 17;
        let attention = q8_0(queries + 2 * keys, dim) + q8_0(dim, queries);
        let vectors = 4 * (queries + 2 * keys + 2 * dim + 64);
        let expert = 3 * mxfp4(ff, dim) + 4 * (2 * ff + dim) + 4 * (dim + 1);
        let layer = |index: usize| LayerSize {
            attention: (attention + vectors) as u64,
            experts: (experts * expert + 4 * dim) as u64,
            window: index.is_multiple_of(2).then_some(128),
        };
        Sizes {
            layers: (0..layers).map(layer).collect(),
            head: (q8_0(vocabulary, dim) + 4 * dim) as u64,
            position: 2 * 2 * keys as u64,
            context: 131_072,
            chunk: 512,
            dim,
            queries,
            expert_numbers: 4 * ff,
            vocabulary,
        }
    }

    fn card(gib: u64) -> Card {
        Card {
            name: "Vulkan0".into(),
            description: "a test".into(),
            free: gib * GIB,
            total: gib * GIB,
            worthwhile: true,
        }
    }

    const MODELS: [(&str, usize, usize); 2] = [("20b", 24, 32), ("120b", 36, 128)];
    const CARDS: [u64; 6] = [6, 8, 12, 16, 24, 80];

    /// The table of `docs/gpu.md`: what `auto` does with each card, model and context.
    fn table() -> String {
        let mut out = String::from(
            "| model | card | context | layers | with experts | head, layers | experts | cache | scratch | left |\n\
             |---|---|---|---|---|---|---|---|---|---|\n",
        );
        for (name, layers, experts) in MODELS {
            let sizes = published(layers, experts);
            for gib in CARDS {
                for context in [4096, 32_768, 131_072] {
                    let wish = Wish {
                        context: Some(context),
                        ..Wish::default()
                    };
                    let plan = plan(&sizes, &card(gib), &wish).unwrap().unwrap();
                    let Bytes {
                        attention,
                        experts,
                        head,
                        cache,
                        scratch,
                    } = plan.bytes;
                    let parts = [head + attention, experts, cache, scratch, plan.left()];
                    let parts = parts.map(|bytes| format!("{:.2}", bytes as f64 / GIB as f64));
                    out += &format!(
                        "| {name} | {gib} | {}k | {} | {} | {} |\n",
                        context / 1024,
                        plan.device_layers(),
                        layers - plan.first_experts,
                        parts.join(" | "),
                    );
                }
            }
        }
        out
    }

    #[test]
    fn the_documentation_shows_what_is_computed() {
        let documentation = include_str!("../../../docs/gpu.md");
        let table = table();
        assert!(
            documentation.contains(&table),
            "docs/gpu.md needs this table:\n{table}"
        );
    }

    #[test]
    fn every_card_gets_a_plan_that_fits_and_wastes_less_than_a_layer() {
        for (_, layers, experts) in MODELS {
            let sizes = published(layers, experts);
            for gib in CARDS {
                for context in [4096, 32_768, 131_072] {
                    let wish = Wish {
                        context: Some(context),
                        ..Wish::default()
                    };
                    let plan = plan(&sizes, &card(gib), &wish).unwrap().unwrap();
                    let layer = sizes.layers[0].attention + sizes.layers[0].experts;
                    assert!(plan.bytes.total() + plan.headroom <= gib * GIB);
                    assert!(plan.first <= plan.first_experts);
                    let all = plan.first_experts == 0;
                    // Experts in scratch come with the first layer that has them.
                    assert!(all || plan.left() < layer + plan.bytes.scratch, "{plan}");
                    assert_eq!(plan.context, context);
                }
            }
        }
    }

    #[test]
    fn whole_models_go_where_they_fit() {
        let at = |(layers, experts), gib, context| {
            let wish = Wish {
                context: Some(context),
                ..Wish::default()
            };
            let plan = plan(&published(layers, experts), &card(gib), &wish)
                .unwrap()
                .unwrap();
            (plan.device_layers(), layers - plan.first_experts)
        };
        let (small, large) = ((24, 32), (36, 128));
        assert_eq!(at(small, 12, 4096), (24, 24));
        assert_eq!(at(small, 16, 131_072), (24, 24));
        assert_eq!(at(large, 80, 131_072), (36, 36));
        // The attention of the large model fits on any card here, and some experts on those that people have.
        assert_eq!(at(large, 6, 4096).0, 36);
        assert!(at(large, 12, 32_768).1 >= 3 && at(large, 24, 32_768).1 >= 10);
    }

    #[test]
    fn without_a_wish_the_context_is_what_keeps_the_model_whole() {
        let sizes = published(24, 32);
        let context = |gib| {
            plan(&sizes, &card(gib), &Wish::default())
                .unwrap()
                .unwrap()
                .context
        };
        assert_eq!(context(16), 131_072);
        assert_eq!(context(8), 32_768);
        let plan = plan(&sizes, &card(12), &Wish::default()).unwrap().unwrap();
        assert!(plan.first_experts == 0 || plan.context == 32_768);
    }

    #[test]
    fn what_cannot_fit_says_what_would() {
        let sizes = published(36, 128);
        let wish = |layers, cpu_moe| Wish {
            layers,
            cpu_moe,
            context: Some(8192),
            budget: None,
        };
        let refused = plan(&sizes, &card(12), &wish(Amount::All, Amount::Exactly(0)));
        let error = refused.unwrap_err().to_string();
        let (_, hint) = error.split_once("--gpu-layers ").unwrap();
        let mut words = hint.split(' ');
        let layers: usize = words.next().unwrap().parse().unwrap();
        let cpu_moe: usize = words.nth(1).unwrap().parse().unwrap();
        let hinted = wish(Amount::Exactly(layers), Amount::Exactly(cpu_moe));
        assert!(
            plan(&sizes, &card(12), &hinted).unwrap().is_some(),
            "{error}"
        );
        // Nothing was insisted on: nothing is an answer.
        assert_eq!(
            plan(&sizes, &card(1), &wish(Amount::Auto, Amount::Auto)),
            Ok(None)
        );
        let error = plan(&sizes, &card(1), &wish(Amount::Exactly(3), Amount::Auto)).unwrap_err();
        assert!(error.to_string().contains("smaller --ctx"), "{error}");
    }

    #[test]
    fn wishes_are_taken_literally() {
        let sizes = published(24, 32);
        let wish = Wish {
            layers: Amount::Exactly(7),
            cpu_moe: Amount::Exactly(20),
            context: Some(4096),
            budget: None,
        };
        let found = plan(&sizes, &card(80), &wish).unwrap().unwrap();
        assert_eq!((found.first, found.first_experts), (17, 20));
        let none = Wish {
            layers: Amount::Exactly(0),
            ..wish.clone()
        };
        assert_eq!(plan(&sizes, &card(80), &none), Ok(None));
        let many = Wish {
            layers: Amount::Exactly(25),
            ..wish.clone()
        };
        let error = plan(&sizes, &card(80), &many).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--gpu-layers is 25, but the model has 24 layers"
        );
        let small = Wish {
            budget: Some(8 * GIB),
            layers: Amount::All,
            cpu_moe: Amount::Auto,
            context: Some(4096),
        };
        let found = plan(&sizes, &card(80), &small).unwrap().unwrap();
        assert!(found.bytes.total() <= 8 * GIB && found.first_experts > 0);
    }
}
