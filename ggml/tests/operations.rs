//! Every operation that an offloaded layer uses, on every device there is, against plain loops in f64.
//! With the feature `vulkan` and Mesa's software driver this covers the GPU path on machines without a GPU.
#![cfg(feature = "backend")]

use ggml_sys_bindgen::{
    Device, ElementType, Error, GraphBuilder, Rope, Store, StoreBuilder, Stream, TensorId, Value,
};
use std::sync::Arc;

const F32: ElementType = ElementType::F32;

fn each_device(test: impl Fn(&mut Stream)) {
    let devices = Device::all();
    assert!(!devices.is_empty(), "the CPU device is always there");
    for device in devices {
        println!(
            "on {} ({}), {:?}, {:?}",
            device.name(),
            device.description(),
            device.kind(),
            device.memory()
        );
        test(&mut device.open().unwrap());
    }
}

/// Numbers between -1 and 1 that look random and are the same on every run.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn bytes_of<T: Copy>(values: &[T]) -> Vec<u8> {
    // SAFETY: plain numbers may be looked at as bytes.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
        .to_vec()
}

fn store(
    stream: &Stream,
    kind: ElementType,
    dims: &[usize],
    bytes: &[u8],
) -> (Arc<Store>, TensorId) {
    let mut builder = StoreBuilder::new(1);
    let tensor = builder.tensor(kind, dims).unwrap();
    let store = builder.allocate(stream, "a test").unwrap();
    store.upload(tensor, 0, bytes).unwrap();
    (store, tensor)
}

/// Builds with `make`, fills the inputs it returns, runs, and reads the result.
fn run(
    stream: &mut Stream,
    make: impl FnOnce(&mut GraphBuilder) -> Result<(Value, Vec<(Value, Vec<u8>)>), Error>,
) -> Vec<f32> {
    let mut builder = GraphBuilder::new(64);
    let (out, inputs) = make(&mut builder).unwrap();
    let count: usize = builder.shape(out).unwrap().iter().product();
    builder.output(out).unwrap();
    let mut graph = builder.finish(stream).unwrap();
    for (value, bytes) in &inputs {
        graph.set(stream, *value, bytes).unwrap();
    }
    graph.run(stream).unwrap();
    let mut bytes = vec![0; count * 4];
    graph.read(stream, out, &mut bytes).unwrap();
    bytes
        .chunks_exact(4)
        .map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap()))
        .collect()
}

fn assert_close(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    let scale = want
        .iter()
        .fold(1e-6, |max: f64, value| max.max(value.abs()));
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            (f64::from(*got) - want).abs() <= tolerance * scale,
            "at {index}: {got} for {want}"
        );
    }
}

/// An MXFP4 matrix as bytes, and its values.
fn mxfp4(rows: usize, columns: usize, seed: u32) -> (Vec<u8>, Vec<f64>) {
    const CODES: [f64; 16] = [
        0., 0.5, 1., 1.5, 2., 3., 4., 6., 0., -0.5, -1., -1.5, -2., -3., -4., -6.,
    ];
    let (mut bytes, mut values) = (Vec::new(), vec![0.0; rows * columns]);
    let random = numbers(rows * columns, seed);
    for block in 0..rows * columns / 32 {
        let exponent = 120 + (block % 5) as u8;
        bytes.push(exponent);
        let code = |index: usize| ((random[block * 32 + index] + 1.0) * 8.0) as usize % 16;
        for index in 0..16 {
            bytes.push((code(index) | code(index + 16) << 4) as u8);
        }
        for index in 0..32 {
            values[block * 32 + index] = CODES[code(index)] * 2f64.powi(i32::from(exponent) - 127);
        }
    }
    (bytes, values)
}

#[test]
fn a_product_with_f32_weights() {
    let (rows, columns, tokens) = (24, 96, 5);
    let (w, x) = (numbers(rows * columns, 1), numbers(tokens * columns, 2));
    let mut want = vec![0.0; rows * tokens];
    for (index, out) in want.iter_mut().enumerate() {
        let (token, row) = (index / rows, index % rows);
        *out = (0..columns)
            .map(|c| f64::from(w[row * columns + c]) * f64::from(x[token * columns + c]))
            .sum();
    }
    each_device(|stream| {
        let (held, tensor) = store(stream, F32, &[columns, rows], &bytes_of(&w));
        let got = run(stream, |graph| {
            let (w, input) = (
                graph.stored(&held, tensor)?,
                graph.input(F32, &[columns, tokens])?,
            );
            Ok((graph.mul_mat(w, input)?, vec![(input, bytes_of(&x))]))
        });
        assert_close(&got, &want, 1e-3);
    });
}

#[test]
fn experts_of_mxfp4_with_their_biases() {
    let (rows, columns, experts, used, tokens) = (40, 64, 6, 2, 3);
    let (w, values) = mxfp4(rows * experts, columns, 3);
    let (x, bias) = (numbers(tokens * columns, 4), numbers(rows * experts, 5));
    let ids: Vec<i32> = vec![5, 0, 2, 3, 1, 4];
    let mut want = Vec::new();
    for (slot, &expert) in ids.iter().enumerate() {
        for row in 0..rows {
            let at = expert as usize * rows + row;
            let dot: f64 = (0..columns)
                .map(|c| values[at * columns + c] * f64::from(x[slot / used * columns + c]))
                .sum();
            want.push(dot + f64::from(bias[at]));
        }
    }
    each_device(|stream| {
        let kind = ElementType::from_id(39).unwrap();
        let (held, tensor) = store(stream, kind, &[columns, rows, experts], &w);
        let got = run(stream, |graph| {
            let (w, input) = (
                graph.stored(&held, tensor)?,
                graph.input(F32, &[columns, 1, tokens])?,
            );
            let (chosen, biases) = (
                graph.input(ElementType::I32, &[used, tokens])?,
                graph.input(F32, &[rows, experts])?,
            );
            let product = graph.mul_mat_id(w, input, chosen)?;
            let out = graph.add_id(product, biases, chosen)?;
            Ok((
                out,
                vec![
                    (input, bytes_of(&x)),
                    (chosen, bytes_of(&ids)),
                    (biases, bytes_of(&bias)),
                ],
            ))
        });
        // ggml rounds activations to 8 bits here.
        assert_close(&got, &want, 0.02);
    });
}

#[test]
fn attention_with_sinks_and_a_mask() {
    let (d, heads, kv_heads, keys, tokens) = (64, 4, 2, 32, 3);
    let (q, k, v) = (
        numbers(d * tokens * heads, 6),
        numbers(d * keys * kv_heads, 7),
        numbers(d * keys * kv_heads, 8),
    );
    let sinks = [0.3f32, -1.0, 2.0, 0.0];
    let visible = |token: usize, key: usize| key <= 20 + token && key > token;
    let mut want = vec![0.0; d * heads * tokens];
    for head in 0..heads {
        let at = |key: usize, i: usize| (head / (heads / kv_heads) * keys + key) * d + i;
        for token in 0..tokens {
            let score = |key: usize| -> f64 {
                (0..d)
                    .map(|i| {
                        f64::from(q[(head * tokens + token) * d + i]) * f64::from(k[at(key, i)])
                    })
                    .sum::<f64>()
                    * 0.125
            };
            let seen: Vec<usize> = (0..keys).filter(|&key| visible(token, key)).collect();
            let total = seen.iter().map(|&key| score(key).exp()).sum::<f64>()
                + f64::from(sinks[head]).exp();
            for i in 0..d {
                want[(token * heads + head) * d + i] = seen
                    .iter()
                    .map(|&key| score(key).exp() / total * f64::from(v[at(key, i)]))
                    .sum();
            }
        }
    }
    let mask: Vec<u16> = (0..64)
        .flat_map(|t| {
            (0..keys).map(move |key| {
                if t < tokens && visible(t, key) {
                    0
                } else {
                    0xfc00
                }
            })
        })
        .collect();
    each_device(|stream| {
        let got = run(stream, |graph| {
            let input = |graph: &mut GraphBuilder, dims: &[usize]| graph.input(F32, dims);
            let (qi, ki, vi) = (
                input(graph, &[d, tokens, heads])?,
                input(graph, &[d, keys, kv_heads])?,
                input(graph, &[d, keys, kv_heads])?,
            );
            let (mi, si) = (
                graph.input(ElementType::F16, &[keys, 64])?,
                input(graph, &[heads])?,
            );
            let out = graph.attention(qi, ki, vi, mi, si, 0.125)?;
            Ok((
                out,
                vec![
                    (qi, bytes_of(&q)),
                    (ki, bytes_of(&k)),
                    (vi, bytes_of(&v)),
                    (mi, bytes_of(&mask)),
                    (si, bytes_of(&sinks)),
                ],
            ))
        });
        assert_close(&got, &want, 5e-3);
    });
}

#[test]
fn rope_takes_any_table_of_frequencies() {
    let (d, heads, tokens) = (64, 2, 3);
    let (x, positions, base, magnitude) = (
        numbers(d * heads * tokens, 9),
        [0i32, 5, 4097],
        150_000f64,
        1.25f64,
    );
    let factors: Vec<f32> = (0..d / 2).map(|i| 1.0 + i as f32 * 0.5).collect();
    let mut want = vec![0.0; x.len()];
    for (token, &position) in positions.iter().enumerate() {
        for head in 0..heads {
            let at = (token * heads + head) * d;
            for i in 0..d / 2 {
                let angle = f64::from(position) * base.powf(-2.0 * i as f64 / d as f64)
                    / f64::from(factors[i]);
                let (sin, cos) = (angle.sin() * magnitude, angle.cos() * magnitude);
                let (a, b) = (f64::from(x[at + i]), f64::from(x[at + i + d / 2]));
                want[at + i] = a * cos - b * sin;
                want[at + i + d / 2] = b * cos + a * sin;
            }
        }
    }
    each_device(|stream| {
        let got = run(stream, |graph| {
            let (xi, pi) = (
                graph.input(F32, &[d, heads, tokens])?,
                graph.input(ElementType::I32, &[tokens])?,
            );
            let fi = graph.input(F32, &[d / 2])?;
            let rope = Rope {
                dimensions: d,
                frequency_base: base as f32,
                magnitude: magnitude as f32,
            };
            let out = graph.rope(xi, pi, fi, rope)?;
            Ok((
                out,
                vec![
                    (xi, bytes_of(&x)),
                    (pi, bytes_of(&positions)),
                    (fi, bytes_of(&factors)),
                ],
            ))
        });
        // The angle at position 4097 is a product of f32 powers, good to about 1e-3.
        assert_close(&got, &want, 3e-3);
    });
}

#[test]
fn the_clamped_swiglu_and_the_router() {
    let (gate, up) = (numbers(64, 10), numbers(64, 11));
    let wide = |values: &[f32]| -> Vec<f32> { values.iter().map(|value| value * 12.0).collect() };
    let (gate, up) = (wide(&gate), wide(&up));
    let want: Vec<f64> = gate
        .iter()
        .zip(&up)
        .map(|(&g, &u)| {
            let (g, u) = (f64::from(g).min(7.0), f64::from(u).clamp(-7.0, 7.0));
            g / (1.0 + (-1.702 * g).exp()) * (u + 1.0)
        })
        .collect();
    each_device(|stream| {
        let got = run(stream, |graph| {
            let (gi, ui) = (graph.input(F32, &[64])?, graph.input(F32, &[64])?);
            Ok((
                graph.swiglu(gi, ui, 1.702, 7.0)?,
                vec![(gi, bytes_of(&gate)), (ui, bytes_of(&up))],
            ))
        });
        assert_close(&got, &want, 1e-3);
        let logits = [0.5f32, 2.0, -1.0, 3.0, 1.0, 0.0, -2.0, 2.5];
        let got = run(stream, |graph| {
            let li = graph.input(F32, &[8, 1])?;
            let best = graph.top_k(li, 4)?;
            let table = graph.reshape(li, [1, 8, 1, 1])?;
            let picked = graph.get_rows(table, best)?;
            let picked = graph.reshape(picked, [4, 1, 1, 1])?;
            Ok((graph.soft_max(picked)?, vec![(li, bytes_of(&logits))]))
        });
        let total: f64 = [3.0, 2.5, 2.0, 1.0f64].iter().map(|x| x.exp()).sum();
        assert_close(
            &got,
            &[3.0, 2.5, 2.0, 1.0f64].map(|x| x.exp() / total),
            1e-4,
        );
    });
}

#[test]
fn rows_written_to_a_store_stay_there() {
    each_device(|stream| {
        let (held, cache) = store(stream, F32, &[4, 8], &bytes_of(&[0f32; 32]));
        let mut builder = GraphBuilder::new(16);
        let target = builder.stored(&held, cache).unwrap();
        let (rows, ids) = (
            builder.input(F32, &[4, 2]).unwrap(),
            builder.input(ElementType::I64, &[2]).unwrap(),
        );
        builder.set_rows(target, rows, ids).unwrap();
        let mut graph = builder.finish(stream).unwrap();
        graph
            .set(stream, rows, &bytes_of(&[1f32, 2., 3., 4., 5., 6., 7., 8.]))
            .unwrap();
        graph.set(stream, ids, &bytes_of(&[6i64, 1])).unwrap();
        graph.run(stream).unwrap();
        let mut bytes = vec![0; 16];
        held.download(cache, 6 * 16, &mut bytes).unwrap();
        assert_eq!(bytes, bytes_of(&[1f32, 2., 3., 4.]));
        held.download(cache, 16, &mut bytes).unwrap();
        assert_eq!(bytes, bytes_of(&[5f32, 6., 7., 8.]));
    });
}

#[test]
fn what_does_not_fit_is_an_error_and_not_the_end_of_the_process() {
    let stream = Device::all()[0].open().unwrap();
    let mut graph = GraphBuilder::new(8);
    let (a, b) = (
        graph.input(F32, &[32, 4]).unwrap(),
        graph.input(F32, &[31, 4]).unwrap(),
    );
    assert!(matches!(
        graph.mul_mat(a, b),
        Err(Error::Shape {
            operation: "mul_mat",
            ..
        })
    ));
    assert!(matches!(
        graph.add(a, b),
        Err(Error::Shape {
            operation: "add",
            ..
        })
    ));
    assert!(matches!(
        graph.input(F32, &[usize::MAX, 8]),
        Err(Error::Shape { .. })
    ));
    assert!(matches!(
        graph.input(ElementType::from_id(39).unwrap(), &[33]),
        Err(Error::Shape { .. })
    ));
    assert!(ElementType::from_id(4).is_none() && ElementType::from_id(u32::MAX).is_none());
    let mut other = GraphBuilder::new(1);
    assert!(matches!(
        other.rms_norm(a, 1e-5),
        Err(Error::Foreign { .. })
    ));
    other.input(F32, &[1]).unwrap();
    assert!(matches!(
        other.input(F32, &[1]),
        Err(Error::Full { capacity: 1, .. })
    ));
    let (held, tensor) = store(&stream, F32, &[4], &[0u8; 16]);
    assert!(matches!(
        held.upload(tensor, 8, &[0u8; 12]),
        Err(Error::Length {
            tensor: 16,
            offset: 8,
            given: 12
        })
    ));
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    each_device(|stream| {
        let mut builder = StoreBuilder::new(1);
        builder.tensor(F32, &[1 << 20, 1 << 23]).unwrap();
        let error = builder.allocate(stream, "a test").err().unwrap();
        let told = matches!(error, Error::Memory { .. } | Error::Device { .. });
        assert!(told, "{error}");
    });
}
