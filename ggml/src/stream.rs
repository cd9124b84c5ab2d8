//! A device opened for work, with the memory that its graphs share for their values.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::guard::guard;
use crate::{Device, Error, Kind, raw};

/// A device opened for work. Operations on one stream run in order; a stream is used by one thread at a time.
///
/// Graphs take the memory for their values from the stream, and all from the same place: what a graph left there is
/// gone when another one runs.
pub struct Stream {
    device: Device,
    stream: NonNull<raw::ggml_backend>,
    memory: NonNull<raw::ggml_gallocr>,
    /// Changes whenever `memory` moves, which leaves earlier graphs without any.
    generation: u64,
    /// The graph that ran last.
    last: Option<u64>,
}

// SAFETY: a ggml backend may be used from any thread, by one at a time, which `&mut` and ownership ensure.
unsafe impl Send for Stream {}

impl Stream {
    pub(crate) fn open(device: Device) -> Result<Self, Error> {
        let stream = start(device)?;
        if device.kind() == Kind::Cpu {
            // It is here for tests, whose operations are so small that more threads only wait for each other.
            // SAFETY: a valid stream of ggml's processor device.
            unsafe { raw::ggml_backend_cpu_set_n_threads(stream.as_ptr(), 1) };
        }
        // SAFETY: a valid stream; buffer types live as long as their device.
        let memory = unsafe {
            let buffer_type = raw::ggml_backend_get_default_buffer_type(stream.as_ptr());
            raw::ggml_gallocr_new(buffer_type)
        };
        Ok(Self {
            device,
            stream,
            memory: NonNull::new(memory).expect("ggml returns an allocator or ends the process"),
            generation: next(),
            last: None,
        })
    }

    /// The device it was opened on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Bytes on the device that graphs share for their values.
    pub fn bytes(&self) -> usize {
        // SAFETY: a valid allocator with one buffer.
        unsafe { raw::ggml_gallocr_get_buffer_size(self.memory.as_ptr(), 0) }
    }

    /// Graphs that were finished in another generation have lost their memory.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn as_ptr(&self) -> *mut raw::ggml_backend {
        self.stream.as_ptr()
    }

    pub(crate) fn buffer_type(&self) -> *mut raw::ggml_backend_buffer_type {
        // SAFETY: a valid stream; buffer types live as long as their device.
        unsafe { raw::ggml_backend_get_default_buffer_type(self.as_ptr()) }
    }

    /// Gets ready to run a graph, which is known by its number.
    ///
    /// Mesa's software driver (22.3.6) counts a reference to every buffer that a descriptor set names, also to those that
    /// the shader does not use and that are gone. ggml uses a set again for another operation with fewer buffers, and
    /// frees its own buffers when it needs larger ones: then the driver frees the same memory twice, and crashes. Within
    /// one graph a set always has the same number of buffers. So there every graph starts with new sets, in a new stream.
    pub(crate) fn prepare(&mut self, graph: u64) -> Result<(), Error> {
        let changed = self.last.replace(graph).is_some_and(|last| last != graph);
        if changed && self.device.description().starts_with("llvmpipe") {
            let old = std::mem::replace(&mut self.stream, start(self.device)?);
            // SAFETY: it was owned and has done its work; tensors and buffers do not know which stream used them.
            let _ = guard(|| unsafe { raw::ggml_backend_free(old.as_ptr()) });
        }
        Ok(())
    }

    /// Gives memory to the values of a graph.
    pub(crate) fn place(&mut self, graph: NonNull<raw::ggml_cgraph>) -> Result<(), Error> {
        let before = self.bytes();
        let memory = self.memory.as_ptr();
        // SAFETY: a valid allocator, and a graph whose stored tensors are alive.
        let placed = guard(|| unsafe { raw::ggml_gallocr_alloc_graph(memory, graph.as_ptr()) });
        if self.bytes() != before || !matches!(placed, Ok(true)) {
            self.generation = next();
        }
        match placed {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Memory {
                device: self.device.name(),
                what: "the values of a pass",
                free: self.device.memory().free,
            }),
            Err(reason) => Err(self.device.failed(reason)),
        }
    }
}

fn start(device: Device) -> Result<NonNull<raw::ggml_backend>, Error> {
    // SAFETY: a valid device; null parameters are the defaults.
    let stream = guard(|| unsafe { raw::ggml_backend_dev_init(device.as_ptr(), std::ptr::null()) });
    let stream = stream.map_err(|reason| device.failed(reason))?;
    NonNull::new(stream).ok_or_else(|| Error::Open {
        device: device.name(),
    })
}

/// Numbers that never repeat, even between streams.
fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Drop for Stream {
    fn drop(&mut self) {
        let (memory, stream) = (self.memory.as_ptr(), self.stream.as_ptr());
        // SAFETY: both are owned and freed only here. What a lost device throws meanwhile changes nothing.
        let _ = guard(|| unsafe {
            raw::ggml_gallocr_free(memory);
            raw::ggml_backend_free(stream);
        });
    }
}
