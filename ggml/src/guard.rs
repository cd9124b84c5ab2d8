//! The border to C++: ggml's log goes to whoever listens, its exceptions and aborts become errors.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Mutex, Once, OnceLock, PoisonError};

use crate::raw;

unsafe extern "C-unwind" {
    fn ggml_guard_install();
    fn ggml_guard(
        call: unsafe extern "C-unwind" fn(*mut c_void),
        data: *mut c_void,
        message: *mut c_char,
        room: usize,
    ) -> c_int;
}

static LISTENER: OnceLock<fn(&str)> = OnceLock::new();

/// From now on, `listener` is told what ggml and the drivers have to say, except what only helps to debug them; the first listener stays.
pub fn listen(listener: fn(&str)) {
    let _ = LISTENER.set(listener);
}

/// Installs the hooks, once; every way into this crate comes through here.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the log callback never unwinds and uses no user data; the other one is guard.cpp's own.
        unsafe {
            raw::ggml_log_set(Some(log), std::ptr::null_mut());
            ggml_guard_install();
        }
    });
}

/// Runs some calls of ggml, and gives what they throw or abort with as a sentence.
///
/// The closure holds calls of ggml and no values that need dropping: an exception passes through it.
pub(crate) fn guard<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    struct Job<F, T> {
        call: Option<F>,
        result: Option<T>,
    }
    unsafe extern "C-unwind" fn run<F: FnOnce() -> T, T>(data: *mut c_void) {
        // SAFETY: `data` is the job below, borrowed by nobody else until the guard returns.
        let job = unsafe { &mut *data.cast::<Job<F, T>>() };
        job.result = job.call.take().map(|call| call());
    }
    fn start<F: FnOnce() -> T, T>(job: &mut Job<F, T>, message: &mut [u8; 512]) -> c_int {
        let (data, room) = (std::ptr::from_mut(job).cast(), message.len());
        // SAFETY: the job lives until the guard returns, and `message` has as much room as is said.
        unsafe { ggml_guard(run::<F, T>, data, message.as_mut_ptr().cast(), room) }
    }
    // Two threads that open the same Vulkan device at once crash inside ggml. One call at a time costs nothing: the next
    // step of a model waits for the one before it anyway.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    install();
    let mut message = [0u8; 512];
    let mut job = Job {
        call: Some(call),
        result: None,
    };
    let status = start(&mut job, &mut message);
    match job.result {
        Some(result) if status == 0 => Ok(result),
        _ => {
            let text = CStr::from_bytes_until_nul(&message).unwrap_or_default();
            Err(text.to_string_lossy().trim().to_string())
        }
    }
}

/// Ends the call that it is made in like a lost device would, if a test asked for that: `FOURFOLD_TEST_LOSE_DEVICE=N` is a
/// device that computes N graphs. Builds for use do not look.
#[cfg(debug_assertions)]
pub(crate) fn lose_device_if_asked() {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    static LEFT: OnceLock<Option<usize>> = OnceLock::new();
    static DONE: AtomicUsize = AtomicUsize::new(0);
    let asked = || {
        std::env::var("FOURFOLD_TEST_LOSE_DEVICE")
            .ok()?
            .parse()
            .ok()
    };
    if let Some(left) = *LEFT.get_or_init(asked)
        && DONE.fetch_add(1, Ordering::Relaxed) >= left
    {
        // SAFETY: three C strings; the exception that this throws ends at the guard.
        unsafe { raw::ggml_abort(c"device".as_ptr(), 0, c"lost on purpose".as_ptr()) }
    }
}

/// A C string as text; empty for null.
///
/// # Safety
/// `text` is null or points to a string that ends in a zero byte and outlives the call.
pub(crate) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the caller promises the rest.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

unsafe extern "C-unwind" fn log(
    level: raw::ggml_log_level,
    message: *const c_char,
    _user: *mut c_void,
) {
    let Some(listener) = LISTENER.get() else {
        return;
    };
    if level != raw::GGML_LOG_LEVEL_DEBUG {
        // SAFETY: ggml passes a C string that lives through the call.
        listener(unsafe { text(message) }.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abort_inside_ggml_is_an_error_outside() {
        for _ in 0..3 {
            // SAFETY: three C strings; what ggml does next is what is tested.
            let result: Result<(), String> =
                guard(|| unsafe { raw::ggml_abort(c"a file".as_ptr(), 7, c"on purpose".as_ptr()) });
            let reason = result.unwrap_err();
            assert!(reason.contains("on purpose"), "{reason}");
        }
        assert_eq!(guard(|| 5), Ok(5));
    }
}
