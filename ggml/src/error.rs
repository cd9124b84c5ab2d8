//! One variant per way in which work on a device can fail.

/// Why something could not be done on a device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device's driver refused to open it.
    #[error("the device {device} could not be opened: its driver may be missing or busy")]
    Open {
        /// The device's name.
        device: String,
    },
    /// Not enough memory on the device.
    #[error("{device} has no room for {what} ({} MiB free): put fewer layers on it", free >> 20)]
    Memory {
        /// The device's name.
        device: String,
        /// What the memory was wanted for.
        what: &'static str,
        /// Bytes that the device said were free.
        free: usize,
    },
    /// The device or its driver gave up: it was reset, or another program took its memory.
    #[error(
        "{device} gave up ({reason}): its driver was reset, or its memory ran out; run again, or with --no-gpu"
    )]
    Device {
        /// The device's name.
        device: String,
        /// ggml's words.
        reason: String,
    },
    /// An operation got operands whose shapes do not fit together.
    #[error("{operation} got shapes {shapes:?}: {expected}")]
    Shape {
        /// The operation.
        operation: &'static str,
        /// The operands' shapes, fastest dimension first.
        shapes: Vec<[usize; 4]>,
        /// What would fit.
        expected: &'static str,
    },
    /// A slice that is not as long as the tensor it is copied to or from.
    #[error("a tensor of {tensor} bytes was given {given} bytes at offset {offset}")]
    Length {
        /// Bytes of the tensor.
        tensor: usize,
        /// Where the copy was to start.
        offset: usize,
        /// Bytes of the slice.
        given: usize,
    },
    /// A handle that belongs to another store or graph, or a graph whose memory has moved.
    #[error("a tensor of another {what} was used")]
    Foreign {
        /// "store", "graph" or "generation of the stream".
        what: &'static str,
    },
    /// The room for tensors that was asked for is used up.
    #[error("this {what} was made for {capacity} tensors and is full")]
    Full {
        /// "store" or "graph".
        what: &'static str,
        /// Tensors it was made for.
        capacity: usize,
    },
    /// The device cannot do an operation of the graph.
    #[error("{device} cannot do {operation} on tensors of these types and sizes")]
    Unsupported {
        /// The device's name.
        device: String,
        /// The operation, as ggml calls it.
        operation: String,
    },
}
