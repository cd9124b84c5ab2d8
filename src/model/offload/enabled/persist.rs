//! Pages on the device as the host's pages, for session files, and back.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::device::Device;
use super::layout;
use super::pages::{Cache, Slot};
use crate::kernels::page::{Page, PageLayout};
use crate::model::Sequence;
use crate::model::cache::LayerCache;

/// Host pages made of slots: each once, however many sequences share it.
#[derive(Default)]
pub struct Copies(HashMap<*const Slot, Vec<Arc<Page>>>);

impl Copies {
    /// The same sequence with all its pages in the host's memory.
    pub fn of(&mut self, sequence: &Sequence) -> io::Result<Sequence> {
        let mut copy = sequence.clone();
        let first = copy.layers.len();
        let windows = sequence.device.lists.iter().map(|list| &list.pool);
        let mut windows: Vec<_> = windows
            .flat_map(|pool| pool.tensors.iter().map(|it| (it.layer, pool.window)))
            .collect();
        windows.sort_unstable_by_key(|&(layer, _)| layer);
        let layers = windows
            .into_iter()
            .map(|(_, window)| LayerCache::new(window));
        copy.layers.extend(layers);
        for list in &sequence.device.lists {
            for slot in &list.pages.pages {
                let pages = self.pages(slot, &sequence.layout)?;
                for (tensors, page) in list.pool.tensors.iter().zip(pages) {
                    copy.layers[tensors.layer].pages.push_back(page);
                }
            }
            for tensors in &list.pool.tensors {
                debug_assert!(tensors.layer >= first);
                copy.layers[tensors.layer].first = list.pages.first;
            }
        }
        copy.device = Cache::default();
        Ok(copy)
    }

    /// Of each layer the page that the slot is.
    fn pages(&mut self, slot: &Arc<Slot>, layout: &PageLayout) -> io::Result<Vec<Arc<Page>>> {
        if let Some(pages) = self.0.get(&Arc::as_ptr(slot)) {
            return Ok(pages.clone());
        }
        let bytes = slot.to_bytes().map_err(io::Error::other)?;
        let half = slot.pool.half_bytes();
        let mut pages = Vec::new();
        for layer in bytes.chunks_exact(2 * half) {
            let mut page = Page::new(layout).ok_or(io::ErrorKind::OutOfMemory)?;
            let (keys, values) = layer.split_at(half);
            layout::to_host(layout, keys, values, page.bytes_mut());
            pages.push(Arc::new(page));
        }
        self.0.insert(Arc::as_ptr(slot), pages.clone());
        Ok(pages)
    }
}

impl Device {
    /// Moves the pages of the layers that are here to slots; they reach the device with the next pass.
    pub fn adopt(&self, sequences: &mut [&mut Sequence]) {
        let mut slots: HashMap<Vec<*const Page>, Arc<Slot>> = HashMap::new();
        for sequence in sequences {
            let mut cache = self.new_cache();
            for list in &mut cache.lists {
                let layers: Vec<&LayerCache> = list
                    .pool
                    .tensors
                    .iter()
                    .map(|it| &sequence.layers[it.layer])
                    .collect();
                list.pages.first = layers[0].first;
                for index in 0..layers[0].pages.len() {
                    let pages: Vec<&Arc<Page>> = layers.iter().map(|it| &it.pages[index]).collect();
                    let key = pages.iter().map(|page| Arc::as_ptr(page)).collect();
                    let slot = slots.entry(key).or_insert_with(|| {
                        let bytes = to_bytes(&sequence.layout, &pages, list.pool.half_bytes());
                        Arc::new(Slot::from_bytes(&list.pool, bytes))
                    });
                    list.pages.pages.push_back(Arc::clone(slot));
                }
            }
            sequence.layers.truncate(self.first_layer());
            sequence.device = cache;
        }
    }
}

/// The bytes of a slot: of each layer the keys, then the values.
fn to_bytes(layout: &PageLayout, pages: &[&Arc<Page>], half: usize) -> Vec<u8> {
    let mut bytes = vec![0; 2 * half * pages.len()];
    for (page, layer) in pages.iter().zip(bytes.chunks_exact_mut(2 * half)) {
        let (keys, values) = layer.split_at_mut(half);
        // SAFETY: pages are written only during a forward pass, by a sequence that owns them alone.
        let page = unsafe { page.bytes() };
        layout::to_device(layout, page, keys, values);
    }
    bytes
}
