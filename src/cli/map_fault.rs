//! A mapped file that shrinks or cannot be read turns a read into SIGBUS: say so instead of dying without a word.

/// What the user reads. A constant, because a signal handler must not allocate.
#[cfg(unix)]
const MESSAGE: &str = "error: a file was cut short, or could not be read, while it was in use: model files must stay as they are until fourfold ends (copy to a new name and rename it to replace one)\n";

/// From now on such a fault ends the program with a sentence and status 1.
pub fn explain() {
    #[cfg(unix)]
    // SAFETY: the handler calls only `write` and `_exit`, which are allowed in one; the structure is plain data.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as extern "C" fn(libc::c_int) as usize;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

#[cfg(unix)]
extern "C" fn on_fault(_signal: libc::c_int) {
    // SAFETY: both calls are allowed in a signal handler; the buffer is constant.
    unsafe {
        libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
        libc::_exit(1);
    }
}
