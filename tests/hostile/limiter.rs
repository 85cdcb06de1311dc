//! The limiter's memory, and who may speak for whom.
