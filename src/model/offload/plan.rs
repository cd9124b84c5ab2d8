//! What goes on a GPU: a pure function of the model's sizes, the card's free memory and what was asked for.
//!
//! Memory on a card is worth what one token reads of it. A token reads all of the attention's weights, the head and
//! the cache, but only 4 of 32 or 128 experts. So the attention of every layer and the head come first, and then the
//! experts of as many layers as fit; the others stay on the processor, where our own kernels read them. Only a card
//! too small for that gets fewer layers. `docs/gpu.md` has the arithmetic and the results for cards of 6 to 80 GB.

mod search;
#[cfg(test)]
mod tests;

use self::search::Planner;
use super::table::gib;

/// Logits that are computed at once on a device; their rows are long.
pub const HEAD_ROWS: usize = 32;
/// Contexts that are tried, in this order, if none was asked for: a whole model with a shorter context is faster than
/// a part of it with a long one. The last is taken when even it does not bring the whole model onto the card.
const CONTEXTS: [usize; 4] = [131_072, 65_536, 32_768, 16_384];
const CONTEXT_OF_A_PART: usize = 32_768;

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

/// Whether experts in the host's memory are brought to the device for wide batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BringExperts {
    /// If that is faster, as measured.
    #[default]
    Auto,
    /// For every batch; tests want that.
    Always,
    /// Never, and no memory is taken for it.
    Never,
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
    /// Whether experts that stay on the processor come over for wide batches.
    pub bring_experts: BringExperts,
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
    /// Tokens that pass through the layers together.
    pub chunk: usize,
    /// What was asked for; without bytes for a stage nothing is brought over.
    pub bring_experts: BringExperts,
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
    /// Room for the experts of one layer, which come from the host's memory for wide batches.
    pub stage: u64,
    /// Keys and values.
    pub cache: u64,
    /// Values between the operations of a pass.
    pub scratch: u64,
}

impl Bytes {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.attention + self.experts + self.head + self.stage + self.cache + self.scratch
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
    let whole = |context| planner.place(0, 0, context, false);
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
