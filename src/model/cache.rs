//! The keys and values of one sequence: growing with it, cut back, forked and snapshotted.
//!
//! Every layer keeps a queue of pages of 64 positions. A layer that sees everything keeps them all; a windowed layer
//! lets go of pages that its window and a little slack have left behind, so it never holds more than the window and
//! one batch. Pages are shared between a sequence, its forks and its snapshots, and copied when one of them writes:
//! a snapshot of gpt-oss-20b costs the few pages of the windowed layers that would otherwise be dropped (3 MB).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::kernels::page::{PAGE, Page, PageLayout};

use super::{Config, Error, memory, offload};

/// Positions that a windowed layer keeps beyond its window, so that a few tokens can be taken back.
const SLACK: usize = 2 * PAGE;

/// The key-value cache of one conversation, one per sequence of a batch.
///
/// Cloning forks the conversation: both sides share what they have in common.
#[derive(Clone)]
pub struct Sequence {
    pub(super) length: usize,
    pub(super) limit: usize,
    /// Positions that the model itself was made for.
    model_context: usize,
    pub(super) layout: PageLayout,
    /// Of the layers on the processor, which are the first ones.
    pub(super) layers: Vec<LayerCache>,
    /// Of the others.
    pub(super) device: offload::Cache,
}

/// A point that a sequence, or another one with the same beginning, can return to at any time.
#[derive(Clone)]
pub struct Snapshot(pub(super) Sequence);

/// The pages of one layer, or of several that are treated alike; `pages[0]` holds positions from `64 * first`.
pub(super) struct LayerCache<P = Page> {
    pub(super) window: Option<usize>,
    pub(super) first: usize,
    pub(super) pages: VecDeque<Arc<P>>,
}

impl Sequence {
    /// An empty sequence of at most `limit` positions. Memory is taken only as it fills.
    pub(super) fn new(
        config: &Config,
        layout: PageLayout,
        limit: usize,
        device: offload::Cache,
    ) -> Self {
        let on_host = config.layers - device.layers();
        let windows = config.windows[..on_host].iter();
        Self {
            length: 0,
            limit: limit.min(config.context),
            model_context: config.context,
            layout,
            layers: windows.map(|&window| LayerCache::new(window)).collect(),
            device,
        }
    }

    /// Positions that are filled.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing was computed yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Positions that there may be at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The first position that [`Sequence::truncate`] can return to.
    pub fn earliest(&self) -> usize {
        let earliest = self.layers.iter().map(LayerCache::earliest).max();
        let earliest = earliest.unwrap_or(0).max(self.device.earliest());
        earliest.min(self.length)
    }

    /// Forgets everything from `position` on. Windowed layers must still hold what `position` would see.
    pub fn truncate(&mut self, position: usize) -> Result<(), Error> {
        if position > self.length || (position < self.earliest() && position > 0) {
            return Err(Error::Rollback {
                position,
                length: self.length,
                earliest: self.earliest(),
            });
        }
        for layer in &mut self.layers {
            layer.truncate(position);
        }
        self.device.truncate(position);
        self.length = position;
        Ok(())
    }

    /// Remembers the present position. Later tokens copy the pages that they would overwrite, a few MB in all.
    pub fn snapshot(&self) -> Snapshot {
        let mut sequence = self.clone();
        for layer in &mut sequence.layers {
            layer.drop_unseen(self.length, 0);
        }
        sequence.device.drop_unseen(self.length, 0);
        Snapshot(sequence)
    }

    /// Returns to a snapshot, of this sequence or of one it was forked from.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        let limit = self.limit;
        *self = snapshot.0.clone();
        self.limit = limit.max(self.length);
    }

    /// Bytes of memory that the pages take; shared pages count in full.
    pub fn bytes(&self) -> u64 {
        let pages: usize = self.layers.iter().map(|layer| layer.pages.len()).sum();
        (pages * self.layout.bytes()) as u64 + self.device.bytes()
    }

    /// Whether there may be this many positions.
    pub(super) fn check_room(&self, positions: usize) -> Result<(), Error> {
        if positions <= self.limit {
            return Ok(());
        }
        Err(Error::Context {
            needed: positions,
            limit: self.limit,
            model: self.model_context,
        })
    }

    /// Takes the memory for `count` more positions and makes sure that nobody shares the pages to be written.
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), Error> {
        let end = self.length + count;
        self.check_room(end)?;
        let new_pages: usize = self.layers.iter().map(|layer| layer.missing(end)).sum();
        let needed = (new_pages * self.layout.bytes()) as u64;
        let too_much = || Error::Memory {
            tokens: end,
            needed_mib: needed.div_ceil(1 << 20),
            available_mib: memory::available().unwrap_or(0) >> 20,
        };
        if new_pages > 0 && memory::available().is_some_and(|available| needed > available) {
            return Err(too_much());
        }
        for layer in &mut self.layers {
            let copy = |page: &Arc<Page>| {
                // SAFETY: pages are written only during a forward pass, by the sequence that owns them alone.
                unsafe { page.try_clone(&self.layout) }
            };
            layer
                .extend(self.length, end, || Page::new(&self.layout), copy)
                .ok_or_else(too_much)?;
        }
        self.device.extend(self.length, end);
        Ok(())
    }

    /// Counts `count` positions as filled, and lets go of pages that no later token sees.
    pub(super) fn advance(&mut self, count: usize) {
        self.length += count;
        for layer in &mut self.layers {
            layer.drop_unseen(self.length, SLACK);
        }
        self.device.drop_unseen(self.length, SLACK);
    }

    pub(super) fn layer(&self, index: usize) -> &LayerCache {
        &self.layers[index]
    }

    pub(super) fn layout(&self) -> &PageLayout {
        &self.layout
    }
}

impl Snapshot {
    /// The position that it returns to.
    pub fn position(&self) -> usize {
        self.0.length
    }

    /// A new sequence that begins where the snapshot was taken.
    pub fn to_sequence(&self) -> Sequence {
        self.0.clone()
    }

    /// Bytes that the windowed layers of the processor hold for it. Full layers share theirs with the sequence.
    pub fn windowed_bytes(&self) -> u64 {
        let windowed = self.0.layers.iter().filter(|layer| layer.window.is_some());
        let pages: usize = windowed.map(|layer| layer.pages.len()).sum();
        (pages * self.0.layout.bytes()) as u64
    }
}

impl<P> LayerCache<P> {
    pub(super) fn new(window: Option<usize>) -> Self {
        let (first, pages) = (0, VecDeque::new());
        Self {
            window,
            first,
            pages,
        }
    }

    /// The page that holds a position.
    pub(super) fn page(&self, position: usize) -> &P {
        &self.pages[position / PAGE - self.first]
    }

    /// The first of the positions that a token sees.
    pub(super) fn first_visible(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }

    pub(super) fn earliest(&self) -> usize {
        match (self.window, self.first) {
            (None, _) | (_, 0) => 0,
            (Some(window), first) => first * PAGE + window - 1,
        }
    }

    pub(super) fn truncate(&mut self, position: usize) {
        if position == 0 {
            self.first = 0;
            self.pages.clear();
        }
        self.pages
            .truncate(position.div_ceil(PAGE).saturating_sub(self.first));
    }

    fn missing(&self, end: usize) -> usize {
        end.div_ceil(PAGE)
            .saturating_sub(self.first + self.pages.len())
    }

    /// Makes room for positions up to `end`, with `copy` for a page that will be written and that others share.
    pub(super) fn extend(
        &mut self,
        length: usize,
        end: usize,
        mut new: impl FnMut() -> Option<P>,
        mut copy: impl FnMut(&Arc<P>) -> Option<P>,
    ) -> Option<()> {
        for page in self.pages.iter_mut().skip(length / PAGE - self.first) {
            if length < end && Arc::get_mut(page).is_none() {
                *page = Arc::new(copy(page)?);
            }
        }
        for _ in 0..self.missing(end) {
            self.pages.push_back(Arc::new(new()?));
        }
        Some(())
    }

    /// Drops pages that only tokens before `length - slack` could see.
    pub(super) fn drop_unseen(&mut self, length: usize, slack: usize) {
        if self.window.is_none() {
            return;
        }
        let first_seen = self.first_visible(length).saturating_sub(slack) / PAGE;
        while self.first < first_seen && !self.pages.is_empty() {
            self.pages.pop_front();
            self.first += 1;
        }
    }
}

impl<P> Clone for LayerCache<P> {
    /// Shares the pages.
    fn clone(&self) -> Self {
        Self {
            window: self.window,
            first: self.first,
            pages: self.pages.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Model;

    #[test]
    fn a_cache_larger_than_the_memory_is_refused_before_anything_is_taken() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny/tiny.gguf");
        let mut sequence = Model::open(file).unwrap().new_sequence();
        let kv_heads = std::mem::replace(&mut sequence.layout.kv_heads, 1 << 40);
        let message = sequence.reserve(30).unwrap_err().to_string();
        assert!(
            message.starts_with("the cache for 30 tokens needs "),
            "{message}"
        );
        assert!(message.contains("use a shorter context"), "{message}");

        // Nothing is left of the attempt: with pages of the real size the same sequence goes on.
        assert_eq!((sequence.len(), sequence.bytes()), (0, 0));
        sequence.layout.kv_heads = kv_heads;
        sequence.reserve(30).unwrap();
        assert!(sequence.bytes() > 0);
    }
}
