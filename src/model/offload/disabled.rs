//! A build without a GPU: nothing here does anything, and the compiler removes it.

use std::io;

use super::Source;
use super::plan::{Card, Plan};
use crate::model::Logits;
use crate::model::batch::BatchToken;
use crate::model::forward::Engine;
use crate::model::scratch::Scratch;
use crate::model::{Error, Sequence};

/// Whether this build can use a GPU at all.
pub const AVAILABLE: bool = false;

/// What there is to put layers on.
pub fn cards() -> Vec<Card> {
    Vec::new()
}

/// Drivers that could say something are not there.
pub fn listen(_: fn(&str)) {}

/// Layers on a device: there are none.
pub enum Device {}

impl Device {
    pub fn open(_: &Source, _: &Plan, _: &mut dyn FnMut(u64)) -> Result<Self, Error> {
        Err(Error::Device("this build has no GPU in it".into()))
    }

    pub fn first_layer(&self) -> usize {
        match *self {}
    }

    pub fn plan(&self) -> &Plan {
        match *self {}
    }

    pub fn scratch_bytes(&self) -> u64 {
        match *self {}
    }

    pub fn new_cache(&self) -> Cache {
        match *self {}
    }

    pub fn adopt(&self, _: &mut [&mut Sequence]) {
        match *self {}
    }
}

impl Engine<'_> {
    pub(in crate::model) fn on_device(
        &self,
        device: &mut Device,
        _: &[BatchToken],
        _: &[usize],
        _: &[&mut Sequence],
        _: &mut Scratch,
        _: &mut Logits,
    ) -> Result<(), Error> {
        match *device {}
    }
}

/// A sequence's pages on the device: there are none.
#[derive(Clone, Default)]
pub struct Cache {}

impl Cache {
    pub fn layers(&self) -> usize {
        0
    }

    pub fn earliest(&self) -> usize {
        0
    }

    pub fn bytes(&self) -> u64 {
        0
    }

    pub fn truncate(&mut self, _: usize) {}

    pub fn drop_unseen(&mut self, _: usize, _: usize) {}

    pub fn extend(&mut self, _: usize, _: usize) {}
}

/// Host pages made of pages on the device.
#[derive(Default)]
pub struct Copies {}

impl Copies {
    /// The same sequence with all its pages in the host's memory.
    pub fn of(&mut self, sequence: &Sequence) -> io::Result<Sequence> {
        Ok(sequence.clone())
    }
}
