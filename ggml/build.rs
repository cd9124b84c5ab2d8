//! Makes Rust declarations of ggml's tensor, allocation and device headers, and compiles the guard around its calls.
//! Its file reader, gguf.h, is left out on purpose: no file is ever parsed by C.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "backend")]
    {
        use std::{env, path::PathBuf};
        println!("cargo:rerun-if-env-changed=DEP_LLAMA_ROOT");
        let root = env::var_os("DEP_LLAMA_ROOT")
            .expect("llama-cpp-sys-2 names the folder that it installs ggml's headers to");
        let include = PathBuf::from(root).join("include");
        bind(&include);
        println!("cargo:rerun-if-changed=cpp/guard.cpp");
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .file("cpp/guard.cpp")
            .include(&include)
            .compile("ggml_guard");
    }
}

#[cfg(feature = "backend")]
fn bind(include: &std::path::Path) {
    let headers = ["ggml.h", "ggml-alloc.h", "ggml-backend.h", "ggml-cpu.h"];
    let all = headers.map(|header| format!("#include \"{header}\"\n"));
    let bindings = bindgen::Builder::default()
        .header_contents("ggml-all.h", &all.concat())
        .clang_arg(format!("-I{}", include.display()))
        .allowlist_function("ggml_.*")
        .allowlist_type("ggml_.*")
        .allowlist_var("GGML_.*")
        // Exceptions of C++ may pass through these calls on their way to the guard.
        .override_abi(bindgen::Abi::CUnwind, "ggml_.*")
        .prepend_enum_name(false)
        .layout_tests(false)
        .generate()
        .expect("bindgen reads ggml's headers");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let file = std::path::Path::new(&out).join("bindings.rs");
    bindings.write_to_file(file).expect("OUT_DIR is writable");
}
