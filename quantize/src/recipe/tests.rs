//! What recipes choose, by name and shape.

use super::*;

/// The tensors of gpt-oss with this many layers and experts, as a converter would write them from floats.
fn gpt_oss(layers: u64, experts: u64) -> Vec<(String, Vec<u64>, DType)> {
    let mut tensors = vec![
        (
            "token_embd.weight".to_owned(),
            vec![2880, 201_088],
            DType::BF16,
        ),
        ("output_norm.weight".to_owned(), vec![2880], DType::F32),
        ("output.weight".to_owned(), vec![2880, 201_088], DType::BF16),
    ];
    for layer in 0..layers {
        let mut add = |name: &str, dims: &[u64], dtype| {
            tensors.push((format!("blk.{layer}.{name}"), dims.to_vec(), dtype));
        };
        for (name, rows, columns) in [
            ("attn_q", 4096, 2880),
            ("attn_k", 512, 2880),
            ("attn_v", 512, 2880),
            ("attn_output", 2880, 4096),
        ] {
            add(&format!("{name}.weight"), &[columns, rows], DType::BF16);
            add(&format!("{name}.bias"), &[rows], DType::F32);
        }
        for name in ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"] {
            add(
                &format!("{name}.weight"),
                &[2880, 2880, experts],
                DType::BF16,
            );
            add(&format!("{name}.bias"), &[2880, experts], DType::F32);
        }
        add("attn_norm.weight", &[2880], DType::F32);
        add("post_attention_norm.weight", &[2880], DType::F32);
        add("attn_sinks.weight", &[64], DType::F32);
        add("ffn_gate_inp.weight", &[2880, experts], DType::F32);
        add("ffn_gate_inp.bias", &[experts], DType::F32);
    }
    tensors
}

fn choices(model: &[(String, Vec<u64>, DType)], options: &Options) -> Vec<Choice> {
    let experts = model.iter().find(|tensor| is_of_experts(&tensor.0));
    let experts = experts.map_or(1, |tensor| tensor.1[2]);
    let facts = Model::of(model.iter().map(|tensor| &*tensor.0), experts);
    model
        .iter()
        .map(|(name, dims, dtype)| {
            let tensor = Tensor {
                name,
                dims,
                dtype: *dtype,
            };
            choose(tensor, facts, options).unwrap()
        })
        .collect()
}

/// Bytes of all tensors, padded as in a file.
fn size(model: &[(String, Vec<u64>, DType)], options: &Options) -> u64 {
    let sizes = choices(model, options)
        .into_iter()
        .zip(model)
        .map(|(choice, tensor)| {
            let row = choice.dtype.row_bytes(tensor.1[0] as usize).unwrap() as u64;
            (row * tensor.1[1..].iter().product::<u64>()).next_multiple_of(32)
        });
    sizes.sum()
}

fn options(name: &str) -> Options {
    Options::new(Recipe::from_name(name).unwrap())
}

fn with_experts_in(
    model: &[(String, Vec<u64>, DType)],
    dtype: DType,
) -> Vec<(String, Vec<u64>, DType)> {
    let mut model = model.to_vec();
    for tensor in &mut model {
        if tensor.0.ends_with("_exps.weight") {
            tensor.2 = dtype;
        }
    }
    model
}

#[test]
fn the_table_is_in_enum_order() {
    for (index, row) in Recipe::TABLE.iter().enumerate() {
        assert_eq!(row.recipe as usize, index, "{}", row.name);
        assert_eq!(
            Recipe::from_name(&row.name.to_lowercase()),
            Some(row.recipe)
        );
    }
}

#[test]
fn sizes_are_those_of_llama_quantize_from_floats() {
    let (small, large) = (gpt_oss(24, 32), gpt_oss(36, 128));
    let table = [
        ("BF16", 41_847_879_936, Some(233_765_491_968)),
        ("F16", 41_847_879_936, Some(233_765_491_968)),
        ("Q8_0", 22_248_903_936, Some(124_288_397_568)),
        ("Q6_K", 22_180_336_896, Some(124_185_547_008)),
        ("Q5_K_M", 16_880_054_016, Some(93_930_732_288)),
        ("Q5_1", 15_896_891_136, None),
        ("Q5_K_S", 15_879_196_416, None),
        ("Q4_K_M", 15_792_128_256, Some(87_837_965_568)),
        ("Q4_K_S", 14_641_234_176, None),
        ("Q5_0", 14_626_488_576, Some(80_714_734_848)),
        ("Q4_1", 13_356_086_016, None),
        ("Q3_K_L", 13_322_102_016, None),
        ("Q3_K_M", 12_903_142_656, None),
        ("Q3_K_S", 12_048_082_176, None),
        ("IQ4_NL", 12_241_618_176, Some(66_996_396_288)),
        ("IQ4_XS", 12_232_770_816, None),
        ("MXFP4_MOE", 12_096_558_336, Some(63_374_323_968)),
        ("Q4_0", 12_085_683_456, Some(66_190_180_608)),
        ("Q2_K", 12_052_505_856, None),
    ];
    for (name, small_size, large_size) in table {
        assert_eq!(size(&small, &options(name)), small_size, "20b {name}");
        // From MXFP4 experts the same, once asked for.
        let again = Options {
            requantize_experts: true,
            ..options(name)
        };
        let mxfp4 = with_experts_in(&small, DType::MXFP4);
        assert_eq!(size(&mxfp4, &again), small_size, "20b {name} from MXFP4");
        if let Some(large_size) = large_size {
            assert_eq!(size(&large, &options(name)), large_size, "120b {name}");
        }
    }
    for (name, small_size) in [
        ("MXFP4", 11_142_817_536),
        ("Q4_K_S", 14_373_924_096),
        ("Q5_K_S", 15_698_217_216),
    ] {
        let pure = Options {
            pure: true,
            ..options(name)
        };
        assert_eq!(size(&small, &pure), small_size, "20b --pure {name}");
    }
}

#[test]
fn sizes_are_those_of_llama_quantize_with_experts_kept() {
    let small = with_experts_in(&gpt_oss(24, 32), DType::MXFP4);
    let large = with_experts_in(&gpt_oss(36, 128), DType::MXFP4);
    for (name, small_size, large_size) in [
        ("BF16", 13_779_630_336, 65_355_994_368),
        ("Q8_0", 12_096_558_336, 63_374_323_968),
        ("MXFP4_MOE", 12_096_558_336, 63_374_323_968),
        ("Q6_K", 12_027_991_296, 63_271_473_408),
        ("Q5_K_M", 11_704_348_416, 62_876_498_688),
        ("Q4_K_M", 11_611_750_656, 62_755_699_968),
    ] {
        assert_eq!(size(&small, &options(name)), small_size, "20b {name}");
        assert_eq!(size(&large, &options(name)), large_size, "120b {name}");
    }
}

#[test]
fn an_importance_matrix_changes_what_it_changes_in_llama_quantize() {
    let model = gpt_oss(24, 32);
    let down = |layer: u64, name, has_imatrix| {
        let index = model
            .iter()
            .position(|tensor| tensor.0 == format!("blk.{layer}.ffn_down_exps.weight"))
            .unwrap();
        choices(
            &model,
            &Options {
                has_imatrix,
                ..options(name)
            },
        )[index]
            .dtype
    };
    assert_eq!(down(0, "Q4_0", true), DType::Q4_1);
    assert_eq!(down(3, "Q4_0", true), DType::Q4_0);
    assert_eq!(down(2, "Q5_0", true), DType::Q5_1);
    assert_eq!(down(2, "Q5_0", false), DType::Q5_0);
    assert_eq!(down(0, "IQ4_NL", false), DType::Q5_1);
    assert_eq!(down(0, "IQ4_NL", true), DType::IQ4_NL);
}

#[test]
fn attention_beside_eight_experts_is_finer_as_in_llama_quantize() {
    let model = gpt_oss(4, 8);
    let types = |name: &str, recipe: &str| {
        let wanted = format!("blk.0.{name}.weight");
        let index = model.iter().position(|tensor| tensor.0 == wanted).unwrap();
        choices(&model, &options(recipe))[index].dtype
    };
    for recipe in ["Q4_K_M", "Q6_K", "Q4_0", "Q3_K_L"] {
        assert_eq!(types("attn_k", recipe), DType::Q8_0, "{recipe}");
        assert_eq!(types("attn_v", recipe), DType::Q8_0, "{recipe}");
    }
    // Rows of 4096, which K-quants fit.
    assert_eq!(types("attn_output", "Q4_K_M"), DType::Q5_K);
    assert_eq!(types("attn_output", "Q6_K"), DType::Q6_K);
}

#[test]
fn fallbacks_and_kept_experts_are_reported() {
    let model = with_experts_in(&gpt_oss(24, 32), DType::MXFP4);
    for (choice, tensor) in choices(&model, &options("Q4_K_M")).iter().zip(&model) {
        let expected = match &*tensor.0 {
            "blk.3.attn_q.weight" => (DType::Q5_0, Some(DType::Q4_K), None),
            "blk.3.attn_output.weight" => (DType::Q4_K, None, None),
            "blk.0.ffn_down_exps.weight" => (DType::MXFP4, None, Some(DType::Q6_K)),
            "output.weight" => (DType::Q8_0, None, None),
            "blk.3.ffn_gate_exps.bias" | "blk.3.ffn_gate_inp.weight" => (DType::F32, None, None),
            _ => continue,
        };
        let found = (choice.dtype, choice.fallback_from, choice.kept_instead_of);
        assert_eq!(found, expected, "{}", tensor.0);
    }
}

#[test]
fn overrides_come_first_and_refuse_to_spoil_experts() {
    let dims = [2880, 2880, 32];
    let facts = Model::of(["blk.0.attn_q.weight"].into_iter(), 32);
    let mut options = options("F16");
    for text in ["ATTN_Q=q6_k", "exps=q5_0", "attn=q4_0"] {
        options.overrides.push(Override::parse(text).unwrap());
    }
    let mut choose_for = |name, dims, dtype, flag| {
        options.requantize_experts = flag;
        choose(Tensor { name, dims, dtype }, facts, &options)
    };
    // Found as a search, first match, in any case, and with the fallback.
    let choice = choose_for("blk.0.attn_q.weight", &dims[..2], DType::BF16, false).unwrap();
    assert_eq!(
        (choice.dtype, choice.fallback_from),
        (DType::Q8_0, Some(DType::Q6_K))
    );
    let experts = "blk.0.ffn_up_exps.weight";
    let message = choose_for(experts, &dims, DType::MXFP4, false)
        .unwrap_err()
        .to_string();
    assert!(message.contains(experts) && message.contains("--requantize-experts"));
    assert_eq!(
        choose_for(experts, &dims, DType::MXFP4, true)
            .unwrap()
            .dtype,
        DType::Q5_0
    );
    assert_eq!(
        choose_for(experts, &dims, DType::BF16, false)
            .unwrap()
            .dtype,
        DType::Q5_0
    );

    let names = ["blk.0.attn_q.weight", experts];
    assert!(check_overrides(&options.overrides, names.into_iter()).is_ok());
    let message = check_overrides(&options.overrides, [experts].into_iter()).unwrap_err();
    assert!(message.to_string().contains("\"ATTN_Q\""), "{message}");

    for text in [
        "attn_q",
        "(=q8_0",
        "attn_q=q9",
        "attn_q=i32",
        "attn_q=iq3_s",
    ] {
        let message = Override::parse(text).unwrap_err().to_string();
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn lean_reads_a_fifth_fewer_bytes_per_token() {
    let read = |layers: u64, experts: u64, name: &str| -> u64 {
        let model = with_experts_in(&gpt_oss(layers, experts), DType::MXFP4);
        let chosen = choices(&model, &options(name));
        let bytes = chosen.iter().zip(&model).map(|(choice, (name, dims, _))| {
            let row = choice.dtype.row_bytes(dims[0] as usize).unwrap() as u64;
            let rows: u64 = dims[1..].iter().product();
            match &**name {
                "token_embd.weight" => row,
                name if name.contains("_exps.") => row * rows * 4 / experts,
                _ => row * rows,
            }
        });
        bytes.sum()
    };
    assert_eq!(read(24, 32, "MXFP4_MOE"), 2_574_705_396);
    assert_eq!(read(24, 32, "LEAN"), 2_047_871_676);
    assert_eq!(read(36, 128, "MXFP4_MOE"), 3_594_213_108);
    assert_eq!(read(36, 128, "LEAN"), 2_912_550_588);
    let model = with_experts_in(&gpt_oss(24, 32), DType::MXFP4);
    assert_eq!(size(&model, &options("LEAN")), 11_352_550_656);
}
