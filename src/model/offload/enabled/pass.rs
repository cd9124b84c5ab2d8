//! A batch on its way through the layers on the device.

use std::sync::Arc;

use super::device::Device;
use super::graph::Form;
use super::pages::{List, PageError, Pool, Slot};
use crate::kernels::page::PAGE;
use crate::model::batch::BatchToken;
use crate::model::cache::LayerCache;
use crate::model::forward::{Engine, Logits, Scratch, elsewhere};
use crate::model::offload::HEAD_ROWS;
use crate::model::phases::Phase;
use crate::model::{Error, Sequence};

/// Minus infinity as a 16-bit float.
const HIDDEN: u16 = 0xfc00;

impl Engine<'_> {
    /// What the layers on the device and the head make of the residual stream in `scratch.x`.
    pub(in crate::model) fn on_device(
        &self,
        device: &mut Device,
        tokens: &[BatchToken],
        wanted: &[usize],
        sequences: &[&mut Sequence],
        scratch: &mut Scratch,
        logits: &mut Logits,
    ) -> Result<(), Error> {
        device.check()?;
        let positions = device.prepare(tokens, wanted, sequences)?;
        let (dim, vocabulary) = (self.config.dim, self.config.vocabulary);
        let fused = (1..=HEAD_ROWS).contains(&wanted.len());
        for span in device.spans() {
            let (start, end) = span.layers;
            let last = end == self.config.layers;
            let head = last && span.experts && fused;
            let rows = if last { wanted.len() } else { tokens.len() };
            let form = Form {
                tokens: tokens.len(),
                wanted: last.then_some(rows),
                head,
                positions,
                ..span
            };
            if head {
                let out = logits.more(rows * vocabulary);
                device.run(self.config, form, &scratch.x, out)?;
                return check(out, || "the layers on the GPU".into());
            }
            let mut out = vec![0.0; rows * dim];
            device.run(self.config, form, &scratch.x, &mut out)?;
            scratch.x = out;
            scratch.phases.end(Phase::Device);
            check(&scratch.x, || format!("layer {} on the GPU", end - 1))?;
            if !span.experts {
                self.mixture_of_experts(start, scratch)?;
            }
        }
        for rows in scratch.x.chunks(HEAD_ROWS * dim) {
            let form = device.head_form(self.config, rows.len() / dim);
            let out = logits.more(rows.len() / dim * vocabulary);
            device.run(self.config, form, rows, out)?;
            check(out, || "the head".into())?;
        }
        Ok(())
    }
}

/// That everything is a number.
fn check(values: &[f32], place: impl Fn() -> String) -> Result<(), Error> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    Err(Error::NotFinite { place: place() })
}

impl Device {
    /// Brings the batch's pages to the device and fills in what all graphs of the pass share. Gives the positions that
    /// they show of each list of pages.
    fn prepare(
        &mut self,
        tokens: &[BatchToken],
        wanted: &[usize],
        sequences: &[&mut Sequence],
    ) -> Result<[usize; 2], Error> {
        let here = |(list, pool): (&List, &Arc<Pool>)| Arc::ptr_eq(&list.pool, pool);
        let lists = |it: &Sequence| it.device.lists.iter().zip(&self.pools).all(here);
        if !sequences.iter().all(|it| lists(it)) {
            return Err(elsewhere());
        }
        let mut highest = [0; 2];
        for (list, highest) in highest.iter_mut().enumerate().take(self.pools.len()) {
            *highest = self.enter(list, sequences)?;
        }
        let visible = self.positions(|list| highest[list] + 1);
        let result = self.fill(tokens, wanted, sequences, visible);
        self.remember(result)?;
        Ok(visible)
    }

    /// Gives all pages of one list a place; the highest of them.
    fn enter(&mut self, list: usize, sequences: &[&mut Sequence]) -> Result<usize, Error> {
        self.pass += 1;
        let pages = |sequence: &Sequence| sequence.device.lists[list].pages.pages.clone();
        let pages: Vec<_> = sequences.iter().flat_map(|it| pages(it)).collect();
        for page in &pages {
            page.look_at(self.pass);
        }
        let mut highest = 0;
        for page in &pages {
            match page.enter(self.pass) {
                Ok(()) => highest = highest.max(page.index().unwrap_or(0)),
                Err(PageError::Device(error)) => return self.remember(Err(error)),
                Err(PageError::Full) => {
                    return Err(Error::Unsupported(format!(
                        "the cache on {} was planned for {} positions, and these sequences have more: give --ctx their sum",
                        self.plan().device,
                        self.plan().context
                    )));
                }
            }
        }
        Ok(highest)
    }

    fn fill(
        &self,
        tokens: &[BatchToken],
        wanted: &[usize],
        sequences: &[&mut Sequence],
        visible: [usize; 2],
    ) -> Result<(), ggml_sys_bindgen::Error> {
        let store = &self.inputs.store;
        let positions: Vec<i32> = tokens.iter().map(|it| it.position as i32).collect();
        store.upload(self.inputs.positions, 0, &positions)?;
        let wanted: Vec<i32> = wanted.iter().map(|&row| row as i32).collect();
        store.upload(self.inputs.wanted, 0, &wanted)?;
        for (index, list) in self.inputs.lists.iter().enumerate() {
            let places: Vec<Places> = sequences.iter().map(|it| Places::of(it, index)).collect();
            let row = |token: &BatchToken| places[token.sequence].row(token.position) as i64;
            let rows: Vec<i64> = tokens.iter().map(row).collect();
            store.upload(list.rows, 0, &rows)?;
            let mut mask = vec![HIDDEN; tokens.len() * visible[index]];
            for (token, mask) in tokens.iter().zip(mask.chunks_exact_mut(visible[index])) {
                places[token.sequence].show(token.position, mask);
            }
            store.upload(list.mask, 0, &mask)?;
        }
        Ok(())
    }
}

/// Where the positions of a sequence are on the device, in one list of pages.
struct Places<'a> {
    pages: &'a LayerCache<Slot>,
    /// Of each page.
    places: Vec<usize>,
}

impl<'a> Places<'a> {
    fn of(sequence: &'a Sequence, list: usize) -> Self {
        let pages = &sequence.device.lists[list].pages;
        let places = pages.pages.iter().map(|page| page.index().unwrap_or(0));
        Self {
            pages,
            places: places.collect(),
        }
    }

    /// The row of the cache that belongs to a position.
    fn row(&self, position: usize) -> usize {
        self.places[position / PAGE - self.pages.first] * PAGE + position % PAGE
    }

    /// Shows a token what it sees: itself and what came before, within the window.
    fn show(&self, token: usize, mask: &mut [u16]) {
        let mut position = self.pages.first_visible(token);
        while position <= token {
            let end = ((position / PAGE + 1) * PAGE).min(token + 1);
            mask[self.row(position)..][..end - position].fill(0);
            position = end;
        }
    }
}
