//! A plan as a table, for people.

use std::fmt;

use super::plan::Plan;

/// Bytes in the unit that cards are sold in.
pub fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / (1u64 << 30) as f64)
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_device = self.device_layers();
        let layers = match self.first {
            0 => format!("attention of all {on_device}"),
            _ => format!("attention of the last {on_device} of {}", self.layers),
        };
        let experts = match self.layers - self.first_experts {
            0 => "none: all stay on the processor".to_string(),
            with if with == self.layers => format!("of all {with}"),
            with => format!("of the last {with}, the others on the processor"),
        };
        let bytes = &self.bytes;
        writeln!(out, "{} ({})", self.device, self.description)?;
        for (part, bytes, what) in [
            ("layers", bytes.attention, layers),
            ("experts", bytes.experts, experts),
            ("head", bytes.head, String::new()),
            (
                "stage",
                bytes.stage,
                "for other experts on their way".into(),
            ),
            ("cache", bytes.cache, format!("{} positions", self.context)),
            ("scratch", bytes.scratch, String::new()),
            (
                "left",
                self.left(),
                format!("and {} for the driver and others", gib(self.headroom)),
            ),
        ] {
            if part == "stage" && bytes == 0 {
                continue;
            }
            let line = format!("  {part:<8} {:>10}  {what}", gib(bytes));
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
