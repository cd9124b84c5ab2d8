// Lets what ggml throws, and its abort, end in a status and a sentence instead of the end of the process.
//
// ggml's Vulkan backend throws C++ exceptions when a device is lost or its memory is full, its CUDA backend aborts.
// Neither may unwind into Rust, so every call that can do so passes through ggml_guard.

#include "ggml.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>

namespace {

// How many guards this thread is inside of.
thread_local int guards = 0;

void on_abort(const char *message) {
    if (guards > 0) {
        throw std::runtime_error(message);
    }
    // A thread of ggml's own: nobody can catch anything here.
    std::fprintf(stderr, "error: the GPU library gave up (%s): run again with --no-gpu\n", message);
    std::_Exit(1);
}

struct Guard {
    Guard() { guards++; }
    ~Guard() { guards--; }
};

}  // namespace

extern "C" void ggml_guard_install(void) { ggml_set_abort_callback(on_abort); }

// Runs call(data). Returns 0, or 1 with the reason in `message`, which has `room` bytes.
extern "C" int ggml_guard(void (*call)(void *), void *data, char *message, size_t room) {
    Guard guard;
    try {
        call(data);
        return 0;
    } catch (const std::exception &error) {
        std::snprintf(message, room, "%s", error.what());
    } catch (...) {
        std::snprintf(message, room, "an error without a description");
    }
    return 1;
}
