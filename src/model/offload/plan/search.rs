//! The search for the best plan that fits.

use super::{Amount, BringExperts, Bytes, Card, HEAD_ROWS, Plan, PlanError, Sizes, Wish};
use crate::kernels::page::PAGE;

/// Pages of a windowed layer: window and slack of a sequence (4), a batch of 512 tokens (8), and snapshots. Those that
/// do not fit wait in the host's memory.
const WINDOW_PAGES: usize = 32;
/// Pages beyond the context, for copies of pages that snapshots share.
const SPARE_PAGES: usize = 4;
/// Layers with experts on the processor that a stage is taken for. Its room would else hold the experts of one of them,
/// so with fewer layers every token would pay much for what only prompts gain.
const WORTH_A_STAGE: usize = 4;
/// Times the usual width of a batch that are tried where experts are brought to the card: one copy serves all its tokens.
const WIDTHS: [usize; 3] = [4, 2, 1];
/// What the masks of a wider batch may take.
const WIDE_MASKS: usize = 160 << 20;

pub(super) struct Planner<'a> {
    pub sizes: &'a Sizes,
    pub card: &'a Card,
    pub wish: &'a Wish,
}

impl Planner<'_> {
    /// The best plan that fits: as many layers as possible, then a stage for experts if it is worth it, then experts.
    pub fn search(&self, context: usize) -> Option<Plan> {
        let count = self.sizes.layers.len();
        let mut firsts = match self.wish.layers {
            Amount::Auto => 0..count,
            Amount::All => 0..1,
            Amount::Exactly(layers) => count - layers..count - layers + 1,
        };
        firsts.find_map(|first| {
            let experts = match self.wish.cpu_moe {
                Amount::Auto => first..count + 1,
                Amount::All => count..count + 1,
                Amount::Exactly(layers) => layers.max(first)..layers.max(first) + 1,
            };
            let place = |stage| move |experts| self.place(first, experts, context, stage);
            let with = experts.clone().map(place(true)).find(Plan::fits);
            with.or_else(|| experts.map(place(false)).find(Plan::fits))
        })
    }

    /// What a placement takes, with a stage for experts where one is wanted.
    pub fn place(&self, first: usize, first_experts: usize, context: usize, stage: bool) -> Plan {
        let Sizes { layers, chunk, .. } = self.sizes;
        // A card that is also a desktop's loses memory while we run: the driver, other programs, fragments.
        let headroom = (self.card.total / 32).clamp(256 << 20, 1 << 30);
        let free = self.card.free.saturating_sub(headroom);
        let pages = context.div_ceil(PAGE) + SPARE_PAGES;
        let on_host = first_experts - first;
        let stage = stage
            && match self.wish.bring_experts {
                BringExperts::Auto => on_host >= WORTH_A_STAGE,
                BringExperts::Always => on_host > 0,
                BringExperts::Never => false,
            };
        // A batch needs the pages that it writes.
        let window_pages =
            |chunk: usize| pages.min(WINDOW_PAGES + (chunk - self.sizes.chunk) / PAGE);
        let masks = |chunk: usize| 2 * chunk * (pages + window_pages(chunk)) * PAGE;
        let wide = WIDTHS.map(|width| width * chunk).into_iter();
        let wide = wide
            .filter(|_| stage)
            .find(|&wide| masks(wide) <= WIDE_MASKS);
        let chunk = wide.unwrap_or(*chunk);
        let window_pages = window_pages(chunk);
        let cache = layers[first..].iter().map(|layer| {
            let pages = layer.window.map_or(pages, |_| window_pages);
            (pages * PAGE) as u64 * self.sizes.position
        });
        let experts = |layers: &[super::LayerSize]| layers.iter().map(|layer| layer.experts).max();
        let stage = experts(&layers[first..first_experts]).filter(|_| stage);
        let bytes = Bytes {
            attention: layers[first..].iter().map(|layer| layer.attention).sum(),
            experts: layers[first_experts..]
                .iter()
                .map(|layer| layer.experts)
                .sum(),
            head: self.sizes.head,
            cache: cache.sum(),
            stage: stage.unwrap_or(0),
            scratch: self.scratch(
                stage.is_some() || first_experts < layers.len(),
                masks(chunk),
            ),
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
            chunk,
            bring_experts: self.wish.bring_experts,
            bytes,
        }
    }

    /// Values that live at the same time in the widest graph, and a quarter more for what the backend takes itself.
    fn scratch(&self, experts: bool, masks: usize) -> u64 {
        let sizes = self.sizes;
        let stream = 4 * 4 * sizes.dim;
        let attention = 4 * 4 * sizes.queries;
        let experts = if experts {
            4 * 4 * sizes.expert_numbers
        } else {
            0
        };
        let logits = 4 * HEAD_ROWS * sizes.vocabulary;
        let numbers = masks + sizes.chunk * (stream + attention + experts) + logits;
        (numbers + numbers / 4 + (32 << 20)) as u64
    }

    pub fn too_large(&self, context: usize) -> PlanError {
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
        let asked = self.place(first, first_experts, context, false);
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
