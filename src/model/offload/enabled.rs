//! Layers on a device, through ggml.

mod cache;
mod device;
mod graph;
mod layout;
mod pace;
mod pages;
mod pass;
mod persist;
mod stage;
mod tensors;

pub use ggml_sys_bindgen::listen;
use ggml_sys_bindgen::{Device as Found, Kind};

use super::plan::Card;
use crate::model::Error;

pub use device::Device;
pub use pages::Cache;
pub use persist::Copies;

/// Whether this build can use a GPU at all.
pub const AVAILABLE: bool = true;

/// What there is to put layers on: GPUs first.
pub fn cards() -> Vec<Card> {
    let mut found = Found::all();
    found.sort_by_key(|device| match device.kind() {
        Kind::Gpu => 0,
        Kind::IntegratedGpu => 1,
        Kind::Accelerator => 2,
        Kind::Cpu => 3,
    });
    found.into_iter().map(card).collect()
}

fn card(device: Found) -> Card {
    let memory = device.memory();
    Card {
        name: device.name(),
        description: device.description(),
        free: memory.free as u64,
        total: memory.total as u64,
        // One that shares the processor's memory reads no faster than the processor.
        worthwhile: device.kind() == Kind::Gpu,
    }
}

fn find(name: &str) -> Result<Found, Error> {
    let found = Found::all()
        .into_iter()
        .find(|device| device.name() == name);
    found.ok_or_else(|| Error::Device(format!("the device {name} is gone")))
}
