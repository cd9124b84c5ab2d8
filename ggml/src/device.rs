//! Devices: what there is to compute on.

use std::ptr::NonNull;

use crate::guard::{guard, text};
use crate::{Error, Stream, raw};

/// Something to compute on. ggml keeps its devices until the process ends, so this is a plain copyable handle.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Device(NonNull<raw::ggml_backend_device>);

// SAFETY: ggml's device records are immutable after registration and their query functions take no locks of ours.
unsafe impl Send for Device {}
// SAFETY: as above; only queries are made through a shared handle.
unsafe impl Sync for Device {}

/// What sort of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The host's processor, through ggml's own kernels.
    Cpu,
    /// A card with memory of its own.
    Gpu,
    /// A GPU that shares the host's memory.
    IntegratedGpu,
    /// Something else, such as a matrix unit.
    Accelerator,
}

/// A device's memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Not in use, as the driver says.
    pub free: usize,
    /// All of it.
    pub total: usize,
}

impl Device {
    /// All devices of the backends that were built in; none if the drivers cannot be asked.
    pub fn all() -> Vec<Self> {
        // SAFETY: takes no arguments; the registry is filled on first use and never shrinks.
        let count = guard(|| unsafe { raw::ggml_backend_dev_count() });
        // SAFETY: indices below the count are valid.
        let get = |index| unsafe { raw::ggml_backend_dev_get(index) };
        (0..count.unwrap_or(0))
            .filter_map(|index| NonNull::new(get(index)).map(Self))
            .collect()
    }

    pub(crate) fn as_ptr(self) -> *mut raw::ggml_backend_device {
        self.0.as_ptr()
    }

    /// Its short name, such as `Vulkan0` or `CUDA0`.
    pub fn name(self) -> String {
        // SAFETY: a valid device; ggml owns the string.
        unsafe { text(raw::ggml_backend_dev_name(self.as_ptr())) }
    }

    /// What its driver calls it.
    pub fn description(self) -> String {
        // SAFETY: a valid device; ggml owns the string.
        unsafe { text(raw::ggml_backend_dev_description(self.as_ptr())) }
    }

    /// What sort of device it is.
    pub fn kind(self) -> Kind {
        // SAFETY: a valid device.
        match unsafe { raw::ggml_backend_dev_type(self.as_ptr()) } {
            raw::GGML_BACKEND_DEVICE_TYPE_CPU => Kind::Cpu,
            raw::GGML_BACKEND_DEVICE_TYPE_GPU => Kind::Gpu,
            raw::GGML_BACKEND_DEVICE_TYPE_IGPU => Kind::IntegratedGpu,
            _ => Kind::Accelerator,
        }
    }

    /// Its memory right now; nothing if the driver does not say.
    pub fn memory(self) -> Memory {
        let (mut free, mut total) = (0, 0);
        // SAFETY: a valid device and two places to write to.
        let asked = guard(|| unsafe {
            raw::ggml_backend_dev_memory(self.as_ptr(), &mut free, &mut total);
        });
        match asked {
            Ok(()) => Memory { free, total },
            Err(_) => Memory { free: 0, total: 0 },
        }
    }

    /// Opens it for work.
    pub fn open(self) -> Result<Stream, Error> {
        Stream::open(self)
    }

    pub(crate) fn failed(self, reason: String) -> Error {
        Error::Device {
            device: self.name(),
            reason,
        }
    }
}
