//! The operations: each checks its operands first, because ggml would end the process.

use std::ptr::NonNull;

use super::{GraphBuilder, Raw, Value, shape};
use crate::{Error, raw};

/// How positions turn heads; see the model's configuration.
#[derive(Clone, Copy, Debug)]
pub struct Rope {
    /// Dimensions of a head that are turned, half-split.
    pub dimensions: usize,
    /// Base of the frequencies.
    pub frequency_base: f32,
    /// Multiplies the sines and cosines.
    pub magnitude: f32,
}

impl GraphBuilder {
    /// `w` [k, m] times `x` [k, n] gives [m, n].
    pub fn mul_mat(&mut self, w: Value, x: Value) -> Result<Value, Error> {
        let ([w, x], [ws, xs]) = self.pair(w, x)?;
        let fits = ws[0] == xs[0]
            && xs[2].is_multiple_of(ws[2])
            && xs[3].is_multiple_of(ws[3])
            && is_plain(w);
        self.check(
            fits,
            "mul_mat",
            &[ws, xs],
            "rows of one length, the weight not transposed",
        )?;
        // SAFETY: as for every operation below: valid operands of this graph, shapes just checked, room for the result.
        self.add_node(|context| unsafe { raw::ggml_mul_mat(context, w.as_ptr(), x.as_ptr()) })
    }

    /// `experts` [k, m, e] chosen by `ids` [used, t] times `x` [k, used or 1, t] gives [m, used, t].
    pub fn mul_mat_id(&mut self, experts: Value, x: Value, ids: Value) -> Result<Value, Error> {
        let ([w, x], [ws, xs]) = self.pair(experts, x)?;
        let ids = self.get(ids)?;
        let is = shape(ids);
        let fits = ws[0] == xs[0]
            && ws[3] == 1
            && xs[3] == 1
            && is[1] == xs[2]
            && is[0].is_multiple_of(xs[1])
            && is_i32(ids);
        self.check(
            fits && is[2] == 1,
            "mul_mat_id",
            &[ws, xs, is],
            "experts [k,m,e], input [k,used or 1,t], ids i32 [used,t]",
        )?;
        // SAFETY: see mul_mat.
        self.add_node(|context| unsafe {
            raw::ggml_mul_mat_id(context, w.as_ptr(), x.as_ptr(), ids.as_ptr())
        })
    }

    /// Adds row `ids[u, t]` of `bias` [m, e] to each `x` [m, used, t].
    pub fn add_id(&mut self, x: Value, bias: Value, ids: Value) -> Result<Value, Error> {
        let ([x, bias], [xs, bs]) = self.pair(x, bias)?;
        let ids = self.get(ids)?;
        let is = shape(ids);
        let fits = xs[0] == bs[0]
            && xs[1] == is[0]
            && xs[2] == is[1]
            && xs[3] == 1
            && is_i32(ids)
            && is_f32(x)
            && is_f32(bias);
        self.check(
            fits,
            "add_id",
            &[xs, bs, is],
            "input [m,used,t], bias [m,e], ids i32 [used,t]",
        )?;
        // SAFETY: see mul_mat.
        self.add_node(|context| unsafe {
            raw::ggml_add_id(context, x.as_ptr(), bias.as_ptr(), ids.as_ptr())
        })
    }

    /// `a + b`, with `b` repeated along the dimensions in which `a` is a multiple of it.
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value, Error> {
        let [a, b] = self.repeatable("add", a, b)?;
        // SAFETY: see mul_mat.
        self.add_node(|context| unsafe { raw::ggml_add(context, a.as_ptr(), b.as_ptr()) })
    }

    /// `a * b`, with `b` repeated as in [`GraphBuilder::add`].
    pub fn mul(&mut self, a: Value, b: Value) -> Result<Value, Error> {
        let [a, b] = self.repeatable("mul", a, b)?;
        // SAFETY: see mul_mat.
        self.add_node(|context| unsafe { raw::ggml_mul(context, a.as_ptr(), b.as_ptr()) })
    }

    /// Each row divided by its root mean square.
    pub fn rms_norm(&mut self, x: Value, epsilon: f32) -> Result<Value, Error> {
        let x = self.get(x)?;
        self.check(is_f32(x), "rms_norm", &[shape(x)], "32-bit floats")?;
        // SAFETY: see mul_mat.
        self.add_node(|context| unsafe { raw::ggml_rms_norm(context, x.as_ptr(), epsilon) })
    }

    /// Turns heads `x` [d, heads, t] by their `positions` i32 [t]. `factors` [d/2] divide the frequencies: with them any
    /// table of frequencies can be reached, the untruncated YaRN of the reference among them.
    pub fn rope(
        &mut self,
        x: Value,
        positions: Value,
        factors: Value,
        rope: Rope,
    ) -> Result<Value, Error> {
        let ([x, positions], [xs, ps]) = self.pair(x, positions)?;
        let factors = self.get(factors)?;
        let fits = rope.dimensions <= xs[0]
            && rope.dimensions.is_multiple_of(2)
            && xs[2] == ps[0]
            && is_i32(positions);
        let fits = fits
            && is_f32(factors)
            && shape(factors)[0] >= rope.dimensions / 2
            && xs[3] == 1
            && ps[1..] == [1, 1, 1];
        self.check(
            fits,
            "rope",
            &[xs, ps, shape(factors)],
            "heads [d,heads,t], positions i32 [t], factors f32 [d/2]",
        )?;
        let (dimensions, mode) = (rope.dimensions as i32, raw::GGML_ROPE_TYPE_NEOX as i32);
        // SAFETY: see mul_mat. Scaling is in `factors`, so ggml's own is off: scale 1, no extrapolation.
        self.add_node(|context| unsafe {
            let (x, positions, factors) = (x.as_ptr(), positions.as_ptr(), factors.as_ptr());
            let (base, magnitude) = (rope.frequency_base, rope.magnitude);
            raw::ggml_rope_ext(
                context, x, positions, factors, dimensions, mode, 0, base, 1.0, 0.0, magnitude,
                32.0, 1.0,
            )
        })
    }

    /// Attention with sinks: `q` [d, t, heads], `k` and `v` [d, keys, kv heads], `mask` f16 [keys, t], `sinks` [heads]
    /// give [d, heads, t].
    pub fn attention(
        &mut self,
        q: Value,
        k: Value,
        v: Value,
        mask: Value,
        sinks: Value,
        scale: f32,
    ) -> Result<Value, Error> {
        let ([q, k], [qs, ks]) = self.pair(q, k)?;
        let ([v, mask], [vs, ms]) = self.pair(v, mask)?;
        let sinks = self.get(sinks)?;
        let fits = ks == vs
            && qs[0] == ks[0]
            && qs[2].is_multiple_of(ks[2])
            && qs[3] == 1
            && ks[3] == 1
            && is_f32(q);
        let fits = fits
            && ms[0] == ks[1]
            && ms[1] >= qs[1]
            && ms[2..] == [1, 1]
            && kind(mask) == raw::GGML_TYPE_F16;
        let fits = fits && is_f32(sinks) && shape(sinks) == [qs[2], 1, 1, 1];
        let expected =
            "q f32 [d,t,heads], k and v [d,keys,kv heads], mask f16 [keys,t], sinks f32 [heads]";
        self.check(fits, "attention", &[qs, ks, vs, ms, shape(sinks)], expected)?;
        // SAFETY: see mul_mat.
        self.add_node(|context| unsafe {
            let (q, k, v, mask) = (q.as_ptr(), k.as_ptr(), v.as_ptr(), mask.as_ptr());
            let out = raw::ggml_flash_attn_ext(context, q, k, v, mask, scale, 0.0, 0.0);
            raw::ggml_flash_attn_ext_add_sinks(out, sinks.as_ptr());
            // Sums of 16-bit floats would cost a digit that the CPU keeps.
            raw::ggml_flash_attn_ext_set_prec(out, raw::GGML_PREC_F32);
            out
        })
    }

    /// The clamped SwiGLU: `min(gate, limit) * sigmoid(alpha * gate) * (clamp(up, limit) + 1)`.
    pub fn swiglu(
        &mut self,
        gate: Value,
        up: Value,
        alpha: f32,
        limit: f32,
    ) -> Result<Value, Error> {
        let ([gate, up], [gs, us]) = self.pair(gate, up)?;
        self.check(
            gs == us && is_f32(gate) && is_f32(up),
            "swiglu",
            &[gs, us],
            "two f32 tensors of one shape",
        )?;
        // SAFETY: see mul_mat.
        self.add_node(|context| unsafe {
            raw::ggml_swiglu_oai(context, gate.as_ptr(), up.as_ptr(), alpha, limit)
        })
    }

    /// Soft-max of each row.
    pub fn soft_max(&mut self, x: Value) -> Result<Value, Error> {
        let x = self.get(x)?;
        self.check(is_f32(x), "soft_max", &[shape(x)], "32-bit floats")?;
        // SAFETY: see mul_mat.
        self.add_node(|context| unsafe { raw::ggml_soft_max(context, x.as_ptr()) })
    }

    /// The places of the `k` largest numbers of each row, largest first.
    pub fn top_k(&mut self, x: Value, k: usize) -> Result<Value, Error> {
        let x = self.get(x)?;
        self.check(
            is_f32(x) && k > 0 && k <= shape(x)[0],
            "top_k",
            &[shape(x)],
            "rows of at least k f32 numbers",
        )?;
        // SAFETY: see mul_mat.
        self.add_node(|context| unsafe { raw::ggml_argsort_top_k(context, x.as_ptr(), k as i32) })
    }

    /// Rows `ids` [n, b] of `x` [m, r, b].
    pub fn get_rows(&mut self, x: Value, ids: Value) -> Result<Value, Error> {
        let ([x, ids], [xs, is]) = self.pair(x, ids)?;
        let fits = xs[2] == is[1] && xs[3] == is[2] && is[3] == 1 && is_i32(ids);
        self.check(
            fits,
            "get_rows",
            &[xs, is],
            "a table [m,r,b] and i32 row numbers [n,b]",
        )?;
        // SAFETY: see mul_mat.
        self.add_node(|context| unsafe { raw::ggml_get_rows(context, x.as_ptr(), ids.as_ptr()) })
    }

    /// Writes rows `source` [m, n] into the rows `ids` i64 [n] of `target` [m, r]; part of each run.
    pub fn set_rows(&mut self, target: Value, source: Value, ids: Value) -> Result<Value, Error> {
        let ([target, source], [ts, ss]) = self.pair(target, source)?;
        let ids = self.get(ids)?;
        let is = shape(ids);
        let fits = ts[0] == ss[0]
            && ss[1] == is[0]
            && ts[2..] == [1, 1]
            && ss[2..] == [1, 1]
            && is[1..] == [1, 1, 1];
        let fits = fits && is_f32(source) && kind(ids) == raw::GGML_TYPE_I64;
        self.check(
            fits,
            "set_rows",
            &[ts, ss, is],
            "a table [m,r], f32 rows [m,n] and i64 row numbers [n]",
        )?;
        // SAFETY: see mul_mat.
        let value = self.add_node(|context| unsafe {
            raw::ggml_set_rows(context, target.as_ptr(), source.as_ptr(), ids.as_ptr())
        })?;
        self.keep(value)?;
        Ok(value)
    }

    /// The same numbers in another shape.
    pub fn reshape(&mut self, x: Value, dims: [usize; 4]) -> Result<Value, Error> {
        let x = self.get(x)?;
        let count = |shape: [usize; 4]| {
            shape
                .iter()
                .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        };
        // SAFETY: a valid tensor.
        let dense = unsafe { raw::ggml_is_contiguous(x.as_ptr()) };
        let fits = dense && count(dims) == count(shape(x));
        self.check(
            fits,
            "reshape",
            &[shape(x), dims],
            "as many numbers as before, without gaps",
        )?;
        let [a, b, c, d] = dims.map(|dim| dim as i64);
        // SAFETY: see mul_mat.
        self.add_node(|context| unsafe { raw::ggml_reshape_4d(context, x.as_ptr(), a, b, c, d) })
    }

    /// Dimension `i` of `x` becomes dimension `axes[i]`.
    pub fn permute(&mut self, x: Value, axes: [usize; 4]) -> Result<Value, Error> {
        let x = self.get(x)?;
        let fits = (0..4).all(|axis| axes.contains(&axis));
        self.check(fits, "permute", &[shape(x), axes], "each axis once")?;
        let [a, b, c, d] = axes.map(|axis| axis as i32);
        // SAFETY: see mul_mat.
        self.add_node(|context| unsafe { raw::ggml_permute(context, x.as_ptr(), a, b, c, d) })
    }

    /// The numbers of `x`, which has no gaps, from `start` on, in a shape of their own and without copying.
    pub fn view(&mut self, x: Value, start: usize, dims: [usize; 4]) -> Result<Value, Error> {
        let x = self.get(x)?;
        let count = |shape: [usize; 4]| {
            let product = |product: usize, &dim: &usize| product.checked_mul(dim);
            shape.iter().try_fold(1, product)
        };
        // SAFETY: a valid tensor and one of ggml's types.
        let (dense, block) = unsafe {
            let block = raw::ggml_blck_size(kind(x)) as usize;
            (raw::ggml_is_contiguous(x.as_ptr()), block)
        };
        let end = count(dims).and_then(|wanted| wanted.checked_add(start));
        let inside = end.is_some_and(|end| Some(end) <= count(shape(x)));
        let whole = dims[0].is_multiple_of(block) && start.is_multiple_of(block);
        self.check(
            dense && inside && !dims.contains(&0) && whole,
            "view",
            &[shape(x), dims, [start, 0, 0, 0]],
            "no more numbers than there are, in whole blocks",
        )?;
        let [a, b, c, d] = dims.map(|dim| dim as i64);
        // SAFETY: a row of whole blocks has a size; see mul_mat for the view, which ends where `x` does at the latest.
        self.add_node(|context| unsafe {
            let (row, offset) = (
                raw::ggml_row_size(kind(x), a),
                raw::ggml_row_size(kind(x), start as i64),
            );
            let (plane, volume) = (row * dims[1], row * dims[1] * dims[2]);
            raw::ggml_view_4d(context, x.as_ptr(), a, b, c, d, row, plane, volume, offset)
        })
    }

    /// Part `index` along the second dimension of `x` [m, parts, t]: [m, t], without copying.
    pub fn part(&mut self, x: Value, index: usize) -> Result<Value, Error> {
        let x = self.get(x)?;
        let xs = shape(x);
        self.check(
            index < xs[1] && xs[3] == 1,
            "part",
            &[xs, [index, 0, 0, 0]],
            "a part that is there, of a three-dimensional tensor",
        )?;
        // SAFETY: a valid tensor's record.
        let strides = unsafe { x.as_ref() }.nb;
        let (width, count, offset) = (xs[0] as i64, xs[2] as i64, index * strides[1]);
        // SAFETY: see mul_mat; the view ends where `x` does at the latest.
        self.add_node(|context| unsafe {
            raw::ggml_view_2d(context, x.as_ptr(), width, count, strides[2], offset)
        })
    }

    fn pair(&self, a: Value, b: Value) -> Result<([Raw; 2], [[usize; 4]; 2]), Error> {
        let pair = [self.get(a)?, self.get(b)?];
        Ok((pair, pair.map(shape)))
    }

    fn check(
        &self,
        fits: bool,
        operation: &'static str,
        shapes: &[[usize; 4]],
        expected: &'static str,
    ) -> Result<(), Error> {
        if fits {
            Ok(())
        } else {
            Err(Error::Shape {
                operation,
                shapes: shapes.to_vec(),
                expected,
            })
        }
    }

    fn repeatable(&self, operation: &'static str, a: Value, b: Value) -> Result<[Raw; 2], Error> {
        let (pair, [left, right]) = self.pair(a, b)?;
        let fits = left
            .iter()
            .zip(right)
            .all(|(left, right)| left.is_multiple_of(right))
            && pair.iter().all(|&side| is_f32(side));
        self.check(
            fits,
            operation,
            &[left, right],
            "f32, the first a multiple of the second in every dimension",
        )?;
        Ok(pair)
    }

    fn add_node(
        &mut self,
        make: impl FnOnce(*mut raw::ggml_context) -> *mut raw::ggml_tensor,
    ) -> Result<Value, Error> {
        self.room()?;
        let tensor = NonNull::new(make(self.context.as_ptr()))
            .expect("ggml returns a tensor or ends the process");
        Ok(self.push(tensor))
    }
}

fn kind(tensor: Raw) -> raw::ggml_type {
    // SAFETY: a valid tensor's record.
    unsafe { tensor.as_ref() }.type_
}

fn is_f32(tensor: Raw) -> bool {
    kind(tensor) == raw::GGML_TYPE_F32
}

fn is_i32(tensor: Raw) -> bool {
    kind(tensor) == raw::GGML_TYPE_I32
}

fn is_plain(tensor: Raw) -> bool {
    // SAFETY: a valid tensor.
    !unsafe { raw::ggml_is_transposed(tensor.as_ptr()) }
}
