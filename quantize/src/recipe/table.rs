//! The recipes: their names, labels and default types, one row each.

use crate::dtype::DType;

/// A recipe, by the name that is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    non_camel_case_types,
    reason = "the names are llama.cpp's"
)]
pub enum Recipe {
    F32,
    F16,
    BF16,
    Q8_0,
    Q6_K,
    Q5_K_M,
    Q5_K_S,
    Q5_1,
    Q5_0,
    Q4_K_M,
    Q4_K_S,
    Q4_1,
    Q4_0,
    IQ4_NL,
    IQ4_XS,
    Q3_K_L,
    Q3_K_M,
    Q3_K_S,
    Q2_K,
    MXFP4_MOE,
    /// Experts as they are, everything else at 4.5 to 5.5 bits in blocks of 32: the fewest bytes per decoded token
    /// that still hold up.
    LEAN,
}

/// What [`Recipe::TABLE`] says about one recipe.
pub struct Row {
    /// The recipe.
    pub recipe: Recipe,
    /// Its name.
    pub name: &'static str,
    /// What `general.file_type` says about its files.
    pub file_type: u32,
    /// The type of every tensor without a rule of its own.
    pub default: DType,
    /// One line for `--help`.
    pub about: &'static str,
}

impl Recipe {
    /// Every recipe, in the order of the enum.
    pub const TABLE: &[Row] = &[
        row(Recipe::F32, "F32", 0, DType::F32, "4 bytes each, for tests"),
        row(Recipe::F16, "F16", 1, DType::F16, "2 bytes each"),
        row(
            Recipe::BF16,
            "BF16",
            32,
            DType::BF16,
            "2 bytes each, as the models were trained",
        ),
        row(
            Recipe::Q8_0,
            "Q8_0",
            7,
            DType::Q8_0,
            "8.5 bits: no loss that can be measured in the output",
        ),
        row(
            Recipe::Q6_K,
            "Q6_K",
            18,
            DType::Q6_K,
            "6.6 bits where rows are multiples of 256",
        ),
        row(
            Recipe::Q5_K_M,
            "Q5_K_M",
            17,
            DType::Q5_K,
            "5.5 bits, more for sensitive layers",
        ),
        row(Recipe::Q5_K_S, "Q5_K_S", 16, DType::Q5_K, "5.5 bits"),
        row(Recipe::Q5_1, "Q5_1", 9, DType::Q5_1, "6 bits, blocks of 32"),
        row(
            Recipe::Q5_0,
            "Q5_0",
            8,
            DType::Q5_0,
            "5.5 bits, blocks of 32",
        ),
        row(
            Recipe::Q4_K_M,
            "Q4_K_M",
            15,
            DType::Q4_K,
            "4.5 bits, more for sensitive layers",
        ),
        row(Recipe::Q4_K_S, "Q4_K_S", 14, DType::Q4_K, "4.5 bits"),
        row(Recipe::Q4_1, "Q4_1", 3, DType::Q4_1, "5 bits, blocks of 32"),
        row(
            Recipe::Q4_0,
            "Q4_0",
            2,
            DType::Q4_0,
            "4.5 bits, blocks of 32",
        ),
        row(
            Recipe::IQ4_NL,
            "IQ4_NL",
            25,
            DType::IQ4_NL,
            "4.5 bits, uneven steps, blocks of 32",
        ),
        row(
            Recipe::IQ4_XS,
            "IQ4_XS",
            30,
            DType::IQ4_XS,
            "4.25 bits, uneven steps",
        ),
        row(
            Recipe::Q3_K_L,
            "Q3_K_L",
            13,
            DType::Q3_K,
            "3.4 bits, much more for sensitive layers",
        ),
        row(
            Recipe::Q3_K_M,
            "Q3_K_M",
            12,
            DType::Q3_K,
            "3.4 bits, more for sensitive layers",
        ),
        row(Recipe::Q3_K_S, "Q3_K_S", 11, DType::Q3_K, "3.4 bits"),
        row(Recipe::Q2_K, "Q2_K", 10, DType::Q2_K, "2.6 bits"),
        row(
            Recipe::MXFP4_MOE,
            "MXFP4_MOE",
            38,
            DType::MXFP4,
            "experts MXFP4, the rest Q8_0: the published file",
        ),
        // A label that llama.cpp knows; types are never inferred from it.
        row(
            Recipe::LEAN,
            "LEAN",
            38,
            DType::IQ4_NL,
            "experts MXFP4, the rest 4.5 to 5.5 bits: fastest on a CPU",
        ),
    ];

    /// This recipe's row of the table.
    pub fn row(self) -> &'static Row {
        &Self::TABLE[self as usize]
    }

    /// The recipe of this name, in any case. `MXFP4` means [`Recipe::MXFP4_MOE`].
    pub fn from_name(name: &str) -> Option<Recipe> {
        let name = if name.eq_ignore_ascii_case("mxfp4") {
            "MXFP4_MOE"
        } else {
            name
        };
        Self::TABLE
            .iter()
            .find(|row| row.name.eq_ignore_ascii_case(name))
            .map(|row| row.recipe)
    }
}

const fn row(
    recipe: Recipe,
    name: &'static str,
    file_type: u32,
    default: DType,
    about: &'static str,
) -> Row {
    Row {
        recipe,
        name,
        file_type,
        default,
        about,
    }
}
