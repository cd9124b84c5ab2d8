//! The forward pass against independent implementations, on small models.

use std::path::{Path, PathBuf};

use fourfold::model::{Batch, KvType, Logits, Model, Options, RopeForm};
use fourfold_convert::{Checkpoint, Plan};
use fourfold_quantize::block::decode_rows;
use fourfold_quantize::dtype::DType;
use fourfold_quantize::gguf::{Gguf, Layout, WriteOptions, Writer};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn words(name: &str) -> Vec<[u8; 4]> {
    let bytes = std::fs::read(fixture(name)).expect(name);
    bytes.as_chunks::<4>().0.to_vec()
}

fn tokens(name: &str) -> Vec<u32> {
    words(name).into_iter().map(u32::from_le_bytes).collect()
}

fn floats(name: &str) -> Vec<f32> {
    words(name).into_iter().map(f32::from_le_bytes).collect()
}

fn tiny(options: Options) -> Model {
    Model::open_with(fixture("tiny/tiny.gguf"), options).expect("tiny.gguf opens")
}

fn exact(rope: RopeForm) -> Options {
    Options {
        exact: true,
        rope,
        ..Options::default()
    }
}

/// Logits of every token of a text, computed in one pass.
fn all_logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let mut batch = Batch::continuing(0, tokens);
    batch.want_all_logits();
    let mut logits = Logits::default();
    model
        .forward(&batch, &mut [&mut model.new_sequence()], &mut logits)
        .expect("the forward pass succeeds");
    rows(&logits)
}

fn rows(logits: &Logits) -> Vec<f32> {
    (0..logits.rows())
        .flat_map(|row| logits.row(row).to_vec())
        .collect()
}

/// The largest difference, relative to the largest reference value.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected
        .iter()
        .fold(0f32, |most, value| most.max(value.abs()));
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0f32, f32::max);
    worst / largest
}

#[test]
fn exact_arithmetic_equals_the_reference() {
    let tokens = tokens("tiny/tokens.i32");
    for (rope, expected) in [
        (RopeForm::Exact, "tiny/logits_reference.f32"),
        (RopeForm::LlamaCpp, "tiny/logits_llama_cpp_rope.f32"),
    ] {
        let found = all_logits(&tiny(exact(rope)), &tokens);
        let difference = difference(&found, &floats(expected));
        assert!(difference < 1e-5, "{expected}: {difference}");
    }
}

#[test]
fn exact_arithmetic_equals_transformers() {
    let cases = [
        "groups_of_8",
        "no_groups",
        "one_expert",
        "truncated_rope",
        "beyond_4096",
    ];
    for case in cases {
        let file = |suffix: &str| format!("reference/{case}.{suffix}");
        let model = Model::open_with(fixture(&file("gguf")), exact(RopeForm::Exact)).unwrap();
        let positions = tokens(&file("positions.u32"));
        let mut batch = Batch::new();
        for (position, token) in tokens(&file("tokens.u32")).into_iter().enumerate() {
            batch.push(token, 0, position, positions.contains(&(position as u32)));
        }
        let mut logits = Logits::default();
        model
            .forward(&batch, &mut [&mut model.new_sequence()], &mut logits)
            .unwrap();
        let difference = difference(&rows(&logits), &floats(&file("logits.f32")));
        println!("{case}: {difference:e}");
        assert!(difference < 1e-4, "{case}: {difference}");
    }
}

#[test]
fn a_checkpoint_that_transformers_saved_keeps_its_logits() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("convert/tests/data/transformers");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("converted.gguf");
    let checkpoint = Checkpoint::open(&data.join("model")).unwrap();
    let options = fourfold_convert::Options {
        tokenizer: false,
        // The default rounds dense weights, which would be another model.
        recipe: fourfold_quantize::recipe::Recipe::from_name("BF16"),
        ..Default::default()
    };
    let plan = Plan::new(&checkpoint, &options).unwrap();
    plan.write(&path, &WriteOptions::default(), &|_| {}, &|| false)
        .unwrap();
    let model = Model::open_with(&path, exact(RopeForm::Exact)).unwrap();
    let tokens = std::fs::read(data.join("tokens.json")).unwrap();
    let tokens: Vec<u32> = serde_json::from_slice(&tokens).unwrap();
    let expected = std::fs::read(data.join("logits.f32")).unwrap();
    let expected = expected.as_chunks::<4>().0.iter();
    let expected: Vec<f32> = expected.map(|it| f32::from_le_bytes(*it)).collect();
    let difference = difference(&all_logits(&model, &tokens), &expected);
    assert!(difference < 1e-4, "{difference}");
}

/// Writes these tensors with the metadata of tiny.gguf and opens the first file.
fn rewritten(
    source: &Gguf,
    tensors: &[(String, DType, Vec<u64>, Vec<u8>)],
    options: &WriteOptions,
) -> (tempfile::TempDir, Model, usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(source.metadata().clone());
    for (name, dtype, dims, _) in tensors {
        layout.add_tensor(name, *dtype, dims).unwrap();
    }
    let writer = Writer::begin(layout, &folder.path().join("model.gguf"), options).unwrap();
    for (index, (_, _, _, bytes)) in tensors.iter().enumerate() {
        writer.write_at(index, 0, bytes).unwrap();
    }
    let files = writer.finish().unwrap();
    let model = Model::open_with(&files[0], Options::default()).unwrap();
    (folder, model, files.len())
}

fn tensors_of(source: &Gguf) -> Vec<(String, DType, Vec<u64>, Vec<u8>)> {
    source
        .tensors()
        .map(|view| {
            let bytes = view.bytes.to_vec();
            (view.name.to_owned(), view.dtype, view.dims.to_vec(), bytes)
        })
        .collect()
}

#[test]
fn a_split_file_gives_the_same_logits() {
    let source = Gguf::open(&fixture("tiny/tiny.gguf")).unwrap();
    let tensors = tensors_of(&source);
    let largest = tensors.iter().map(|tensor| tensor.3.len()).max().unwrap();
    let options = WriteOptions {
        split_max_bytes: Some(2 * largest as u64),
        ..Default::default()
    };
    let (_folder, model, files) = rewritten(&source, &tensors, &options);
    assert!(files > 2, "{files} files");
    let tokens = tokens("tiny/tokens.i32");
    assert_eq!(
        all_logits(&model, &tokens),
        all_logits(&tiny(Options::default()), &tokens)
    );
}

#[test]
fn fused_projections_give_the_same_logits() {
    let source = Gguf::open(&fixture("tiny/tiny.gguf")).unwrap();
    let mut tensors = Vec::<(String, DType, Vec<u64>, Vec<u8>)>::new();
    let mut fused = 0;
    for (name, dtype, dims, bytes) in tensors_of(&source) {
        // Query, key and value follow one another in each layer, weights and biases apart.
        let part = ["attn_q.", "attn_k.", "attn_v."]
            .into_iter()
            .find(|part| name.contains(part));
        let Some(part) = part else {
            tensors.push((name, dtype, dims, bytes));
            continue;
        };
        let name = name.replace(part, "attn_qkv.");
        match tensors.iter_mut().find(|tensor| tensor.0 == name) {
            None => tensors.push((name, dtype, dims, bytes)),
            Some(whole) => {
                assert_eq!(whole.1, dtype, "{name}");
                *whole.2.last_mut().unwrap() += dims.last().unwrap();
                whole.3.extend(bytes);
                fused += 1;
            }
        }
    }
    assert!(fused > 0 && fused % 4 == 0, "{fused}");
    let (_folder, model, _) = rewritten(&source, &tensors, &WriteOptions::default());
    let tokens = tokens("tiny/tokens.i32");
    assert_eq!(
        all_logits(&model, &tokens),
        all_logits(&tiny(Options::default()), &tokens)
    );
}

#[test]
fn factors_beside_matrices_are_applied() {
    // NVFP4 files keep one for each dense matrix and one for each expert. Here weights are made smaller by powers of two and
    // get factors that undo it, so the logits must be the same to the last bit.
    let source = Gguf::open(&fixture("tiny/tiny.gguf")).unwrap();
    let mut tensors = Vec::<(String, DType, Vec<u64>, Vec<u8>)>::new();
    let (mut dense, mut experts) = (0, 0);
    for (name, dtype, dims, mut bytes) in tensors_of(&source) {
        let stem = name.strip_suffix(".weight").unwrap_or_default().to_owned();
        let mut factors = Vec::new();
        if dtype == DType::MXFP4 && stem.contains("_exps") {
            let count = dims[2] as usize;
            let length = bytes.len() / count;
            for (expert, bytes) in bytes.chunks_exact_mut(length).enumerate() {
                let halvings = expert as u8 % 3;
                let blocks = bytes.as_chunks_mut::<17>().0;
                blocks
                    .iter_mut()
                    .for_each(|block| block[0] = block[0].saturating_sub(halvings));
                factors.push(f32::from(1u8 << halvings));
            }
            experts += 1;
        } else if dtype == DType::F32 && dims.len() == 2 && stem.contains(".attn_") {
            for value in bytes.as_chunks_mut::<4>().0 {
                *value = (f32::from_le_bytes(*value) / 4.0).to_le_bytes();
            }
            factors.push(4.0);
            dense += 1;
        }
        tensors.push((name, dtype, dims, bytes));
        if !factors.is_empty() {
            let bytes = factors.iter().flat_map(|factor| factor.to_le_bytes());
            let dims = vec![factors.len() as u64];
            tensors.push((format!("{stem}.scale"), DType::F32, dims, bytes.collect()));
        }
    }
    assert!(dense >= 4 && experts >= 3, "{dense} and {experts}");
    let (_folder, model, _) = rewritten(&source, &tensors, &WriteOptions::default());
    let tokens = tokens("tiny/tokens.i32");
    assert_eq!(
        all_logits(&model, &tokens),
        all_logits(&tiny(Options::default()), &tokens)
    );
}

/// Random blocks of a type that is only read, whose values are about as large as the weights of a model.
fn random_blocks(dtype: DType, count: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    let mut bytes = vec![0; count * dtype.block_bytes()];
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        block.fill_with(&mut random);
        // 2^-12 as an f16: the factor of the scales, which comes first.
        block[..2].copy_from_slice(&[0x00, 0x0c]);
    }
    bytes
}

#[test]
fn attention_outputs_in_types_that_are_only_read() {
    // Every token uses all experts of this one, so that none is chosen for another because of a rounding.
    let source = Gguf::open(&fixture("reference/truncated_rope.gguf")).unwrap();
    let tokens = tokens("reference/truncated_rope.tokens.u32");
    let read = DType::TABLE.iter().map(|row| row.dtype);
    let read = read.filter(|dtype| dtype.holds_weights() && !dtype.can_be_written());
    for dtype in read {
        let (mut blocks, mut decoded) = (tensors_of(&source), tensors_of(&source));
        let mut replaced = 0;
        for (block, float) in blocks.iter_mut().zip(&mut decoded) {
            if block.0.ends_with("attn_output.weight") {
                let values = block.2.iter().product::<u64>() as usize;
                (block.1, block.3) = (dtype, random_blocks(dtype, values / 256));
                let mut floats = vec![0.0f32; values];
                decode_rows(dtype, &block.3, &mut floats).unwrap();
                float.1 = DType::F32;
                float.3 = floats.iter().flat_map(|it| it.to_le_bytes()).collect();
                replaced += 1;
            }
        }
        assert_eq!(replaced, 2);
        let (folder, quick, _) = rewritten(&source, &blocks, &WriteOptions::default());
        let (other, _, _) = rewritten(&source, &decoded, &WriteOptions::default());
        let logits = |folder: &tempfile::TempDir| {
            let path = folder.path().join("model.gguf");
            let model = Model::open_with(path, exact(RopeForm::Exact)).unwrap();
            all_logits(&model, &tokens)
        };
        let expected = logits(&folder);
        assert!(expected == logits(&other), "{dtype:?}: decoded weights");
        let found = all_logits(&quick, &tokens);
        assert!(found == in_pieces(&quick, &tokens, &[1, 30]), "{dtype:?}");
        let difference = difference(&found, &expected);
        println!("{dtype:?}: {difference}");
        assert!(difference < 0.05 && difference > 1e-6, "{difference}");
    }
}

/// Logits of every token, computed in batches of the given lengths, over and over.
fn in_pieces(model: &Model, tokens: &[u32], lengths: &[usize]) -> Vec<f32> {
    let (mut sequence, mut logits) = (model.new_sequence(), Logits::default());
    let mut found = Vec::new();
    let mut lengths = lengths.iter().cycle();
    while sequence.len() < tokens.len() {
        let end = (sequence.len() + lengths.next().unwrap()).min(tokens.len());
        let mut batch = Batch::continuing(sequence.len(), &tokens[sequence.len()..end]);
        batch.want_all_logits();
        model
            .forward(&batch, &mut [&mut sequence], &mut logits)
            .unwrap();
        found.extend(rows(&logits));
    }
    found
}

/// Longer than several windows and pages.
fn long_text(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i * i + 7 * i) % 61).collect()
}

#[test]
fn exact_logits_do_not_depend_on_how_a_text_is_cut() {
    let model = tiny(exact(RopeForm::Exact));
    let tokens = long_text(300);
    let whole = all_logits(&model, &tokens);
    assert!(in_pieces(&model, &tokens, &[1]) == whole, "token by token");
    assert!(
        in_pieces(&model, &tokens, &[7, 64, 1, 100]) == whole,
        "uneven pieces"
    );
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for exact in [true, false] {
        let logits = |threads| {
            let model = tiny(Options {
                threads,
                exact,
                ..Options::default()
            });
            let tokens = long_text(300);
            let mut all = all_logits(&model, &tokens);
            all.extend(in_pieces(&model, &tokens, &[1, 2, 30]));
            all
        };
        let one = logits(1);
        for threads in [2, 3, 7] {
            assert!(logits(threads) == one, "{threads} threads, exact: {exact}");
        }
    }
}

#[test]
fn quantized_arithmetic_stays_close_to_the_reference() {
    let (tokens, expected) = (
        tokens("tiny/tokens.i32"),
        floats("tiny/logits_reference.f32"),
    );
    for (kv_type, bound) in [(KvType::F16, 0.05), (KvType::Q8_0, 0.06)] {
        let model = tiny(Options {
            kv_type,
            ..Options::default()
        });
        let difference = difference(&all_logits(&model, &tokens), &expected);
        println!("{kv_type:?}: {difference}");
        assert!(
            difference < bound && difference > 1e-6,
            "{kv_type:?}: {difference}"
        );
    }
}

#[test]
fn a_batch_serves_many_sequences_at_once() {
    let model = tiny(exact(RopeForm::Exact));
    let texts = [long_text(150), long_text(90)[20..].to_vec(), vec![5; 33]];
    let mut sequences: Vec<_> = texts.iter().map(|_| model.new_sequence()).collect();
    let mut logits = Logits::default();

    // Two prompts together, then a step of each while the third prompt comes in, tokens interleaved.
    let mut batch = Batch::new();
    for (index, text) in texts[..2].iter().enumerate() {
        for (position, &token) in text[..text.len() - 1].iter().enumerate() {
            batch.push(token, index, position, false);
        }
    }
    let mut all: Vec<_> = sequences.iter_mut().collect();
    model.forward(&batch, &mut all, &mut logits).unwrap();
    assert_eq!(logits.rows(), 0);
    batch.clear();
    for (position, &token) in texts[2].iter().enumerate() {
        batch.push(token, 2, position, position + 1 == texts[2].len());
        if position < 2 {
            let text = &texts[position];
            batch.push(text[text.len() - 1], position, text.len() - 1, true);
        }
    }
    model.forward(&batch, &mut all, &mut logits).unwrap();

    assert_eq!(logits.rows(), 3);
    for (row, text) in texts.iter().enumerate() {
        let alone = all_logits(&model, text);
        assert!(alone.ends_with(logits.row(row)), "sequence {row}");
    }
}

#[test]
fn a_sequence_returns_to_earlier_positions_and_to_snapshots() {
    let model = tiny(exact(RopeForm::Exact));
    let tokens = long_text(700);
    let whole = all_logits(&model, &tokens);
    let expected = |position: usize| &whole[(position - 1) * 64..position * 64];
    let (mut sequence, mut logits) = (model.new_sequence(), Logits::default());

    model
        .extend(&mut sequence, &tokens[..100], &mut logits)
        .unwrap();
    let early = sequence.snapshot();
    model
        .extend(&mut sequence, &tokens[100..690], &mut logits)
        .unwrap();
    assert!(logits.last() == expected(690));

    // A few tokens back, on another way, and back again.
    sequence.truncate(650).unwrap();
    model
        .extend(&mut sequence, &[1, 2, 3], &mut logits)
        .unwrap();
    assert!(logits.last() != expected(653));
    sequence.truncate(650).unwrap();
    model
        .extend(&mut sequence, &tokens[650..700], &mut logits)
        .unwrap();
    assert!(logits.last() == expected(700));

    // The window of position 100 is long gone here, but the snapshot has it.
    let error = sequence.truncate(100).unwrap_err().to_string();
    assert!(error.contains("can return to positions from"), "{error}");
    let mut fork = early.to_sequence();
    sequence.restore(&early);
    for sequence in [&mut sequence, &mut fork] {
        assert_eq!(sequence.len(), 100);
        model
            .extend(sequence, &tokens[100..200], &mut logits)
            .unwrap();
        assert!(logits.last() == expected(200));
    }
    assert!(early.windowed_bytes() < 2 * 64 * 2 * 64 * 4 + 1);
}

#[test]
fn windowed_layers_hold_little() {
    let model = tiny(exact(RopeForm::Exact));
    let (mut sequence, mut logits) = (model.new_sequence(), Logits::default());
    model
        .extend(&mut sequence, &long_text(1500), &mut logits)
        .unwrap();
    let page = 64 * 2 * 64 * 4;
    let full = 1500u64.div_ceil(64) * page;
    assert!(sequence.bytes() >= full && sequence.bytes() <= full + 4 * page);
}

#[test]
fn what_cannot_be_run_is_refused_in_a_sentence() {
    let model = tiny(Options {
        context: 40,
        ..exact(RopeForm::Exact)
    });
    let (mut sequence, mut logits) = (model.new_sequence(), Logits::default());
    let mut refuse = |tokens: &[u32]| {
        model
            .extend(&mut sequence, tokens, &mut logits)
            .unwrap_err()
            .to_string()
    };
    assert!(refuse(&[1, 64]).contains("token 64 is not in the vocabulary"));
    assert!(refuse(&[1; 41]).contains("41 tokens do not fit into the context of 40"));
}

/// The tiny model with some bytes changed: `patch` gets them all.
fn patched(patch: impl Fn(&mut Vec<u8>)) -> Result<Model, String> {
    let mut bytes = std::fs::read(fixture("tiny/tiny.gguf")).unwrap();
    patch(&mut bytes);
    let file = Gguf::from_bytes(bytes).map_err(|error| error.to_string())?;
    Model::from_file(file, Path::new("patched.gguf"), exact(RopeForm::Exact))
        .map_err(|error| error.to_string())
}

/// Where the value of a metadata key begins, behind the key and the four bytes of its type.
fn value_of(bytes: &[u8], key: &str) -> usize {
    let mut pattern = (key.len() as u64).to_le_bytes().to_vec();
    pattern.extend(key.as_bytes());
    let at = bytes
        .windows(pattern.len())
        .position(|window| window == pattern);
    at.expect(key) + pattern.len() + 4
}

#[test]
fn impossible_hyper_parameters_are_named() {
    for (key, value, expected) in [
        (
            "gpt-oss.block_count",
            0,
            "block_count is 0, expected 1 to 512",
        ),
        ("gpt-oss.block_count", 513, "block_count is 513"),
        (
            "gpt-oss.block_count",
            3,
            "tensor blk.2.attn_q.weight is missing",
        ),
        (
            "gpt-oss.block_count",
            1,
            "is not part of a gpt-oss model of 1 layers",
        ),
        (
            "gpt-oss.attention.head_count",
            0,
            "attention.head_count is 0",
        ),
        ("gpt-oss.attention.head_count", 3, "tensor blk.0.attn_q."),
        (
            "gpt-oss.attention.head_count_kv",
            0,
            "attention.head_count_kv is 0",
        ),
        (
            "gpt-oss.attention.head_count_kv",
            3,
            "attention.head_count_kv is 3",
        ),
        ("gpt-oss.attention.key_length", 63, "value_length is 64"),
        (
            "gpt-oss.attention.sliding_window",
            0,
            "attention.sliding_window is 0",
        ),
        (
            "gpt-oss.expert_used_count",
            5,
            "expert_used_count is 5, expected 1 to 4",
        ),
        (
            "gpt-oss.expert_count",
            1 << 30,
            "expert_count is 1073741824",
        ),
        // Small sparse files could claim passes of gigabytes.
        (
            "gpt-oss.attention.head_count",
            8192,
            "expected at most 4096 heads of 64 numbers",
        ),
        (
            "gpt-oss.expert_feed_forward_length",
            1 << 24,
            "expert_feed_forward_length is 16777216",
        ),
        (
            "gpt-oss.expert_count",
            8192,
            "expert_count is 8192, expected 1 to 4096",
        ),
        (
            "gpt-oss.expert_count",
            3,
            "tensor blk.0.ffn_gate_inp.weight",
        ),
        ("gpt-oss.embedding_length", 96, "tensor"),
        (
            "gpt-oss.rope.freq_base",
            0x7fc0_0000,
            "rope.freq_base is NaN",
        ),
    ] {
        let result = patched(|bytes| {
            let at = value_of(bytes, key);
            bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        });
        let error = result
            .err()
            .unwrap_or_else(|| panic!("{key} = {value} was accepted"));
        assert!(error.contains(expected), "{key} = {value}: {error}");
    }
}

#[test]
fn weights_that_are_not_numbers_are_found_and_placed() {
    for (tensor, expected) in [
        ("token_embd.weight", "the embedding"),
        ("blk.0.attn_q.weight", "the attention of layer 0"),
        ("blk.1.attn_output.bias", "the attention of layer 1"),
        ("blk.0.ffn_up_exps.bias", "the experts of layer 0"),
        ("output.weight", "the head"),
    ] {
        let model = patched(|bytes| {
            let file = Gguf::from_bytes(bytes.clone()).unwrap();
            let info = file.infos().find(|info| info.name == tensor).unwrap();
            let (offset, length) = (info.offset as usize, info.bytes.len());
            bytes[offset..offset + length].fill(0xff);
        })
        .unwrap();
        let (mut sequence, mut logits) = (model.new_sequence(), Logits::default());
        let error = model
            .extend(&mut sequence, &[1, 2, 3], &mut logits)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("the values after {expected} are not finite")),
            "{tensor}: {error}"
        );
    }
}
