//! The planner on the published models and on cards of 6 to 80 GiB.

use super::*;

const GIB: u64 = 1 << 30;

/// The sizes of the published files: experts in MXFP4, dense matrices in Q8_0, the rest in f32.
fn published(layers: usize, experts: usize) -> Sizes {
    let (dim, ff, queries, keys, vocabulary) = (2880, 2880, 4096, 512, 201_088);
    let q8_0 = |rows: usize, columns: usize| rows * columns / 32 * 34;
    let mxfp4 = |rows: usize, columns: usize| rows * columns / 32 * 17;
    let attention = q8_0(queries + 2 * keys, dim) + q8_0(dim, queries);
    let vectors = 4 * (queries + 2 * keys + 2 * dim + 64);
    let expert = 3 * mxfp4(ff, dim) + 4 * (2 * ff + dim) + 4 * (dim + 1);
    let layer = |index: usize| LayerSize {
        attention: (attention + vectors) as u64,
        experts: (experts * expert + 4 * dim) as u64,
        window: index.is_multiple_of(2).then_some(128),
    };
    Sizes {
        layers: (0..layers).map(layer).collect(),
        head: (q8_0(vocabulary, dim) + 4 * dim) as u64,
        position: 2 * 2 * keys as u64,
        context: 131_072,
        chunk: 512,
        dim,
        queries,
        expert_numbers: 4 * ff,
        vocabulary,
    }
}

fn card(gib: u64) -> Card {
    Card {
        name: "Vulkan0".into(),
        description: "a test".into(),
        free: gib * GIB,
        total: gib * GIB,
        worthwhile: true,
    }
}

const MODELS: [(&str, usize, usize); 2] = [("20b", 24, 32), ("120b", 36, 128)];
const CARDS: [u64; 6] = [6, 8, 12, 16, 24, 80];

/// The table of `docs/gpu.md`: what `auto` does with each card, model and context.
fn table() -> String {
    let mut out = String::from(
        "| model | card | context | layers | with experts | head, layers | experts | stage | cache | scratch | left |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (name, layers, experts) in MODELS {
        let sizes = published(layers, experts);
        for gib in CARDS {
            for context in [4096, 32_768, 131_072] {
                let wish = Wish {
                    context: Some(context),
                    ..Wish::default()
                };
                let plan = plan(&sizes, &card(gib), &wish).unwrap().unwrap();
                let Bytes {
                    attention,
                    experts,
                    head,
                    stage,
                    cache,
                    scratch,
                } = plan.bytes;
                let parts = [
                    head + attention,
                    experts,
                    stage,
                    cache,
                    scratch,
                    plan.left(),
                ];
                let parts = parts.map(|bytes| format!("{:.2}", bytes as f64 / GIB as f64));
                out += &format!(
                    "| {name} | {gib} | {}k | {} | {} | {} |\n",
                    context / 1024,
                    plan.device_layers(),
                    layers - plan.first_experts,
                    parts.join(" | "),
                );
            }
        }
    }
    out
}

#[test]
fn the_documentation_shows_what_is_computed() {
    let documentation = include_str!("../../../../docs/gpu.md");
    let table = table();
    assert!(
        documentation.contains(&table),
        "docs/gpu.md needs this table:\n{table}"
    );
}

#[test]
fn every_card_gets_a_plan_that_fits_and_wastes_less_than_a_layer() {
    for (_, layers, experts) in MODELS {
        let sizes = published(layers, experts);
        for gib in CARDS {
            for context in [4096, 32_768, 131_072] {
                let wish = Wish {
                    context: Some(context),
                    ..Wish::default()
                };
                let plan = plan(&sizes, &card(gib), &wish).unwrap().unwrap();
                let layer = sizes.layers[0].attention + sizes.layers[0].experts;
                assert!(plan.bytes.total() + plan.headroom <= gib * GIB);
                assert!(plan.first <= plan.first_experts);
                let all = plan.first_experts == 0;
                // Experts in scratch come with the first layer that has them.
                assert!(all || plan.left() < layer + plan.bytes.scratch, "{plan}");
                assert_eq!(plan.context, context);
            }
        }
    }
}

#[test]
fn whole_models_go_where_they_fit() {
    let at = |(layers, experts), gib, context| {
        let wish = Wish {
            context: Some(context),
            ..Wish::default()
        };
        let plan = plan(&published(layers, experts), &card(gib), &wish)
            .unwrap()
            .unwrap();
        (plan.device_layers(), layers - plan.first_experts)
    };
    let (small, large) = ((24, 32), (36, 128));
    assert_eq!(at(small, 12, 4096), (24, 24));
    assert_eq!(at(small, 16, 131_072), (24, 24));
    assert_eq!(at(large, 80, 131_072), (36, 36));
    // The attention of the large model fits on any card here, and some experts on those that people have.
    assert_eq!(at(large, 6, 4096).0, 36);
    assert!(at(large, 12, 32_768).1 >= 3 && at(large, 24, 32_768).1 >= 10);
}

#[test]
fn without_a_wish_the_context_is_what_keeps_the_model_whole() {
    let sizes = published(24, 32);
    let context = |gib| {
        plan(&sizes, &card(gib), &Wish::default())
            .unwrap()
            .unwrap()
            .context
    };
    assert_eq!(context(16), 131_072);
    assert_eq!(context(8), 32_768);
    let plan = plan(&sizes, &card(12), &Wish::default()).unwrap().unwrap();
    assert!(plan.first_experts == 0 || plan.context == 32_768);
}

#[test]
fn what_cannot_fit_says_what_would() {
    let sizes = published(36, 128);
    let wish = |layers, cpu_moe| Wish {
        layers,
        cpu_moe,
        context: Some(8192),
        ..Wish::default()
    };
    let refused = plan(&sizes, &card(12), &wish(Amount::All, Amount::Exactly(0)));
    let error = refused.unwrap_err().to_string();
    let (_, hint) = error.split_once("--gpu-layers ").unwrap();
    let mut words = hint.split(' ');
    let layers: usize = words.next().unwrap().parse().unwrap();
    let cpu_moe: usize = words.nth(1).unwrap().parse().unwrap();
    let hinted = wish(Amount::Exactly(layers), Amount::Exactly(cpu_moe));
    assert!(
        plan(&sizes, &card(12), &hinted).unwrap().is_some(),
        "{error}"
    );
    // Nothing was insisted on: nothing is an answer.
    assert_eq!(
        plan(&sizes, &card(1), &wish(Amount::Auto, Amount::Auto)),
        Ok(None)
    );
    let error = plan(&sizes, &card(1), &wish(Amount::Exactly(3), Amount::Auto)).unwrap_err();
    assert!(error.to_string().contains("smaller --ctx"), "{error}");
}

#[test]
fn wishes_are_taken_literally() {
    let sizes = published(24, 32);
    let wish = Wish {
        layers: Amount::Exactly(7),
        cpu_moe: Amount::Exactly(20),
        context: Some(4096),
        ..Wish::default()
    };
    let found = plan(&sizes, &card(80), &wish).unwrap().unwrap();
    assert_eq!((found.first, found.first_experts), (17, 20));
    let none = Wish {
        layers: Amount::Exactly(0),
        ..wish.clone()
    };
    assert_eq!(plan(&sizes, &card(80), &none), Ok(None));
    let many = Wish {
        layers: Amount::Exactly(25),
        ..wish.clone()
    };
    let error = plan(&sizes, &card(80), &many).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--gpu-layers is 25, but the model has 24 layers"
    );
    let small = Wish {
        budget: Some(8 * GIB),
        layers: Amount::All,
        context: Some(4096),
        ..Wish::default()
    };
    let found = plan(&sizes, &card(80), &small).unwrap().unwrap();
    assert!(found.bytes.total() <= 8 * GIB && found.first_experts > 0);
}
