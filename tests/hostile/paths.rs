//! No client's text is ever part of a path.
