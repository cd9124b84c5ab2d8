//! Tensors that stay on a device, weights and caches, in one buffer.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::guard::{guard, install};
use crate::{Device, Error, Stream, raw};

/// The types that cross to a device. Numbers are those of a GGUF file, which are ggml's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementType(pub(crate) raw::ggml_type);

impl ElementType {
    /// 32-bit floats.
    pub const F32: Self = Self(raw::GGML_TYPE_F32);
    /// 16-bit floats.
    pub const F16: Self = Self(raw::GGML_TYPE_F16);
    /// 32-bit integers.
    pub const I32: Self = Self(raw::GGML_TYPE_I32);
    /// 64-bit integers, for row indices.
    pub const I64: Self = Self(raw::GGML_TYPE_I64);

    /// The type with this number in a GGUF file, if ggml has it.
    #[allow(
        clippy::unnecessary_cast,
        reason = "what type a C enumeration has depends on the platform"
    )]
    pub fn from_id(id: u32) -> Option<Self> {
        // SAFETY: the number is below the count of types, and removed types have a block size of 0.
        let known = id < raw::GGML_TYPE_COUNT as u32
            && unsafe { raw::ggml_blck_size(id as raw::ggml_type) } > 0;
        known.then_some(Self(id as raw::ggml_type))
    }
}

/// Tensor records of ggml, without data; freed together.
pub(crate) struct Context(NonNull<raw::ggml_context>);

// SAFETY: records are written only while a builder is borrowed mutably, and read afterwards.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Room for `capacity` tensors and, if `nodes` is not 0, a graph of that many nodes.
    pub(crate) fn new(capacity: usize, nodes: usize) -> Self {
        install();
        // SAFETY: both only compute sizes.
        let (tensor, graph) = unsafe {
            (
                raw::ggml_tensor_overhead(),
                raw::ggml_graph_overhead_custom(nodes.max(1), false),
            )
        };
        let parameters = raw::ggml_init_params {
            mem_size: capacity * tensor + graph,
            mem_buffer: std::ptr::null_mut(),
            no_alloc: true,
        };
        // SAFETY: no buffer is passed, so ggml allocates its own.
        let context = unsafe { raw::ggml_init(parameters) };
        Self(NonNull::new(context).expect("ggml_init returns a context or ends the process"))
    }

    pub(crate) fn as_ptr(&self) -> *mut raw::ggml_context {
        self.0.as_ptr()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: owned, and freed only here.
        unsafe { raw::ggml_free(self.as_ptr()) }
    }
}

/// A tensor of a [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorId {
    store: u64,
    index: usize,
}

/// Declares tensors before their memory is taken.
pub struct StoreBuilder {
    context: Context,
    tensors: Vec<NonNull<raw::ggml_tensor>>,
    capacity: usize,
    id: u64,
}

impl StoreBuilder {
    /// Room for `capacity` tensors.
    pub fn new(capacity: usize) -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            context: Context::new(capacity, 0),
            tensors: Vec::new(),
            capacity,
            id,
        }
    }

    /// Declares a tensor; dimensions with the fastest first, missing ones are 1.
    pub fn tensor(&mut self, kind: ElementType, dims: &[usize]) -> Result<TensorId, Error> {
        if self.tensors.len() == self.capacity {
            return Err(Error::Full {
                what: "store",
                capacity: self.capacity,
            });
        }
        let tensor = new_tensor(&self.context, kind, dims)?;
        self.tensors.push(tensor);
        Ok(TensorId {
            store: self.id,
            index: self.tensors.len() - 1,
        })
    }

    /// Bytes that [`StoreBuilder::allocate`] will take on this device.
    pub fn bytes(&self, stream: &Stream) -> usize {
        let mut tensors: Vec<_> = self.tensors.iter().map(|tensor| tensor.as_ptr()).collect();
        // SAFETY: valid tensors of a living context, and their number.
        unsafe {
            raw::ggml_backend_buft_get_alloc_size_n(
                stream.buffer_type(),
                tensors.as_mut_ptr(),
                tensors.len() as i32,
            )
        }
    }

    /// Takes the memory on the stream's device, for `what` if somebody asks.
    pub fn allocate(self, stream: &Stream, what: &'static str) -> Result<Arc<Store>, Error> {
        let mut tensors: Vec<_> = self.tensors.iter().map(|tensor| tensor.as_ptr()).collect();
        let (list, count) = (tensors.as_mut_ptr(), tensors.len() as i32);
        let buffer_type = stream.buffer_type();
        // SAFETY: valid tensors without memory, of a context that the store keeps alive longer than the buffer.
        let buffer =
            guard(|| unsafe { raw::ggml_backend_buft_alloc_buffer_n(buffer_type, list, count) });
        let device = stream.device();
        let buffer = buffer.map_err(|reason| device.failed(reason))?;
        let buffer = NonNull::new(buffer).ok_or_else(|| Error::Memory {
            device: device.name(),
            what,
            free: device.memory().free,
        })?;
        Ok(Arc::new(Store {
            buffer,
            tensors: self.tensors,
            id: self.id,
            device,
            _context: self.context,
        }))
    }
}

/// A new tensor record; dimensions are checked because ggml multiplies them without looking.
pub(crate) fn new_tensor(
    context: &Context,
    kind: ElementType,
    dims: &[usize],
) -> Result<NonNull<raw::ggml_tensor>, Error> {
    let mut shape = [1usize; 4];
    let fits = dims.len() <= 4 && {
        shape[..dims.len()].copy_from_slice(dims);
        // SAFETY: `kind` is one of ggml's types.
        let block = unsafe { raw::ggml_blck_size(kind.0) } as usize;
        let elements = shape
            .iter()
            .try_fold(1usize, |product, &dim| product.checked_mul(dim));
        elements.is_some_and(|elements| elements > 0 && elements < 1 << 44)
            && shape[0].is_multiple_of(block)
    };
    if !fits {
        let expected =
            "one to four dimensions above zero, the first a multiple of the type's block";
        return Err(Error::Shape {
            operation: "tensor",
            shapes: vec![shape],
            expected,
        });
    }
    let [a, b, c, d] = shape.map(|dim| dim as i64);
    // SAFETY: a living context with room left (the callers count), and a shape that was just checked.
    let tensor = unsafe { raw::ggml_new_tensor_4d(context.as_ptr(), kind.0, a, b, c, d) };
    Ok(NonNull::new(tensor).expect("ggml returns a tensor or ends the process"))
}

/// Tensors in one buffer of a device. Handles and graphs share it, so it lives as long as any of them.
pub struct Store {
    buffer: NonNull<raw::ggml_backend_buffer>,
    tensors: Vec<NonNull<raw::ggml_tensor>>,
    id: u64,
    device: Device,
    _context: Context,
}

// SAFETY: tensor records do not change after allocation; data is copied by calls that ggml serialises per device.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// The device that holds it.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Bytes it takes there.
    pub fn bytes(&self) -> usize {
        // SAFETY: a living buffer.
        unsafe { raw::ggml_backend_buffer_get_size(self.buffer.as_ptr()) }
    }

    pub(crate) fn tensor(&self, tensor: TensorId) -> Result<NonNull<raw::ggml_tensor>, Error> {
        if tensor.store == self.id {
            Ok(self.tensors[tensor.index])
        } else {
            Err(Error::Foreign { what: "store" })
        }
    }

    /// Copies numbers into a tensor from byte `offset` on.
    pub fn upload<T: Plain>(
        &self,
        tensor: TensorId,
        offset: usize,
        numbers: &[T],
    ) -> Result<(), Error> {
        set(self.device, self.tensor(tensor)?, offset, numbers)
    }

    /// Copies numbers out of a tensor from byte `offset` on.
    pub fn download<T: Plain>(
        &self,
        tensor: TensorId,
        offset: usize,
        numbers: &mut [T],
    ) -> Result<(), Error> {
        get(self.device, self.tensor(tensor)?, offset, numbers)
    }
}

/// Copies numbers into a tensor that has memory on the device.
pub(crate) fn set<T: Plain>(
    device: Device,
    tensor: NonNull<raw::ggml_tensor>,
    offset: usize,
    numbers: &[T],
) -> Result<(), Error> {
    let (source, length) = (numbers.as_ptr(), size_of_val(numbers));
    check_length(tensor, offset, length)?;
    // SAFETY: the range lies inside an allocated tensor, which was just checked.
    guard(|| unsafe {
        raw::ggml_backend_tensor_set(tensor.as_ptr(), source.cast(), offset, length);
    })
    .map_err(|reason| device.failed(reason))
}

/// Copies numbers out of a tensor that has memory on the device.
pub(crate) fn get<T: Plain>(
    device: Device,
    tensor: NonNull<raw::ggml_tensor>,
    offset: usize,
    numbers: &mut [T],
) -> Result<(), Error> {
    let (target, length) = (numbers.as_mut_ptr(), size_of_val(numbers));
    check_length(tensor, offset, length)?;
    // SAFETY: the range lies inside an allocated tensor, which was just checked; any bytes are numbers.
    guard(|| unsafe {
        raw::ggml_backend_tensor_get(tensor.as_ptr(), target.cast(), offset, length);
    })
    .map_err(|reason| device.failed(reason))
}

/// Numbers that are copied as the bytes they consist of.
///
/// # Safety
/// Any bytes are a value of the type, and none of its bytes are padding.
pub unsafe trait Plain: Copy {}

// SAFETY: plain numbers.
unsafe impl Plain for u8 {}
// SAFETY: as above; the bits of a 16-bit float.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for i64 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}

impl Drop for Store {
    fn drop(&mut self) {
        let buffer = self.buffer.as_ptr();
        // SAFETY: owned, and freed only here, before the context of its tensors.
        let _ = guard(|| unsafe { raw::ggml_backend_buffer_free(buffer) });
    }
}

/// That `given` bytes at `offset` lie inside the tensor.
fn check_length(
    tensor: NonNull<raw::ggml_tensor>,
    offset: usize,
    given: usize,
) -> Result<(), Error> {
    // SAFETY: a valid tensor.
    let bytes = unsafe { raw::ggml_nbytes(tensor.as_ptr()) };
    let inside = offset.checked_add(given).is_some_and(|end| end <= bytes);
    if inside {
        Ok(())
    } else {
        Err(Error::Length {
            tensor: bytes,
            offset,
            given,
        })
    }
}
