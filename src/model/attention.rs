//! The attention step of a layer: keys and values go into their sequences' caches, then every query head looks back.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::kernels::Kernels;
use crate::kernels::attention::{Look, Queries, SPAN, State, Workspace};
use crate::kernels::page::PAGE;
use crate::threads::Pool;
use crate::work::{Items, Parts};

use super::batch::{BatchToken, Tile};
use super::rope::{Turns, turn_head};
use super::weights::Layer;
use super::{Config, Sequence};

/// Tokens that attend together: with eight heads in a group, 128 rows share each page that is read.
const TILE: usize = 16;
/// Below this many (tile, head) pairs, the pages of each are split over workers as well.
const FEW: usize = 64;

/// Memory of the attention step.
#[derive(Default)]
pub struct AttentionScratch {
    tiles: Vec<Tile>,
    workers: Vec<Worker>,
    /// One per span of every (tile, head) pair.
    partial: Vec<State>,
    /// For each (tile, head) pair the index of its first span, and the number of all spans at the end.
    spans: Vec<usize>,
}

#[derive(Default)]
struct Worker {
    workspace: Workspace,
    queries: Vec<f32>,
    key: Vec<f32>,
    span: State,
    total: State,
}

/// What all workers read during the attention step of one layer.
pub(super) struct Attention<'a> {
    pub config: &'a Config,
    pub index: usize,
    pub layer: &'a Layer<'a>,
    pub sequences: &'a [&'a mut Sequence],
    pub turns: &'a Turns,
    pub kernels: &'a Kernels,
}

impl Attention<'_> {
    /// Turns the keys to their positions and stores them, with the values, in the caches.
    pub fn remember(
        &self,
        pool: &Pool,
        tokens: &[BatchToken],
        keys: &[f32],
        values: &[f32],
        scratch: &mut AttentionScratch,
    ) {
        let Config {
            kv_heads, head_dim, ..
        } = *self.config;
        let windowed = self.config.windows[self.index].is_some();
        scratch.workers.resize_with(pool.threads(), Worker::default);
        let workers = Parts::new(&mut scratch.workers);
        // One head of a page's worth of tokens: two workers rarely write to the same cache line.
        let blocks = tokens.len().div_ceil(PAGE);
        let items = Items::new(blocks * kv_heads);
        pool.run(|worker| {
            // SAFETY: every worker takes its own element.
            let key = unsafe { &mut workers.element(worker).key };
            while let Some(item) = items.next() {
                let (block, head) = (item / kv_heads, item % kv_heads);
                let places = block * PAGE..((block + 1) * PAGE).min(tokens.len());
                for (index, token) in places.clone().zip(&tokens[places]) {
                    let start = (index * kv_heads + head) * head_dim;
                    let range = start..start + head_dim;
                    key.clear();
                    key.extend_from_slice(&keys[range.clone()]);
                    turn_head(key, self.turns.of(index, windowed));
                    let sequence = &self.sequences[token.sequence];
                    let page = sequence.layer(self.index).page(token.position);
                    let (layout, slot) = (sequence.layout(), token.position % PAGE);
                    // SAFETY: no other item has this head and position, and nobody reads before all are done.
                    unsafe { layout.store(page, head, slot, key, &values[range]) };
                }
            }
        });
    }

    /// `out` becomes what the tokens' query heads see. `rows[i]` is the index in the batch of `tokens[i]`,
    /// `queries` and `out` are `(tokens, heads * head_dim)`. Says whether all results were finite.
    pub fn look_back(
        &self,
        pool: &Pool,
        tokens: &[BatchToken],
        rows: &[usize],
        queries: &[f32],
        out: &mut [f32],
        scratch: &mut AttentionScratch,
    ) -> bool {
        Tile::cut(tokens, TILE, &mut scratch.tiles);
        let finite = AtomicBool::new(true);
        let job = Job {
            step: self,
            tiles: &scratch.tiles,
            rows,
            queries,
            out: &Parts::new(out),
            finite: &finite,
        };
        let workers = Parts::new(&mut scratch.workers);
        if job.pairs() >= FEW {
            job.by_pairs(pool, &workers);
        } else {
            job.by_spans(pool, &workers, &mut scratch.spans, &mut scratch.partial);
        }
        finite.into_inner()
    }

    /// The pages that a tile sees, in spans that begin at the same places for every tile.
    fn spans(&self, tile: &Tile) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let window = self.config.windows[self.index];
        let first_seen = window.map_or(0, |window| (tile.position + 1).saturating_sub(window));
        let first = first_seen / PAGE;
        let end = (tile.position + tile.tokens).div_ceil(PAGE);
        (first / SPAN..end.div_ceil(SPAN))
            .map(move |span| (span * SPAN).max(first)..((span + 1) * SPAN).min(end))
    }
}

/// What the workers share while tokens look back.
struct Job<'a> {
    step: &'a Attention<'a>,
    tiles: &'a [Tile],
    rows: &'a [usize],
    queries: &'a [f32],
    out: &'a Parts<'a, f32>,
    finite: &'a AtomicBool,
}

impl Job<'_> {
    /// How many (tile, head of keys) pairs there are.
    fn pairs(&self) -> usize {
        self.tiles.len() * self.step.config.kv_heads
    }

    fn pair(&self, index: usize) -> (&Tile, usize) {
        let kv_heads = self.step.config.kv_heads;
        (&self.tiles[index / kv_heads], index % kv_heads)
    }

    /// Each pair is one worker's from the first page to the last.
    fn by_pairs(&self, pool: &Pool, workers: &Parts<Worker>) {
        let pairs = self.pairs();
        let items = Items::new(pairs);
        pool.run(|worker| {
            // SAFETY: every worker takes its own element.
            let worker = unsafe { workers.element(worker) };
            // Later tiles see more pages: they go first, so that no worker is left with a long one at the end.
            while let Some(item) = items.next() {
                let (tile, head) = self.pair(pairs - 1 - item);
                self.gather(tile, head, worker);
                let Worker {
                    queries,
                    workspace,
                    span,
                    total,
                    ..
                } = worker;
                let mut spans = self.step.spans(tile);
                let first = spans.next().unwrap_or(0..0);
                self.see(tile, head, first, queries, workspace, total);
                for pages in spans {
                    self.see(tile, head, pages, queries, workspace, span);
                    total.merge(span);
                }
                self.finish(tile, head, total);
            }
        });
    }

    /// The spans of a pair are seen by several workers, and merged in the same order after all.
    fn by_spans(
        &self,
        pool: &Pool,
        workers: &Parts<Worker>,
        firsts: &mut Vec<usize>,
        partial: &mut Vec<State>,
    ) {
        firsts.clear();
        let mut count = 0;
        for pair in 0..self.pairs() {
            firsts.push(count);
            count += self.step.spans(self.pair(pair).0).count();
        }
        firsts.push(count);
        partial.resize_with(count.max(partial.len()), State::default);
        let states = Parts::new(partial);
        let items = Items::new(count);
        pool.run(|worker| {
            // SAFETY: every worker takes its own element.
            let worker = unsafe { workers.element(worker) };
            while let Some(item) = items.next() {
                let pair = firsts.partition_point(|&first| first <= item) - 1;
                let (tile, head) = self.pair(pair);
                let mut spans = self.step.spans(tile);
                let pages = spans.nth(item - firsts[pair]).unwrap_or(0..0);
                self.gather(tile, head, worker);
                // SAFETY: this item is the only one with this index.
                let state = unsafe { states.element(item) };
                let Worker {
                    queries, workspace, ..
                } = worker;
                self.see(tile, head, pages, queries, workspace, state);
            }
        });
        let total = &mut State::default();
        for (pair, spans) in firsts.windows(2).enumerate() {
            let (tile, head) = self.pair(pair);
            self.reset(tile, total);
            for span in &partial[spans[0]..spans[1]] {
                total.merge(span);
            }
            self.finish(tile, head, total);
        }
    }

    /// Collects the query heads of one group, turned to their positions and scaled.
    fn gather(&self, tile: &Tile, head: usize, worker: &mut Worker) {
        let config = self.step.config;
        let (group, head_dim) = (config.group(), config.head_dim);
        let windowed = config.windows[self.step.index].is_some();
        let scale = 1.0 / (head_dim as f32).sqrt();
        worker.queries.clear();
        for token in tile.first..tile.first + tile.tokens {
            let turns = self.step.turns.of(self.rows[token], windowed);
            let start = (token * config.heads + head * group) * head_dim;
            let from = worker.queries.len();
            worker.queries.extend(
                self.queries[start..][..group * head_dim]
                    .iter()
                    .map(|q| q * scale),
            );
            for query in worker.queries[from..].chunks_exact_mut(head_dim) {
                turn_head(query, turns);
            }
        }
    }

    fn reset(&self, tile: &Tile, state: &mut State) {
        let config = self.step.config;
        state.reset(tile.tokens * config.group(), config.head_dim);
    }

    /// Fills `state` with what the gathered queries see in some pages.
    fn see(
        &self,
        tile: &Tile,
        head: usize,
        pages: std::ops::Range<usize>,
        queries: &[f32],
        workspace: &mut Workspace,
        state: &mut State,
    ) {
        self.reset(tile, state);
        let sequence = &self.step.sequences[tile.sequence];
        let cache = sequence.layer(self.step.index);
        let queries = Queries {
            rows: queries,
            group: self.step.config.group(),
            position: tile.position,
            window: self.step.config.windows[self.step.index],
        };
        for page in pages {
            let start = page * PAGE;
            self.step.kernels.call(Look {
                queries: &queries,
                // SAFETY: keys and values were stored before the workers began to look back.
                page: unsafe { sequence.layout().head(cache.page(start), head) },
                layout: sequence.layout(),
                start,
                workspace,
                state,
            });
        }
    }

    /// Writes the result of one group of heads.
    fn finish(&self, tile: &Tile, head: usize, state: &State) {
        let config = self.step.config;
        let (group, head_dim) = (config.group(), config.head_dim);
        for token in 0..tile.tokens {
            for g in 0..group {
                let query_head = head * group + g;
                let start = ((tile.first + token) * config.heads + query_head) * head_dim;
                // SAFETY: only this tile and head write here.
                let out = unsafe { self.out.range(start..start + head_dim) };
                state.finish(token * group + g, self.step.layer.sinks[query_head], out);
                if out.iter().any(|value| !value.is_finite()) {
                    self.finite.store(false, Ordering::Relaxed);
                }
            }
        }
    }
}
