//! Ctrl-C: the first asks long work to stop and clean up, a second ends the program at once.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Shell convention: 128 and the number of the signal, SIGINT.
pub const EXIT_CODE: u8 = 130;

/// From now on Ctrl-C (and a polite request to end, SIGTERM) sets a flag instead of ending the program.
pub fn install() -> anyhow::Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
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

/// For a conversation: Ctrl-C, however often, sets the flag and never ends the program, which would lose what was said.
/// Any other signal ends it as usual.
pub fn install_for_conversation() -> anyhow::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&REQUESTED))?;
    Ok(())
}

/// Whether somebody asked to stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Forgets the request, for a conversation that goes on after an answer was stopped.
pub fn clear() {
    REQUESTED.store(false, Ordering::Relaxed);
}

/// The error of work that stopped because somebody asked; `main` turns it into [`EXIT_CODE`].
#[derive(Debug, thiserror::Error)]
#[error("interrupted; nothing was left behind")]
pub struct Interrupted;
