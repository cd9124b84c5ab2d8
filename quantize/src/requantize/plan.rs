//! What will become of each tensor: worked out, and shown, before anything is written.

use super::{Error, MAX_COLUMNS, Result};
use crate::gguf::{Gguf, Layout, Metadata, TensorView};
use crate::imatrix::Imatrix;
use crate::recipe::{self, Choice, Model, Options, Tensor};

/// The output file, tensor by tensor.
pub struct Plan<'a> {
    gguf: &'a Gguf,
    imatrix: Option<&'a Imatrix>,
    metadata: Metadata,
    tensors: Vec<Planned<'a>>,
}

/// What becomes of one tensor.
#[derive(Clone, Copy, Debug)]
pub struct Planned<'a> {
    /// The tensor as it is.
    pub source: TensorView<'a>,
    /// Its type in the output, and why.
    pub choice: Choice,
    /// Its bytes in the output.
    pub bytes: u64,
    /// Whether the importance matrix has nothing about it although it is going to be encoded.
    pub importance_missing: bool,
}

impl Planned<'_> {
    /// How many elements it has.
    pub fn elements(&self) -> u64 {
        self.source.dims.iter().product()
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.source.dims.iter().skip(1).product()
    }

    /// Whether it is quantized now and will be something else.
    pub fn is_requantized(&self) -> bool {
        !self.source.dtype.is_float() && self.source.dtype != self.choice.dtype
    }
}

impl<'a> Plan<'a> {
    /// Works out every tensor's type and size.
    pub fn new(
        gguf: &'a Gguf,
        options: &Options,
        imatrix: Option<&'a Imatrix>,
    ) -> Result<Plan<'a>> {
        let options = Options {
            has_imatrix: imatrix.is_some(),
            ..options.clone()
        };
        let tensors = gguf.tensors().map(|tensor| recipe::Tensor {
            name: tensor.name,
            dims: tensor.dims,
            dtype: tensor.dtype,
        });
        let tensors: Vec<_> = tensors.collect();
        let changing = tensors.iter().filter(|tensor| recipe::may_change(**tensor));
        recipe::check_overrides(&options.overrides, changing.map(|tensor| tensor.name))?;
        let experts = tensors.iter().find(|tensor| recipe::is_experts(**tensor));
        let experts = experts.map_or(1, |tensor| tensor.dims[2]);
        let model = Model::of(tensors.iter().map(|tensor| tensor.name), experts);
        let mut sources: Vec<_> = gguf.tensors().collect();
        // llama-quantize's order, which is also the order in which a forward pass reads a file.
        sources.sort_by_key(|tensor| recipe::file_order(tensor.name));
        let mut tensors = Vec::with_capacity(sources.len());
        for source in sources {
            tensors.push(planned(source, model, &options, imatrix)?);
        }
        Ok(Plan {
            gguf,
            imatrix,
            metadata: metadata(gguf.metadata(), &options, imatrix),
            tensors,
        })
    }

    /// The tensors in the order of the output file.
    pub fn tensors(&self) -> &[Planned<'a>] {
        &self.tensors
    }

    /// The metadata of the output file.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The output file, for a [`crate::gguf::Writer`].
    pub fn layout(&self) -> Result<Layout> {
        let mut layout = Layout::new(self.metadata.clone());
        for tensor in &self.tensors {
            let TensorView { name, dims, .. } = tensor.source;
            layout.add_tensor(name, tensor.choice.dtype, dims)?;
        }
        Ok(layout)
    }

    /// Bytes of all tensors in the output.
    pub fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes).sum()
    }

    /// The model that it is the plan of.
    pub fn gguf(&self) -> &'a Gguf {
        self.gguf
    }

    /// The importance of columns, if known.
    pub fn imatrix(&self) -> Option<&'a Imatrix> {
        self.imatrix
    }
}

fn planned<'a>(
    source: TensorView<'a>,
    model: Model,
    options: &Options,
    imatrix: Option<&Imatrix>,
) -> Result<Planned<'a>> {
    let tensor = Tensor {
        name: source.name,
        dims: source.dims,
        dtype: source.dtype,
    };
    let choice = recipe::choose(tensor, model, options)?;
    let columns = source.dims.first().copied().unwrap_or(1);
    let changes = choice.dtype != source.dtype;
    if changes && columns > MAX_COLUMNS {
        return Err(Error::RowTooLong {
            tensor: source.name.to_owned(),
            columns,
            most: MAX_COLUMNS,
        });
    }
    // Sizes of the source were checked against its file, and no type is more than 32 times larger than another.
    let rows: u64 = source.dims.iter().skip(1).product();
    let row = choice.dtype.row_bytes(columns as usize).unwrap_or(0) as u64;
    let found = match imatrix {
        Some(imatrix) => imatrix.importance(source.name, source.dims)?.is_some(),
        None => true,
    };
    Ok(Planned {
        source,
        choice,
        bytes: rows.saturating_mul(row),
        importance_missing: changes && !choice.dtype.is_float() && !found,
    })
}

/// The source's keys, with those that describe the quantization renewed at the end, as llama-quantize does.
fn metadata(source: &Metadata, options: &Options, imatrix: Option<&Imatrix>) -> Metadata {
    let mut metadata = source.clone();
    let row = options.recipe.row();
    for key in ["general.quantization_version", "general.file_type"] {
        metadata.remove(key);
    }
    metadata.set("general.quantization_version", 2u32);
    metadata.set("general.file_type", row.file_type);
    if let Some(imatrix) = imatrix {
        let path = imatrix.path().to_string_lossy().into_owned();
        metadata.set("quantize.imatrix.file", path);
        if let Some(dataset) = imatrix.datasets().first() {
            metadata.set("quantize.imatrix.dataset", &**dataset);
        }
        metadata.set("quantize.imatrix.entries_count", imatrix.len() as u32);
        if let Some(chunks) = imatrix.chunks() {
            metadata.set("quantize.imatrix.chunks_count", chunks);
        }
    }
    metadata
}
