//! The only list of instruction sets: which one this run uses, and the way into it.

use super::Error;
use super::isa::scalar::Scalar;
use super::isa::{Isa, Task};
#[cfg(target_arch = "x86_64")]
use super::isa::{avx2, avx512, avxvnni, ymm::Ymm};

/// The environment variable that forces an instruction set.
pub const VARIABLE: &str = "FOURFOLD_ISA";

/// An instruction set that this CPU was found to have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chosen {
    Scalar(Scalar<8>),
    #[cfg(test)]
    Scalar16(Scalar<16>),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(Ymm<avxvnni::Vex>),
    #[cfg(target_arch = "x86_64")]
    AvxVnniTwin(Ymm<avxvnni::Evex>),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
}

impl Chosen {
    /// Every instruction set of this CPU, fastest first.
    pub(super) fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(avx512::Avx512::detect().map(Self::Avx512));
            all.extend(Ymm::<avxvnni::Vex>::detect().map(Self::AvxVnni));
            all.extend(Ymm::<avxvnni::Evex>::detect().map(Self::AvxVnniTwin));
            all.extend(avx2::Avx2::detect().map(Self::Avx2));
        }
        #[cfg(test)]
        all.push(Self::Scalar16(Scalar));
        all.push(Self::Scalar(Scalar));
        all
    }

    /// The fastest instruction set, or the one that [`VARIABLE`] names, if it is set to something.
    pub(super) fn detect() -> Result<Self, Error> {
        let available = Self::available();
        let Some(wanted) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else {
            return Ok(available[0]);
        };
        let found = available.iter().find(|isa| wanted == isa.name());
        found.copied().ok_or_else(|| Error::Isa {
            wanted: wanted.to_string_lossy().into_owned(),
            available: Self::names(&available),
        })
    }

    fn names(all: &[Self]) -> String {
        let mut names: Vec<_> = all.iter().map(|isa| isa.name()).collect();
        names.dedup();
        names.join(", ")
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        struct Name;
        impl Task for Name {
            type Out = &'static str;
            #[inline(always)]
            fn run<I: Isa>(self, _isa: I) -> &'static str {
                I::NAME
            }
        }
        self.call(Name)
    }

    /// Runs `task` with this instruction set.
    pub(super) fn call<T: Task>(self, task: T) -> T::Out {
        match self {
            Self::Scalar(isa) => isa.call(task),
            #[cfg(test)]
            Self::Scalar16(isa) => isa.call(task),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(isa) => isa.call(task),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(isa) => isa.call(task),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnniTwin(isa) => isa.call(task),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(isa) => isa.call(task),
        }
    }
}
