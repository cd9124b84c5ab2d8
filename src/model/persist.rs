//! Caches in a file: pages as they are, each once however many sequences share it.
//!
//! Layout, little-endian: page size, number of layers, number of pages, number of sequences; per
//! sequence its length and per layer the first page's number, the count and the indices of its
//! pages; then the pages. Whoever calls this wraps it in a checksum and a fingerprint of the model,
//! so here every number is only checked against what could do harm.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::kernels::page::{PAGE, Page};

use super::cache::LayerCache;
use super::offload::{self, Copies};
use super::{Model, Sequence, Snapshot};

/// Writes a sequence and the snapshots that it can return to.
pub fn save(sequence: &Sequence, snapshots: &[&Snapshot], out: &mut dyn Write) -> io::Result<()> {
    let mut copies = Copies::default();
    let sequences: Vec<Sequence> = std::iter::once(sequence)
        .chain(snapshots.iter().map(|snapshot| &snapshot.0))
        .map(|sequence| copies.of(sequence))
        .collect::<io::Result<_>>()?;
    let mut indices: HashMap<*const Page, u64> = HashMap::new();
    let mut pages: Vec<&Arc<Page>> = Vec::new();
    for page in sequences.iter().flat_map(|sequence| sequence.pages()) {
        indices.entry(Arc::as_ptr(page)).or_insert_with(|| {
            pages.push(page);
            pages.len() as u64 - 1
        });
    }
    let mut number = |number: u64| out.write_all(&number.to_le_bytes());
    number(sequence.layout.bytes() as u64)?;
    number(sequences[0].layers.len() as u64)?;
    number(pages.len() as u64)?;
    number(sequences.len() as u64)?;
    for sequence in &sequences {
        number(sequence.length as u64)?;
        for layer in &sequence.layers {
            let filled = layer.filled(sequence.length);
            number(layer.first as u64)?;
            number(filled as u64)?;
            for page in layer.pages.iter().take(filled) {
                number(indices[&Arc::as_ptr(page)])?;
            }
        }
    }
    for page in pages {
        // SAFETY: pages are written only during a forward pass, by a sequence that owns them alone and is borrowed
        // mutably; this one is borrowed here.
        out.write_all(unsafe { page.bytes() })?;
    }
    Ok(())
}

/// Reads what [`save`] wrote, for a model whose caches have the same form.
pub fn load(model: &Model, input: &mut dyn Read) -> io::Result<(Sequence, Vec<Snapshot>)> {
    let empty = model.sequence_with(offload::Cache::default());
    let expect = |input: &mut dyn Read, wanted: usize, what: &str| match number(input)? {
        found if found == wanted as u64 => Ok(()),
        found => Err(wrong(format!(
            "its {what} is {found}, this model's is {wanted}"
        ))),
    };
    expect(input, empty.layout.bytes(), "page size")?;
    expect(input, empty.layers.len(), "number of layers")?;
    let page_count = number(input)?;
    let sequence_count = number(input)?;
    let mut places = Vec::new();
    for _ in 0..sequence_count {
        places.push(Places::read(&empty, page_count, input)?);
    }
    let mut pages = Vec::new();
    for _ in 0..page_count {
        // Memory is taken page by page, so a count that lies ends at the end of the file.
        let page = Page::new(&empty.layout).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut page = Arc::new(page);
        if let Some(page) = Arc::get_mut(&mut page) {
            input.read_exact(page.bytes_mut())?;
        }
        pages.push(page);
    }
    let sequences = places.iter().map(|places| places.fill(&empty, &pages));
    let mut sequences: Vec<Sequence> = sequences.collect();
    if let Some(device) = &model.running().scratch.device {
        device.adopt(&mut sequences.iter_mut().collect::<Vec<_>>());
    }
    let mut sequences = sequences.into_iter();
    let sequence = sequences
        .next()
        .ok_or_else(|| wrong("it holds no cache".into()))?;
    Ok((sequence, sequences.map(Snapshot).collect()))
}

/// Which pages a sequence consists of.
struct Places {
    length: usize,
    /// Per layer: the number of its first page, and where its pages are.
    layers: Vec<(usize, Vec<usize>)>,
}

impl Places {
    fn read(empty: &Sequence, page_count: u64, input: &mut dyn Read) -> io::Result<Self> {
        let length = bounded(input, empty.limit as u64, "length")?;
        let mut layers: Vec<(usize, Vec<usize>)> = Vec::new();
        for layer in &empty.layers {
            let first = bounded(input, (length / PAGE) as u64, "first page")?;
            let count = bounded(input, page_count, "number of pages")?;
            let first_needed = layer.first_visible(length) / PAGE;
            let wanted = length.div_ceil(PAGE).saturating_sub(first);
            if first > first_needed || count != wanted {
                return Err(wrong(format!(
                    "a layer holds {count} pages from page {first} on of a cache of {length} tokens"
                )));
            }
            // A device keeps the layers of one window in common pages.
            let mut read = empty.layers.iter().zip(&layers);
            if read.any(|(other, &(begin, _))| other.window == layer.window && begin != first) {
                return Err(wrong(
                    "layers of one window begin at different pages".into(),
                ));
            }
            let indices = (0..count).map(|_| bounded(input, page_count.saturating_sub(1), "page"));
            layers.push((first, indices.collect::<io::Result<_>>()?));
        }
        Ok(Self { length, layers })
    }

    fn fill(&self, empty: &Sequence, pages: &[Arc<Page>]) -> Sequence {
        let mut sequence = empty.clone();
        sequence.length = self.length;
        for (layer, (first, indices)) in sequence.layers.iter_mut().zip(&self.layers) {
            layer.first = *first;
            layer.pages = indices
                .iter()
                .map(|&index| Arc::clone(&pages[index]))
                .collect();
        }
        sequence
    }
}

impl Sequence {
    fn pages(&self) -> impl Iterator<Item = &Arc<Page>> {
        let filled = |layer| LayerCache::filled(layer, self.length);
        let layers = self.layers.iter();
        layers.flat_map(move |layer| layer.pages.iter().take(filled(layer)))
    }
}

impl LayerCache {
    /// Pages that hold positions before `length`.
    fn filled(&self, length: usize) -> usize {
        length.div_ceil(PAGE).saturating_sub(self.first)
    }
}

fn number(input: &mut dyn Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn bounded(input: &mut dyn Read, most: u64, what: &str) -> io::Result<usize> {
    match number(input)? {
        found if found <= most => Ok(found as usize),
        found => Err(wrong(format!(
            "a {what} is {found}, at most {most} is possible"
        ))),
    }
}

fn wrong(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
