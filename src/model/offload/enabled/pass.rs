//! A batch on its way through the layers on the device.

use std::sync::Arc;
use std::time::Instant;

use super::device::Device;
use super::graph::Form;
use super::pages::{List, PageError, Pool, Slot};
use crate::kernels::page::PAGE;
use crate::model::Logits;
use crate::model::batch::BatchToken;
use crate::model::cache::LayerCache;
use crate::model::forward::{CHUNK, Engine, elsewhere};
use crate::model::offload::HEAD_ROWS;
use crate::model::phases::Phase;
use crate::model::scratch::Scratch;
use crate::model::{Error, Sequence};

/// Minus infinity as a 16-bit float.
const HIDDEN: u16 = 0xfc00;

/// Tokens of a batch that go through a graph together: as many as its values were planned for.
struct Piece {
    start: usize,
    tokens: usize,
    /// How many of them are wanted after the last layer.
    wanted: usize,
}

impl Piece {
    fn of(tokens: usize, wanted: &[usize]) -> Vec<Self> {
        let starts = (0..tokens).step_by(CHUNK);
        let piece = |start| Self {
            start,
            tokens: CHUNK.min(tokens - start),
            wanted: rows_of(start, wanted).count(),
        };
        starts.map(piece).collect()
    }

    /// The graph of these layers for this piece.
    fn form(&self, span: Form, positions: [usize; 2], last: bool) -> Form {
        Form {
            start: self.start,
            tokens: self.tokens,
            wanted: last.then_some(self.wanted),
            positions,
            ..span
        }
    }

    /// Its part of the residual stream.
    fn part<'a>(&self, x: &'a [f32], dim: usize) -> &'a [f32] {
        &x[self.start * dim..(self.start + self.tokens) * dim]
    }
}

/// The wanted rows of the piece that begins here, counted from there.
fn rows_of(start: usize, wanted: &[usize]) -> impl Iterator<Item = usize> {
    let inside = move |row: &&usize| (start..start + CHUNK).contains(*row);
    wanted.iter().filter(inside).map(move |row| row - start)
}

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
        let (dim, pieces) = (self.config.dim, Piece::of(tokens.len(), wanted));
        for span in device.spans() {
            let (start, end) = span.layers;
            let last = end == self.config.layers;
            if span.experts {
                for piece in &pieces {
                    let form = piece.form(span, positions, last);
                    self.to_the_end(device, form, piece.part(&scratch.x, dim), logits)?;
                }
                return Ok(());
            }
            let mut out = Vec::with_capacity(tokens.len() * dim);
            for piece in &pieces {
                let done = out.len();
                let rows = if last { piece.wanted } else { piece.tokens };
                out.resize(done + rows * dim, 0.0);
                let form = piece.form(span, positions, last);
                let x = piece.part(&scratch.x, dim);
                device.run(self.config, form, x, &mut out[done..])?;
            }
            scratch.x = out;
            scratch.phases.end(Phase::Device);
            check(&scratch.x, || format!("layer {} on the GPU", end - 1))?;
            self.experts_from_host(device, start, scratch)?;
        }
        self.head_on_device(device, &scratch.x, logits)
    }

    /// Logits from the last layers, all of them on the device.
    fn to_the_end(
        &self,
        device: &mut Device,
        form: Form,
        x: &[f32],
        logits: &mut Logits,
    ) -> Result<(), Error> {
        let place = || "the layers on the GPU".to_string();
        let rows = form.wanted.unwrap_or(form.tokens);
        if (1..=HEAD_ROWS).contains(&rows) {
            let out = logits.more(rows * self.config.vocabulary);
            device.run(self.config, Form { head: true, ..form }, x, out)?;
            return check(out, place);
        }
        let mut out = vec![0.0; rows * self.config.dim];
        device.run(self.config, form, x, &mut out)?;
        check(&out, place)?;
        self.head_on_device(device, &out, logits)
    }

    fn head_on_device(
        &self,
        device: &mut Device,
        x: &[f32],
        logits: &mut Logits,
    ) -> Result<(), Error> {
        let (dim, vocabulary) = (self.config.dim, self.config.vocabulary);
        for rows in x.chunks(HEAD_ROWS * dim) {
            let form = device.head_form(self.config, rows.len() / dim);
            let out = logits.more(rows.len() / dim * vocabulary);
            device.run(self.config, form, rows, out)?;
            check(out, || "the head".into())?;
        }
        Ok(())
    }

    /// The experts of a layer whose weights are in the host's memory, wherever that is faster.
    fn experts_from_host(
        &self,
        device: &mut Device,
        index: usize,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let layer = &self.weights.layers[index];
        let rows = scratch.x.len() / self.config.dim;
        let start = Instant::now();
        if device.brings(layer, rows) {
            device.bring(self.config, layer, &mut scratch.x)?;
            scratch.phases.end(Phase::Device);
            device
                .pace
                .took_brought(rows, start.elapsed().as_secs_f64());
            return check(&scratch.x, || {
                format!("the experts of layer {index} on the GPU")
            });
        }
        self.mixture_of_experts(index, scratch)?;
        device
            .pace
            .took_on_host(rows, start.elapsed().as_secs_f64());
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
        let starts = || (0..tokens.len()).step_by(CHUNK);
        for start in starts() {
            let wanted: Vec<i32> = rows_of(start, wanted).map(|row| row as i32).collect();
            store.upload(self.inputs.wanted, start * size_of::<i32>(), &wanted)?;
        }
        for (index, list) in self.inputs.lists.iter().enumerate() {
            let places: Vec<Places> = sequences.iter().map(|it| Places::of(it, index)).collect();
            let row = |token: &BatchToken| places[token.sequence].row(token.position) as i64;
            let rows: Vec<i64> = tokens.iter().map(row).collect();
            store.upload(list.rows, 0, &rows)?;
            let visible = visible[index];
            for (start, tokens) in starts().zip(tokens.chunks(CHUNK)) {
                let mut mask = vec![HIDDEN; tokens.len() * visible];
                for (token, mask) in tokens.iter().zip(mask.chunks_exact_mut(visible)) {
                    places[token.sequence].show(token.position, mask);
                }
                store.upload(list.mask, start * visible * size_of::<u16>(), &mask)?;
            }
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
