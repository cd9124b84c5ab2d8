//! Ctrl-C: the first asks long work to stop and clean up, a second ends the program at once.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Shell convention: 128 and the number of the signal, SIGINT.
pub const EXIT_CODE: u8 = 130;

/// From now on Ctrl-C (a polite request to end, SIGTERM, and a terminal that goes, SIGHUP, too) sets a flag instead of ending the
/// program.
pub fn install() -> anyhow::Result<()> {
    for signal in signals() {
        // The order matters: the second signal finds the flag set by the first and ends the program.
        signal_hook::flag::register_conditional_shutdown(
            signal,
            EXIT_CODE.into(),
            Arc::clone(&REQUESTED),
        )?;
        signal_hook::flag::register(signal, Arc::clone(&REQUESTED))?;
    }
    Ok(())
}

#[cfg(unix)]
fn signals() -> Vec<i32> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    // SAFETY: the default disposition runs no code of ours.
    let before = unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) };
    if let Ok(SigHandler::SigIgn) = before {
        // As nohup leaves it.
        // SAFETY: as above.
        let _ = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
        return vec![SIGINT, SIGTERM];
    }
    vec![SIGINT, SIGTERM, SIGHUP]
}

#[cfg(not(unix))]
fn signals() -> Vec<i32> {
    vec![signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM]
}

/// For a conversation: Ctrl-C, however often, sets the flag and never ends the program, which would lose what was said.
/// Any other signal ends it as usual.
pub fn install_for_conversation() -> anyhow::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&REQUESTED))?;
    Ok(())
}

/// For a conversation: being asked to end (SIGTERM), or left by the terminal (SIGHUP), ends the program as usual, but not before the
/// terminal is as it was, which the line editor changes.
#[cfg(unix)]
pub fn restore_terminal_at_end() -> anyhow::Result<()> {
    use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
    use signal_hook::consts::{SIGHUP, SIGTERM};
    // Nothing to restore where standard input is no terminal.
    let Ok(before) = tcgetattr(std::io::stdin()) else {
        return Ok(());
    };
    // What holds the settings may not be shared with another thread, but their parts may.
    let before: nix::libc::termios = before.into();
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGHUP])?;
    std::thread::Builder::new().spawn(move || {
        for signal in signals.forever() {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &before.into());
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

/// A limit on the size of files (`ulimit -f`) is an error of writing, like a full disk, and not the end of the program.
pub fn survive_file_limit() {
    #[cfg(unix)]
    {
        // Only as a handler that does nothing visible; without it the write that follows would not fail but kill.
        let _ = signal_hook::flag::register(nix::libc::SIGXFSZ, Arc::default());
    }
}

/// Whether somebody asked to stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Asks to stop, for a Ctrl-C that was read as a key.
pub fn request() {
    REQUESTED.store(true, Ordering::Relaxed);
}

/// Forgets the request, for a conversation that goes on after an answer was stopped.
pub fn clear() {
    REQUESTED.store(false, Ordering::Relaxed);
}

/// The error of work that stopped because somebody asked; `main` turns it into [`EXIT_CODE`].
#[derive(Debug, thiserror::Error)]
#[error("interrupted; no unfinished file was left")]
pub struct Interrupted;
