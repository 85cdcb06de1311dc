//! A text that is made anew for each who asks, unless very many ask and do not take it.
//!
//! The metrics are some 60 KiB, which stay in memory until their client has taken them; to refuse them under an attack would
//! blind whoever looks after the server just then. So beyond [`FRESH`] texts on their way the newest is answered to all who ask
//! within [`SHARED_FOR`]: a text takes memory once, however many connections it leaves on.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Texts on their way below which each is made anew: more than there are scrapers.
const FRESH: usize = 16;
/// How old a text may be that is answered again.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Renderings {
    /// In the order in which they were made.
    on_their_way: Mutex<Vec<(Instant, Weak<Text>)>>,
}

#[derive(Debug)]
struct Text(Vec<u8>);

/// One who has it.
struct Taker(Arc<Text>);

impl AsRef<[u8]> for Taker {
    fn as_ref(&self) -> &[u8] {
        &self.0.0
    }
}

impl Renderings {
    /// The text for one more who asks.
    ///
    /// # Errors
    /// Those of `render`.
    pub(super) fn next<E>(&self, render: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Bytes, E> {
        // Whoever comes while it is rendered waits some milliseconds for it.
        let mut on_their_way = self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner);
        on_their_way.retain(|(_, text)| text.strong_count() > 0);
        let newest = on_their_way.last().filter(|(made, _)| made.elapsed() < SHARED_FOR);
        let shared = newest.filter(|_| on_their_way.len() >= FRESH).and_then(|(_, text)| text.upgrade());
        let text = match shared {
            Some(text) => text,
            None => {
                let text = Arc::new(Text(render()?));
                on_their_way.push((Instant::now(), Arc::downgrade(&text)));
                text
            }
        };
        Ok(Bytes::from_owner(Taker(text)))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn a_text_is_of_now_unless_many_are_not_taken() {
        let (renderings, made) = (Renderings::default(), Cell::new(0_u32));
        let next = || {
            let render = || {
                made.set(made.get() + 1);
                Ok::<_, Infallible>(made.get().to_string().into_bytes())
            };
            renderings.next(render).unwrap()
        };
        for nth in 1..100 {
            assert_eq!(next(), nth.to_string(), "each is taken at once");
        }
        let slow: Vec<Bytes> = (0..1_000).map(|_| next()).collect();
        assert!((100..200).contains(&made.get()), "{} were made", made.get());
        assert_eq!(slow[0], "100");
        drop(slow);
        let before = made.get();
        assert_eq!(next(), (before + 1).to_string());
    }
}
