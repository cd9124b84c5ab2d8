//! Saving the session, and reading the next prompt's beginning, while the person reads the answer.
//!
//! After a turn the model's thinking leaves the prompt, so everything behind it has to be read
//! again: the answer, a few hundred tokens. Done now, it costs the person nothing; the next message
//! stops it at the end of the chunk under way.

use fourfold::session::{FileError, Session};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A session that is here, or away being saved and prepared.
pub enum Held {
    /// Ready for a turn.
    Here(Box<Session>),
    /// In a thread of its own.
    Away {
        /// Asks the thread to hurry.
        stop: Arc<AtomicBool>,
        /// Gives the session back, and what went wrong with saving it.
        thread: JoinHandle<(Box<Session>, Result<(), FileError>)>,
    },
    /// Between the two.
    Nowhere,
}

impl Held {
    /// Sends the session away to be saved to this file, if any, and prepared, if that helps the next turn.
    pub fn send_away(&mut self, file: Option<PathBuf>) {
        let Self::Here(session) = std::mem::replace(self, Self::Nowhere) else {
            return;
        };
        if file.is_none() && !session.can_prepare() {
            *self = Self::Here(session);
            return;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut session = session;
            // Saving is not cut short: what was said last must not get lost.
            let saved = file.map_or(Ok(()), |file| session.save(&file));
            if session.can_prepare() {
                // An error here (no memory, say) comes back when the person's own turn meets it.
                let _ = session.prepare(&mut |_| !asked.load(Ordering::Relaxed));
            }
            (session, saved)
        });
        *self = Self::Away { stop, thread };
    }

    /// The session, called back if it is away, and what went wrong with saving it there.
    pub fn get(&mut self) -> (&mut Session, Result<(), FileError>) {
        let mut saved = Ok(());
        if let Self::Away { .. } = self
            && let Self::Away { stop, thread } = std::mem::replace(self, Self::Nowhere)
        {
            stop.store(true, Ordering::Relaxed);
            match thread.join() {
                Ok((session, result)) => {
                    *self = Self::Here(session);
                    saved = result;
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        match self {
            Self::Here(session) => (session, saved),
            _ => unreachable!("a session that was away has come back above"),
        }
    }
}
