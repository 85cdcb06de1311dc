//! The buffers that a test runs on.

/// A kind of buffer. A test that speaks of none in particular runs on each of them, by [`on_every_buffer!`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffer {
    /// A Redis; each role is a process of its own.
    Redis,
    /// The embedded one; `systole up` is the one process.
    Embedded,
}

/// Runs each of these functions of a [`Buffer`] as a test of its own on every kind.
macro_rules! on_every_buffer {
    ($($test:ident),+ $(,)?) => {
        $crate::support::on_buffer! { redis, Redis; $($test),+ }
        $crate::support::on_buffer! { embedded, Embedded; $($test),+ }
    };
}

macro_rules! on_buffer {
    ($name:ident, $buffer:ident; $($test:ident),+) => {
        mod $name {
            $(
                #[test]
                fn $test() {
                    super::$test($crate::support::Buffer::$buffer);
                }
            )+
        }
    };
}

pub(crate) use {on_buffer, on_every_buffer};
