//! Reading the next prompt's beginning while the person reads the answer.
//!
//! After a turn the model's thinking leaves the prompt, so everything behind it has to be read
//! again: the answer, a few hundred tokens. Done now, it costs the person nothing; the next message
//! stops it at the end of the chunk under way.

use fourfold::session::Session;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A session that is here, or away being prepared.
pub enum Held {
    /// Ready for a turn.
    Here(Box<Session>),
    /// In a thread of its own.
    Away {
        /// Asks the thread to hurry.
        stop: Arc<AtomicBool>,
        /// Gives the session back.
        thread: JoinHandle<Box<Session>>,
    },
    /// Between the two.
    Nowhere,
}

impl Held {
    /// Sends the session away to be prepared, if that would save anything.
    pub fn prepare(&mut self) {
        let Self::Here(session) = std::mem::replace(self, Self::Nowhere) else {
            return;
        };
        if !session.can_prepare() {
            *self = Self::Here(session);
            return;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut session = session;
            // An error here (no memory, say) comes back when the person's own turn meets it.
            let _ = session.prepare(&mut |_| !asked.load(Ordering::Relaxed));
            session
        });
        *self = Self::Away { stop, thread };
    }

    /// The session, called back if it is away.
    pub fn get(&mut self) -> &mut Session {
        if let Self::Away { .. } = self
            && let Self::Away { stop, thread } = std::mem::replace(self, Self::Nowhere)
        {
            stop.store(true, Ordering::Relaxed);
            match thread.join() {
                Ok(session) => *self = Self::Here(session),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        match self {
            Self::Here(session) => session,
            _ => unreachable!("a session that was away has come back above"),
        }
    }
}
