//! Text → token ids.
