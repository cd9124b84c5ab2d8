//! Caches in a file: a table, and pages as they are, each once however many sequences share it.
//!
//! The table, little-endian: page size, number of layers, number of sequences; per sequence its length and per layer the
//! first page's number, the count and the places of its pages. Whoever calls this sees to checksums and to the model's
//! fingerprint, so here every number is only checked against what could do harm.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::kernels::page::{PAGE, Page, PageLayout};

use super::cache::LayerCache;
use super::offload::{self, Copies};
use super::{Model, Sequence, Snapshot};

/// Keeps a part of a cache, unless the same is kept already; gives back its place.
pub type Put<'a> = dyn FnMut(&[u8]) -> io::Result<u64> + 'a;

/// Reads the part at a place.
pub type Get<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<()> + 'a;

/// Writes a sequence and the snapshots that it can return to.
pub fn save(
    sequence: &Sequence,
    snapshots: &[&Snapshot],
    put: &mut Put,
    table: &mut dyn Write,
) -> io::Result<()> {
    let mut copies = Copies::default();
    let sequences: Vec<Sequence> = std::iter::once(sequence)
        .chain(snapshots.iter().map(|snapshot| &snapshot.0))
        .map(|sequence| copies.of(sequence))
        .collect::<io::Result<_>>()?;
    let mut places: HashMap<*const Page, u64> = HashMap::new();
    let mut number = |number: u64| table.write_all(&number.to_le_bytes());
    number(sequence.layout.bytes() as u64)?;
    number(sequences[0].layers.len() as u64)?;
    number(sequences.len() as u64)?;
    for sequence in &sequences {
        number(sequence.length as u64)?;
        for layer in &sequence.layers {
            let filled = layer.filled(sequence.length);
            number(layer.first as u64)?;
            number(filled as u64)?;
            for page in layer.pages.iter().take(filled) {
                number(match places.get(&Arc::as_ptr(page)) {
                    Some(&place) => place,
                    None => {
                        // SAFETY: pages are written only during a forward pass, by a sequence that owns them alone and is
                        // borrowed mutably; this one is borrowed here.
                        let place = put(unsafe { page.bytes() })?;
                        places.insert(Arc::as_ptr(page), place);
                        place
                    }
                })?;
            }
        }
    }
    Ok(())
}

/// Reads what [`save`] wrote, for a model whose caches have the same form.
pub fn load(
    model: &Model,
    table: &mut dyn Read,
    get: &mut Get,
) -> io::Result<(Sequence, Vec<Snapshot>)> {
    let empty = model.sequence_with(offload::Cache::default());
    let expect = |table: &mut dyn Read, wanted: usize, what: &str| match number(table)? {
        found if found == wanted as u64 => Ok(()),
        found => Err(wrong(format!(
            "its {what} is {found}, this model's is {wanted}"
        ))),
    };
    expect(table, empty.layout.bytes(), "page size")?;
    expect(table, empty.layers.len(), "number of layers")?;
    let sequence_count = number(table)?;
    let mut pages = Pages {
        layout: empty.layout,
        get,
        read: HashMap::new(),
    };
    let mut sequences = Vec::new();
    for _ in 0..sequence_count {
        sequences.push(read_sequence(&empty, table, &mut pages)?);
    }
    if let Some(device) = &model.running().scratch.device {
        device.adopt(&mut sequences.iter_mut().collect::<Vec<_>>());
    }
    let mut sequences = sequences.into_iter();
    let sequence = sequences
        .next()
        .ok_or_else(|| wrong("it holds no cache".into()))?;
    Ok((sequence, sequences.map(Snapshot).collect()))
}

fn read_sequence(
    empty: &Sequence,
    table: &mut dyn Read,
    pages: &mut Pages,
) -> io::Result<Sequence> {
    let mut sequence = empty.clone();
    sequence.length = bounded(table, empty.limit as u64, "length")?;
    for index in 0..empty.layers.len() {
        let length = sequence.length;
        let (read, rest) = sequence.layers.split_at_mut(index);
        let layer = &mut rest[0];
        layer.first = bounded(table, (length / PAGE) as u64, "first page")?;
        let count = number(table)?;
        let first_needed = layer.first_visible(length) / PAGE;
        if layer.first > first_needed || count != layer.filled(length) as u64 {
            return Err(wrong(format!(
                "a layer holds {count} pages from page {} on of a cache of {length} tokens",
                layer.first
            )));
        }
        // A device keeps the layers of one window in common pages.
        let mut alike = read.iter().filter(|other| other.window == layer.window);
        if alike.any(|other| other.first != layer.first) {
            return Err(wrong(
                "layers of one window begin at different pages".into(),
            ));
        }
        for _ in 0..count {
            layer.pages.push_back(pages.at(number(table)?)?);
        }
    }
    Ok(sequence)
}

/// The pages at their places, each read once.
struct Pages<'a, 'b> {
    layout: PageLayout,
    get: &'a mut Get<'b>,
    read: HashMap<u64, Arc<Page>>,
}

impl Pages<'_, '_> {
    fn at(&mut self, place: u64) -> io::Result<Arc<Page>> {
        if let Some(page) = self.read.get(&place) {
            return Ok(Arc::clone(page));
        }
        let mut page = Page::new(&self.layout).ok_or(io::ErrorKind::OutOfMemory)?;
        (self.get)(place, page.bytes_mut())?;
        let page = Arc::new(page);
        self.read.insert(place, Arc::clone(&page));
        Ok(page)
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

#[cfg(test)]
mod tests {
    use super::super::{Batch, Error, Logits};
    use super::*;

    /// Two sequences, the second as long as the window, in a table and pages.
    fn saved(model: &Model) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut sequence = model.new_sequence();
        go_on(model, &mut sequence, 130).unwrap();
        let snapshot = sequence.snapshot();
        go_on(model, &mut sequence, 200).unwrap();
        let (mut table, mut parts) = (Vec::new(), Vec::new());
        let mut put = |part: &[u8]| {
            parts.push(part.to_vec());
            Ok(parts.len() as u64 - 1)
        };
        save(&sequence, &[&snapshot], &mut put, &mut table).unwrap();
        (table, parts)
    }

    fn go_on(model: &Model, sequence: &mut Sequence, count: usize) -> Result<(), Error> {
        let batch = Batch::continuing(sequence.len(), &vec![1; count]);
        model.forward(&batch, &mut [sequence], &mut Logits::default())
    }

    #[test]
    fn a_table_of_any_numbers_is_refused_or_goes_on() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny/tiny.gguf");
        let model = Model::open(file).unwrap();
        let (table, parts) = saved(&model);
        let mut get = |place: u64, into: &mut [u8]| match parts.get(place as usize) {
            Some(part) => {
                into.copy_from_slice(part);
                Ok(())
            }
            None => Err(io::ErrorKind::InvalidData.into()),
        };
        let mut refused = 0;
        let numbers = table.len() / 8;
        for index in 0..numbers {
            for change in [0, 1, 2, u64::MAX, u64::MAX - 1, 1 << 40] {
                let mut table = table.clone();
                let number = &mut table.as_chunks_mut::<8>().0[index];
                *number = u64::from_le_bytes(*number)
                    .wrapping_add(change)
                    .to_le_bytes();
                match load(&model, &mut &table[..], &mut get) {
                    Err(_) => refused += 1,
                    Ok((mut sequence, snapshots)) => {
                        let _ = go_on(&model, &mut sequence, 70);
                        for snapshot in snapshots {
                            let _ = go_on(&model, &mut snapshot.to_sequence(), 70);
                        }
                    }
                }
            }
        }
        // All but those that name other pages, and the unchanged ones.
        assert!(refused > 2 * numbers, "{refused} of {numbers}");
        assert!(load(&model, &mut &table[..table.len() - 1], &mut get).is_err());
    }
}
