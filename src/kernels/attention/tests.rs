//! Attention on every instruction set and cache type, compared with its definition in f64.

use super::*;
use crate::kernels::Kernels;
use crate::kernels::page::{KvType, Page};

/// Numbers between -1 and 1 without a pattern.
fn noise(seed: usize) -> f32 {
    let bits = (seed as u32 ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9);
    let bits = (bits ^ (bits >> 15)).wrapping_mul(0x85eb_ca6b);
    ((bits ^ (bits >> 13)) >> 8) as f32 / (1u32 << 23) as f32 - 1.0
}

struct Case {
    layout: PageLayout,
    group: usize,
    position: usize,
    tokens: usize,
    window: Option<usize>,
    sink: f32,
}

impl Case {
    fn key(&self, position: usize, d: usize) -> f32 {
        noise(position * 1000 + d)
    }

    fn value(&self, position: usize, d: usize) -> f32 {
        noise(position * 1000 + d + 500_000)
    }

    fn queries(&self) -> Vec<f32> {
        let count = self.tokens * self.group * self.layout.head_dim;
        (0..count).map(|i| noise(i + 7_000_000)).collect()
    }

    /// The definition, in f64.
    fn expected(&self) -> Vec<f32> {
        let head_dim = self.layout.head_dim;
        let queries = self.queries();
        let rows = queries.chunks(head_dim).enumerate();
        rows.flat_map(|(row, query)| {
            let position = self.position + row / self.group;
            let first = self.window.map_or(0, |w| (position + 1).saturating_sub(w));
            let weights = (first..=position).map(|at| {
                let pairs = query.iter().enumerate();
                let score: f64 = pairs
                    .map(|(d, q)| f64::from(*q) * f64::from(self.key(at, d)))
                    .sum();
                (at, score.exp())
            });
            let weights: Vec<_> = weights.collect();
            let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
            let sum = sum + f64::from(self.sink).exp();
            let value = move |d: usize| -> f64 {
                let terms = weights.iter();
                terms
                    .map(|(at, weight)| weight * f64::from(self.value(*at, d)))
                    .sum::<f64>()
                    / sum
            };
            (0..head_dim).map(|d| value(d) as f32).collect::<Vec<_>>()
        })
        .collect()
    }

    fn found(&self, kernels: &Kernels) -> Vec<f32> {
        let head_dim = self.layout.head_dim;
        let head = self.layout.kv_heads - 1;
        let end = self.position + self.tokens;
        let pages: Vec<Page> = (0..end.div_ceil(PAGE))
            .map(|_| Page::new(&self.layout).unwrap())
            .collect();
        for position in 0..end {
            let key: Vec<f32> = (0..head_dim).map(|d| self.key(position, d)).collect();
            let value: Vec<f32> = (0..head_dim).map(|d| self.value(position, d)).collect();
            let page = &pages[position / PAGE];
            // SAFETY: this thread alone uses the pages.
            unsafe { self.layout.store(page, head, position % PAGE, &key, &value) };
        }
        let queries = self.queries();
        let queries = Queries {
            rows: &queries,
            group: self.group,
            position: self.position,
            window: self.window,
        };
        let rows = self.tokens * self.group;
        let (mut total, mut part) = (State::default(), State::default());
        total.reset(rows, head_dim);
        let mut workspace = Workspace::default();
        for (index, page) in pages.iter().enumerate() {
            part.reset(rows, head_dim);
            kernels.call(Look {
                queries: &queries,
                // SAFETY: this thread alone uses the pages.
                page: unsafe { self.layout.head(page, head) },
                layout: &self.layout,
                start: index * PAGE,
                workspace: &mut workspace,
                state: &mut part,
            });
            total.merge(&part);
        }
        let mut out = vec![0.0; rows * head_dim];
        for (row, out) in out.chunks_mut(head_dim).enumerate() {
            total.finish(row, self.sink, out);
        }
        out
    }
}

#[test]
fn every_instruction_set_and_cache_type_computes_the_definition() {
    let types = [
        (KvType::F32, 1e-5),
        (KvType::F16, 2e-3),
        (KvType::Q8_0, 2e-2),
    ];
    for (kv_type, bound) in types {
        for (head_dim, group, position, tokens, window, sink) in [
            (64, 8, 0, 1, None, 0.5),
            (64, 8, 150, 5, None, -3.0),
            (64, 3, 129, 16, Some(128), 2.0),
            (32, 1, 200, 7, Some(1), 9.0),
            (96, 2, 63, 2, Some(70), -90.0),
            (24, 5, 70, 3, None, 0.0),
        ] {
            if kv_type == KvType::Q8_0 && head_dim % 32 != 0 {
                continue;
            }
            let layout = PageLayout {
                kv_type,
                kv_heads: 2,
                head_dim,
            };
            let case = Case {
                layout,
                group,
                position,
                tokens,
                window,
                sink,
            };
            let expected = case.expected();
            for kernels in Kernels::available() {
                for (found, expected) in case.found(&kernels).iter().zip(&expected) {
                    let error = (found - expected).abs();
                    let name = kernels.isa();
                    assert!(
                        error < bound,
                        "{name} {kv_type:?} {head_dim} at {position}: {error}"
                    );
                }
            }
        }
    }
}
