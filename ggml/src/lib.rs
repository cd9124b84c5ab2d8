//! ggml's devices, buffers and graphs behind a small safe layer.
//!
//! Without a feature this crate is empty, and a plain build of fourfold has no trace of C++. With `vulkan`, `cuda` or
//! `metal` the Cargo package llama-cpp-sys-2 builds ggml, the build script makes declarations of its headers, and the
//! modules below wrap the few of them that are needed:
//!
//! - `Device`: what there is to compute on, and how much memory it has free;
//! - `Stream`: one device opened for work, and the memory that graphs share;
//! - `Store`: tensors that stay on a device, weights and caches, in one buffer;
//! - `GraphBuilder`, `Graph`: operations built once, checked, and run many times.
//!
//! ggml checks shapes by ending the process. So every operation here checks them first and returns an `Error`; what
//! still makes ggml throw or abort is caught by `cpp/guard.cpp` and becomes an `Error` too. Handles keep alive what
//! they point to.

#[cfg(feature = "backend")]
mod device;
#[cfg(feature = "backend")]
mod error;
#[cfg(feature = "backend")]
mod graph;
#[cfg(feature = "backend")]
mod guard;
#[cfg(feature = "backend")]
mod store;
#[cfg(feature = "backend")]
mod stream;

#[cfg(feature = "backend")]
pub use self::{
    device::{Device, Kind, Memory},
    error::Error,
    graph::{Graph, GraphBuilder, Rope, Value},
    guard::listen,
    store::{ElementType, Plain, Store, StoreBuilder, TensorId},
    stream::Stream,
};

// Declarations made by bindgen from the headers of exactly the version that is linked.
#[cfg(feature = "backend")]
#[allow(
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    clippy::all,
    reason = "made by bindgen"
)]
mod raw {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

// The package that carries ggml's code. Nothing of it is called by name here, so it is named to be linked.
#[cfg(feature = "backend")]
use llama_cpp_sys_2 as _;
