//! The model: what a file holds, and the forward pass over it.
//!
//! [`Model::open`] maps a file and checks everything once. A [`Sequence`] is one conversation's keys and values;
//! [`Model::forward`] runs a [`Batch`] of tokens of any number of sequences and gives the [`Logits`] that were asked for.
//! The forward pass itself is in `forward.rs` and reads like the paper.

mod attention;
mod batch;
mod cache;
mod config;
mod error;
mod forward;
mod logits;
pub mod memory;
pub mod offload;
pub mod persist;
mod phases;
mod preload;
mod rope;
mod scratch;
mod weights;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use fourfold_quantize::gguf::{Gguf, Metadata};

use crate::kernels::page::PageLayout;
use crate::kernels::{Kernels, ceilings};
use crate::threads::Pool;

pub use crate::kernels::page::KvType;
pub use batch::Batch;
pub use cache::{Sequence, Snapshot};
pub use config::{Config, RopeConfig, Scaling, Yarn};
pub use error::Error;
pub use forward::CHUNK;
pub use logits::Logits;
pub use phases::Phases;
pub use rope::Rope;
pub use scratch::Routing;
pub use weights::{Layer, Linear, Weights};

use forward::Engine;
use preload::Preload;
use scratch::Scratch;

/// How a model is to be run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Worker threads; 0 takes every processor that this process may use.
    pub threads: usize,
    /// Reference arithmetic: f32 throughout, no quantized activations, an f32 cache.
    pub exact: bool,
    /// Which form of YaRN.
    pub rope: RopeForm,
    /// How caches store numbers; ignored by `exact`.
    pub kv_type: KvType,
    /// Positions that a sequence may have at most; 0 means all that the model was made for.
    pub context: usize,
}

/// Which form of YaRN to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeForm {
    /// What the file says, and that of the reference where it says nothing.
    Exact,
    /// With the ends of the ramp rounded, as llama.cpp computes it whatever the model asks for.
    LlamaCpp,
}

/// A model file, opened and ready to run. One forward pass runs at a time; others wait.
pub struct Model {
    // Its thread borrows from `file`, and ends when it is dropped, before it.
    preload: Option<Preload>,
    // Borrows from `file`, and is dropped before it.
    weights: Weights<'static>,
    file: Arc<Gguf>,
    path: PathBuf,
    config: Config,
    rope: Rope,
    options: Options,
    kernels: Kernels,
    /// The cache that sequences begin with for layers on a GPU.
    empty_device_cache: offload::Cache,
    chunk: usize,
    running: Mutex<Running>,
}

/// What one forward pass has to itself.
struct Running {
    pool: Pool,
    scratch: Scratch,
}

/// What this machine can do at most with this model's map and these threads.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// GB/s of a loop that only reads weights, in order.
    pub read_gb_s: f64,
    /// Billions of eight-bit multiplications per second of a loop that does nothing else.
    pub gmac_s: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 0,
            exact: false,
            rope: RopeForm::Exact,
            kv_type: KvType::F16,
            context: 0,
        }
    }
}

impl Model {
    /// Maps a file, or all parts of a split one, and checks that everything a model needs is there.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, Options::default())
    }

    /// The same, to be run as `options` say.
    pub fn open_with(path: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::from_file(Gguf::open(path)?, path, options)
    }

    /// The same for a file that is open already.
    pub fn from_file(file: Gguf, path: &Path, options: Options) -> Result<Self, Error> {
        let file = Arc::new(file);
        // SAFETY: the file stays where it is and lives as long as the model; `weights` is declared before it and so
        // dropped first, and `Model::weights` lends them out no longer than the model itself.
        let lasting: &'static Gguf = unsafe { &*Arc::as_ptr(&file) };
        let (mut config, weights) = Weights::find(lasting)?;
        if let (RopeForm::LlamaCpp, Scaling::Yarn(yarn)) = (options.rope, &mut config.rope.scaling)
        {
            yarn.truncate = true;
        }
        if !options.exact && options.kv_type == KvType::Q8_0 && !config.head_dim.is_multiple_of(32)
        {
            return Err(Error::Unsupported(format!(
                "a q8_0 cache needs heads of a multiple of 32 numbers, and this model's have {}: use --kv-type f16",
                config.head_dim
            )));
        }
        let kernels = match options.exact {
            true => Kernels::detect()?.exact(),
            false => Kernels::detect()?,
        };
        let threads = match options.threads {
            0 => Pool::default_threads(),
            threads => threads,
        };
        Ok(Self {
            preload: None,
            rope: Rope::new(&config.rope),
            kernels,
            empty_device_cache: offload::Cache::default(),
            chunk: CHUNK,
            running: Mutex::new(Running {
                pool: Pool::new(threads),
                scratch: Scratch::new(weights.has_float_matrices()),
            }),
            weights,
            file,
            path: path.to_path_buf(),
            config,
            options,
        })
    }

    /// Has the file read into memory in the background, if it fits there: for while a first prompt is typed, which will
    /// read nearly all of it. Layers on a GPU were read already; with some there, nothing is done.
    pub fn read_ahead(&mut self) {
        if self.placement().is_none() {
            self.preload = Preload::start(Arc::clone(&self.file));
        }
    }

    /// The shape of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The file itself.
    pub fn file(&self) -> &Gguf {
        &self.file
    }

    /// All metadata of the file, the vocabulary among it.
    pub fn metadata(&self) -> &Metadata {
        self.file.metadata()
    }

    /// The tensors.
    pub fn weights(&self) -> &Weights<'_> {
        &self.weights
    }

    /// The file that was opened; of a split one the first part.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is run.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// An empty sequence.
    pub fn new_sequence(&self) -> Sequence {
        self.sequence_with(self.empty_device_cache.clone())
    }

    /// An empty sequence, with the layers of `device` elsewhere.
    fn sequence_with(&self, device: offload::Cache) -> Sequence {
        let limit = match self.options.context {
            0 => self.config.context,
            context => context,
        };
        Sequence::new(&self.config, self.layout(), limit, device)
    }

    /// How caches store numbers.
    fn layout(&self) -> PageLayout {
        PageLayout {
            kv_type: if self.options.exact {
                KvType::F32
            } else {
                self.options.kv_type
            },
            kv_heads: self.config.kv_heads,
            head_dim: self.config.head_dim,
        }
    }

    /// What the parts of this model take on a GPU; [`offload::plan()`] places them.
    pub fn sizes(&self) -> offload::Sizes {
        offload::Sizes::of(&self.config, &self.weights, &self.layout())
    }

    /// Moves layers to a GPU as planned; `progress` is told of every piece of bytes that has been copied. Sequences from
    /// before cannot be continued, and later ones hold as many positions as were planned for.
    pub fn place(
        &mut self,
        plan: &offload::Plan,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let source = offload::Source {
            config: &self.config,
            weights: &self.weights,
            rope: &self.rope,
            layout: self.layout(),
            file: &self.file,
        };
        let device = offload::Device::open(&source, plan, progress)?;
        self.empty_device_cache = device.new_cache();
        self.options.context = plan.context;
        self.chunk = plan.chunk;
        self.running().scratch.device = Some(device);
        Ok(())
    }

    /// What is on a GPU, if something is, and the bytes that its scratch really takes.
    pub fn placement(&self) -> Option<(offload::Plan, u64)> {
        let running = self.running();
        let device = running.scratch.device.as_ref()?;
        Some((device.plan().clone(), device.scratch_bytes()))
    }

    /// Tokens that pass through the layers together: [`CHUNK`], or more where experts are brought to a GPU.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Runs a batch: fills the sequences' caches and computes the logits that its tokens ask for.
    ///
    /// Long batches pass through the layers in chunks of [`Model::chunk`] tokens. After an error, sequences hold the chunks
    /// that were complete; [`Sequence::truncate`] takes them back.
    pub fn forward(
        &self,
        batch: &Batch,
        sequences: &mut [&mut Sequence],
        logits: &mut Logits,
    ) -> Result<(), Error> {
        self.pass(&mut self.running(), batch, sequences, logits)
    }

    /// One forward pass by whoever holds what runs it.
    fn pass(
        &self,
        Running { pool, scratch }: &mut Running,
        batch: &Batch,
        sequences: &mut [&mut Sequence],
        logits: &mut Logits,
    ) -> Result<(), Error> {
        let engine = Engine {
            config: &self.config,
            weights: &self.weights,
            rope: &self.rope,
            kernels: &self.kernels,
            pool,
        };
        engine.forward(batch, sequences, scratch, logits)
    }

    /// Continues one sequence with some tokens; the logits are those after the last of them.
    pub fn extend(
        &self,
        sequence: &mut Sequence,
        tokens: &[u32],
        logits: &mut Logits,
    ) -> Result<(), Error> {
        let batch = Batch::continuing(sequence.len(), tokens);
        self.forward(&batch, &mut [sequence], logits)
    }

    /// The same, and the experts that every layer chose for the tokens that went through it.
    ///
    /// The last layer sends only those tokens to experts whose logits are wanted.
    pub fn forward_with_routing(
        &self,
        batch: &Batch,
        sequences: &mut [&mut Sequence],
        logits: &mut Logits,
    ) -> Result<Routing, Error> {
        let mut running = self.running();
        if running.scratch.device.is_some() {
            let reason = "which experts are chosen is only known on the processor: use --no-gpu";
            return Err(Error::Unsupported(reason.into()));
        }
        running.scratch.routing = Some(Routing::default());
        let result = self.pass(&mut running, batch, sequences, logits);
        let routing = running.scratch.routing.take();
        result.map(|()| routing.unwrap_or_default())
    }

    /// Where the time went since the last call.
    pub fn take_phases(&self) -> Phases {
        std::mem::take(&mut self.running().scratch.phases)
    }

    /// Worker threads.
    pub fn threads(&self) -> usize {
        self.running().pool.threads()
    }

    /// The instruction set of the kernels.
    pub fn isa(&self) -> &'static str {
        self.kernels.isa()
    }

    /// What this machine can do at most, measured now: see [`Ceilings`].
    pub fn ceilings(&self) -> Ceilings {
        let running = self.running();
        let matrices = self.weights.layers.iter().flat_map(|layer| {
            let experts = &layer.experts;
            [experts.gate, experts.up, experts.down].map(|matrix| matrix.bytes())
        });
        // About what one token of gpt-oss-20b reads; much less would come from the processor's caches.
        let (mut bytes, mut seconds) = (0, 0.0);
        for matrix in matrices.chain([self.weights.head.weight.bytes()]) {
            let gb_s = ceilings::read(&self.kernels, &running.pool, matrix);
            bytes += matrix.len();
            seconds += matrix.len() as f64 / 1e9 / gb_s;
            if bytes > 2_600_000_000 {
                break;
            }
        }
        Ceilings {
            read_gb_s: bytes as f64 / 1e9 / seconds,
            gmac_s: ceilings::multiply(&self.kernels, &running.pool, 0.3),
        }
    }

    /// A panic in another thread cannot have left anything here that the next pass does not overwrite.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
