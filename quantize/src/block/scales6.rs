//! Packing of six-bit scales into twelve bytes: one layout for Q4_K and Q5_K, another for Q3_K.

/// Eight scales and eight minimums, each below 64, as Q4_K and Q5_K store them.
#[inline(always)]
pub fn pack_pairs(scales: &[u8], minimums: &[u8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for k in 0..4 {
        let (sc, mn) = (scales[k + 4], minimums[k + 4]);
        packed[k] = scales[k] | (sc >> 4) << 6;
        packed[k + 4] = minimums[k] | (mn >> 4) << 6;
        packed[k + 8] = (sc & 15) | mn << 4;
    }
    packed
}

/// Undoes [`pack_pairs`]: scales, minimums.
#[inline(always)]
pub fn unpack_pairs(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut minimums) = ([0; 8], [0; 8]);
    for k in 0..4 {
        scales[k] = packed[k] & 63;
        minimums[k] = packed[k + 4] & 63;
        scales[k + 4] = (packed[k + 8] & 15) | (packed[k] >> 6) << 4;
        minimums[k + 4] = (packed[k + 8] >> 4) | (packed[k + 4] >> 6) << 4;
    }
    (scales, minimums)
}

/// Sixteen scales below 64, as Q3_K stores them: low nibbles first, then the upper two bits.
#[inline(always)]
pub fn pack_sixteen(scales: &[u8; 16]) -> [u8; 12] {
    let mut packed = [0; 12];
    for i in 0..8 {
        packed[i] = (scales[i] & 15) | (scales[i + 8] & 15) << 4;
    }
    for (i, scale) in scales.iter().enumerate() {
        packed[8 + i % 4] |= (scale >> 4) << (2 * (i / 4));
    }
    packed
}

/// Undoes [`pack_sixteen`].
#[inline(always)]
pub fn unpack_sixteen(packed: &[u8; 12]) -> [u8; 16] {
    let mut scales = [0; 16];
    for (i, scale) in scales.iter_mut().enumerate() {
        let low = if i < 8 {
            packed[i] & 15
        } else {
            packed[i - 8] >> 4
        };
        let high = (packed[8 + i % 4] >> (2 * (i / 4))) & 3;
        *scale = low | high << 4;
    }
    scales
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_every_bit() {
        for seed in 0..64u8 {
            let value = |i: usize| seed.wrapping_mul(31).wrapping_add((i * 23) as u8) & 63;
            let sixteen: [u8; 16] = std::array::from_fn(value);
            assert_eq!(unpack_sixteen(&pack_sixteen(&sixteen)), sixteen);
            let packed = pack_pairs(&sixteen[..8], &sixteen[8..]);
            let (scales, minimums) = unpack_pairs(&packed);
            assert_eq!([scales, minimums].concat(), sixteen);
        }
    }
}
