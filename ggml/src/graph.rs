//! Operations on a device, built and checked once, run many times.
//!
//! A builder hands out [`Value`]s; each operation checks its operands' shapes, because ggml would end the process.
//! Shapes are written with the fastest dimension first, as everywhere in ggml.

mod operations;

pub use operations::Rope;

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(debug_assertions)]
use crate::guard::lose_device_if_asked;
use crate::guard::{guard, text};
use crate::store::{self, Context, ElementType, Plain, new_tensor};
use crate::{Error, Store, Stream, TensorId, raw};

/// A tensor inside one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    graph: u64,
    index: usize,
}

/// Collects the operations of a graph.
pub struct GraphBuilder {
    context: Context,
    graph: NonNull<raw::ggml_cgraph>,
    values: Vec<NonNull<raw::ggml_tensor>>,
    stores: Vec<Arc<Store>>,
    capacity: usize,
    id: u64,
}

type Raw = NonNull<raw::ggml_tensor>;

impl GraphBuilder {
    /// Room for `capacity` values.
    pub fn new(capacity: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Some operations make a second tensor, a view of the first.
        let context = Context::new(2 * capacity, 2 * capacity);
        // SAFETY: the context has room for a graph of that size.
        let graph = unsafe { raw::ggml_new_graph_custom(context.as_ptr(), 2 * capacity, false) };
        let graph = NonNull::new(graph).expect("ggml returns a graph or ends the process");
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            context,
            graph,
            values: Vec::new(),
            stores: Vec::new(),
            capacity,
            id,
        }
    }

    /// A tensor that is filled before each run.
    pub fn input(&mut self, kind: ElementType, dims: &[usize]) -> Result<Value, Error> {
        self.room()?;
        let tensor = new_tensor(&self.context, kind, dims)?;
        // SAFETY: a valid tensor; the mark keeps its memory from being shared with later values.
        unsafe { raw::ggml_set_input(tensor.as_ptr()) };
        Ok(self.push(tensor))
    }

    /// A tensor that stays on the device.
    pub fn stored(&mut self, store: &Arc<Store>, tensor: TensorId) -> Result<Value, Error> {
        let tensor = store.tensor(tensor)?;
        if !self.stores.iter().any(|known| Arc::ptr_eq(known, store)) {
            self.stores.push(store.clone());
        }
        Ok(self.push(tensor))
    }

    /// The shape of a value.
    pub fn shape(&self, value: Value) -> Result<[usize; 4], Error> {
        Ok(shape(self.get(value)?))
    }

    /// Marks a value as wanted after each run.
    pub fn output(&mut self, value: Value) -> Result<(), Error> {
        let tensor = self.get(value)?;
        // SAFETY: a valid tensor.
        unsafe { raw::ggml_set_output(tensor.as_ptr()) };
        self.keep(value)
    }

    /// Takes memory for the values and checks that the device can do every operation.
    pub fn finish(self, stream: &mut Stream) -> Result<Graph, Error> {
        let device = stream.device();
        // SAFETY: a valid graph; indices below its number of nodes.
        let nodes = unsafe { raw::ggml_graph_n_nodes(self.graph.as_ptr()) };
        for index in 0..nodes {
            // SAFETY: as above; a node is a valid tensor.
            let node = unsafe { raw::ggml_graph_node(self.graph.as_ptr(), index) };
            let pointer = stream.as_ptr();
            // SAFETY: a valid stream and tensor.
            let can = guard(|| unsafe { raw::ggml_backend_supports_op(pointer, node) });
            if !can.map_err(|reason| device.failed(reason))? {
                return Err(Error::Unsupported {
                    device: device.name(),
                    // SAFETY: a valid tensor; ggml owns the string.
                    operation: unsafe { text(raw::ggml_op_desc(node)) },
                });
            }
        }
        stream.place(self.graph)?;
        Ok(Graph {
            graph: self.graph,
            values: self.values,
            id: self.id,
            generation: stream.generation(),
            _stores: self.stores,
            _context: self.context,
        })
    }

    fn room(&self) -> Result<(), Error> {
        let full = self.values.len() >= self.capacity;
        if full {
            Err(Error::Full {
                what: "graph",
                capacity: self.capacity,
            })
        } else {
            Ok(())
        }
    }

    fn push(&mut self, tensor: Raw) -> Value {
        self.values.push(tensor);
        Value {
            graph: self.id,
            index: self.values.len() - 1,
        }
    }

    fn get(&self, value: Value) -> Result<Raw, Error> {
        if value.graph == self.id {
            Ok(self.values[value.index])
        } else {
            Err(Error::Foreign { what: "graph" })
        }
    }

    /// Makes the value part of every run, wanted or not.
    fn keep(&mut self, value: Value) -> Result<(), Error> {
        let tensor = self.get(value)?;
        // SAFETY: a valid graph with room for as many nodes as there are values, and a tensor of its context.
        unsafe { raw::ggml_build_forward_expand(self.graph.as_ptr(), tensor.as_ptr()) };
        Ok(())
    }
}

fn shape(tensor: Raw) -> [usize; 4] {
    // SAFETY: a valid tensor's record; ggml keeps dimensions positive.
    unsafe { tensor.as_ref() }.ne.map(|dim| dim as usize)
}

/// A graph whose values have memory on a device.
pub struct Graph {
    graph: NonNull<raw::ggml_cgraph>,
    values: Vec<Raw>,
    id: u64,
    /// Of the stream's memory; see [`Stream::generation`].
    generation: u64,
    _stores: Vec<Arc<Store>>,
    _context: Context,
}

// SAFETY: owned as a whole; all changes go through `&mut`.
unsafe impl Send for Graph {}

impl Graph {
    /// Whether its values still have the memory that [`GraphBuilder::finish`] took for them.
    pub fn is_placed(&self, stream: &Stream) -> bool {
        self.generation == stream.generation()
    }

    /// Fills an input.
    pub fn set<T: Plain>(
        &mut self,
        stream: &mut Stream,
        value: Value,
        numbers: &[T],
    ) -> Result<(), Error> {
        store::set(stream.device(), self.get(stream, value)?, 0, numbers)
    }

    /// Reads the beginning of an output.
    pub fn read<T: Plain>(
        &self,
        stream: &Stream,
        value: Value,
        numbers: &mut [T],
    ) -> Result<(), Error> {
        store::get(stream.device(), self.get(stream, value)?, 0, numbers)
    }

    /// Runs every operation and waits for the end.
    pub fn run(&mut self, stream: &mut Stream) -> Result<(), Error> {
        self.check_placed(stream)?;
        stream.prepare(self.id)?;
        let (pointer, graph) = (stream.as_ptr(), self.graph.as_ptr());
        // SAFETY: a graph whose tensors all have memory on this stream's device.
        let status = guard(|| unsafe {
            #[cfg(debug_assertions)]
            lose_device_if_asked();
            raw::ggml_backend_graph_compute(pointer, graph)
        });
        let reason = match status {
            Ok(raw::GGML_STATUS_SUCCESS) => return Ok(()),
            Ok(status) => format!("status {status}"),
            Err(reason) => reason,
        };
        Err(stream.device().failed(reason))
    }

    fn check_placed(&self, stream: &Stream) -> Result<(), Error> {
        let what = "generation of the stream";
        self.is_placed(stream)
            .then_some(())
            .ok_or(Error::Foreign { what })
    }

    fn get(&self, stream: &Stream, value: Value) -> Result<Raw, Error> {
        self.check_placed(stream)?;
        if value.graph != self.id {
            return Err(Error::Foreign { what: "graph" });
        }
        let tensor = self.values[value.index];
        // SAFETY: a valid tensor's record.
        let record = unsafe { tensor.as_ref() };
        // A value that no output needs is not part of the graph and has no memory.
        let placed = !record.buffer.is_null() || !record.view_src.is_null();
        placed
            .then_some(tensor)
            .ok_or(Error::Foreign { what: "graph" })
    }
}
