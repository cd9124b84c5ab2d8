//! A page on the device and the same page in the host's memory: the same numbers in another order.
//!
//! The device keeps rows as ggml writes them: all heads of a position, in blocks of 34 bytes if they are q8_0. The host
//! keeps heads apart and keys turned around (`kernels/page.rs`). Session files hold the host's form, so they do not
//! depend on where layers were.

use crate::kernels::page::{KvType, PAGE, PageLayout};

/// Numbers that share a scale in q8_0.
const BLOCK: usize = 32;

/// Bytes of the keys, or the values, of one position on the device.
pub fn row_bytes(layout: &PageLayout) -> usize {
    let numbers = layout.kv_heads * layout.head_dim;
    match layout.kv_type {
        KvType::F32 => 4 * numbers,
        KvType::F16 => 2 * numbers,
        KvType::Q8_0 => numbers / BLOCK * (BLOCK + 2),
    }
}

/// Fills the host's page from the device's keys and values.
pub fn to_host(layout: &PageLayout, keys: &[u8], values: &[u8], page: &mut [u8]) {
    each_piece(layout, |half, device, host, len| {
        let source = if half == 0 { keys } else { values };
        page[host..host + len].copy_from_slice(&source[device..device + len]);
    });
}

/// Fills the device's keys and values from the host's page.
pub fn to_device(layout: &PageLayout, page: &[u8], keys: &mut [u8], values: &mut [u8]) {
    each_piece(layout, |half, device, host, len| {
        let target = if half == 0 { &mut *keys } else { &mut *values };
        target[device..device + len].copy_from_slice(&page[host..host + len]);
    });
}

/// Calls `copy` with keys (0) or values (1), an offset on the device, one in the host's page, and a length.
fn each_piece(layout: &PageLayout, mut copy: impl FnMut(usize, usize, usize, usize)) {
    let &PageLayout {
        kv_type,
        kv_heads,
        head_dim,
    } = layout;
    let row = row_bytes(layout);
    let half_bytes = layout.bytes() / kv_heads / 2;
    for (head, slot) in (0..kv_heads).flat_map(|head| (0..PAGE).map(move |slot| (head, slot))) {
        let keys = head * 2 * half_bytes;
        let values = keys + half_bytes;
        match kv_type {
            KvType::F32 | KvType::F16 => {
                let size = if kv_type == KvType::F32 { 4 } else { 2 };
                let device = slot * row + head * head_dim * size;
                for i in 0..head_dim {
                    copy(0, device + i * size, keys + size * (i * PAGE + slot), size);
                }
                copy(1, device, values + size * slot * head_dim, size * head_dim);
            }
            KvType::Q8_0 => {
                let blocks = head_dim / BLOCK;
                let (key_scales, value_scales) = (keys + PAGE * head_dim, values + PAGE * head_dim);
                for block in 0..blocks {
                    let device = slot * row + (head * blocks + block) * (BLOCK + 2);
                    copy(0, device, key_scales + 2 * (block * PAGE + slot), 2);
                    copy(1, device, value_scales + 2 * (slot * blocks + block), 2);
                    for i in 0..BLOCK {
                        let host = keys + (block * BLOCK + i) * PAGE + slot;
                        copy(0, device + 2 + i, host, 1);
                    }
                    let host = values + slot * head_dim + block * BLOCK;
                    copy(1, device + 2, host, BLOCK);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::page::Page;
    use half::f16;

    fn layout(kv_type: KvType) -> PageLayout {
        PageLayout {
            kv_type,
            kv_heads: 3,
            head_dim: 64,
        }
    }

    #[test]
    fn every_byte_has_one_place_on_each_side() {
        for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0] {
            let layout = layout(kv_type);
            let page: Vec<u8> = (0..layout.bytes())
                .map(|i| (i * 7 + i / 251) as u8)
                .collect();
            let half = PAGE * row_bytes(&layout);
            assert_eq!(2 * half, page.len());
            let (mut keys, mut values) = (vec![0; half], vec![0; half]);
            to_device(&layout, &page, &mut keys, &mut values);
            let mut back = vec![0; page.len()];
            to_host(&layout, &keys, &values, &mut back);
            assert_eq!(page, back, "{kv_type:?}");
        }
    }

    #[test]
    fn rows_hold_the_heads_of_a_position_in_order() {
        let layout = layout(KvType::F16);
        let mut page = Page::new(&layout).unwrap();
        let number = |head: usize, slot: usize, i: usize| (head * 600 + slot * 64 % 500 + i) as f32;
        for (head, slot) in (0..3).flat_map(|head| (0..PAGE).map(move |slot| (head, slot))) {
            let key: Vec<f32> = (0..64).map(|i| number(head, slot, i)).collect();
            let value: Vec<f32> = key.iter().map(|key| -key).collect();
            // SAFETY: nobody else knows the page.
            unsafe { layout.store(&page, head, slot, &key, &value) };
        }
        let half = PAGE * row_bytes(&layout);
        let (mut keys, mut values) = (vec![0; half], vec![0; half]);
        to_device(&layout, page.bytes_mut(), &mut keys, &mut values);
        let at = |half: &[u8], slot: usize, head: usize, i: usize| {
            let offset = slot * row_bytes(&layout) + 2 * (head * 64 + i);
            f16::from_le_bytes([half[offset], half[offset + 1]]).to_f32()
        };
        for (slot, head, i) in [(0, 0, 0), (63, 2, 63), (17, 1, 5)] {
            let rounded = f16::from_f32(number(head, slot, i)).to_f32();
            assert_eq!(at(&keys, slot, head, i), rounded);
            assert_eq!(at(&values, slot, head, i), -rounded);
        }
    }
}
