//! The cache of the layers on the device, in pages as in the host's memory.
//!
//! All windowed layers share one list of pages, and all others another one: a page holds 64 positions of each of them.
//! A sequence owns [`Slot`]s. Before a pass the slots of its sequences get a place on the device; the slots of others,
//! such as snapshots, wait in the host's memory when places run short. So forks, snapshots and any number of sequences
//! work as on the processor, and a card only has to hold what one batch looks at.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use ggml_sys_bindgen::Error;

use super::cache::LayerTensors;
use crate::kernels::page::PAGE;
use crate::model::cache::LayerCache;

/// The places for pages of one list on the device.
pub struct Pool {
    /// Positions that the layers see, if not all.
    pub window: Option<usize>,
    /// Keys and values of each layer: `places * 64` rows.
    pub tensors: Vec<LayerTensors>,
    /// Bytes of the keys, or the values, of one position.
    pub row_bytes: usize,
    state: Mutex<State>,
}

struct State {
    free: BTreeSet<usize>,
    /// By place.
    residents: Vec<Weak<Slot>>,
}

/// A page of 64 positions of all layers of its pool.
pub struct Slot {
    pub pool: Arc<Pool>,
    place: Mutex<Place>,
    /// The last pass that looked at it.
    pass: AtomicU64,
}

enum Place {
    /// Nothing was written yet.
    Empty,
    /// The same as another one, and about to be changed.
    CopyOf(Arc<Slot>),
    /// In the host's memory.
    Host(Vec<u8>),
    /// On the device.
    Device(usize),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Pool {
    pub fn new(
        window: Option<usize>,
        tensors: Vec<LayerTensors>,
        row_bytes: usize,
        places: usize,
    ) -> Self {
        let state = State {
            free: (0..places).collect(),
            residents: (0..places).map(|_| Weak::new()).collect(),
        };
        Self {
            window,
            tensors,
            row_bytes,
            state: Mutex::new(state),
        }
    }

    /// Bytes of a page in all layers.
    pub fn page_bytes(&self) -> usize {
        2 * self.tensors.len() * self.half_bytes()
    }

    /// Bytes of the keys, or the values, of a page in one layer.
    pub fn half_bytes(&self) -> usize {
        PAGE * self.row_bytes
    }

    /// A place on the device, made free if there is none.
    fn take(&self, pass: u64) -> Result<usize, PageError> {
        if let Some(place) = lock(&self.state).free.pop_first() {
            return Ok(place);
        }
        let residents: Vec<Arc<Slot>> = {
            let state = lock(&self.state);
            state.residents.iter().filter_map(Weak::upgrade).collect()
        };
        let others = residents.iter().filter(|slot| slot.pass() != pass);
        match others.min_by_key(|slot| slot.pass()) {
            Some(oldest) => Ok(oldest.leave()?.ok_or(PageError::Full)?),
            None => Err(PageError::Full),
        }
    }

    fn read(&self, place: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; self.page_bytes()];
        let offset = place * self.half_bytes();
        let mut halves = bytes.chunks_exact_mut(self.half_bytes());
        for layer in &self.tensors {
            for (tensor, half) in [layer.keys, layer.values].into_iter().zip(&mut halves) {
                layer.store.download(tensor, offset, half)?;
            }
        }
        Ok(bytes)
    }

    fn write(&self, place: usize, bytes: &[u8]) -> Result<(), Error> {
        let offset = place * self.half_bytes();
        let mut halves = bytes.chunks_exact(self.half_bytes());
        for layer in &self.tensors {
            for (tensor, half) in [layer.keys, layer.values].into_iter().zip(&mut halves) {
                layer.store.upload(tensor, offset, half)?;
            }
        }
        Ok(())
    }
}

/// Why a page cannot be on the device.
pub enum PageError {
    /// The pages of one batch need all places.
    Full,
    /// The device failed.
    Device(Error),
}

impl From<Error> for PageError {
    fn from(error: Error) -> Self {
        Self::Device(error)
    }
}

impl Slot {
    fn new(pool: &Arc<Pool>, place: Place) -> Self {
        Self {
            pool: Arc::clone(pool),
            place: Mutex::new(place),
            pass: AtomicU64::new(0),
        }
    }

    /// A page from elsewhere: of each layer the keys, then the values.
    pub fn from_bytes(pool: &Arc<Pool>, bytes: Vec<u8>) -> Self {
        Self::new(pool, Place::Host(bytes))
    }

    fn pass(&self) -> u64 {
        self.pass.load(Ordering::Relaxed)
    }

    /// Its place on the device, if it has one.
    pub fn index(&self) -> Option<usize> {
        match *lock(&self.place) {
            Place::Device(place) => Some(place),
            _ => None,
        }
    }

    /// This pass needs it: it keeps its place.
    pub fn look_at(&self, pass: u64) {
        self.pass.store(pass, Ordering::Relaxed);
    }

    /// Makes sure that it is on the device.
    pub fn enter(self: &Arc<Self>, pass: u64) -> Result<(), PageError> {
        let mut place = lock(&self.place);
        let bytes = match &*place {
            Place::Device(_) => return Ok(()),
            Place::Empty => None,
            Place::CopyOf(other) => Some(other.to_bytes()?),
            Place::Host(bytes) => Some(bytes.clone()),
        };
        let index = self.pool.take(pass)?;
        let written = bytes.map_or(Ok(()), |bytes| self.pool.write(index, &bytes));
        if let Err(error) = written {
            lock(&self.pool.state).free.insert(index);
            return Err(error.into());
        }
        lock(&self.pool.state).residents[index] = Arc::downgrade(self);
        *place = Place::Device(index);
        Ok(())
    }

    /// Moves to the host's memory and gives up the place.
    fn leave(&self) -> Result<Option<usize>, Error> {
        let mut place = lock(&self.place);
        let Place::Device(index) = *place else {
            return Ok(None);
        };
        *place = Place::Host(self.pool.read(index)?);
        Ok(Some(index))
    }

    /// Of each layer the keys, then the values.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        match &*lock(&self.place) {
            Place::Empty => Ok(vec![0; self.pool.page_bytes()]),
            Place::CopyOf(other) => other.to_bytes(),
            Place::Host(bytes) => Ok(bytes.clone()),
            Place::Device(place) => self.pool.read(*place),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let place = self.place.get_mut();
        let place = place.unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Place::Device(index) = *place {
            lock(&self.pool.state).free.insert(index);
        }
    }
}

/// A sequence's pages on the device.
#[derive(Clone, Default)]
pub struct Cache {
    pub(super) lists: Vec<List>,
}

/// The pages of all layers with the same window.
#[derive(Clone)]
pub struct List {
    pub pool: Arc<Pool>,
    pub pages: LayerCache<Slot>,
}

impl Cache {
    pub fn new(pools: &[Arc<Pool>]) -> Self {
        let lists = pools.iter().map(|pool| List {
            pool: Arc::clone(pool),
            pages: LayerCache::new(pool.window),
        });
        Self {
            lists: lists.collect(),
        }
    }

    /// Layers that it holds the keys and values of.
    pub fn layers(&self) -> usize {
        self.lists.iter().map(|list| list.pool.tensors.len()).sum()
    }

    pub fn earliest(&self) -> usize {
        let lists = self.lists.iter().map(|list| list.pages.earliest());
        lists.max().unwrap_or(0)
    }

    pub fn bytes(&self) -> u64 {
        let bytes = self.lists.iter().map(|list| {
            let pages = list.pages.pages.len();
            pages * list.pool.page_bytes()
        });
        bytes.sum::<usize>() as u64
    }

    pub fn truncate(&mut self, position: usize) {
        for list in &mut self.lists {
            list.pages.truncate(position);
        }
    }

    pub fn drop_unseen(&mut self, length: usize, slack: usize) {
        for list in &mut self.lists {
            list.pages.drop_unseen(length, slack);
        }
    }

    /// New pages take their memory when the next pass begins.
    pub fn extend(&mut self, length: usize, end: usize) {
        for List { pool, pages } in &mut self.lists {
            let new = || Some(Slot::new(pool, Place::Empty));
            let copy = |page: &Arc<Slot>| Some(Slot::new(pool, Place::CopyOf(Arc::clone(page))));
            let done = pages.extend(length, end, new, copy);
            debug_assert!(done.is_some(), "no step of this can fail");
        }
    }
}
