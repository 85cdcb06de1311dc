//! Connections that are slow, silent, many, half closed, or that never read.
