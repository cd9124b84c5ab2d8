//! Saving the session, and reading the next prompt's beginning, while the person reads the answer.
//!
//! After a turn the model's thinking leaves the prompt, so everything behind it has to be read
//! again: the answer, a few hundred tokens. Done now, it costs the person nothing; the next message
//! stops it at the end of the chunk under way.

use fourfold::session::{FileError, Session};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// A session that has come back, and what went wrong with saving it.
type Back = (Box<Session>, Result<(), FileError>);

/// A session that is here, or away being saved and prepared.
pub enum Held {
    /// Ready for a turn, with what went wrong with saving it.
    Here(Box<Session>, Result<(), FileError>),
    /// In a thread of its own.
    Away {
        /// Asks the thread to hurry.
        stop: Arc<AtomicBool>,
        /// Gives the session back, and what went wrong with saving it.
        thread: JoinHandle<Option<Back>>,
    },
    /// Between the two.
    Nowhere,
}

impl Held {
    /// Sends the session away to be saved to this file, if any, and prepared, if that helps the next turn.
    pub fn send_away(&mut self, file: Option<PathBuf>) {
        let Self::Here(session, saved) = std::mem::replace(self, Self::Nowhere) else {
            return;
        };
        if file.is_none() && !session.can_prepare() {
            *self = Self::Here(session, saved);
            return;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let (give, take) = mpsc::channel();
        let thread = std::thread::Builder::new().spawn(move || {
            let (mut session, file): (Box<Session>, Option<PathBuf>) = take.recv().ok()?;
            // Saving is not cut short: what was said last must not get lost.
            let saved = save(&mut session, file);
            if session.can_prepare() {
                // An error here (no memory, say) comes back when the person's own turn meets it.
                let _ = session.prepare(&mut |_| !asked.load(Ordering::Relaxed));
            }
            Some((session, saved))
        });
        *self = match thread {
            Ok(thread) => {
                let _ = give.send((session, file));
                Self::Away { stop, thread }
            }
            // Where the system refuses threads, the person waits.
            Err(_) => {
                let mut session = session;
                let saved = save(&mut session, file);
                Self::Here(session, saved)
            }
        };
    }

    /// The session, called back if it is away, and what went wrong with saving it there.
    pub fn get(&mut self) -> (&mut Session, Result<(), FileError>) {
        if let Self::Away { .. } = self
            && let Self::Away { stop, thread } = std::mem::replace(self, Self::Nowhere)
        {
            stop.store(true, Ordering::Relaxed);
            match thread.join() {
                Ok(Some((session, saved))) => *self = Self::Here(session, saved),
                Ok(None) => unreachable!("it is sent a session as soon as it runs"),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        match self {
            Self::Here(session, saved) => (session, std::mem::replace(saved, Ok(()))),
            _ => unreachable!("a session that was away has come back above"),
        }
    }
}

fn save(session: &mut Session, file: Option<PathBuf>) -> Result<(), FileError> {
    file.map_or(Ok(()), |file| session.save(&file))
}
