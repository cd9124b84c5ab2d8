//! Requantizing gives the bytes that encoding each tensor by itself gives, whatever the number of threads, and leaves
//! nothing behind when it stops.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fourfold_quantize::block;
use fourfold_quantize::check::check;
use fourfold_quantize::dtype::DType;
use fourfold_quantize::file::partial;
use fourfold_quantize::gguf::{Fault, Gguf, Layout, Metadata, Value, WriteOptions, Writer};
use fourfold_quantize::imatrix::Imatrix;
use fourfold_quantize::recipe::{Options, Recipe};
use fourfold_quantize::requantize::{Error, Plan, Requantize};

/// Small, but with rows of two lengths, experts, and chunks that end inside a tensor.
const TENSORS: &[(&str, &[u64], DType)] = &[
    ("token_embd.weight", &[96, 70], DType::BF16),
    ("blk.10.attn_q.weight", &[96, 64], DType::F16),
    ("blk.2.attn_output.weight", &[512, 1100], DType::BF16),
    ("blk.2.attn_norm.weight", &[96], DType::F32),
    ("blk.2.ffn_up_exps.weight", &[512, 8, 3], DType::BF16),
    ("blk.2.ffn_up_exps.bias", &[8, 3], DType::F32),
    ("blk.2.ffn_gate_exps.weight", &[96, 8, 3], DType::MXFP4),
    ("output.weight", &[96, 70], DType::F32),
];

fn value(index: usize) -> f32 {
    let mixed = (index as u32).wrapping_mul(2_654_435_761) >> 8;
    (mixed as f32 / (1 << 24) as f32 - 0.5) * 0.1
}

fn write_model(path: &Path, spoil: impl Fn(&str, &mut Vec<f32>)) {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "gpt-oss");
    metadata.set("general.file_type", 32u32);
    metadata.set("general.name", "test");
    metadata.set("split.count", 0u16);
    let mut layout = Layout::new(metadata);
    for (name, dims, dtype) in TENSORS {
        layout.add_tensor(name, *dtype, dims).unwrap();
    }
    let sizes: Vec<_> = (0..TENSORS.len()).map(|i| layout.tensor_bytes(i)).collect();
    let writer = Writer::begin(layout, path, &WriteOptions::default()).unwrap();
    for (index, (name, dims, dtype)) in TENSORS.iter().enumerate() {
        let count = dims.iter().product::<u64>() as usize;
        let mut values: Vec<f32> = (0..count).map(value).collect();
        spoil(name, &mut values);
        let mut bytes = vec![0; sizes[index] as usize];
        block::encode_rows(*dtype, dims[0] as usize, &values, None, &mut bytes).unwrap();
        writer.write_at(index, 0, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

fn requantize(plan: &Plan<'_>, out: &Path, threads: usize) -> Result<(), Error> {
    let writer = Writer::begin(plan.layout()?, out, &WriteOptions::default())?;
    let done = AtomicU64::new(0);
    let progress = |bytes| {
        done.fetch_add(bytes, Ordering::Relaxed);
    };
    let job = Requantize {
        plan,
        threads,
        progress: &progress,
        cancelled: &|| false,
    };
    job.run(&writer)?;
    assert_eq!(done.into_inner(), plan.data_bytes());
    writer.finish()?;
    Ok(())
}

#[test]
fn every_recipe_gives_the_bytes_of_the_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    write_model(&source, |_, _| {});
    let gguf = Gguf::open(&source).unwrap();
    for row in Recipe::TABLE {
        let plan = Plan::new(&gguf, &Options::new(row.recipe), None).unwrap();
        let out = folder.path().join(format!("{}.gguf", row.name));
        requantize(&plan, &out, 3).unwrap();
        let written = Gguf::open(&out).unwrap();
        assert_eq!(written.tensor_count(), TENSORS.len());
        for from in gguf.tensors() {
            let to = written.tensor(from.name).unwrap();
            assert_eq!(from.dims, to.dims);
            let mut expected = vec![0; to.bytes.len()];
            if from.dtype == to.dtype {
                expected.copy_from_slice(from.bytes);
            } else {
                let count = from.dims.iter().product::<u64>() as usize;
                let mut values = vec![0.0; count];
                block::decode_rows(from.dtype, from.bytes, &mut values).unwrap();
                let columns = from.dims[0] as usize;
                block::encode_rows(to.dtype, columns, &values, None, &mut expected).unwrap();
            }
            assert!(to.bytes == expected, "{} {}", row.name, from.name);
        }
        let file_type = written.metadata().get("general.file_type");
        assert_eq!(file_type, Some(&Value::U32(row.file_type)));
        assert_eq!(written.metadata().get("split.count"), None);
        assert_eq!(written.metadata().string("general.name").unwrap(), "test");
        let bad = check(&written, 2, &|_| {}, &|| false).unwrap();
        assert_eq!(bad, []);
    }
}

#[test]
fn tensors_are_written_in_the_order_of_a_forward_pass() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    write_model(&source, |_, _| {});
    let gguf = Gguf::open(&source).unwrap();
    let plan = Plan::new(&gguf, &Options::new(Recipe::Q8_0), None).unwrap();
    let names: Vec<_> = plan.tensors().iter().map(|t| t.source.name).collect();
    let expected = [
        "output.weight",
        "token_embd.weight",
        "blk.2.attn_norm.weight",
        "blk.2.attn_output.weight",
        "blk.2.ffn_gate_exps.weight",
        "blk.2.ffn_up_exps.bias",
        "blk.2.ffn_up_exps.weight",
        "blk.10.attn_q.weight",
    ];
    assert_eq!(names, expected);
}

#[test]
fn threads_do_not_change_a_byte() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    write_model(&source, |_, _| {});
    let gguf = Gguf::open(&source).unwrap();
    let plan = Plan::new(&gguf, &Options::new(Recipe::Q4_K_M), None).unwrap();
    let files = [1, 2, 7].map(|threads| {
        let out = folder.path().join(format!("{threads}.gguf"));
        requantize(&plan, &out, threads).unwrap();
        std::fs::read(out).unwrap()
    });
    assert!(files[0] == files[1] && files[0] == files[2]);
}

#[test]
fn each_expert_has_its_own_importance() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    write_model(&source, |_, _| {});
    let gguf = Gguf::open(&source).unwrap();
    let name = "blk.2.ffn_up_exps.weight";
    let importance: Vec<f32> = (0..3 * 512)
        .map(|i| (i % 37) as f32 + (i / 512) as f32 * 9.0)
        .collect();
    let mut legacy = 1i32.to_le_bytes().to_vec();
    legacy.extend((name.len() as i32).to_le_bytes());
    legacy.extend(name.as_bytes());
    legacy.extend(1i32.to_le_bytes());
    legacy.extend((importance.len() as i32).to_le_bytes());
    legacy.extend(importance.iter().flat_map(|v| v.to_le_bytes()));
    let path = folder.path().join("imatrix.dat");
    std::fs::write(&path, legacy).unwrap();
    let imatrix = Imatrix::open(&path).unwrap();

    let options = Options::new(Recipe::Q4_K_S);
    let plan = Plan::new(&gguf, &options, Some(&imatrix)).unwrap();
    let out = folder.path().join("out.gguf");
    requantize(&plan, &out, 2).unwrap();
    let written = Gguf::open(&out).unwrap();
    let (from, to) = (gguf.tensor(name).unwrap(), written.tensor(name).unwrap());
    assert_eq!(to.dtype, DType::Q4_K);
    let mut values = vec![0.0; 512 * 8 * 3];
    block::decode_rows(from.dtype, from.bytes, &mut values).unwrap();
    let mut plain = vec![0; to.bytes.len()];
    block::encode_rows(DType::Q4_K, 512, &values, None, &mut plain).unwrap();
    let experts = values
        .chunks(512 * 8)
        .zip(to.bytes.chunks(to.bytes.len() / 3));
    for (expert, (values, bytes)) in experts.enumerate() {
        let importance = &importance[expert * 512..][..512];
        let mut expected = vec![0; bytes.len()];
        block::encode_rows(DType::Q4_K, 512, values, Some(importance), &mut expected).unwrap();
        assert!(bytes == expected, "expert {expert}");
    }
    assert!(to.bytes != plain);
    let entries = written.metadata().u32("quantize.imatrix.entries_count");
    assert_eq!(entries.unwrap(), 1);
    let missing: Vec<_> = plan
        .tensors()
        .iter()
        .filter(|t| t.importance_missing)
        .collect();
    assert!(missing.iter().any(|t| t.source.name == "output.weight"));
    assert!(missing.iter().all(|t| t.source.name != name));
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    write_model(&source, |name, values| {
        if name == "blk.2.attn_output.weight" {
            values[512 * 700 + 5] = f32::NAN;
        }
    });
    let gguf = Gguf::open(&source).unwrap();
    let bad = check(&gguf, 2, &|_| {}, &|| false).unwrap();
    assert_eq!(bad.len(), 1);
    assert_eq!(
        (&*bad[0].tensor, bad[0].block),
        ("blk.2.attn_output.weight", 512 * 700 + 5)
    );

    let plan = Plan::new(&gguf, &Options::new(Recipe::Q8_0), None).unwrap();
    let out = folder.path().join("out.gguf");
    let error = requantize(&plan, &out, 2).unwrap_err();
    assert!(
        matches!(&error, Error::NotFinite { tensor, row: 700, column: 5, .. } if tensor == "blk.2.attn_output.weight"),
        "{error}"
    );
    assert_only(&folder, &["source.gguf"]);
}

#[test]
fn stopping_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    write_model(&source, |_, _| {});
    let gguf = Gguf::open(&source).unwrap();
    let plan = Plan::new(&gguf, &Options::new(Recipe::Q8_0), None).unwrap();
    let out = folder.path().join("out.gguf");
    let writer = Writer::begin(plan.layout().unwrap(), &out, &WriteOptions::default()).unwrap();
    assert_only(&folder, &["out.gguf.fourfold-partial", "source.gguf"]);
    let asked = AtomicU64::new(0);
    let job = Requantize {
        plan: &plan,
        threads: 1,
        progress: &|_| {},
        cancelled: &|| asked.fetch_add(1, Ordering::Relaxed) == 2,
    };
    assert!(matches!(job.run(&writer), Err(Error::Cancelled)));
    drop(writer);
    assert_only(&folder, &["source.gguf"]);
}

#[test]
fn unfinished_existing_busy_and_leftover_files() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    let begin = |options: &WriteOptions| {
        let mut layout = Layout::new(Metadata::new());
        layout.add_tensor("t", DType::F32, &[8]).unwrap();
        Writer::begin(layout, &out, options)
    };
    let fault =
        |outcome: Result<_, fourfold_quantize::gguf::Error>| outcome.err().unwrap().into_fault();
    let plain = WriteOptions::default();

    let first = begin(&plain).unwrap();
    assert!(matches!(
        fault(begin(&plain).map(drop)),
        Fault::Target(partial::Error::Busy(_))
    ));
    let outside = fault(first.write_at(0, 8, &[0; 25]));
    assert!(matches!(
        outside,
        Fault::OutsideTensor {
            offset: 8,
            length: 25,
            size: 32,
            ..
        }
    ));
    first.write_at(0, 0, &[0; 31]).unwrap();
    let unfinished = fault(first.finish().map(drop));
    assert!(matches!(
        unfinished,
        Fault::Incomplete {
            expected: 32,
            written: 31,
            ..
        }
    ));
    assert_only(&folder, &[]);

    // A killed run cannot remove its file; the next one does, and says so.
    std::fs::write(folder.path().join("out.gguf.fourfold-partial"), b"half").unwrap();
    let next = begin(&plain).unwrap();
    assert_eq!(next.leftovers().count(), 1);
    next.write_at(0, 0, &[1; 32]).unwrap();
    next.finish().unwrap();
    assert_only(&folder, &["out.gguf"]);

    assert!(matches!(
        fault(begin(&plain).map(drop)),
        Fault::Target(partial::Error::Exists)
    ));
    let overwrite = WriteOptions {
        overwrite: true,
        ..plain.clone()
    };
    let again = begin(&overwrite).unwrap();
    again.write_at(0, 0, &[2; 32]).unwrap();
    again.finish().unwrap();
    assert_eq!(
        Gguf::open(&out).unwrap().tensor("t").unwrap().bytes,
        [2; 32]
    );

    // Through a link, its target is replaced and the link stays.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("out.gguf", folder.path().join("link.gguf")).unwrap();
        let mut layout = Layout::new(Metadata::new());
        layout.add_tensor("t", DType::F32, &[8]).unwrap();
        let link = folder.path().join("link.gguf");
        let through = Writer::begin(layout, &link, &overwrite).unwrap();
        assert_only(
            &folder,
            &["link.gguf", "out.gguf", "out.gguf.fourfold-partial"],
        );
        through.write_at(0, 0, &[3; 32]).unwrap();
        through.finish().unwrap();
        assert!(link.is_symlink() && !out.is_symlink());
        assert_eq!(
            Gguf::open(&out).unwrap().tensor("t").unwrap().bytes,
            [3; 32]
        );
        std::fs::remove_file(link).unwrap();
    }

    let mut layout = Layout::new(Metadata::new());
    layout.add_tensor("huge", DType::F32, &[1 << 59]).unwrap();
    let elsewhere = folder.path().join("huge.gguf");
    let full = fault(Writer::begin(layout, &elsewhere, &plain).map(drop));
    assert!(matches!(full, Fault::DiskFull { .. }), "{full}");
    assert_only(&folder, &["out.gguf"]);
}

fn assert_only(folder: &tempfile::TempDir, expected: &[&str]) {
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, expected);
}
