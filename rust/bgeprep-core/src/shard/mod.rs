//! What a shard set is.
