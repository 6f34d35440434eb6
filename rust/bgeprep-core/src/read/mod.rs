//! Files → records. See `Chunk`.
