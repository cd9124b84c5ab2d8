//! NumPy files of float32 with two dimensions: written row by row, read from a map.

use anyhow::{Context, bail};
use std::io::{Read, Write};

/// What a file begins with.
pub const MAGIC: &[u8] = b"\x93NUMPY";

/// Length of the header: a multiple of 64, as the format asks for.
const HEADER: usize = 128;

/// Bytes of a file that holds an array of `rows` times `columns`.
pub fn size(rows: usize, columns: usize) -> u64 {
    let numbers = (rows as u64).saturating_mul(columns as u64);
    numbers.saturating_mul(4).saturating_add(HEADER as u64)
}

/// Writes the header of an array of `rows` times `columns`.
pub fn write_header(to: &mut impl Write, rows: usize, columns: usize) -> anyhow::Result<()> {
    let text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    to.write_all(MAGIC)?;
    to.write_all(&[1, 0])?;
    to.write_all(&(HEADER as u16 - 10).to_le_bytes())?;
    writeln!(to, "{text:<width$}", width = HEADER - 11)?;
    Ok(())
}

/// Writes a row.
pub fn write_row(to: &mut impl Write, row: &[f32]) -> anyhow::Result<()> {
    for part in row.chunks(1024) {
        let bytes: Vec<u8> = part.iter().flat_map(|value| value.to_le_bytes()).collect();
        to.write_all(&bytes)?;
    }
    Ok(())
}

/// Reads the header of an array as [`write_header`] or NumPy writes it, and gives its rows and columns.
pub fn read_header(from: &mut impl Read) -> anyhow::Result<(usize, usize)> {
    let mut start = [0; 10];
    from.read_exact(&mut start)
        .context("the file is too short")?;
    if &start[..6] != MAGIC || start[6] != 1 {
        bail!("it is not a NumPy file of version 1");
    }
    let mut text = vec![0; usize::from(u16::from_le_bytes([start[8], start[9]]))];
    from.read_exact(&mut text)
        .context("the file is too short")?;
    let text = String::from_utf8_lossy(&text);
    let shape = text
        .split_once("'shape': (")
        .and_then(|(_, rest)| rest.split_once(')'))
        .and_then(|(shape, _)| shape.split_once(','))
        .and_then(|(rows, columns)| {
            Some((rows.trim().parse().ok()?, columns.trim().parse().ok()?))
        });
    match shape {
        Some(shape) if text.contains("'<f4'") && text.contains("'fortran_order': False") => {
            Ok(shape)
        }
        _ => bail!("it is not a float32 array of two dimensions"),
    }
}

/// Reads the next row into `row`.
pub fn read_row(from: &mut impl Read, row: &mut [f32]) -> anyhow::Result<()> {
    let mut bytes = [0; 4096];
    for part in row.chunks_mut(1024) {
        let bytes = &mut bytes[..4 * part.len()];
        from.read_exact(bytes).context("the file is too short")?;
        for (value, bytes) in part.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut file = Vec::new();
        write_header(&mut file, 2, 1500).unwrap();
        assert_eq!(file.len(), HEADER);
        let rows: [Vec<f32>; 2] =
            [1.5, -3.0].map(|start| (0..1500).map(|i| start * i as f32).collect());
        for row in &rows {
            write_row(&mut file, row).unwrap();
        }
        assert_eq!(file.len() as u64, size(2, 1500));
        let mut from = &file[..];
        assert_eq!(read_header(&mut from).unwrap(), (2, 1500));
        let mut row = vec![0.0; 1500];
        for expected in &rows {
            read_row(&mut from, &mut row).unwrap();
            assert_eq!(&row, expected);
        }
        assert!(read_row(&mut from, &mut row).is_err());
        assert!(read_header(&mut &b"\x93NUMPY\x02\x00"[..]).is_err());
    }
}
